"""What an audit measures of a mask: how, and how surely, a model disagrees with it.

Shape letters: n objects of a photograph, G side of their grids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from halfmask.labelling.audit.edges import edge_measures
from halfmask.labelling.audit.maps import INSIDE, Cells, Maps, dilated, eroded, holes_of, islands_of

MEASURES = (
    "iou",
    "expected",
    "shortfall",
    "boundary",
    "surprise",
    "sure_missing",
    "sure_beyond",
    "shift_gain",
    "shift",
    "border_gain",
    "border_offset",
    "size_ratio",
    "holes",
    "hole_doubt",
    "islands",
    "ragged",
    "box_iou",
    "box_side",
    "outside",
    "other_box",
    "spill",
    "gap",
    "edge",
    "edge_border",
    "edge_shift",
    "twin",
    "log_side",
)
"""Measures of a mask, in this order.

iou: with the model's mask. expected: the IoU that the model expects of its own mask.
shortfall: expected − iou. boundary: IoU of the bands along both borders. surprise:
cross-entropy of the mask under the model's probabilities beyond their own entropy, per
cell of both masks' border. sure_missing, sure_beyond: cells that the model is sure of
(above 0.9, below 0.1) and the mask lacks, or has, as a share of both masks' union.
shift_gain: how much the IoU grows when the mask is moved; shift: how far, as a share
of the box's side. border_gain, border_offset: the same for growing (positive) and
shrinking (negative), in cells. size_ratio: log2 of the model's area over the mask's.
holes: share of the filled mask that is hole; hole_doubt: the model's probability in the
holes, as a share. islands: share of the mask apart from where the model is surest.
ragged: share of the mask that an opening removes. box_iou: of the box with the mask's
own; box_side: how far a side is off, as a share of the box's mean side. outside: share
of the mask beyond its box. other_box: IoU of the mask's box with the best other box of
the photograph, minus box_iou. spill: the model's mean probability just beyond the box.
gap: how far the model's mask stays away from the box's sides, mean of the four. edge:
strength of the photograph's edges along the border, 1 in the mean of the grid;
edge_border, edge_shift: this beside the best that growing or shrinking, or moving the
mask, finds. twin: IoU with the most alike other mask. log_side: log2 of the side in
pixels.
"""

SURE = 0.9
BAND = 2
"""Cells of the band along a border."""
REACH = 12
"""Cells by which a mask is moved at most, to see if it fits better there."""
RING = 3
"""Cells of the ring beyond a box in which a model may still see the object."""
GROWTH = 4
"""Cells by which a mask is grown and shrunk at most."""
_TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How the masks of a photograph lie in their boxes and beside each other, [n] each.

    Attributes:
        box_iou, box_side, outside, other_box, twin: see MEASURES.
        side: square root of the box's area, pixels.
        beyond: the part of the mask that its grid does not show, in cells.
    """

    box_iou: NDArray[np.float32]
    box_side: NDArray[np.float32]
    outside: NDArray[np.float32]
    other_box: NDArray[np.float32]
    twin: NDArray[np.float32]
    side: NDArray[np.float32]
    beyond: NDArray[np.float32]


def measures_of(masks: Maps, raw: Maps, edges: Maps, *, placed: Placement) -> NDArray[np.float32]:
    """Returns the MEASURES of n masks, float32 [n, F].

    Args:
        masks: covered shares, float32 [n, G, G].
        raw: the model's probabilities, float32 [n, G, G]; beyond the box they say
            whether the object goes on there.
        edges: of the photograph, float32 [n, G, G]; see `edges_on_grid`.
        placed: of the same masks.
    """
    probs = raw * INSIDE
    own, found = masks >= 0.5, probs >= 0.5
    expected = _expected(probs)
    union = _count(own | found) + placed.beyond + _TINY
    iou = _count(own & found) / union
    rim = _count(_band(own) | _band(found)) + placed.beyond + _TINY
    holes, islands = holes_of(own), islands_of(own, probs)
    filled = _count(own | holes) + _TINY
    shift_gain, shift = _best_shift(masks, probs)
    border_gain, offset = _best_border(own, found, placed.beyond)
    columns = {
        "iou": iou,
        "expected": expected,
        "shortfall": expected - iou,
        "boundary": _count(_band(own) & _band(found)) / rim,
        "surprise": _surprise(masks, probs) / (rim + _TINY),
        "sure_missing": _count((probs > SURE) & ~own) / union,
        "sure_beyond": (_count((probs < 1 - SURE) & own) + placed.beyond) / union,
        "shift_gain": shift_gain,
        "shift": shift,
        "border_gain": border_gain,
        "border_offset": offset,
        "size_ratio": np.log2((_count(found) + 1) / (_count(own) + placed.beyond + 1)),
        "holes": _count(holes) / filled,
        "hole_doubt": (holes * probs).sum((1, 2)) / filled,
        "islands": _count(islands) / filled,
        "ragged": _count(own & ~dilated(eroded(own))) / filled,
        "box_iou": placed.box_iou,
        "box_side": placed.box_side,
        "outside": placed.outside,
        "other_box": placed.other_box,
        "spill": _spill(raw),
        **edge_measures(own, edges),
        "gap": _gap(probs),
        "twin": placed.twin,
        "log_side": np.log2(np.maximum(placed.side, 1)),
    }
    return np.stack([columns[name] for name in MEASURES], 1).astype(np.float32)


def _count(cells: Cells) -> NDArray[np.float64]:
    return np.asarray(cells.sum((1, 2), dtype=np.float64))


def _band(cells: Cells) -> Cells:
    return cells & ~eroded(cells, BAND)


def _expected(probs: Maps) -> NDArray[np.float64]:
    """The IoU that probabilities promise of their own masks, [n]; see `expected_iou`."""
    inside = probs >= 0.5
    hit = (probs * inside).sum((1, 2), dtype=np.float64)
    union = inside.sum((1, 2)) + (probs * ~inside).sum((1, 2), dtype=np.float64)
    return np.asarray(hit / np.maximum(union, _TINY))


def _spill(raw: Maps) -> NDArray[np.float64]:
    ring = dilated(INSIDE[None], RING)[0] & ~INSIDE
    return np.asarray(raw[:, ring].mean(1, dtype=np.float64))


def _gap(probs: Maps) -> NDArray[np.float64]:
    """1 − the highest probability in the outermost cells of the box, mean of four sides."""
    rows = np.flatnonzero(INSIDE.any(1))
    first, last = int(rows[0]), int(rows[-1])
    ends = slice(first, first + BAND), slice(last + 1 - BAND, last + 1)
    tops = [probs[:, end, :].max((1, 2)) for end in ends]
    sides = [probs[:, :, end].max((1, 2)) for end in ends]
    return np.asarray(1 - np.mean(np.stack([*tops, *sides]), axis=0, dtype=np.float64))


def _surprise(masks: Maps, probs: Maps) -> NDArray[np.float64]:
    """Cross-entropy of masks beyond the entropy of the probabilities, in bits, [n]."""
    safe = np.clip(probs, 0.02, 0.98)
    yes, no = -np.log2(safe), -np.log2(1 - safe)
    excess = (masks - safe) * (yes - no)
    return np.asarray(excess.sum((1, 2), dtype=np.float64))


def _best_shift(masks: Maps, probs: Maps) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much the IoU grows by the best move of a mask, and the move's share of the side."""
    side = masks.shape[1]
    size = 2 * side
    spectra = [np.fft.rfft2(maps, (size, size)) for maps in (probs, masks)]
    both = np.fft.irfft2(spectra[0] * np.conj(spectra[1]), (size, size))
    steps = np.arange(-REACH, REACH + 1)
    common = both[:, steps][:, :, steps]
    total = (masks.sum((1, 2)) + probs.sum((1, 2)))[:, None, None]
    ious = common / np.maximum(total - common, _TINY)
    flat = ious.reshape(len(masks), -1)
    best, here = flat.argmax(1), ious[:, REACH, REACH]
    down, right = np.divmod(best, len(steps))
    far = np.hypot(down - REACH, right - REACH) * 1.5 / side
    return flat.max(1) - here, far


def _best_border(
    own: Cells, found: Cells, beyond: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much the IoU grows by growing or shrinking a mask, and by how many cells."""
    sizes = range(-GROWTH, GROWTH + 1)
    rows = []
    for size in sizes:
        changed = dilated(own, size) if size >= 0 else eroded(own, -size)
        rows.append(_count(changed & found) / (_count(changed | found) + beyond + _TINY))
    ious = np.stack(rows)
    best = ious.argmax(0)
    return ious.max(0) - ious[GROWTH], (best - GROWTH).astype(np.float64)
