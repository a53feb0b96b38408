"""Detectron's blobs (Caffe2; also those of the paper's own code) as a model of this
package that computes the same.

Facts of the formats: `docs/import_weights.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.models.imported.blobs import Blobs
from halfmask.models.imported.imported import MASK_BRANCH, Imported, assemble, untrained
from halfmask.recipes.recipe import Backbone, Detector, Images, MaskHead, MaskRCNN, Transfer

BACKUP = "_jcvbackup"
"""The paper's Visual Genome files keep the rows of all classes so, while the live ones
may be cut to COCO's.
"""
PIXEL_MEANS = (122.7717, 115.9465, 102.9801)
"""RGB, of 0 … 255."""
DEPTHS = {
    6: ("resnet50", (3, 4, 6, 3)),
    23: ("resnet101", (3, 4, 23, 3)),
    36: ("resnet152", (3, 8, 36, 3)),
}
"""Blocks of res4 → torchvision's name, blocks of res2 … res5."""
LEFT_OVER = re.compile(r"res\d_\d+_branch(1|2[abc])_b|conv1_b|(fc1000|pred)_[wb]|lr")
"""What files of ImageNet training bring along and Detectron does not use."""
EMBEDDINGS = ("v_glove", "v_randn_0")
"""Names that the paper's code gives to class vectors."""
SIZES = ("cls_score_w", "fc6_w", "fpn_inner_res5_2_sum_w")
"""Blobs whose shapes say how large the model is."""
MASK_BLOBS = ("_[mask]_", "conv5_mask", "mask_fcn_logits")
BOX_HEAD = ("cls_score_w", "cls_score_b", "bbox_pred_w", "bbox_pred_b")
FROZEN_EPS = 1e-5
"""The model's BatchNorm adds it to a variance; with 1 less it, scale and shift are
AffineChannel's to the bit.
"""


def import_detectron(
    blobs: Blobs,
    where: str,
    mask_head: str = "transfer",
    activation: str = "leaky_relu",
    embedding: str | None = None,
) -> Imported:
    """A Mask R-CNN or Faster R-CNN on ResNet-FPN, with the paper's heads where the file
    has them.

    Args:
        blobs: of `read_blobs`.
        where: the file, for errors.
        mask_head: kind of the untrained head where the file has none.
        activation: T's, which no blob tells: leaky_relu or relu.
        embedding: the blob of T's class vectors where there are several.
    Raises:
        InputError: no ResNet-FPN of this kind, or blobs that are missing, misshaped or
            unknown (all are listed).
    """
    blobs, notes = _restored(blobs, where)
    name, counts = _depth(blobs, where)
    (classes, width), (_, region), (fpn, *_) = (_shape(blobs, blob, where)[:2] for blob in SIZES)
    trained = any(name.startswith(MASK_BLOBS) for name in blobs)
    head = (
        _mask_head(blobs, classes, width, activation, embedding, where)
        if trained
        else untrained(mask_head)
    )
    model = MaskRCNN(
        kind="mask_rcnn",
        backbone=Backbone(name=name, norm="frozen", trainable_stages=3, stride_in_1x1=True),
        images=Images(
            min_size=[800], max_size=1333, mean=[m / 255 for m in PIXEL_MEANS], std=[1 / 255] * 3
        ),
        detector=Detector(
            fpn_channels=fpn,
            box_width=width,
            box_roi_size=round((region / fpn) ** 0.5),
            legacy_boxes=True,
        ),
        mask_head=head,
    )
    keys = dict(
        [*_backbone_keys(counts), *_detector_keys(counts), *(_mask_keys(head) if trained else ())]
    )
    idle = {name for name in blobs if name in EMBEDDINGS or LEFT_OVER.fullmatch(name)} - set(
        keys.values()
    )
    values = {name: torch.from_numpy(array) for name, array in blobs.items() if name not in idle}
    if "conv1_w" in values and values["conv1_w"].ndim == 4:
        values["conv1_w"] = values["conv1_w"].flip(1)  # Detectron's pictures are BGR
    state = _affine(assemble(model, classes, values, keys.get, where))
    return Imported(
        "detectron", model, state, classes, trained, _masked_rows(blobs, head, trained), notes
    )


def _restored(blobs: Blobs, where: str) -> tuple[Blobs, list[str]]:
    """The blobs with the rows of all classes back in place."""
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


def _depth(blobs: Blobs, where: str) -> tuple[str, tuple[int, ...]]:
    found = [
        int(m[1]) for m in (re.fullmatch(r"res4_(\d+)_branch2a_w", name) for name in blobs) if m
    ]
    blocks = max(found, default=-1) + 1
    if blocks not in DEPTHS:
        first = ", ".join(sorted(blobs)[:5])
        raise InputError(
            f"{where}: expected ResNet-50, -101 or -152 (6, 23 or 36 blocks of res4), found "
            f"{blocks}; first blobs: {first}"
        )
    return DEPTHS[blocks]


def _shape(blobs: Blobs, name: str, where: str) -> tuple[int, ...]:
    if name not in blobs:
        absent = ", ".join(sorted({name, *(n for n in SIZES if n not in blobs)}))
        raise InputError(
            f"{where}: missing: {absent}; expected an FPN model with two fully connected "
            "layers in its box head"
        )
    if blobs[name].ndim < 2 or 0 in blobs[name].shape:
        raise InputError(
            f"{where}: {name}: expected a matrix, found shape {list(blobs[name].shape)}"
        )
    return blobs[name].shape


def _mask_head(
    blobs: Blobs, classes: int, box_width: int, activation: str, embedding: str | None, where: str
) -> MaskHead:
    """The head whose blobs the file has."""
    width = _shape(blobs, "conv5_mask_w", where)[1]
    convs = max(
        (int(m[1]) for m in (re.fullmatch(r"_\[mask\]_fcn(\d+)_w", name) for name in blobs) if m),
        default=0,
    )
    mlp = "full" if "mask_mlp_logits_raw_w" in blobs else "none"
    size = round(len(blobs["mask_mlp_logits_raw_w"]) ** 0.5) // 2 if mlp == "full" else 14
    common = {"width": width, "convs": convs, "mlp": mlp, "roi_size": size}
    if "mask_fcn_logits_w_flat_w" in blobs:
        transfer = _transfer(blobs, classes, box_width, activation, embedding, where)
        return MaskHead.model_validate({"kind": "transfer", "transfer": transfer, **common})
    rows = _shape(blobs, "mask_fcn_logits_w", where)[0]
    return MaskHead.model_validate({"kind": "agnostic" if rows == 1 else "per_class", **common})


def _transfer(
    blobs: Blobs, classes: int, box_width: int, activation: str, embedding: str | None, where: str
) -> Transfer:
    """T: its depth by its layers' names, its input by the width of the first."""
    hidden = sum(f"bbox2mask_mlp_l{i}_w" in blobs for i in (1, 2))
    size = _shape(blobs, "bbox2mask_mlp_l1_w" if hidden else "mask_fcn_logits_w_flat_w", where)[1]
    inputs = {box_width: "cls", 4 * box_width: "box", 5 * box_width: "cls+box"}
    common = {"layers": hidden + 1, "activation": activation}
    if size in inputs:
        return Transfer.model_validate({"input": inputs[size], **common})
    held = [name for name in EMBEDDINGS if name in blobs and blobs[name].shape == (classes, size)]
    if embedding is not None:
        held = [name for name in held if name == embedding]
    if len(held) != 1:
        wish = f"T takes {size} numbers of each class: expected one blob [{classes}, {size}] of class vectors"
        raise InputError(
            f"{where}: {wish}, found {', '.join(held) or 'none'}; name it with --embedding "
            f"{EMBEDDINGS[0]}"
        )
    return Transfer.model_validate(
        {"input": "embedding", "embedding": held[0], "embedding_size": size, **common}
    )


def _backbone_keys(counts: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """The model's keys and the blobs they come from."""
    body = "backbone.body."
    yield body + "conv1.weight", "conv1_w"
    yield from _norm_keys(body + "bn1", "res_conv1_bn")
    for stage, count in enumerate(counts, 1):
        for i in range(count):
            here, blob = f"{body}layer{stage}.{i}.", f"res{stage + 1}_{i}_branch"
            for k, letter in enumerate("abc", 1):
                yield f"{here}conv{k}.weight", f"{blob}2{letter}_w"
                yield from _norm_keys(f"{here}bn{k}", f"{blob}2{letter}_bn")
            if i == 0:
                yield f"{here}downsample.0.weight", f"{blob}1_w"
                yield from _norm_keys(f"{here}downsample.1", f"{blob}1_bn")


def _norm_keys(key: str, blob: str) -> Iterator[tuple[str, str]]:
    yield f"{key}.weight", f"{blob}_s"
    yield f"{key}.bias", f"{blob}_b"


def _detector_keys(counts: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    for level, count in enumerate(counts):
        top = f"res{level + 2}_{count - 1}_sum"
        lateral = f"fpn_inner_{top}" + ("" if level == len(counts) - 1 else "_lateral")
        yield from _layer(f"fpn.inner_blocks.{level}.0", lateral)
        yield from _layer(f"fpn.layer_blocks.{level}.0", f"fpn_{top}")
    yield from _layer("rpn.head.conv.0.0", "conv_rpn_fpn2")
    yield from _layer("rpn.head.cls_logits", "rpn_cls_logits_fpn2")
    yield from _layer("rpn.head.bbox_pred", "rpn_bbox_pred_fpn2")
    for name in ("fc6", "fc7"):
        yield from _layer(f"box_heads.box_head.{name}", name)
    for name in ("cls_score", "bbox_pred"):
        yield from _layer(f"box_heads.box_predictor.{name}", name)


def _mask_keys(head: MaskHead) -> Iterator[tuple[str, str]]:
    for i in range(head.convs):
        yield from _layer(f"{MASK_BRANCH}trunk.convs.{2 * i}", f"_[mask]_fcn{i + 1}")
    yield from _layer(f"{MASK_BRANCH}trunk.upsample", "conv5_mask")
    if head.mlp == "full":
        yield from _layer(f"{MASK_BRANCH}mlp.linear", "mask_mlp_logits_raw")
    if head.kind != "transfer":
        yield from _layer(f"{MASK_BRANCH}predictor.conv", "mask_fcn_logits")
        return
    t = head.transfer
    for i in range(t.layers):  # an activation stands between two layers
        blob = "mask_fcn_logits_w_flat" if i == t.layers - 1 else f"bbox2mask_mlp_l{i + 1}"
        yield from _layer(f"{MASK_BRANCH}predictor.transfer.layers.{2 * i}", blob)
    if t.embedding is not None:
        yield f"{MASK_BRANCH}class_weights.vectors", t.embedding


def _layer(key: str, blob: str) -> Iterator[tuple[str, str]]:
    yield f"{key}.weight", f"{blob}_w"
    yield f"{key}.bias", f"{blob}_b"


def _affine(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Caffe2's AffineChannel, which has no statistics, in the frozen BatchNorm that
    has: mean 0, and variance + eps = 1.
    """
    return {
        key: torch.full_like(t, 1 - FROZEN_EPS) if key.endswith("running_var") else t
        for key, t in state.items()
    }


def _masked_rows(blobs: Blobs, head: MaskHead, trained: bool) -> int | None:
    """How many of the first classes had masks, as far as blobs tell."""
    if not trained:
        return 0
    if head.kind == "per_class":
        return len(blobs["cls_score_w"]) - 1
    return None
