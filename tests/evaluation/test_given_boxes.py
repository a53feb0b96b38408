"""Mask IoU on given boxes: what counts, by set, size and kind of truth."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from halfmask.coco.file import CocoFile
from halfmask.evaluation.measures.given_boxes import IouTable
from halfmask.evaluation.measures.metrics import compute_metrics

Make = Callable[..., Any]

BOX = [10.0, 10.0, 90.0, 70.0]


def test_means_by_hand() -> None:
    table = IouTable()
    for category, iou, area, rle in [
        (1, 0.5, 100, True),
        (1, 0.7, 2000, False),
        (2, 0.9, 20000, False),
        (2, 0.1, 9216, True),
    ]:
        table.add(category, iou, area, from_rle=rle)
    table.add(2, 0.3, 1024, from_rle=False)
    block = table.block()
    assert block["miou"] == pytest.approx(2.5 / 5)
    assert block["miou_per_category_mean"] == pytest.approx((0.6 + 1.3 / 3) / 2)
    assert (block["S"], block["M"], block["L"]) == pytest.approx((0.5, 0.5, 0.5))
    assert (block["polygon"], block["rle"]) == pytest.approx((1.9 / 3, 0.3))
    assert table.block({2})["instances"] == 3
    assert table.block({2})["S"] is None
    assert table.block(set())["miou"] is None
    assert table.block(set())["instances"] == 0


def test_the_box_as_mask_has_the_ellipses_share_of_it(
    document: Make, annotation: Make, detection: Make
) -> None:
    file = CocoFile.from_document(document([annotation(1, 1, 7, BOX)]), "truth")
    block = compute_metrics(
        file, given=[(1, torch.tensor([1]), detection([BOX], [7], shape="full"))]
    )["given_boxes"]["all"]
    assert block["miou"] == pytest.approx(3.14159 / 4, abs=0.01)
    assert block["M"] == block["miou"] == block["rle"]
    assert block["polygon"] is None


def test_an_empty_mask_counts_as_zero(document: Make, annotation: Make, detection: Make) -> None:
    file = CocoFile.from_document(document([annotation(1, 1, 7, BOX)]), "truth")
    block = compute_metrics(
        file, given=[(1, torch.tensor([1]), detection([BOX], [7], shape="empty"))]
    )["given_boxes"]["all"]
    assert block["miou"] == 0
    assert block["instances"] == 1


def test_truth_without_a_mask_and_crowds_do_not_count(
    document: Make, annotation: Make, detection: Make
) -> None:
    rows = [
        annotation(1, 1, 7, BOX),
        annotation(2, 1, 7, BOX, segmentation=None),
        annotation(3, 1, 7, BOX, segmentation=[[10, 10, 90, 10, 90, 70, 10, 70]]),
        annotation(4, 1, 7, BOX, iscrowd=1),
    ]
    file = CocoFile.from_document(document(rows), "truth")
    given = [(1, torch.tensor([1, 2, 3]), detection([BOX] * 3, [7] * 3))]
    block = compute_metrics(file, given=given)["given_boxes"]["all"]
    assert block["miou"] == 1
    assert block["instances"] == 1


def test_ids_that_a_file_uses_twice_are_taken_in_order(
    document: Make, annotation: Make, detection: Make
) -> None:
    other = [100.0, 20.0, 150.0, 110.0]
    file = CocoFile.from_document(
        document([annotation(1, 1, 7, BOX), annotation(1, 1, 3, other)]), "truth"
    )
    table = IouTable()
    result = compute_metrics(
        file, given=[(1, torch.tensor([1, 1]), detection([BOX, other], [7, 3]))], ious=table
    )
    assert result["given_boxes"]["all"]["miou"] == 1
    assert (table.image_ids, table.places, table.categories) == ([1, 1], [0, 1], [7, 3]), (
        "each can be found again"
    )


def test_the_callers_table_knows_which_instance_a_row_is(
    document: Make, annotation: Make, detection: Make
) -> None:
    rows = [
        annotation(5, 1, 7, BOX, segmentation=None),
        annotation(6, 1, 7, BOX),
        annotation(7, 2, 3, BOX),
    ]
    file = CocoFile.from_document(document(rows), "truth")
    given = [
        (1, torch.tensor([5, 6]), detection([BOX] * 2, [7, 7])),
        (2, torch.tensor([7]), detection([BOX], [3])),
    ]
    table = IouTable()
    compute_metrics(file, given=given, ious=table)
    assert (table.image_ids, table.places) == ([1, 2], [1, 0]), (
        "places count the boxes without truth too"
    )
