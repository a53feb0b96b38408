"""Section 3.3: a batch without any object of A has a mask loss of zero that does no harm."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from halfmask.coco.edit import strip_masks

from .conftest import A, B, Record


def only_b(document: Record) -> Record:
    document["annotations"] = [a for a in document["annotations"] if a["category_id"] in B]
    return strip_masks(document, set(A))


def without_annotations(document: Record) -> Record:
    return {**document, "annotations": []}


@pytest.mark.parametrize("kind", ["agnostic", "per_class", "transfer"])
@pytest.mark.parametrize("mlp", ["none", "light", "full"])
@pytest.mark.parametrize("loss", ["all", "masks"])
@pytest.mark.parametrize("empty", [only_b, without_annotations])
def test_the_mask_loss_is_zero_and_every_gradient_finite(
    model: Any,
    batch: Callable[[Record], Any],
    document: Record,
    kind: str,
    mlp: str,
    loss: str,
    empty: Callable[[Record], Record],
) -> None:
    network = model(kind=kind, mlp=mlp, transfer={"stop_gradient": False})
    torch.manual_seed(9)
    found = network(*batch(empty(document)), loss)
    assert float(found["loss_mask"].detach()) == 0.0
    torch.stack(list(found.values())).sum().backward()
    for name, parameter in network.mask_branch.named_parameters():
        assert parameter.grad is not None, (
            f"{name}: distributed training needs every parameter in the graph"
        )
        assert not bool(parameter.grad.any()), name
    assert all(
        bool(torch.isfinite(p.grad).all()) for p in network.parameters() if p.grad is not None
    )
