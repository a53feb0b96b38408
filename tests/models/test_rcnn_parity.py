"""The proof that the seam costs nothing: with every object masked and the per-class
head, PartialMaskRCNN is torchvision's MaskRCNN.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN, resnet_fpn_backbone
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from halfmask.masks.crops import MaskCrops
from halfmask.models.build import build_model
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import MaskRCNN
from halfmask.structures import Target

CLASSES = 6
WIDTH = 32
# The longest side is 96 and so are min_size and max_size: every picture keeps its
# scale.
SIZES = [(96, 64), (80, 96), (96, 96)]
BOX_LOSSES = ["loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"]


def narrow_torchvision(min_size: int, max_size: int) -> TorchvisionMaskRCNN:
    """torchvision's MaskRCNN on ResNet-18 with narrow heads, so that the test is quick."""
    levels = {f"layer{i + 1}": str(i) for i in range(4)}
    backbone = BackboneWithFPN(resnet18(weights=None), levels, [64, 128, 256, 512], WIDTH)
    return TorchvisionMaskRCNN(
        backbone,
        min_size=min_size,
        max_size=max_size,
        box_head=TwoMLPHead(WIDTH * 49, 2 * WIDTH),
        box_predictor=FastRCNNPredictor(2 * WIDTH, CLASSES),
        mask_head=MaskRCNNHeads(WIDTH, (WIDTH,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(WIDTH, WIDTH, CLASSES),
    )


def config(min_size: int, max_size: int, width: int, box_width: int) -> MaskRCNN:
    return MaskRCNN.model_validate(
        {
            "kind": "mask_rcnn",
            "backbone": {"name": "resnet18"},
            "images": {"min_size": [min_size], "max_size": max_size},
            "detector": {"fpn_channels": width, "box_width": box_width},
            "mask_head": {"kind": "per_class", "width": width},
        }
    )


def pair(min_size: int = 96, max_size: int = 96) -> tuple[PartialMaskRCNN, TorchvisionMaskRCNN]:
    """Both models with the same weights, random ones whose box scores and offsets are
    spread out.
    """
    torch.manual_seed(0)
    theirs = narrow_torchvision(min_size, max_size)
    with torch.no_grad():
        theirs.roi_heads.box_predictor.cls_score.weight.mul_(8)
        theirs.roi_heads.box_predictor.bbox_pred.weight.mul_(4)
    return same_weights(config(min_size, max_size, WIDTH, 2 * WIDTH), theirs), theirs


def same_weights(recipe: MaskRCNN, theirs: TorchvisionMaskRCNN) -> PartialMaskRCNN:
    ours = build_model(recipe, CLASSES)
    assert isinstance(ours, PartialMaskRCNN)
    ours.load_state_dict(translate(theirs.state_dict()))
    return ours


def translate(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's parameter names in ours."""
    out = {}
    for key, value in state.items():
        new = key.replace("backbone.fpn.", "fpn.").replace("roi_heads.box_", "box_heads.box_")
        new = new.replace("roi_heads.mask_predictor.conv5_mask.", "mask_branch.trunk.upsample.")
        new = new.replace(
            "roi_heads.mask_predictor.mask_fcn_logits.", "mask_branch.predictor.conv."
        )
        if new.startswith("roi_heads.mask_head."):
            layer, _, name = new.removeprefix("roi_heads.mask_head.").split(".")
            new = f"mask_branch.trunk.convs.{2 * int(layer)}.{name}"
        out[new] = value
    return out


def no_objects() -> Target:
    nothing = torch.zeros(0, dtype=torch.int64)
    return Target(
        boxes=torch.zeros(0, 4),
        labels=nothing,
        has_mask=nothing.bool(),
        masks=MaskCrops.empty((96, 96)),
    )


def as_dicts(targets: list[Target]) -> list[dict[str, Tensor]]:
    return [
        {"boxes": t.boxes, "labels": t.labels, "masks": t.masks.dense().to(torch.uint8)}
        for t in targets
    ]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_losses_equal_torchvision(scene: Any, seed: int) -> None:
    ours, theirs = pair()
    images, targets = scene(SIZES, objects=5, seed=seed)
    torch.manual_seed(seed)
    expected = theirs(images, as_dicts(targets))
    torch.manual_seed(seed)
    found = ours(images, targets)
    assert set(found) == set(expected)
    for name in BOX_LOSSES:
        assert torch.equal(found[name], expected[name]), (name, found[name], expected[name])
    torch.testing.assert_close(found["loss_mask"], expected["loss_mask"], rtol=1e-6, atol=1e-6)
    assert expected["loss_mask"] > 0.1


def test_gradients_equal_torchvision(scene: Any) -> None:
    ours, theirs = pair()
    images, targets = scene(SIZES, objects=5, seed=3)
    for model, truth in ((theirs, as_dicts(targets)), (ours, targets)):
        torch.manual_seed(3)
        sum(model(images, truth).values()).backward()
    expected = translate({name: p.grad for name, p in theirs.named_parameters()})
    found = {name: p.grad for name, p in ours.named_parameters()}
    assert set(found) == set(expected)
    for name, grad in found.items():
        scale = float(expected[name].abs().max())
        assert float((grad - expected[name]).abs().max()) <= 1e-4 * scale + 1e-8, name


def test_box_losses_equal_torchvision_when_images_are_resized(scene: Any) -> None:
    """Masks are drawn from the original frame, not from a resized bitmap: close, and
    the box losses do not change.
    """
    ours, theirs = pair(min_size=80, max_size=120)
    images, targets = scene([(60, 90), (112, 101)], objects=5, seed=4)
    torch.manual_seed(4)
    expected = theirs(images, as_dicts(targets))
    torch.manual_seed(4)
    found = ours(images, targets)
    for name in BOX_LOSSES:
        assert torch.equal(found[name], expected[name]), name
    torch.testing.assert_close(found["loss_mask"], expected["loss_mask"], rtol=0.01, atol=0.0)


def test_images_without_objects_equal_torchvision(scene: Any) -> None:
    ours, theirs = pair()
    images, targets = scene(SIZES[:2], objects=3, seed=5)
    empty_images, empty = [torch.rand(3, 96, 96)], [no_objects()]
    torch.manual_seed(5)
    expected = theirs(images + empty_images, as_dicts(targets + empty))
    torch.manual_seed(5)
    found = ours(images + empty_images, targets + empty)
    for name in BOX_LOSSES:
        assert torch.equal(found[name], expected[name]), name
    torch.testing.assert_close(found["loss_mask"], expected["loss_mask"], rtol=1e-6, atol=1e-6)


def test_detections_equal_torchvision(scene: Any) -> None:
    ours, theirs = pair()
    ours.eval()
    theirs.eval()
    images, _ = scene(SIZES, seed=7)
    with torch.no_grad():
        batch, _ = theirs.transform(images)
        features = theirs.backbone(batch.tensors)
        expected, _ = theirs.roi_heads(features, theirs.rpn(batch, features)[0], batch.image_sizes)
        pasted = theirs(images)
    for mine, raw, final in zip(ours.detect(images), expected, pasted, strict=True):
        assert len(mine) > 20
        assert torch.equal(mine.boxes, final["boxes"])
        assert torch.equal(mine.labels, final["labels"])
        assert torch.equal(mine.scores, final["scores"])
        torch.testing.assert_close(mine.mask_probs, raw["masks"][:, 0], rtol=1e-5, atol=1e-6)
        assert torch.equal(mine.regions, mine.boxes + 0.5)  # half a pixel, see test_rcnn


@pytest.mark.slow
def test_losses_equal_torchvision_at_full_width(scene: Any) -> None:
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    theirs = TorchvisionMaskRCNN(backbone, num_classes=CLASSES, min_size=256, max_size=256)
    ours = same_weights(config(256, 256, 256, 1024), theirs)
    images, targets = scene([(256, 192), (224, 256)], objects=8, seed=8)
    torch.manual_seed(8)
    expected = theirs(images, as_dicts(targets))
    torch.manual_seed(8)
    found = ours(images, targets)
    for name in BOX_LOSSES:
        assert torch.equal(found[name], expected[name]), name
    torch.testing.assert_close(found["loss_mask"], expected["loss_mask"], rtol=1e-6, atol=1e-6)
