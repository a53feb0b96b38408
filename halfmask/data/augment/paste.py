"""Copy-paste: objects of other photographs are pasted into a training photograph.

Only objects with a mask are pasted (Ghiasi et al., CVPR 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from halfmask.data.augment.rotate import Crop, kept_rows
from halfmask.data.dataset import Examples
from halfmask.masks.crops import MaskCrops, tight, tight_box
from halfmask.structures import Target

SCALES = 0.5, 1.5
"""Size of a pasted object, relative to its own."""
LARGEST = 0.7
"""Greatest share of the photograph's width or height that a pasted object takes."""
SMALLEST = 8
"""Objects less high or wide than this many pixels are not pasted."""
COVERED = 0.7
"""An object of which more than this share is pasted over is dropped."""


class CopyPaste:
    """Pastes objects that have a mask onto photographs with or without masks.

    The covered pixels are taken from the masks below.

    Args:
        pool: the source of the objects: training examples, never held-out ones.
        probability: of changing a photograph.
        most: objects pasted into it, at most.
        rows: the examples of the pool that have masks; None: all.
    """

    def __init__(
        self,
        pool: Examples,
        probability: float,
        most: int = 4,
        *,
        rows: Sequence[int] | None = None,
    ) -> None:
        assert 0.0 <= probability <= 1.0, probability
        assert most >= 1, most
        self.pool = pool
        self.rows = range(len(pool)) if rows is None else rows
        self.probability = probability
        self.most = most

    def __call__(
        self, image: Tensor, target: Target, generator: torch.Generator
    ) -> tuple[Tensor, Target]:
        """Changes one example as the generator decides; `image` is not written to."""
        draws = torch.rand(2, generator=generator).tolist()
        if draws[0] >= self.probability or not self.rows:
            return image, target
        other, theirs = self.pool[self.rows[int(draws[1] * len(self.rows))]]
        masked = torch.where(theirs.has_mask)[0]
        order = torch.randperm(len(masked), generator=generator)[: self.most]
        scene = _Scene(image.clone(), target)
        for row in masked[order].tolist():
            cut = _cut(other, theirs, row)
            size = None if cut is None else _new_size(cut[1], scene.image, generator)
            spot = torch.rand(2, generator=generator)
            if cut is not None and size is not None:
                weight = 1.0 if theirs.mask_weight is None else float(theirs.mask_weight[row])
                scene.paste(*_resized(*cut, size), spot, (int(theirs.labels[row]), weight))
        return scene.image, scene.target()


class _Scene:
    """A photograph and its objects while objects are pasted."""

    def __init__(self, image: Tensor, target: Target) -> None:
        self.image = image
        self._before = target
        self._bitmaps = [bitmap.clone() for bitmap in target.masks.bitmaps()]
        self._offsets = _places(target.masks)
        self._areas = [int(bitmap.sum()) for bitmap in self._bitmaps]
        self._covered = torch.zeros(image.shape[-2:], dtype=torch.bool)
        self._new: list[tuple[Crop, tuple[int, float]]] = []

    def paste(self, pixels: Tensor, alpha: Tensor, spot: Tensor, known: tuple[int, float]) -> None:
        """Pastes an object.

        Args:
            pixels: [3, h, w].
            alpha: [h, w].
            spot: float [2] in [0, 1), share of the free way right and down.
            known: label, and weight of the mask.
        """
        h, w = alpha.shape
        free = self.image.shape[2] - w, self.image.shape[1] - h
        x, y = (int(share * (room + 1)) for share, room in zip(spot.tolist(), free, strict=True))
        window = (slice(y, y + h), slice(x, x + w))
        below = self.image[:, window[0], window[1]]
        self.image[:, window[0], window[1]] = below + alpha * (pixels - below)
        solid = alpha >= 0.5
        self._covered[window] |= solid
        below_it = [
            *zip(self._bitmaps, self._offsets, strict=True),
            *(crop for crop, _ in self._new),
        ]
        for crop in below_it:
            _subtract(crop, (solid, (x, y)))
        self._new.append(((solid.to(torch.uint8), (x, y)), known))

    def target(self) -> Target:
        """Returns the objects of the scene."""
        old = self._before
        kept, boxes, crops = [], [], []
        row = 0
        for index, (box, has_mask) in enumerate(zip(old.boxes, old.has_mask.tolist(), strict=True)):
            if not has_mask:
                if self._hidden_share(box) <= COVERED:
                    kept.append(index)
                    boxes.append(box)
                continue
            seen = tight(self._bitmaps[row], self._offsets[row])
            if seen is not None and int(seen[0].sum()) >= (1 - COVERED) * self._areas[row]:
                # The file's own box stays where nothing changed.
                whole = int(seen[0].sum()) == self._areas[row]
                kept.append(index)
                boxes.append(box if whole else tight_box(*seen))
                crops.append(seen)
            row += 1
        return self._with_new(kept_rows(old, kept, boxes, crops=crops))

    def _hidden_share(self, box: Tensor) -> float:
        x0, y0, x1, y1 = (int(v) for v in box.round().tolist())
        part = self._covered[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
        return float(part.float().mean()) if part.numel() else 0.0

    def _with_new(self, old: Target) -> Target:
        new = [(tight(*crop), known) for crop, known in self._new]
        found = [(seen, known) for seen, known in new if seen is not None]
        count = len(found)
        bitmaps = [*old.masks.bitmaps(), *(seen[0] for seen, _ in found)]
        places = [*_places(old.masks), *(seen[1] for seen, _ in found)]
        labels = torch.tensor([label for _, (label, _) in found], dtype=torch.int64)
        weights = torch.tensor([weight for _, (_, weight) in found])
        before = torch.ones(len(old)) if old.mask_weight is None else old.mask_weight
        weighted = old.mask_weight is not None or bool((weights != 1).any())
        ids = old.annotation_ids
        ids = ids if len(ids) == len(old) else torch.zeros(len(old), dtype=torch.int64)
        return replace(
            old,
            boxes=torch.cat([old.boxes, *(tight_box(*seen)[None] for seen, _ in found)]),
            labels=torch.cat([old.labels, labels]),
            has_mask=torch.cat([old.has_mask, torch.ones(count, dtype=torch.bool)]),
            masks=MaskCrops.from_bitmaps(bitmaps, places, old.masks.image_size),
            annotation_ids=torch.cat([ids, torch.zeros(count, dtype=torch.int64)]),
            mask_weight=torch.cat([before, weights]) if weighted else None,
        )


def _places(masks: MaskCrops) -> list[tuple[int, int]]:
    return [(int(x), int(y)) for x, y in masks.offsets.tolist()]


def _cut(image: Tensor, target: Target, row: int) -> tuple[Tensor, Tensor] | None:
    """Returns an object's pixels [3, h, w] and mask [h, w]; None if too small."""
    place = int(target.mask_row[row])
    height, width = target.masks.sizes[place].tolist()
    if min(height, width) < SMALLEST:
        return None
    x, y = target.masks.offsets[place].tolist()
    return image[:, y : y + height, x : x + width], target.masks.bitmaps()[place].float()


def _new_size(mask: Tensor, image: Tensor, generator: torch.Generator) -> tuple[int, int] | None:
    """Returns (height, width) of a pasted object; None if it is too small."""
    low, high = SCALES
    scale = low * (high / low) ** float(torch.rand(1, generator=generator))
    room = min(LARGEST * image.shape[1] / mask.shape[0], LARGEST * image.shape[2] / mask.shape[1])
    scale = min(scale, room)
    size = round(mask.shape[0] * scale), round(mask.shape[1] * scale)
    return size if min(size) >= SMALLEST else None


def _resized(pixels: Tensor, mask: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    stack = torch.cat([pixels, mask[None]])[None]
    small = F.interpolate(stack, size=size, mode="bilinear", align_corners=False, antialias=True)[0]
    return small[:3].clamp(0, 1), small[3].clamp(0, 1)


def _subtract(below: Crop, above: Crop) -> None:
    """Clears the pixels of `below` that `above` covers, in place."""
    (bitmap, place), (solid, other) = below, above
    x0, y0 = max(place[0], other[0]), max(place[1], other[1])
    x1 = min(place[0] + bitmap.shape[1], other[0] + solid.shape[1])
    y1 = min(place[1] + bitmap.shape[0], other[1] + solid.shape[0])
    if x1 > x0 and y1 > y0:
        covered = solid[y0 - other[1] : y1 - other[1], x0 - other[0] : x1 - other[0]]
        bitmap[y0 - place[1] : y1 - place[1], x0 - place[0] : x1 - place[0]][covered] = 0
