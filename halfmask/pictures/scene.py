"""One image of a COCO file as something to draw, and its picture before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from halfmask.coco.file import CocoFile
from halfmask.coco.photographs.reader import reader_of
from halfmask.coco.records import clip_box
from halfmask.coco.supervision import MaskState
from halfmask.masks.crops import MaskCrops, decode
from halfmask.pictures.overlay import footer, overlay


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A photograph with its n annotations, crowds left out.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        boxes: float32 [n, 4] xyxy, pixels.
        labels: int64 [n].
        masks: n crops, one without pixels where there is no mask.
        has_mask: bool [n].
        annotations: The n records, in file order.
    """

    image: NDArray[np.uint8]
    boxes: Tensor
    labels: Tensor
    masks: MaskCrops
    has_mask: Tensor
    annotations: list[dict[str, Any]]


def read_scene(file: CocoFile, image: Mapping[str, Any], folder: str | Path) -> Scene:
    """Reads a scene; masks that halfmask filled in count, rejected ones do not.

    Args:
        file: The annotations.
        image: One of `file.images`.
        folder: The photographs' folder.
    Raises:
        InputError: The photograph cannot be read, or has another size.
    """
    size = file.size_of(image["id"])
    pixels = reader_of(file, folder).read(dict(image), size)
    rows, boxes, crops, has_mask = [], [], [], []
    for annotation in file.annotations_of(image["id"]):
        state = file.state_of(annotation, "filled")
        box = clip_box(annotation["bbox"], size)
        if state == MaskState.CROWD or box is None:
            continue
        drawn = state in (MaskState.MASK, MaskState.SUSPECT)
        nothing = torch.zeros((0, 0), dtype=torch.uint8), (0, 0)
        rows.append(annotation)
        boxes.append(box)
        crops.append(decode(annotation["segmentation"], size) if drawn else nothing)
        has_mask.append(drawn)
    return Scene(
        image=pixels,
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([file.label_of[a["category_id"]] for a in rows], dtype=torch.int64),
        masks=MaskCrops.from_bitmaps([c[0] for c in crops], [c[1] for c in crops], size),
        has_mask=torch.tensor(has_mask, dtype=torch.bool),
        annotations=rows,
    )


def before_after(
    image: NDArray[np.uint8],
    boxes: Tensor,
    masks: MaskCrops,
    *,
    labels: Tensor,
    names: Mapping[int, str],
    had_mask: Tensor,
    attribution: str | None = None,
) -> Image.Image:
    """Draws two pictures side by side: the given annotations, and every mask.

    The left one shows given masks as masks and all other objects as boxes.

    Args:
        image: uint8 [H, W, 3] RGB.
        boxes: float32 [n, 4] xyxy, pixels.
        masks: n crops, given and filled in.
        labels: int64 [n].
        names: Label → name.
        had_mask: bool [n], true where the mask was given.
        attribution: A line printed below both.
    """
    pixels = np.asarray(Image.fromarray(np.ascontiguousarray(image)).convert("RGB"))
    given = had_mask.bool()
    # `overlay` draws neither a box without area nor a mask without pixels.
    kept = zip(masks.bitmaps(), given.tolist(), strict=True)
    bitmaps = [bitmap if keep else bitmap[:0, :0] for bitmap, keep in kept]
    offsets = [(int(x), int(y)) for x, y in masks.offsets.tolist()]
    shown = MaskCrops.from_bitmaps(bitmaps, offsets, masks.image_size)
    left = overlay(pixels, boxes * ~given[:, None], shown, labels=labels, names=names)
    right = overlay(pixels, None, masks, labels=labels, names=names)
    gap = max(4, round(left.width / 120))
    out = Image.new("RGB", (left.width + gap + right.width, left.height), (255, 255, 255))
    out.paste(left, (0, 0))
    out.paste(right, (left.width + gap, 0))
    return footer(out, attribution) if attribution else out
