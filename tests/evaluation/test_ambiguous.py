"""Boxes that two classes share: who is counted, and what a model that does not look at
the class gets.
"""

import torch

from halfmask.evaluation.measures.ambiguous import AmbiguousTable
from halfmask.masks.crops import MaskCrops

SIZE = 40, 60
LEFT, RIGHT, WHOLE = (10, 10, 30, 30), (30, 10, 50, 30), (10, 10, 50, 30)


def crops(*boxes: tuple[int, int, int, int]) -> MaskCrops:
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return MaskCrops.from_dense(masks)


def boxes(*rows: tuple[int, int, int, int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def test_a_model_that_uses_the_class_tells_both_apart() -> None:
    table = AmbiguousTable()
    table.add_image(
        [1, 2], boxes(WHOLE, WHOLE), truth=crops(LEFT, RIGHT), predicted=crops(LEFT, RIGHT)
    )
    assert table.block() == {
        "instances": 2,
        "miou": 1.0,
        "told_apart": 1.0,
        "same_box": {"instances": 2, "miou": 1.0, "told_apart": 1.0},
    }
    assert table.block({2})["instances"] == 1


def test_a_model_that_does_not_gets_one_half() -> None:
    for drawn in (LEFT, WHOLE):
        table = AmbiguousTable()
        table.add_image(
            [1, 2], boxes(WHOLE, WHOLE), truth=crops(LEFT, RIGHT), predicted=crops(drawn, drawn)
        )
        assert table.block()["told_apart"] == 0.5
        assert table.block()["miou"] == 0.5


def test_who_is_counted() -> None:
    table = AmbiguousTable()
    # The same class twice, and a third box of another class far away.
    table.add_image(
        [1, 1, 2],
        boxes(WHOLE, WHOLE, (0, 32, 9, 39)),
        truth=crops(LEFT, RIGHT, LEFT),
        predicted=crops(LEFT, LEFT, LEFT),
    )
    table.add_image([1], boxes(WHOLE), truth=crops(LEFT), predicted=crops(LEFT))
    table.add_image([], boxes().reshape(0, 4), truth=crops(), predicted=crops())
    nothing = {"instances": 0, "miou": None, "told_apart": None}
    assert table.block() == {**nothing, "same_box": nothing}
    # Half a box in common is near, but not the same; the nearest of two others counts.
    table.add_image(
        [1, 2, 3],
        boxes(LEFT, WHOLE, (10, 10, 46, 30)),
        truth=crops(LEFT, RIGHT, WHOLE),
        predicted=crops(LEFT, WHOLE, WHOLE),
    )
    assert table.block()["instances"] == 3
    assert table.block()["same_box"]["instances"] == 2
    assert table.block({1})["told_apart"] == 1.0
    assert table.block({2})["told_apart"] == 0.0, "its mask is the other's"
