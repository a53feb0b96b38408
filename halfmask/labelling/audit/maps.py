"""Masks and probabilities on one small grid per object, and their morphology.

An object's grid covers its box and a margin, so that all objects of a photograph are
measured at once, whatever their size. Shape letters: n objects, G side of the grid, M
side of a mask's map.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from halfmask.masks.rle import Bitmap, Place

Maps = NDArray[np.float32]
"""float32 [n, G, G] in [0, 1]: probabilities, or covered shares of cells."""
Cells = NDArray[np.bool_]
"""bool [n, G, G]."""
Corners = tuple[float, float, float, float]
Span = tuple[float, float]

GRID = 64
"""Cells along a side."""
MARGIN = 0.25
"""Share of the box's side that the grid shows on each side of it."""
_FIRST = round(GRID * MARGIN / (1 + 2 * MARGIN))
INSIDE = np.zeros((GRID, GRID), dtype=bool)
"""The cells of the box itself, the same in every grid."""
INSIDE[_FIRST : GRID - _FIRST, _FIRST : GRID - _FIRST] = True
_STEPS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def grid_window(box: Corners) -> Corners:
    """Returns the rectangle xyxy that the grid of a box covers."""
    across, down = (box[2] - box[0]) * MARGIN, (box[3] - box[1]) * MARGIN
    return box[0] - across, box[1] - down, box[2] + across, box[3] + down


def mask_on_grid(bitmap: Bitmap, place: Place, window: Corners) -> NDArray[np.float32]:
    """Returns the covered share of each cell, float32 [G, G].

    Args:
        bitmap: uint8 [h, w] of 0 and 1.
        place: x and y of its upper left pixel.
        window: xyxy of the grid.
    """
    height, width = bitmap.shape
    rows = overlaps_of((window[1], window[3]), (place[1], place[1] + height), height)
    columns = overlaps_of((window[0], window[2]), (place[0], place[0] + width), width)
    covered = rows @ bitmap.astype(np.float32) @ columns.T
    return np.asarray(np.clip(covered, 0, 1), dtype=np.float32)


def probs_on_grid(
    probs: NDArray[np.float32], region: Corners, window: Corners
) -> NDArray[np.float32]:
    """Returns a model's probabilities in cells, float32 [G, G].

    Args:
        probs: float32 [M, M], spread over `region`; outside of it they are 0.
        region, window: xyxy.
    """
    rows = _bilinear((window[1], window[3]), (region[1], region[3]), probs.shape[0])
    columns = _bilinear((window[0], window[2]), (region[0], region[2]), probs.shape[1])
    return np.asarray(rows @ probs @ columns.T, dtype=np.float32)


def overlaps_of(window: Span, pixels: Span, count: int) -> NDArray[np.float32]:
    """Returns the share of each cell that each pixel covers, float32 [G, count].

    Args:
        window: ends of the cells.
        pixels: ends of the `count` pixels.
    """
    edges = np.linspace(*window, GRID + 1)
    ends = np.linspace(*pixels, count + 1)
    inner = np.minimum(edges[1:, None], ends[None, 1:])
    inner = inner - np.maximum(edges[:-1, None], ends[None, :-1])
    cell = max((window[1] - window[0]) / GRID, 1e-9)
    return np.asarray(np.clip(inner, 0, None) / cell, dtype=np.float32)


def _bilinear(window: Span, region: Span, count: int) -> NDArray[np.float32]:
    """Weights [G, count] from `count` cells of a region to the centres of a window's."""
    step = max(region[1] - region[0], 1e-9) / count
    centres = window[0] + (np.arange(GRID) + 0.5) * (window[1] - window[0]) / GRID
    at = (centres - region[0]) / step - 0.5
    held = np.clip(at, 0, count - 1)
    weights = np.clip(1 - np.abs(held[:, None] - np.arange(count)[None]), 0, None)
    weights[(at < -0.5) | (at > count - 0.5)] = 0
    return np.asarray(weights, dtype=np.float32)


def moved(cells: Cells, step: tuple[int, int]) -> Cells:
    """Returns masks [n, G, G] moved by (rows, columns); what enters is 0."""
    down, right = step
    out = np.zeros_like(cells)
    height, width = cells.shape[1:]
    to_rows, to_columns = _span(down, height), _span(right, width)
    from_rows, from_columns = _span(-down, height), _span(-right, width)
    out[:, to_rows, to_columns] = cells[:, from_rows, from_columns]
    return out


def _span(step: int, length: int) -> slice:
    return slice(max(step, 0), length + min(step, 0))


def dilated(cells: Cells, times: int = 1) -> Cells:
    """Grows masks by `times` cells, by turns to four and to eight neighbours."""
    for turn in range(times):
        grown = cells.copy()
        for step in _STEPS:
            grown |= moved(cells, step)
        if turn % 2:
            for step in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                grown |= moved(cells, step)
        cells = grown
    return cells


def eroded(cells: Cells, times: int = 1) -> Cells:
    """Shrinks masks by `times` cells; what is beyond the grid counts as mask."""
    outside: Cells = ~cells
    return ~dilated(outside, times)


def reached(start: Cells, within: Cells) -> Cells:
    """Returns the cells that four-neighbour steps within a mask reach from `start`."""
    found = start & within
    while True:
        grown = dilated(found) & within
        if np.array_equal(grown, found):
            return found
        found = grown


def holes_of(cells: Cells) -> Cells:
    """Returns the cells outside a mask that no path joins with the grid's border."""
    outside: Cells = ~cells
    border = np.zeros_like(cells)
    border[:, [0, -1], :] = True
    border[:, :, [0, -1]] = True
    return outside & ~reached(border, outside)


def islands_of(cells: Cells, probs: Maps) -> Cells:
    """Returns a mask's cells that are apart from where the model is surest of it."""
    shape = cells.shape
    surest = np.where(cells, probs + 1e-6, 0).reshape(shape[0], -1).argmax(1)
    start = np.zeros((shape[0], shape[1] * shape[2]), dtype=bool)
    start[np.arange(shape[0]), surest] = True
    return cells & ~reached(start.reshape(shape) & cells, cells)
