"""Options that only imported weights need: stride in the 1×1 convolution, BatchNorm and
convolutions in the heads.
"""

from typing import Any

import pytest
import torch
from torch import nn

from halfmask.errors import InputError
from halfmask.models.backbones.encoder import build_encoder
from halfmask.models.build import build_model
from halfmask.models.mask_rcnn.model import PartialMaskRCNN


def test_stride_moves_to_the_first_convolution() -> None:
    with torch.device("meta"):
        usual = build_encoder("resnet50", strides=[4, 8, 16, 32])
        moved = build_encoder("resnet50", strides=[4, 8, 16, 32], stride_in_1x1=True)
    assert moved.channels == usual.channels
    for stage in (2, 3, 4):
        before, after = (e.body.get_submodule(f"layer{stage}.0") for e in (usual, moved))
        assert (before.conv1.stride, before.conv2.stride) == ((1, 1), (2, 2))
        assert (after.conv1.stride, after.conv2.stride) == ((2, 2), (1, 1))
        assert after.get_submodule("downsample.0").stride == (2, 2)


@pytest.mark.parametrize(("name", "widths"), [("resnet18", None), ("small_resnet", [4, 8])])
def test_only_bottlenecks_have_such_a_convolution(name: str, widths: Any) -> None:
    with pytest.raises(
        InputError, match=f"backbone {name}: stride_in_1x1 is for ResNets of bottleneck blocks"
    ):
        build_encoder(name, widths=widths, stride_in_1x1=True)


def test_heads_with_norm_and_convolutions_learn(config: Any, scene: Any) -> None:
    recipe = config(kind="per_class", norm="batch")
    detector = recipe.detector.model_copy(update={"norm": "batch", "box_convs": 2, "rpn_convs": 2})
    torch.manual_seed(0)
    model = build_model(recipe.model_copy(update={"detector": detector}), 6)
    assert isinstance(model, PartialMaskRCNN)
    for part in (model.fpn, model.box_heads.box_head, model.mask_branch.trunk):
        assert sum(isinstance(m, nn.BatchNorm2d) for m in part.modules()) >= 2
    owned = [p for part in model.parts().values() for p in part.parameters()]
    assert len(owned) == len(list(model.parameters()))
    images, targets = scene([(64, 64), (60, 80)], seed=1)
    losses = model(images, targets)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(p.grad is not None for p in owned)
