"""Imports torchvision's Faster and Mask R-CNN on ResNet-FPN, first and second version."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from halfmask.coco.categories import COCO_NAMES
from halfmask.errors import InputError
from halfmask.models.imported.assemble import (
    COUNTER,
    MASK_BRANCH,
    ImportedModel,
    assemble,
    untrained,
)
from halfmask.recipes.recipe import Backbone, Detector, Images, MaskHead, MaskRCNN

COCO_ROWS = 91
"""torchvision's COCO models have a row for each category id, used or not."""
BLOCKS = {
    (False, 2): "resnet18",
    (False, 6): "resnet34",
    (True, 6): "resnet50",
    (True, 23): "resnet101",
    (True, 36): "resnet152",
}
"""(bottleneck blocks, blocks of layer3) → torchvision's name."""
OWN_EPS = 1e-5
"""Epsilon of this package's frozen BatchNorm."""
BODY = "backbone.body."
CLASSES = "roi_heads.box_predictor.cls_score.weight"
PARTS = {
    "fpn.": "backbone.fpn.",
    "box_heads.": "roi_heads.",
    "mask_branch.trunk.upsample.": "roi_heads.mask_predictor.conv5_mask.",
    "mask_branch.predictor.conv.": "roi_heads.mask_predictor.mask_fcn_logits.",
}
"""The model's parts → torchvision's. Other names are equal, or missing in torchvision."""
OLDER_NAMES = (
    (r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)", r"\1.0.\2"),
    (r"(rpn\.head\.conv)\.(weight|bias)", r"\1.0.0.\2"),
)
"""Names before torchvision 0.13 → names since. The published first-version files have them."""


def import_torchvision(
    weights: Mapping[str, Tensor],
    where: str,
    mask_head: str = "transfer",
    *,
    norm_eps: float | None = None,
) -> ImportedModel:
    """Imports a Faster R-CNN or Mask R-CNN; the model computes the same.

    Args:
        weights: its state dict.
        where: the file, for errors.
        mask_head: kind of the untrained head for a file without one.
        norm_eps: epsilon of the backbone's BatchNorm. None: 0 if the file has no batch
            counters (the published first-version files, and models fine-tuned from
            them), else 1e-5.
    Raises:
        InputError: not a model of this kind, or tensors that are missing, misshaped or
            unknown (all are listed).
    """
    values = {_today(key): tensor for key, tensor in weights.items()}
    counted = any(key.startswith(BODY) and key.endswith(COUNTER) for key in values)
    eps = norm_eps if norm_eps is not None else (OWN_EPS if counted else 0.0)
    rows = _matrix(values, CLASSES, where)[0]
    picked, classes = values, rows
    if rows == COCO_ROWS:
        picked = {key: _picked(key, tensor) for key, tensor in values.items()}
        classes = len(COCO_NAMES) + 1
    trained = any(key.startswith("roi_heads.mask_predictor.") for key in values)
    model = _model(values, _mask_head(values, where) if trained else untrained(mask_head), where)
    ready = {
        key: _rescaled(key, tensor, picked, eps=eps)
        for key, tensor in picked.items()
        if not (key.startswith(BODY) and key.endswith(COUNTER))
    }
    state = assemble(
        model,
        classes,
        values=ready,
        name_of=lambda key: _name_of(key, model.mask_head, trained),
        where=where,
    )
    return ImportedModel(
        source="torchvision",
        model=model,
        state=state,
        classes=classes,
        trained_masks=trained,
        masked_rows=classes - 1 if trained else 0,
        notes=[f"the backbone's BatchNorm is taken to add {eps:g} to its variances (--norm-eps)"],
    )


def _today(key: str) -> str:
    """The tensor's name in torchvision since 0.13."""
    for pattern, new in OLDER_NAMES:
        key = re.sub(f"^{pattern}$", new, key)
    older = re.fullmatch(r"(roi_heads\.mask_head)\.mask_fcn(\d+)\.(weight|bias)", key)
    return f"{older[1]}.{int(older[2]) - 1}.0.{older[3]}" if older else key


def _picked(key: str, tensor: Tensor) -> Tensor:
    """Selects the rows of background and COCO's 80 classes from 91."""
    layer = key.rpartition(".")[0]
    each = {
        "box_predictor.cls_score": 1,
        "box_predictor.bbox_pred": 4,
        "mask_predictor.mask_fcn_logits": 1,
    }
    wide = each.get(layer.removeprefix("roi_heads."))
    if wide is None or tensor.shape[:1] != (COCO_ROWS * wide,):
        return tensor
    rows = tensor.reshape(COCO_ROWS, wide, *tensor.shape[1:])
    return rows[[0, *COCO_NAMES]].flatten(0, 1)


def _rescaled(key: str, tensor: Tensor, values: Mapping[str, Tensor], *, eps: float) -> Tensor:
    """A scale of the backbone's BatchNorm for the epsilon of this package.

    The product with 1 / sqrt(variance + eps) stays equal.
    """
    variance = values.get(key.removesuffix(".weight") + ".running_var")
    is_scale = key.startswith(BODY) and key.endswith(".weight")
    if eps == OWN_EPS or not is_scale or variance is None or variance.shape != tensor.shape:
        return tensor  # a variance of another shape is an error of `assemble`
    factor = ((variance.double() + OWN_EPS) / (variance.double() + eps)).sqrt()
    return (tensor.double() * factor).to(tensor.dtype)


def _matrix(values: Mapping[str, Tensor], key: str, where: str) -> torch.Size:
    if key not in values or values[key].ndim < 2:
        raise InputError(
            f"{where}: no {key}: expected the state dict of a torchvision Faster R-CNN or Mask "
            "R-CNN with FPN"
        )
    return values[key].shape


def _count(values: Mapping[str, Tensor], pattern: str) -> int:
    return sum(re.fullmatch(pattern, key) is not None for key in values)


def _model(values: Mapping[str, Tensor], head: MaskHead, where: str) -> MaskRCNN:
    """The model section that fits the names and shapes."""
    blocks = _count(values, r"backbone\.body\.layer3\.\d+\.conv1\.weight")
    kind = (f"{BODY}layer1.0.conv3.weight" in values, blocks)
    if kind not in BLOCKS:
        raise InputError(
            f"{where}: expected a ResNet backbone of a known depth, found {blocks} blocks of layer3"
        )
    fpn = _matrix(values, "backbone.fpn.inner_blocks.0.0.weight", where)[0]
    convs = _count(values, r"roi_heads\.box_head\.\d+\.0\.weight")
    first = f"roi_heads.box_head.{convs + 1}.weight" if convs else "roi_heads.box_head.fc6.weight"
    detector = {
        "fpn_channels": fpn,
        "box_width": _matrix(values, CLASSES, where)[1],
        "box_roi_size": round((_matrix(values, first, where)[1] / fpn) ** 0.5),
        "box_convs": convs,
        "rpn_convs": _count(values, r"rpn\.head\.conv\.\d+\.0\.weight") or 1,
        "norm": "batch" if "backbone.fpn.inner_blocks.0.1.weight" in values else "none",
    }
    return MaskRCNN(
        kind="mask_rcnn",
        backbone=Backbone(name=BLOCKS[kind], norm="frozen", trainable_stages=3),
        images=Images(min_size=[800], max_size=1333),
        detector=Detector.model_validate(detector),
        mask_head=head,
    )


def _mask_head(values: Mapping[str, Tensor], where: str) -> MaskHead:
    norm = "batch" if "roi_heads.mask_head.0.1.weight" in values else "none"
    width = _matrix(values, "roi_heads.mask_predictor.conv5_mask.weight", where)[1]
    convs = _count(values, r"roi_heads\.mask_head\.\d+\.0\.weight")
    return MaskHead.model_validate(
        {"kind": "per_class", "width": width, "convs": convs, "norm": norm}
    )


def _name_of(key: str, head: MaskHead, trained: bool) -> str | None:
    """torchvision's name of a tensor of the model."""
    if key.startswith(MASK_BRANCH) and not trained:
        return None
    for ours, theirs in PARTS.items():
        if key.startswith(ours):
            key = theirs + key.removeprefix(ours)
            break
    if not key.startswith(MASK_BRANCH):
        return key
    conv = re.fullmatch(r"mask_branch\.trunk\.convs\.(\d+)\.(\w+)", key)
    assert conv is not None, key
    step = 3 if head.norm == "batch" else 2  # convolution, BatchNorm, ReLU
    return f"roi_heads.mask_head.{int(conv[1]) // step}.{int(conv[1]) % step}.{conv[2]}"
