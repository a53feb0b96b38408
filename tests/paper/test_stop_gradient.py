"""Section 3.2: end to end, the mask loss reaches the box head through T only where its
gradient is not stopped.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from halfmask.coco.edit import strip_masks
from halfmask.models.mask_rcnn.model import PartialMaskRCNN

A = (1, 2, 3)
ROWS = [("cls", "cls"), ("box", "box"), ("cls+box", "cls box")]


def losses(model: PartialMaskRCNN, batch: Any, kind: Any = "all") -> dict[str, Tensor]:
    torch.manual_seed(9)
    found: dict[str, Tensor] = model(*batch, kind)
    return found


def box_head_gradients(model: PartialMaskRCNN) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in model.box_heads.named_parameters()}


@pytest.fixture
def partly(document: Any, batch: Callable[..., Any]) -> Any:
    """Two pictures with masks of class 1 and 2 alone, so that class 3, of A, is not in
    the batch.
    """
    document["annotations"] = [a for a in document["annotations"] if a["category_id"] != 3]
    return batch(strip_masks(document, set(A)))


@pytest.mark.parametrize(("rows", "used"), ROWS)
@pytest.mark.parametrize("norm", [None, 3.0])
def test_stopped_nothing_else_rows_of_a_in_the_batch(
    model: Any, partly: Any, rows: str, used: str, norm: float | None
) -> None:
    for stop in (True, False):
        network = model(transfer={"input": rows, "stop_gradient": stop, "input_norm": norm})
        losses(network, partly)["loss_mask"].backward()
        found = box_head_gradients(network)
        weights = {"cls": "box_predictor.cls_score.weight", "box": "box_predictor.bbox_pred.weight"}
        for name, gradient in found.items():
            touched = not stop and name in {weights[part] for part in used.split()}
            assert (gradient is not None and bool(gradient.any())) == touched, name
        for part in used.split() if not stop else ():
            gradient = found[weights[part]]
            assert gradient is not None
            by_class = gradient.reshape(7, -1).abs().sum(1)
            assert torch.where(by_class > 0)[0].tolist() == [1, 2], (
                "not B's, not the background's, not that of an A class that is absent"
            )
        assert network.fpn.inner_blocks[0][0].weight.grad.any(), (
            "the features learn from masks either way"
        )
        assert network.mask_branch.predictor.transfer.layers[0].weight.grad.any(), "and so does T"


def test_stopped_the_box_head_learns_what_boxes_teach_it_bit_for_bit(
    model: Any, partly: Any
) -> None:
    gradients = []
    for stop, kind in ((True, "boxes"), (True, "all"), (False, "all")):
        network = model(transfer={"stop_gradient": stop})
        torch.stack(list(losses(network, partly, kind).values())).sum().backward()
        gradients.append(box_head_gradients(network))
    boxes, stopped, flowing = gradients
    for name in boxes:
        assert boxes[name] is not None
        assert torch.equal(boxes[name], stopped[name]), name  # type: ignore[arg-type]
    changed = {name for name in boxes if not torch.equal(boxes[name], flowing[name])}  # type: ignore[arg-type]
    assert changed == {"box_predictor.cls_score.weight", "box_predictor.bbox_pred.weight"}, (
        "T reads weights, no biases"
    )
