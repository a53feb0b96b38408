"""One image of a COCO file as something to draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halfmask.coco.file import CocoFile
from halfmask.coco.images import photograph_path, read_photograph
from halfmask.coco.records import clip_box, file_name_of
from halfmask.coco.supervision import MaskState
from halfmask.masks.crops import MaskCrops, decode


@dataclass(frozen=True)
class Scene:
    """A photograph and what its file says of it, crowds left out.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        boxes: float32 [n, 4] xyxy.
        labels: int64 [n].
        masks: n crops, one without pixels where there is no mask.
        has_mask: bool [n].
        annotations: the n records, in file order.
    """

    image: NDArray[np.uint8]
    boxes: Tensor
    labels: Tensor
    masks: MaskCrops
    has_mask: Tensor
    annotations: list[dict[str, Any]]


def read_scene(file: CocoFile, image: Mapping[str, Any], folder: str | Path) -> Scene:
    """Reads a scene. Masks that halfmask filled in count as masks, rejected ones do not.

    Args:
        image: one of `file.images`.
        folder: of the photographs.
    Raises:
        InputError: the photograph cannot be read.
    """
    where = f"image id {image['id']}"
    pixels = read_photograph(photograph_path(folder, file_name_of(dict(image)), where), where)
    size = (int(pixels.shape[0]), int(pixels.shape[1]))
    shown = MaskState.MASK, MaskState.SUSPECT
    rows, boxes, bitmaps, places, has = [], [], [], [], []
    for annotation in file.annotations_of(image["id"]):
        state = file.state_of(annotation, "filled")
        box = clip_box(annotation["bbox"], size)
        if state == MaskState.CROWD or box is None:
            continue
        nothing = torch.zeros((0, 0), dtype=torch.uint8), (0, 0)
        bitmap, place = decode(annotation["segmentation"], size) if state in shown else nothing
        rows.append(annotation)
        boxes.append(box)
        bitmaps.append(bitmap)
        places.append(place)
        has.append(state in shown)
    return Scene(
        pixels,
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor([file.label_of[a["category_id"]] for a in rows], dtype=torch.int64),
        MaskCrops.from_bitmaps(bitmaps, places, size),
        torch.tensor(has, dtype=torch.bool),
        rows,
    )
