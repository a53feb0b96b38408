"""Imports Detectron's blobs (Caffe2), including those of the paper's own code.

The formats are described in `docs/import_weights.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.models.backbones.blobs import Blobs
from halfmask.models.backbones.detectron import (
    DEPTHS,
    LEFT_OVER,
    affine_norms,
    backbone_keys,
    layer_keys,
    rgb_first,
)
from halfmask.models.imported.assemble import MASK_BRANCH, ImportedModel, assemble, untrained
from halfmask.recipes.detectron import PIXEL_MEANS
from halfmask.recipes.recipe import Backbone, Detector, Images, MaskHead, MaskRCNN, Transfer

BACKUP = "_jcvbackup"
"""Ending of the blobs with the rows of all classes in the paper's Visual Genome files.

The blobs without it may be cut to COCO's classes.
"""
EMBEDDINGS = ("v_glove", "v_randn_0")
"""Names of class vectors in the paper's code."""
SIZES = ("cls_score_w", "fc6_w", "fpn_inner_res5_2_sum_w")
"""Blobs whose shapes determine the size of the model."""
BODY = "backbone.body."
MASK_BLOBS = ("_[mask]_", "conv5_mask", "mask_fcn_logits")
BOX_HEAD = ("cls_score_w", "cls_score_b", "bbox_pred_w", "bbox_pred_b")


def import_detectron(
    blobs: Blobs,
    where: str,
    mask_head: str = "transfer",
    *,
    activation: str = "leaky_relu",
    embedding: str | None = None,
) -> ImportedModel:
    """Imports a Mask R-CNN or Faster R-CNN on ResNet-FPN.

    The paper's heads are imported if present. The model computes the same.

    Args:
        blobs: the result of `read_blobs`.
        where: the file, for errors.
        mask_head: kind of the untrained head for a file without one.
        activation: activation of T, which no blob contains: leaky_relu or relu.
        embedding: the blob with T's class vectors, if there are several.
    Raises:
        InputError: not a ResNet-FPN of this kind, or blobs that are missing, misshaped
            or unknown (all are listed).
    """
    blobs, notes = _restored(blobs, where)
    file = _File(blobs, where)
    name, counts = _depth(file)
    (classes, width), (_, region), (fpn, *_) = (file.shape(blob)[:2] for blob in SIZES)
    trained = any(name.startswith(MASK_BLOBS) for name in blobs)
    head = _mask_head(file, activation, embedding) if trained else untrained(mask_head)
    size = round((region / fpn) ** 0.5)
    mean = [m / 255 for m in PIXEL_MEANS]
    model = MaskRCNN(
        kind="mask_rcnn",
        backbone=Backbone(name=name, norm="frozen", trainable_stages=3, stride_in_1x1=True),
        images=Images(min_size=[800], max_size=1333, mean=mean, std=[1 / 255] * 3),
        detector=Detector(fpn_channels=fpn, box_width=width, box_roi_size=size, legacy_boxes=True),
        mask_head=head,
    )
    keys = dict([*backbone_keys(counts, BODY), *_detector_keys(counts)])
    keys |= dict(_mask_keys(head)) if trained else {}
    values = _used(blobs, set(keys.values()))
    state = assemble(model, classes, values=values, name_of=keys.get, where=where)
    masked_rows = None if head.kind != "per_class" else classes - 1
    return ImportedModel(
        source="detectron",
        model=model,
        state=affine_norms(state),
        classes=classes,
        trained_masks=trained,
        masked_rows=masked_rows if trained else 0,
        notes=notes,
    )


@dataclass(frozen=True)
class _File:
    """The blobs of a file, and its name for errors."""

    blobs: Blobs
    where: str

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a matrix, or of an array of more dimensions."""
        if name not in self.blobs:
            absent = ", ".join(sorted({name, *(n for n in SIZES if n not in self.blobs)}))
            raise InputError(
                f"{self.where}: missing: {absent}; expected an FPN model with two fully connected "
                "layers in its box head (a backbone alone, R-50.pkl, is for a recipe: "
                "model.backbone.weights=FILE)"
            )
        shape = self.blobs[name].shape
        if len(shape) < 2 or 0 in shape:
            raise InputError(f"{self.where}: {name}: expected a matrix, found shape {list(shape)}")
        return shape

    def highest(self, pattern: str, default: int) -> int:
        """The largest number in names of a pattern with one group."""
        found = (re.fullmatch(pattern, name) for name in self.blobs)
        return max((int(m[1]) for m in found if m), default=default)


def _restored(blobs: Blobs, where: str) -> tuple[Blobs, list[str]]:
    """The blobs with the rows of all classes restored, and a note."""
    held = [name for name in BOX_HEAD if name + BACKUP in blobs]
    if not held:
        return blobs, []
    if len(held) < len(BOX_HEAD):
        absent = ", ".join(name + BACKUP for name in BOX_HEAD if name not in held)
        raise InputError(
            f"{where}: {absent}: missing, though the file has {held[0]}{BACKUP}; it is damaged"
        )
    out = {name: blob for name, blob in blobs.items() if not name.endswith(BACKUP)}
    cut = len(out["cls_score_w"]) if "cls_score_w" in out else 0
    full = len(blobs["cls_score_w" + BACKUP])
    out |= {name: blobs[name + BACKUP] for name in BOX_HEAD}
    note = f"rows of all {full - 1} classes taken from *{BACKUP}"
    return out, [f"{note} (the live ones were cut to {cut - 1})" if cut != full else note]


def _used(blobs: Blobs, needed: set[str]) -> dict[str, Tensor]:
    """The blobs of the model as tensors, with RGB for Detectron's BGR."""
    idle = {name for name in blobs if name in EMBEDDINGS or LEFT_OVER.fullmatch(name)} - needed
    values = {name: torch.from_numpy(array) for name, array in blobs.items() if name not in idle}
    return rgb_first(values)


def _depth(file: _File) -> tuple[str, tuple[int, ...]]:
    blocks = file.highest(r"res4_(\d+)_branch2a_w", -1) + 1
    if blocks not in DEPTHS:
        first = ", ".join(sorted(file.blobs)[:5])
        raise InputError(
            f"{file.where}: expected ResNet-50, -101 or -152 (6, 23 or 36 blocks of res4), found "
            f"{blocks}; first blobs: {first}"
        )
    return DEPTHS[blocks]


def _mask_head(file: _File, activation: str, embedding: str | None) -> MaskHead:
    """The mask head that fits the file's blobs."""
    width = file.shape("conv5_mask_w")[1]
    convs = file.highest(r"_\[mask\]_fcn(\d+)_w", 0)
    mlp = "full" if "mask_mlp_logits_raw_w" in file.blobs else "none"
    size = round(len(file.blobs["mask_mlp_logits_raw_w"]) ** 0.5) // 2 if mlp == "full" else 14
    common = {"width": width, "convs": convs, "mlp": mlp, "roi_size": size}
    if "mask_fcn_logits_w_flat_w" in file.blobs:
        transfer = _transfer(file, activation, embedding)
        return MaskHead.model_validate({"kind": "transfer", "transfer": transfer, **common})
    rows = file.shape("mask_fcn_logits_w")[0]
    return MaskHead.model_validate({"kind": "agnostic" if rows == 1 else "per_class", **common})


def _transfer(file: _File, activation: str, embedding: str | None) -> Transfer:
    """T, with its depth from the layers' names and its input from the first one's width."""
    blobs, (classes, width) = file.blobs, file.shape("cls_score_w")[:2]
    hidden = sum(f"bbox2mask_mlp_l{i}_w" in blobs for i in (1, 2))
    size = file.shape("bbox2mask_mlp_l1_w" if hidden else "mask_fcn_logits_w_flat_w")[1]
    inputs = {width: "cls", 4 * width: "box", 5 * width: "cls+box"}
    common = {"layers": hidden + 1, "activation": activation}
    if size in inputs:
        return Transfer.model_validate({"input": inputs[size], **common})
    held = [name for name in EMBEDDINGS if name in blobs and blobs[name].shape == (classes, size)]
    held = [name for name in held if embedding in (None, name)]
    if len(held) != 1:
        raise InputError(
            f"{file.where}: T takes {size} numbers of each class: expected one blob [{classes}, "
            f"{size}] of class vectors, found {', '.join(held) or 'none'}; name it with "
            f"--embedding {EMBEDDINGS[0]}"
        )
    return Transfer.model_validate(
        {"input": "embedding", "embedding": held[0], "embedding_size": size, **common}
    )


def _detector_keys(counts: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    for level, count in enumerate(counts):
        top = f"res{level + 2}_{count - 1}_sum"
        lateral = f"fpn_inner_{top}" + ("" if level == len(counts) - 1 else "_lateral")
        yield from layer_keys(f"fpn.inner_blocks.{level}.0", lateral)
        yield from layer_keys(f"fpn.layer_blocks.{level}.0", f"fpn_{top}")
    for key, blob in {
        "rpn.head.conv.0.0": "conv_rpn_fpn2",
        "rpn.head.cls_logits": "rpn_cls_logits_fpn2",
        "rpn.head.bbox_pred": "rpn_bbox_pred_fpn2",
        "box_heads.box_head.fc6": "fc6",
        "box_heads.box_head.fc7": "fc7",
        "box_heads.box_predictor.cls_score": "cls_score",
        "box_heads.box_predictor.bbox_pred": "bbox_pred",
    }.items():
        yield from layer_keys(key, blob)


def _mask_keys(head: MaskHead) -> Iterator[tuple[str, str]]:
    for i in range(head.convs):
        yield from layer_keys(f"{MASK_BRANCH}trunk.convs.{2 * i}", f"_[mask]_fcn{i + 1}")
    yield from layer_keys(f"{MASK_BRANCH}trunk.upsample", "conv5_mask")
    if head.mlp == "full":
        yield from layer_keys(f"{MASK_BRANCH}mlp.linear", "mask_mlp_logits_raw")
    if head.kind != "transfer":
        yield from layer_keys(f"{MASK_BRANCH}predictor.conv", "mask_fcn_logits")
        return
    t = head.transfer
    for i in range(t.layers):  # an activation stands between two layers
        blob = "mask_fcn_logits_w_flat" if i == t.layers - 1 else f"bbox2mask_mlp_l{i + 1}"
        yield from layer_keys(f"{MASK_BRANCH}predictor.transfer.layers.{2 * i}", blob)
    if t.embedding is not None:
        yield f"{MASK_BRANCH}class_weights.vectors", t.embedding
