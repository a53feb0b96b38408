"""Masks that are damaged on purpose, as people and tools damage them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask.coco.file import CocoFile
from halfmask.coco.supervision import MaskState
from halfmask.masks.rle import Bitmap, Place, crop_of, rle_of

KINDS = ("shifted", "eroded", "dilated", "swapped", "holes")
STRENGTHS = {"weak": 0.5, "medium": 1.0, "strong": 2.0}
"""Factor of the shares below."""
SHIFT, BORDER, HOLE = 0.1, 0.05, 0.1
"""Medium damage: a move by this share of the side (√ of the box's area), a border that is
off by this share of it, and a hole of this share of the mask's area."""
LEAST_SIDE = 12.0
"""Smaller objects keep their masks: a pixel there is no damage."""

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """A file with damaged masks.

    Attributes:
        document: its JSON.
        kinds: position of the annotation → kind of its damage.
    """

    document: Record
    kinds: dict[int, str]


def damage(
    file: CocoFile,
    share: float,
    *,
    seed: int,
    strengths: Sequence[float],
    boxes_follow: float = 0.0,
    kinds: Sequence[str] = KINDS,
) -> Damaged:
    """Damages a share of the masks of a file, with each kind equally often.

    Args:
        file: COCO's own masks.
        share: of all objects with a mask.
        strengths: one is drawn for each mask.
        boxes_follow: how often a mask's box is made anew from the damaged mask, as
            tools do that know no other box; never for a swapped one.
    """
    rng = np.random.default_rng(seed)
    document = copy.deepcopy(file.document)
    annotations = document["annotations"]
    found: dict[int, str] = {}
    candidates = _candidates(file)
    order = rng.permutation(len(candidates)).tolist()
    wanted = round(share * len(candidates))
    for k in order:
        if len(found) >= wanted:
            break
        position, size = candidates[k]
        if position in found:
            continue
        so_far = Counter(found.values())
        kind = min(kinds, key=lambda one: so_far[one])
        if kind == "swapped":
            _swap(candidates, position, found, annotations=annotations, rng=rng)
            continue
        crop = crop_of(annotations[position]["segmentation"], size)
        assert crop is not None
        changed = _changed(crop, kind, float(rng.choice(strengths)), rng=rng)
        rle = None if changed is None else _written(*changed, size)
        if rle is None:
            continue
        annotations[position]["segmentation"] = rle
        found[position] = kind
        if rng.random() < boxes_follow:
            annotations[position]["bbox"] = _box_of(rle, size)
    return Damaged(document=document, kinds=found)


def _candidates(file: CocoFile) -> list[tuple[int, tuple[int, int]]]:
    out = []
    for image in file.images:
        size = file.size_of(image["id"])
        rows = zip(file.annotations_of(image["id"]), file.states_of(image["id"]), strict=True)
        for annotation, state in rows:
            side = (annotation["bbox"][2] * annotation["bbox"][3]) ** 0.5
            if state is MaskState.MASK and side >= LEAST_SIDE:
                out.append((file.position_of(annotation), size))
    return out


def _swap(
    candidates: list[tuple[int, tuple[int, int]]],
    position: int,
    found: dict[int, str],
    *,
    annotations: list[Record],
    rng: np.random.Generator,
) -> None:
    """Exchanges the masks of two objects of a photograph, if there are two."""
    image = annotations[position]["image_id"]
    others = [
        other
        for other, _ in candidates
        if other != position and other not in found and annotations[other]["image_id"] == image
    ]
    if not others:
        return
    other = others[int(rng.integers(len(others)))]
    one, two = annotations[position], annotations[other]
    one["segmentation"], two["segmentation"] = two["segmentation"], one["segmentation"]
    found[position] = found[other] = "swapped"


def _changed(
    crop: tuple[Bitmap, Place], kind: str, strength: float, *, rng: np.random.Generator
) -> tuple[Bitmap, Place] | None:
    bitmap, (x, y) = crop
    side = (bitmap.shape[0] * bitmap.shape[1]) ** 0.5
    if kind == "shifted":
        angle = rng.random() * 2 * np.pi
        far = max(SHIFT * strength * side, 1)
        return bitmap, (round(x + far * np.cos(angle)), round(y + far * np.sin(angle)))
    if kind == "holes":
        return _with_hole(bitmap, HOLE * strength, rng), (x, y)
    radius = max(1, round(BORDER * strength * side))
    padded = np.pad(bitmap, radius + 1)
    if kind == "eroded":
        return 1 - _grown(1 - padded, radius), (x - radius - 1, y - radius - 1)
    return _grown(padded, radius), (x - radius - 1, y - radius - 1)


def _grown(bitmap: Bitmap, radius: int) -> Bitmap:
    """The pixels within a distance of a mask; what is beyond the array counts as 0."""
    reach = np.arange(-radius, radius + 1)
    out = np.zeros_like(bitmap)
    height, width = bitmap.shape
    for dy in reach.tolist():
        half = int((radius**2 - dy**2) ** 0.5)
        row = np.pad(bitmap, ((0, 0), (half, half)))
        sums = np.cumsum(np.pad(row, ((0, 0), (1, 0))), axis=1, dtype=np.int64)
        wide = (sums[:, 2 * half + 1 :] - sums[:, :width]) > 0
        top, low = max(dy, 0), max(-dy, 0)
        out[top : height - low] |= wide[low : height - top].astype(np.uint8)
    return out


def _with_hole(bitmap: Bitmap, share: float, rng: np.random.Generator) -> Bitmap:
    """A round hole of a share of the area, around a pixel far from the mask's border."""
    depth = np.zeros(bitmap.shape, dtype=np.int64)
    inner = np.pad(bitmap, 1)
    while inner.any():
        depth += inner[1:-1, 1:-1]
        inner = 1 - _grown(1 - inner, 1)
    rows, columns = np.nonzero(depth >= 0.7 * depth.max())
    at = int(rng.integers(len(rows)))
    down, across = np.indices(bitmap.shape)
    distance: NDArray[np.float64] = np.hypot(down - rows[at], across - columns[at])
    inside = np.sort(distance[bitmap > 0])
    radius = inside[min(int(share * len(inside)), len(inside) - 1)]
    return np.asarray(bitmap * (distance > max(radius, 0.9)), dtype=np.uint8)


def _written(bitmap: Bitmap, place: Place, size: tuple[int, int]) -> Record | None:
    rle = rle_of(bitmap, place, size)
    return None if crop_of(rle, size) is None else rle


def _box_of(rle: Record, size: tuple[int, int]) -> list[float]:
    crop = crop_of(rle, size)
    assert crop is not None
    bitmap, (x, y) = crop
    return [float(x), float(y), float(bitmap.shape[1]), float(bitmap.shape[0])]
