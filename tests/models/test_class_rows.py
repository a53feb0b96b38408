"""Class weights row by row: the same numbers and gradients as the whole table's, for
the classes of the batch alone.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from halfmask.models.class_weights import (
    ClassRows,
    ClassWeights,
    DetectorWeights,
    FixedWeights,
    NoWeights,
)
from halfmask.models.mask_rcnn.build import build_mask_branch
from halfmask.recipes.recipe import MaskHead

CLASSES, WIDTH = 9, 4
KINDS: dict[str, ClassWeights] = {
    "cls": DetectorWeights("cls", stop_gradient=False),
    "box": DetectorWeights("box", 2.0, stop_gradient=False),
    "cls+box": DetectorWeights("cls+box", 0.5, stop_gradient=False),
    "fixed": FixedWeights(torch.arange(24.0).reshape(8, 3), input_norm=1.5),
    "none": NoWeights(),
}


def box_head() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    cls, box = (torch.randn(n, WIDTH, generator=generator) for n in (CLASSES, 4 * CLASSES))
    cls[5], box[20:24] = 0.0, 0.0  # a class without a direction
    return cls.requires_grad_(), box.requires_grad_()


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("wanted", [[], [0], [7, 2, 5, 2]])
def test_rows_are_those_of_the_table(name: str, wanted: list[int]) -> None:
    cls, box = box_head()
    classes = torch.tensor(wanted, dtype=torch.int64)
    table, rows = KINDS[name](cls, box)[classes], ClassRows(KINDS[name], cls, box)[classes]
    assert torch.equal(table, rows)
    assert table.requires_grad == rows.requires_grad
    if rows.requires_grad and wanted:
        weight = torch.randn(rows.shape, generator=torch.Generator().manual_seed(1))
        expected = torch.autograd.grad((table * weight).sum(), [cls, box], allow_unused=True)
        found = torch.autograd.grad((rows * weight).sum(), [cls, box], allow_unused=True)
        for a, b in zip(expected, found, strict=True):
            torch.testing.assert_close(a, b)


def test_stop_gradient_holds_row_by_row() -> None:
    cls, box = box_head()
    assert not ClassRows(DetectorWeights("cls+box", 1.0), cls, box)[
        torch.tensor([1, 2])
    ].requires_grad


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"transfer": {"input": "random", "embedding_size": 5}},
        {"kind": "per_class"},
        {"kind": "agnostic"},
    ],
)
def test_a_branch_answers_the_same_from_rows(head: dict[str, Any]) -> None:
    torch.manual_seed(0)
    settings = MaskHead.model_validate({"width": 5, "convs": 1, "roi_size": 3, **head})
    branch = build_mask_branch(settings, in_channels=3, num_classes=CLASSES, box_width=WIDTH)
    features, labels = torch.randn(6, 3, 3, 3), torch.tensor([1, 8, 8, 3, 5, 1])
    cls, box = box_head()
    assert torch.equal(
        branch(features, labels, branch.rows(cls, box)),
        branch(features, labels, branch.class_weights(cls, box)),
    )


def test_only_the_classes_of_the_batch_are_joined() -> None:
    """What would grow with K is never made."""
    seen: list[tuple[int, ...]] = []

    class Watched(DetectorWeights):
        def forward(
            self, cls_weight: Tensor, box_weight: Tensor, classes: Tensor | None = None
        ) -> Tensor:
            rows = super().forward(cls_weight, box_weight, classes)
            seen.append(tuple(rows.shape))
            return rows

    torch.manual_seed(0)
    branch = build_mask_branch(MaskHead(width=5, convs=1, roi_size=3), 3, 3002, box_width=WIDTH)
    branch.class_weights = Watched("cls+box")
    cls, box = torch.randn(3002, WIDTH), torch.randn(4 * 3002, WIDTH)
    branch(torch.randn(6, 3, 3, 3), torch.tensor([1, 80, 80, 3, 5, 1]), branch.rows(cls, box))
    assert seen == [(4, 5 * WIDTH)]
