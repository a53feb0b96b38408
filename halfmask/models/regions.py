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
        targets: float32 [R, M, M] in [0, 1].
    """

    features: Tensor
    labels: Tensor
    targets: Tensor


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
