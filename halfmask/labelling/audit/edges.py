"""Whether the border of a mask lies on edges of the photograph; needs no model.

Shape letters: n objects of a photograph, G side of their grids.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.images import Pixels
from halfmask.labelling.audit.maps import GRID, Cells, Corners, Maps, dilated, eroded, overlaps_of

OFFSETS = range(-4, 5)
"""Cells by which a border is moved in and out, to see if the edges are stronger there."""
MOVES = np.arange(-8, 9)
"""Cells by which it is moved across and down."""
_TINY = 1e-6


def edges_on_grid(pixels: Pixels, window: Corners) -> NDArray[np.float32]:
    """Returns the strength of edges in each cell, float32 [G, G], mean 1.

    It is 0 where the grid leaves the photograph.

    Args:
        pixels: the photograph, uint8 [H, W, 3] or [H, W].
        window: xyxy of the grid.
    """
    height, width = pixels.shape[:2]
    x0, y0 = max(int(window[0]), 0), max(int(window[1]), 0)
    x1, y1 = min(int(np.ceil(window[2])), width), min(int(np.ceil(window[3])), height)
    part = pixels[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)].astype(np.float32)
    part = part if part.ndim == 3 else part[..., None]
    rows = overlaps_of((window[1], window[3]), (y0, y0 + part.shape[0]), part.shape[0])
    columns = overlaps_of((window[0], window[2]), (x0, x0 + part.shape[1]), part.shape[1])
    covered = rows.sum(1)[:, None] * columns.sum(1)[None]
    colours = np.stack([rows @ part[..., c] @ columns.T for c in range(part.shape[2])])
    shown = _blurred((colours / np.maximum(covered, _TINY)).astype(np.float32))
    down, across = np.gradient(shown, axis=(1, 2))
    strength: NDArray[np.float32] = np.sqrt((down**2 + across**2).max(0)).astype(np.float32)
    strength *= eroded(covered[None] > 0.99, 2)[0]
    return np.asarray(strength / (strength.mean() + 1e-3), dtype=np.float32)


def _blurred(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    steps = [padded[:, i : i + GRID, j : j + GRID] for i in range(3) for j in range(3)]
    mean: NDArray[np.float32] = np.mean(np.stack(steps), axis=0, dtype=np.float32)
    return mean


def edge_measures(own: Cells, edges: Maps) -> dict[str, NDArray[np.float64]]:
    """Returns measures of masks on edges, each [n]; see `measures.MEASURES`.

    Args:
        own: the masks, bool [n, G, G].
        edges: of `edges_on_grid`, [n, G, G].
    """
    along = np.stack([_along(_resized(own, offset), edges) for offset in OFFSETS], 1)
    here = along[:, OFFSETS.index(0)]
    size = 2 * GRID
    spectra = [np.fft.rfft2(maps, (size, size)) for maps in (edges, _rim(own))]
    both = np.fft.irfft2(spectra[0] * np.conj(spectra[1]), (size, size))
    found = both[:, MOVES][:, :, MOVES]
    middle = len(MOVES) // 2
    return {
        "edge": here,
        "edge_border": here / np.maximum(along.max(1), _TINY),
        "edge_shift": found[:, middle, middle] / np.maximum(found.max((1, 2)), _TINY),
    }


def _resized(own: Cells, offset: int) -> Cells:
    return dilated(own, offset) if offset >= 0 else eroded(own, -offset)


def _rim(cells: Cells) -> Cells:
    """The cells on both sides of a border."""
    return dilated(cells) & ~eroded(cells)


def _along(cells: Cells, edges: Maps) -> NDArray[np.float64]:
    """Mean strength of the edges along a border."""
    rim = _rim(cells)
    total = (edges * rim).sum((1, 2), dtype=np.float64)
    return np.asarray(total / np.maximum(rim.sum((1, 2)), 1))
