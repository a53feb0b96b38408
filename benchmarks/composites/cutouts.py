"""What of a photograph can be used for composites: its objects as cut-outs, and the
largest square without any object.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from halfmask.coco.file import CocoFile
from halfmask.coco.records import clip_box
from halfmask.coco.supervision import MaskState
from halfmask.masks.crops import decode

Array = np.ndarray[Any, Any]

EDGE = 1
"""An object nearer than this to the photograph's edge is taken to go on beyond it."""
_CELL = 8  # pixels of the grid on which squares without objects are looked for
_MARGIN = 4  # pixels kept free around each box: shadows, and boxes drawn a little tight


@dataclass(frozen=True)
class Limits:
    """When an object makes a good cut-out, and when still a poor one. Sizes in pixels
    of the photograph.

    Attributes:
        side: least length of the box's longer side, good and poor.
        fill: least share of its tight box that the mask covers, good and poor.
        foreign: most share of it that smaller objects cover (food on a table: their
            class would be pasted along, unlabelled).
        whole: least share of a good one that hangs together (what stands in front of an
            object cuts it to pieces).
        short: least length of the box's shorter side of a good one.
        keep: longer side to which a larger cut-out is reduced.
    """

    side: tuple[float, float]
    keep: int
    fill: tuple[float, float] = (0.15, 0.05)
    foreign: tuple[float, float] = (0.1, 0.4)
    whole: float = 0.7
    short: int = 8


@dataclass(frozen=True)
class Cutout:
    """An object cut out of its photograph.

    Attributes:
        pixels: uint8 [h, w, 4] RGBA, tight; alpha is soft where it was reduced.
        native: longer side in the photograph, in pixels.
        category_id, annotation_id, image_id: where it comes from.
    """

    pixels: Array
    native: int
    category_id: int
    annotation_id: int
    image_id: int


@dataclass(frozen=True)
class Candidate:
    """An annotation that passed: good, or poor but better than nothing for a class that has few."""

    annotation: dict[str, Any]
    bitmap: Array
    offset: tuple[int, int]
    good: bool


def candidates(file: CocoFile, image_id: int, wanted: set[int], limits: Limits) -> list[Candidate]:
    """The objects of an image that can be cut out, of the wanted category ids. Needs no
    photograph.

    Only usable masks: no crowds, no suspects, nothing that halfmask drew itself.
    """
    rows, states = file.annotations_of(image_id), file.states_of(image_id)
    least = min(limits.side)
    worth = [
        state == MaskState.MASK and a["category_id"] in wanted and max(a["bbox"][2:]) >= least - 2
        for a, state in zip(rows, states, strict=True)
    ]
    if not any(worth):
        return []
    size = file.size_of(image_id)
    shapes = [_shape(a, state, size) for a, state in zip(rows, states, strict=True)]
    out = []
    for i, annotation in enumerate(rows):
        if not worth[i]:
            continue
        grade = _grade(shapes[i], shapes[:i] + shapes[i + 1 :], size, limits)
        if grade is not None:
            out.append(Candidate(annotation, *shapes[i], good=grade))
    return out


def cut_out(photograph: Array, candidate: Candidate, keep: int) -> Cutout:
    """Cuts an object out of its photograph (uint8 [H, W, 3])."""
    (x, y), (h, w) = candidate.offset, candidate.bitmap.shape
    alpha = (candidate.bitmap > 0).astype(np.uint8) * np.uint8(255)
    pixels = np.dstack([photograph[y : y + h, x : x + w], alpha])
    if max(h, w) > keep:
        scale = keep / max(h, w)
        small = (max(1, round(w * scale)), max(1, round(h * scale)))
        # Pillow weighs colours with alpha here, so that the old background does not
        # bleed in.
        pixels = np.array(Image.fromarray(pixels).resize(small, Image.Resampling.HAMMING))
    a = candidate.annotation
    return Cutout(pixels, max(h, w), a["category_id"], a["id"], a["image_id"])


def free_square(file: CocoFile, image_id: int, least: int) -> tuple[int, int, int] | None:
    """(x, y, side) of the largest square of an image that no box touches, crowds' boxes
    among them; None below `least` pixels.
    """
    height, width = file.size_of(image_id)
    grid = np.zeros((height // _CELL, width // _CELL), dtype=np.int64)
    for annotation in file.annotations_of(image_id):
        box = clip_box(annotation["bbox"], (height, width))
        assert box is not None, "annotations_of leaves unusable boxes out"
        x0, y0 = (max(0, int(v - _MARGIN) // _CELL) for v in box[:2])
        x1, y1 = (int(v + _MARGIN) // _CELL + 1 for v in box[2:])
        grid[y0:y1, x0:x1] = 1
    sums = np.zeros((grid.shape[0] + 1, grid.shape[1] + 1), dtype=np.int64)
    sums[1:, 1:] = grid.cumsum(0).cumsum(1)
    for s in range(min(grid.shape), max(1, -(-least // _CELL)) - 1, -1):
        inside = sums[s:, s:] - sums[:-s, s:] - sums[s:, :-s] + sums[:-s, :-s]
        free = np.argwhere(inside == 0)
        if len(free):
            row, column = free[len(free) // 2].tolist()
            return column * _CELL, row * _CELL, s * _CELL
    return None


Shape = tuple[Array, tuple[int, int]]
"""A tight bitmap (bool [h, w]) and the place of its upper left pixel."""


def _shape(annotation: dict[str, Any], state: MaskState, size: tuple[int, int]) -> Shape:
    """The pixels of an annotation; its whole box where there is no usable mask."""
    if state == MaskState.MASK:
        bitmap, offset = decode(annotation["segmentation"], size)
        return bitmap.numpy() > 0, offset
    box = clip_box(annotation["bbox"], size)
    assert box is not None, "annotations_of leaves unusable boxes out"
    x0, y0, x1, y1 = (round(v) for v in box)
    return np.ones((max(1, y1 - y0), max(1, x1 - x0)), dtype=bool), (x0, y0)


def _grade(shape: Shape, others: list[Shape], size: tuple[int, int], limits: Limits) -> bool | None:
    """True: a good cut-out; False: a poor one; None: none."""
    bitmap, (x, y) = shape
    (h, w), (height, width) = bitmap.shape, size
    area = int(bitmap.sum())
    fill, foreign = area / (h * w), _covered(shape, others) / area
    if max(h, w) < limits.side[1] or fill < limits.fill[1] or foreign > limits.foreign[1]:
        return None
    cut_off = x < EDGE or y < EDGE or x + w > width - EDGE or y + h > height - EDGE
    small = max(h, w) < limits.side[0] or min(h, w) < limits.short
    if cut_off or small or fill < limits.fill[0] or foreign > limits.foreign[0]:
        return False
    return _largest_part(bitmap) >= limits.whole


def _largest_part(bitmap: Array, cells: int = 24) -> float:
    """Share of a bitmap that hangs together, on a coarse grid: a gap thinner than a
    cell is none.
    """
    h, w = bitmap.shape
    rows, columns = -(-h // cells), -(-w // cells)
    padded = np.zeros((-(-h // rows) * rows, -(-w // columns) * columns), dtype=np.int64)
    padded[:h, :w] = bitmap
    pixels = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns).sum(
        (1, 3)
    )
    inside = np.pad(pixels > 0, 1)
    part = np.where(inside, np.arange(1, inside.size + 1).reshape(inside.shape), 0)
    while True:  # each cell takes the largest number around it, until a part has one number
        down = np.maximum(part[1:-1], np.maximum(part[:-2], part[2:]))
        spread = (
            np.maximum(down[:, 1:-1], np.maximum(down[:, :-2], down[:, 2:])) * inside[1:-1, 1:-1]
        )
        if (spread == part[1:-1, 1:-1]).all():
            break
        part[1:-1, 1:-1] = spread
    return float(np.bincount(spread.reshape(-1), pixels.reshape(-1)).max() / pixels.sum())


def _covered(shape: Shape, others: list[Shape]) -> int:
    """Pixels of an object that belong to smaller ones as well."""
    bitmap, (x, y) = shape
    (h, w), area = bitmap.shape, bitmap.sum()
    taken = np.zeros((h, w), dtype=bool)
    for other, (u, v) in others:
        x0, y0 = max(x, u), max(y, v)
        x1, y1 = min(x + w, u + other.shape[1]), min(y + h, v + other.shape[0])
        if x1 > x0 and y1 > y0 and other.sum() < area:
            taken[y0 - y : y1 - y, x0 - x : x1 - x] |= other[y0 - v : y1 - v, x0 - u : x1 - u]
    return int((taken & bitmap).sum())
