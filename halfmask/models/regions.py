"""Regions on their way between detector and mask branch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class MaskRegions:
    """What the mask loss sees of a batch.

    Attributes:
        features: float32 [R, C, S, S], pooled.
        labels: int64 [R], 1…K−1.
        targets: float32 [R, M, M] in [0, 1], the object's own mask; of an object without one what masked neighbours cover of the region.
        unknown: bool [R, M, M], cells that may be a box-only neighbour's; None where nobody asks for them.
        has_mask: bool [R], of each region's object; None: all.
    """

    features: Tensor
    labels: Tensor
    targets: Tensor
    unknown: Tensor | None = None
    has_mask: Tensor | None = None


@dataclass(frozen=True)
class RegionPlaces:
    """Where regions come from, a list entry for each image.

    Attributes:
        regions: float32 [r, 4] xyxy in pixels of the image, as masks are drawn on them (`region_targets`).
        matched: int64 [r], row of each region's object in the image's target.
    """

    regions: list[Tensor]
    matched: list[Tensor]


@dataclass(frozen=True)
class FoundBoxes:
    """The detector's answer for one image, before masks.

    Attributes:
        boxes: float32 [n, 4] xyxy in pixels of the image; labels: int64 [n]; scores: float32 [n], best first.
        features: float32 [n, C, S, S], pooled for the mask branch.
        image_size: (H, W).
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    features: Tensor
    image_size: tuple[int, int]
