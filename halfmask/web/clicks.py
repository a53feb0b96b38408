"""Masks that fit clicks: chosen among a model's looks, then corrected about each click."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.errors import InputError
from halfmask.inference.refine import Look
from halfmask.masks.parts import part_at

THRESHOLDS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8)
"""At which a look is cut, the usual one first."""
MOST_CELLS = 1_000_000
"""Cells of a box's surroundings; larger boxes are worked on at a coarser grid."""
SIMILAR = 0.7
"""A correction takes cells whose probability is at least this share of the click's."""
SPREAD = 0.15
"""Radius of a correction at most, in the box's longer sides.

Both are the best of some pairs on 60 of the worst masks of COCO-mini's val, each
clicked into the middle of its largest fault: twice the radius makes one in four worse.
"""

Box = tuple[float, float, float, float]
Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class Point:
    """A click on a pixel; a negative one is not on the object."""

    x: int
    y: int
    positive: bool


@dataclass(frozen=True, kw_only=True)
class Area:
    """The part of a photograph in which a mask may lie, on a grid of cells.

    Attributes:
        x, y: its upper left pixel.
        width, height: in pixels.
        step: pixels of a cell's side.
    """

    x: int
    y: int
    width: int
    height: int
    step: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return -(-self.height // self.step), -(-self.width // self.step)

    def cell(self, point: Point) -> tuple[int, int]:
        """Returns row and column of a click's cell."""
        return (point.y - self.y) // self.step, (point.x - self.x) // self.step

    def holds(self, point: Point) -> bool:
        """Whether a click lies inside."""
        return 0 <= point.x - self.x < self.width and 0 <= point.y - self.y < self.height


def click_points(clicks: Sequence[Any], box: Box, size: tuple[int, int]) -> list[Point]:
    """Returns the pixels of clicks.

    Args:
        clicks: each with x, y and positive.
        box: x0, y0, x1, y1.
        size: (H, W) of the photograph.
    Raises:
        InputError: a click lies outside the photograph, or farther from the box than
            its longer side; or two clicks on one pixel contradict each other.
    """
    found: dict[tuple[int, int], bool] = {}
    reach = max(box[2] - box[0], box[3] - box[1])
    for click in clicks:
        x, y = math.floor(click.x), math.floor(click.y)
        if not (0 <= x < size[1] and 0 <= y < size[0]):
            raise InputError("a click lies outside the photograph")
        far = max(box[0] - click.x, click.x - box[2], box[1] - click.y, click.y - box[3])
        if far > reach:
            raise InputError("a click lies too far from the box; draw a larger box first")
        if found.setdefault((x, y), click.positive) != click.positive:
            raise InputError("two clicks on one pixel contradict each other; take one back")
    return [Point(x, y, positive) for (x, y), positive in found.items()]


def area_around(box: Box, points: Sequence[Point], size: tuple[int, int]) -> Area:
    """Returns the box's pixels, stretched to the positive clicks and a little further."""
    inside = [point for point in points if point.positive]
    margin = 0.05 * max(box[2] - box[0], box[3] - box[1])
    outer = [p for p in inside if not (box[0] <= p.x < box[2] and box[1] <= p.y < box[3])]
    x0 = min([box[0], *(p.x - margin for p in outer)])
    y0 = min([box[1], *(p.y - margin for p in outer)])
    x1 = max([box[2], *(p.x + 1 + margin for p in outer)])
    y1 = max([box[3], *(p.y + 1 + margin for p in outer)])
    left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
    width = max(1, min(size[1], math.ceil(x1)) - left)
    height = max(1, min(size[0], math.ceil(y1)) - top)
    step = max(1, math.ceil(math.sqrt(width * height / MOST_CELLS)))
    return Area(x=left, y=top, width=width, height=height, step=step)


def fitted(
    found: Sequence[Look], points: Sequence[Point], area: Area, *, drawn: Bits | None = None
) -> Bits:
    """Returns a mask that holds every positive click and no negative one.

    A mask that is drawn already stays as it is away from the clicks. Otherwise the look
    and threshold that fit most clicks are the start. About each click that does not fit
    yet, cells that look like the clicked one are added or removed.

    Args:
        found: the model's looks, its answer first.
        points: the clicks.
        area: where the mask may lie.
        drawn: the mask that is drawn already, bool [height, width] of the area.
    Returns:
        bool [height, width] of the area.
    """
    maps = [_on_grid(look, area) for look in found]
    known = [point for point in points if area.holds(point)]
    if drawn is None:
        mask = _best(maps, known, area)
    else:
        mask = drawn[area.step // 2 :: area.step, area.step // 2 :: area.step]
        mask = np.pad(mask, [(0, n - m) for n, m in zip(area.shape, mask.shape, strict=True)])
    for point in known:
        if mask[area.cell(point)] != point.positive:
            _correct(mask, maps[0], point, others=known, area=area)
    full = np.repeat(np.repeat(mask, area.step, axis=0), area.step, axis=1)
    full = full[: area.height, : area.width]
    for point in known:  # on a coarse grid, several clicks may share a cell
        full[point.y - area.y, point.x - area.x] = point.positive
    return full


def _best(maps: list[NDArray[np.float32]], points: Sequence[Point], area: Area) -> Bits:
    """Returns the mask that fits most clicks; of several, the first."""
    best, fewest = maps[0] >= THRESHOLDS[0], math.inf
    for threshold in THRESHOLDS:
        for probs in maps:
            mask = probs >= threshold
            wrong = sum(bool(mask[area.cell(p)]) != p.positive for p in points)
            if wrong < fewest and mask.any():
                best, fewest = mask, wrong
    return best


def _correct(
    mask: Bits, probs: NDArray[np.float32], point: Point, *, others: Sequence[Point], area: Area
) -> None:
    """Adds or removes the cells about a click that look like it, in place.

    Every cell belongs to its nearest click, so that no other click's cell changes.
    """
    row, column = area.cell(point)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]]
    own = (y - row) ** 2 + (x - column) ** 2
    near = own <= (SPREAD * max(mask.shape)) ** 2
    for other in others:
        if other.positive != point.positive:
            there = area.cell(other)
            near &= own < (y - there[0]) ** 2 + (x - there[1]) ** 2
    sought = probs if point.positive else 1 - probs
    alike = near & (sought >= SIMILAR * sought[row, column])
    alike[row, column] = True
    mask[part_at(alike, column, row) > 0] = point.positive


def _on_grid(look: Look, area: Area) -> NDArray[np.float32]:
    """Returns a look's probabilities at the middle of every cell; 0 beyond the look."""
    x0, y0, x1, y1 = look.region
    side = look.probs.shape[0]
    rows, columns = area.shape
    ys = (area.y + (np.arange(rows) + 0.5) * area.step - y0) / max(y1 - y0, 1e-6)
    xs = (area.x + (np.arange(columns) + 0.5) * area.step - x0) / max(x1 - x0, 1e-6)
    out = _along(_along(look.probs, ys * side - 0.5, 0), xs * side - 0.5, 1)
    out *= ((ys >= 0) & (ys <= 1))[:, None] & ((xs >= 0) & (xs <= 1))
    return out.astype(np.float32)


def _along(values: NDArray[Any], places: NDArray[np.float64], axis: int) -> NDArray[Any]:
    """Returns values at places along an axis, linear in between, constant beyond."""
    places = places.clip(0, values.shape[axis] - 1)
    low = np.floor(places).astype(np.int64)
    high = np.minimum(low + 1, values.shape[axis] - 1)
    share = (places - low).reshape([-1 if k == axis else 1 for k in range(2)])
    found: NDArray[Any] = values.take(low, axis) * (1 - share) + values.take(high, axis) * share
    return found
