"""How the masks of a photograph lie in their boxes and beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.file import CocoFile
from halfmask.coco.records import Record, clip_box
from halfmask.coco.supervision import MaskState
from halfmask.labelling.audit.maps import GRID, Corners, grid_window, mask_on_grid
from halfmask.labelling.audit.measures import Placement
from halfmask.masks.rle import Bitmap, Place, compressed, crop_of, overlaps

HELD = (MaskState.MASK, MaskState.SUSPECT)
"""States of the masks that are compared with each other."""
ROWS = 64
"""Masks that are compared with all others at once."""


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The masks of a photograph, to compare each with the others.

    Attributes:
        positions: of the annotations, in the file's list.
        ids: of the annotations.
        boxes: float64 [n, 4] xyxy, clipped to the photograph.
        rles: compressed RLE of the masks.
    """

    positions: list[int]
    ids: list[int]
    boxes: NDArray[np.float64]
    rles: list[dict[str, Any]]

    @classmethod
    def of(cls, file: CocoFile, image_id: int) -> Neighbours:
        """Takes the annotations of an image that have a mask of their own."""
        size = file.size_of(image_id)
        rows = zip(file.annotations_of(image_id), file.states_of(image_id), strict=True)
        held = [annotation for annotation, state in rows if state in HELD]
        boxes = [clip_box(annotation["bbox"], size) for annotation in held]
        return cls(
            positions=[file.position_of(annotation) for annotation in held],
            ids=[annotation["id"] for annotation in held],
            boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
            rles=[compressed(annotation["segmentation"], size) for annotation in held],
        )


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Masks of one photograph on their grids, and how they lie.

    Attributes:
        masks: covered shares, float32 [n, G, G].
        placement: see `Placement`.
        twins: position of the most alike other mask; −1 without another.
        fitting: position of the other box that fits the mask best; −1 without another.
    """

    masks: NDArray[np.float32]
    placement: Placement
    twins: list[int]
    fitting: list[int]


def place(
    annotations: Sequence[Record],
    positions: Sequence[int],
    around: Neighbours,
    *,
    size: tuple[int, int],
) -> Placed:
    """Draws masks of a photograph on their grids and compares them with its others.

    Args:
        annotations: with a usable mask and box.
        positions: theirs, in the file's list; all of them are in `around`.
        around: all masks of the photograph.
        size: (H, W) of the photograph.
    """
    rows = [around.positions.index(position) for position in positions]
    boxes = around.boxes[rows]
    crops = [_crop(annotation, size) for annotation in annotations]
    own = np.array([[x, y, x + b.shape[1], y + b.shape[0]] for b, (x, y) in crops])
    windows = [grid_window(_corners(box)) for box in boxes]
    masks = np.stack([mask_on_grid(*c, window) for c, window in zip(crops, windows, strict=True)])
    cells = [(w[2] - w[0]) * (w[3] - w[1]) / GRID**2 for w in windows]
    areas = np.array([bitmap.sum() for bitmap, _ in crops], dtype=np.float64)
    alike = overlaps([around.rles[k] for k in rows], around.rles, np.zeros(len(around.ids), bool))
    fits = pairwise_iou(own, around.boxes)
    here = np.arange(len(rows)), rows
    own_fit = fits[here].copy()
    alike[here], fits[here] = -1, -1
    sides = boxes[:, 2:] - boxes[:, :2]
    placement = Placement(
        box_iou=own_fit.astype(np.float32),
        box_side=(np.abs(own - boxes).max(1) / np.maximum(sides.mean(1), 1)).astype(np.float32),
        outside=np.array([_outside(c, box) for c, box in zip(crops, boxes, strict=True)]),
        other_box=(np.maximum(fits.max(1), 0) - own_fit).astype(np.float32),
        twin=np.maximum(alike.max(1), 0).astype(np.float32),
        side=np.sqrt(np.prod(sides, 1)).astype(np.float32),
        beyond=np.maximum(areas / np.array(cells) - masks.sum((1, 2)), 0).astype(np.float32),
    )
    alone = len(around.ids) == 1
    twins, fitting = (
        [-1 if alone else around.positions[k] for k in best]
        for best in (alike.argmax(1), fits.argmax(1))
    )
    return Placed(masks=masks, placement=placement, twins=twins, fitting=fitting)


def most_alike(around: Neighbours) -> NDArray[np.float64]:
    """Returns the IoU of each mask of a photograph with the most alike other one, [n]."""
    count = len(around.ids)
    found, crowd = np.zeros(count), np.zeros(count, bool)
    for start in range(0, count, ROWS):
        rows = np.arange(start, min(start + ROWS, count))
        alike = overlaps(around.rles[start : start + ROWS], around.rles, crowd)
        alike[rows - start, rows] = 0
        found[rows] = alike.max(1)
    return found


def pairwise_iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the IoU of boxes [n, 4] with boxes [m, 4], float64 [n, m]."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    found: NDArray[np.float64] = both / np.maximum(areas[0][:, None] + areas[1] - both, 1e-9)
    return found


def _crop(annotation: Record, size: tuple[int, int]) -> tuple[Bitmap, Place]:
    crop = crop_of(annotation["segmentation"], size)
    assert crop is not None, "a mask without pixels is broken"
    return crop


def _corners(box: NDArray[np.float64]) -> Corners:
    x0, y0, x1, y1 = box.tolist()
    return x0, y0, x1, y1


def _outside(crop: tuple[Bitmap, Place], box: NDArray[np.float64]) -> np.float32:
    """The share of a mask's pixels that lie more than a pixel beyond its box."""
    bitmap, (x, y) = crop
    x0, y0 = np.maximum(np.floor(box[:2]).astype(int) - 1 - (x, y), 0)
    x1, y1 = np.maximum(np.ceil(box[2:]).astype(int) + 1 - (x, y), 0)
    total = max(int(bitmap.sum()), 1)
    return np.float32(1 - int(bitmap[y0:y1, x0:x1].sum()) / total)
