"""import_torchvision: equal detections and masks, and 91 rows as COCO's 80 classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from torchvision.models.detection import (
    FasterRCNN,
    MaskRCNN,
    fasterrcnn_resnet50_fpn,
    fasterrcnn_resnet50_fpn_v2,
    maskrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FrozenBatchNorm2d

from halfmask.coco.categories import COCO_NAMES
from halfmask.errors import InputError
from halfmask.models.build import build_model
from halfmask.models.imported.assemble import ImportedModel
from halfmask.models.imported.torchvision_models import import_torchvision
from halfmask.models.mask_rcnn.model import PartialMaskRCNN

WIDTH = 16
IDS = list(COCO_NAMES)
UNUSED = sorted(set(range(1, 91)) - set(IDS))
SIZE = 96


def mask_rcnn(version: int, classes: int = 91, eps: float = 1e-5, frozen: bool = False) -> MaskRCNN:
    """torchvision's model of that version on a ResNet-18, with narrow heads, random
    weights and random statistics.
    """
    torch.manual_seed(version)
    v2 = version == 2
    norm = nn.BatchNorm2d if v2 else None
    levels = {f"layer{i + 1}": str(i) for i in range(4)}
    network = resnet18(
        weights=None,
        norm_layer=lambda n: FrozenBatchNorm2d(n, eps) if frozen else nn.BatchNorm2d(n, eps),
    )
    backbone = BackboneWithFPN(network, levels, [64, 128, 256, 512], WIDTH, norm_layer=norm)
    head = (
        FastRCNNConvFCHead((WIDTH, 7, 7), [WIDTH] * 4, [32], norm)
        if v2
        else TwoMLPHead(WIDTH * 49, 32)
    )
    model = MaskRCNN(
        backbone,
        min_size=SIZE,
        max_size=SIZE,
        rpn_anchor_generator=AnchorGenerator(
            ((32,), (64,), (128,), (256,), (512,)), ((0.5, 1.0, 2.0),) * 5
        ),
        rpn_head=RPNHead(WIDTH, 3, conv_depth=version),
        box_head=head,
        box_predictor=FastRCNNPredictor(32, classes),
        mask_head=MaskRCNNHeads(WIDTH, (WIDTH,) * 4, 1, norm),
        mask_predictor=MaskRCNNPredictor(WIDTH, WIDTH, classes),
        box_score_thresh=0.015,
    )
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.8, 1.2)
                module.bias.normal_(0, 0.1)
        predictor = model.roi_heads.box_predictor
        predictor.cls_score.weight.mul_(8)
        predictor.bbox_pred.weight.mul_(4)
        if classes == 91:
            predictor.cls_score.bias[
                UNUSED
            ] = -1e4  # as in trained weights: what never occurs is never found
    return model.eval()


def built(imported: ImportedModel) -> PartialMaskRCNN:
    section = imported.model
    detector = section.detector.model_copy(update={"score_threshold": 0.015})
    images = section.images.model_copy(update={"min_size": [SIZE], "max_size": SIZE})
    model = build_model(
        section.model_copy(update={"images": images, "detector": detector}), imported.classes
    )
    assert isinstance(model, PartialMaskRCNN)
    model.load_state_dict(imported.state)
    return model.eval()


@torch.no_grad()
def assert_same(theirs: MaskRCNN, imported: ImportedModel, tolerance: float) -> None:
    images = [torch.rand(3, SIZE, 64), torch.rand(3, 80, SIZE)]
    batch, _ = theirs.transform(images)
    features = theirs.backbone(batch.tensors)
    expected, _ = theirs.roi_heads(features, theirs.rpn(batch, features)[0], batch.image_sizes)
    for found, raw in zip(built(imported).detect(images), expected, strict=True):
        assert len(found) == len(raw["boxes"]) > 20
        assert [IDS[label - 1] for label in found.labels.tolist()] == raw["labels"].tolist()
        torch.testing.assert_close(found.boxes, raw["boxes"], rtol=tolerance, atol=tolerance)
        near = max(1e-6, tolerance)  # a softmax over 81 numbers, not 91
        torch.testing.assert_close(found.scores, raw["scores"], rtol=near, atol=near)
        torch.testing.assert_close(found.mask_probs, raw["masks"][:, 0], rtol=1e-5, atol=10 * near)


@pytest.mark.parametrize(("version", "tolerance"), [(1, 0.0), (2, 2e-4)])
def test_detections_and_masks_are_torchvisions(version: int, tolerance: float) -> None:
    """The first version's frozen BatchNorm is ours, number for number; the second's is
    rounded otherwise.
    """
    theirs = mask_rcnn(version, frozen=version == 1)
    imported = import_torchvision(
        theirs.state_dict(), "file.pth", norm_eps=1e-5 if version == 1 else None
    )
    assert (imported.classes, imported.trained_masks, imported.masked_rows) == (81, True, 80)
    assert imported.model.detector.rpn_convs == version
    assert imported.model.mask_head.norm == ("batch" if version == 2 else "none")
    assert_same(theirs, imported, tolerance)


def older(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names before torchvision 0.13, which the published files of the first version have."""
    out = {}
    for key, tensor in state.items():
        if key.startswith(("backbone.fpn.", "rpn.head.conv.")):
            key = (
                key.replace(".0.weight", ".weight")
                .replace(".0.bias", ".bias")
                .replace("conv.0.", "conv.")
            )
        parts = key.split(".")
        if key.startswith("roi_heads.mask_head."):
            key = f"roi_heads.mask_head.mask_fcn{int(parts[2]) + 1}.{parts[-1]}"
        out[key] = tensor
    return out


def test_the_published_files_names_and_eps() -> None:
    """Their BatchNorm is frozen and adds nothing to its variances."""
    theirs = mask_rcnn(1, eps=0.0, frozen=True)
    with torch.no_grad():
        theirs.backbone.body.layer2[0].bn1.running_var[:3] = 1e-5  # where an eps of 1e-5 would show
    state = older(theirs.state_dict())
    assert "rpn.head.conv.weight" in state
    assert "backbone.fpn.inner_blocks.0.weight" in state
    assert "roi_heads.mask_head.mask_fcn4.bias" in state
    theirs.load_state_dict(dict(state))  # torchvision itself knows them
    imported = import_torchvision(state, "file.pth")
    assert "add 0 to its variances" in imported.notes[0]
    image = torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad():
        expected = theirs.backbone(image)
        model = built(imported)
        found = model.features(image)
        for level in "0123":
            torch.testing.assert_close(found[level], expected[level], rtol=2e-3, atol=2e-3)
        model.backbone.load_state_dict(
            {
                k.removeprefix("backbone."): t
                for k, t in state.items()
                if "fpn" not in k and k.startswith("backbone.")
            }
        )
        assert not torch.allclose(model.features(image)["1"], expected["1"], rtol=1e-2, atol=1e-2)


def test_eps_can_be_said() -> None:
    theirs = mask_rcnn(1, frozen=True)
    imported = import_torchvision(theirs.state_dict(), "file.pth", norm_eps=1e-5)
    key = "backbone.body.bn1.weight"
    assert torch.equal(imported.state[key], theirs.state_dict()[key])
    assumed = import_torchvision(theirs.state_dict(), "file.pth")
    assert not torch.equal(assumed.state[key], theirs.state_dict()[key])


def test_scores_are_shared_among_the_used_classes() -> None:
    """Where an unused row does get a share of the softmax, it is left out: p / (1 - share)."""
    theirs = mask_rcnn(1)
    with torch.no_grad():
        theirs.roi_heads.box_predictor.cls_score.bias[UNUSED] = 1.0
    ours = built(import_torchvision(theirs.state_dict(), "file.pth"))
    features = torch.randn(5, WIDTH, 7, 7)
    with torch.no_grad():
        whole = theirs.roi_heads.box_predictor(theirs.roi_heads.box_head(features))[0].softmax(1)
        found = ours.box_heads.box_predictor(ours.box_heads.box_head(features))[0].softmax(1)
    kept = whole[:, [0, *IDS]]
    assert float(kept.sum(1).max()) < 0.95
    torch.testing.assert_close(found, kept / kept.sum(1, keepdim=True))


def test_rows_of_boxes_stay_together() -> None:
    theirs = mask_rcnn(1).state_dict()
    state = import_torchvision(theirs, "file.pth").state
    key = "box_predictor.bbox_pred.weight"
    for label, coco_id in ((0, 0), (1, 1), (12, 13), (80, 90)):
        assert torch.equal(
            state[f"box_heads.{key}"][4 * label : 4 * label + 4],
            theirs[f"roi_heads.{key}"][4 * coco_id : 4 * coco_id + 4],
        )


def without_masks(model: nn.Module) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in model.state_dict().items() if ".mask_" not in key}


@pytest.mark.parametrize("kind", ["transfer", "agnostic"])
def test_a_faster_rcnn_gets_an_untrained_mask_head(kind: str) -> None:
    state = without_masks(mask_rcnn(1, classes=7))
    imported = import_torchvision(state, "file.pth", mask_head=kind)
    assert (imported.classes, imported.trained_masks, imported.masked_rows) == (7, False, 0)
    assert imported.model.mask_head.kind == kind
    again = import_torchvision(state, "file.pth", mask_head=kind)
    assert all(torch.equal(tensor, again.state[key]) for key, tensor in imported.state.items())
    model = built(imported)
    masks = model.segment(
        [torch.rand(3, 96, 96)], [torch.tensor([[5.0, 5.0, 60.0, 70.0]])], [torch.tensor([3])]
    )[0].mask_probs
    assert masks.std() > 0


def test_misfits_are_listed_by_name() -> None:
    state = mask_rcnn(1).state_dict()
    del state["rpn.head.cls_logits.bias"]
    state["roi_heads.box_predictor.bbox_pred.weight"] = torch.zeros(4, 32)
    state["roi_heads.keypoint_head.0.weight"] = torch.zeros(3)
    with pytest.raises(InputError) as error:
        import_torchvision(state, "file.pth")
    text = str(error.value)
    assert text.startswith(
        "file.pth: does not fit resnet18-FPN with 80 classes: 1 missing: rpn.head.cls_logits.bias; "
    )
    assert (
        "1 of another shape: roi_heads.box_predictor.bbox_pred.weight [4, 32] instead of [324, "
        "32]; " in text
    )
    assert text.endswith("1 unknown: roi_heads.keypoint_head.0.weight")


def test_a_counter_may_be_absent() -> None:
    """And numbers may be stored in 16 bits."""
    whole = mask_rcnn(2, classes=5).state_dict()
    state = {k: t.half() for k, t in whole.items() if not k.endswith("num_batches_tracked")}
    imported = import_torchvision(state, "file.pth")
    assert imported.state["backbone.body.conv1.weight"].dtype == torch.float32
    assert imported.state["fpn.inner_blocks.0.1.num_batches_tracked"].dtype == torch.int64
    built(imported)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            resnet18(weights=None).state_dict(),
            "no roi_heads.box_predictor.cls_score.weight: expected the state dict of a torchvision",
        ),
        ({}, "no roi_heads.box_predictor.cls_score.weight"),
        (
            {"roi_heads.box_predictor.cls_score.weight": torch.zeros(5, 6)},
            "expected a ResNet backbone of a known depth, found 0",
        ),
    ],
)
def test_files_of_other_models(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_torchvision(state, "file.pth")


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        fasterrcnn_resnet50_fpn,
        fasterrcnn_resnet50_fpn_v2,
        maskrcnn_resnet50_fpn,
        maskrcnn_resnet50_fpn_v2,
    ],
)
def test_full_size(make: Any) -> None:
    """torchvision's own builders, at the size of the published files."""
    theirs: FasterRCNN = make(weights=None, weights_backbone=None, num_classes=91)
    state = theirs.state_dict()
    imported = import_torchvision(state, "file.pth")
    built(imported)
    assert imported.model.backbone.name == "resnet50"
    kept = {
        k: t
        for k, t in imported.state.items()
        if imported.trained_masks or not k.startswith("mask_branch.")
    }
    rows = sum(
        t[0].numel() * (4 if "bbox" in k else 1) * 10
        for k, t in state.items()
        if "box_predictor" in k or "fcn_logits" in k
    )
    counters = sum(
        k.startswith("backbone.body.") and k.endswith("num_batches_tracked") for k in state
    )
    assert (
        sum(t.numel() for t in kept.values())
        == sum(t.numel() for t in state.values()) - rows - counters
    )
