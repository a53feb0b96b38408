"""Which masks a person is shown: the best, the middle, the worst, and none twice."""

import pytest

from halfmask.evaluation.measures.given_boxes import IouTable
from halfmask.evaluation.sheet import examples
from halfmask.pictures.mask_sheet import BLOCKS


def table_of(ious: list[float], categories: list[int] | None = None) -> IouTable:
    table = IouTable()
    for k, iou in enumerate(ious):
        table.add(1 if categories is None else categories[k], iou, 100, from_rle=False)
    return table


def test_best_first_worst_first_and_the_middle_in_between() -> None:
    ious = [(k * 37 % 101) / 100 for k in range(101)]
    chosen = examples(table_of(ious))
    shown = {name: [ious[row] for row in chosen[name]] for name in BLOCKS}
    assert shown["best"] == [1.0, 0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93]
    assert shown["worst"] == [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07]
    assert shown["median"] == [0.54, 0.53, 0.52, 0.51, 0.50, 0.49, 0.48, 0.47]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 22, 23, 24, 25, 30, 400])
def test_no_instance_is_shown_twice_and_few_are_all_shown(count: int) -> None:
    chosen = examples(table_of([0.5] * count))
    rows = [row for name in BLOCKS for row in chosen[name]]
    assert len(rows) == len(set(rows)) == min(count, 24)
    sizes = [len(chosen[name]) for name in BLOCKS]
    assert max(sizes) - min(sizes) <= 1


def test_one_instance_is_the_best_and_two_are_best_and_worst() -> None:
    assert examples(table_of([0.3])) == {"best": [0], "median": [], "worst": []}
    assert examples(table_of([0.3, 0.6])) == {"best": [1], "median": [], "worst": [0]}


def test_only_the_classes_that_are_asked_for() -> None:
    table = table_of([0.9, 0.8, 0.7, 0.6], [1, 2, 1, 2])
    assert examples(table, {2}) == {"best": [1], "median": [], "worst": [3]}
    assert examples(table, set()) == {"best": [], "median": [], "worst": []}
