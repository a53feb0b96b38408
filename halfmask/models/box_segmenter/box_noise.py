"""Random changes of boxes and crops in training.

Boxes move by a uniform error, or as a detector's boxes are off: most sides are nearly
right, and a few are far off. The table is YOLOX-nano's on COCO-mini's training
photographs (`python -m benchmarks boxes`, docs/real_data.md).

Shape letters: R boxes, float32 [R, 4] xyxy in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

# fmt: off
LEVELS = (
    0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9,
    0.95, 0.975, 0.99,
)
"""Shares of the sides with at most an error of `OUTWARD`."""
OUTWARD = {
    "S": (
        -0.2738, -0.2159, -0.1826, -0.1154, -0.0814, -0.0612, -0.0419, -0.0259, -0.0044, 0.0177,
        0.0484, 0.0821, 0.1082, 0.1393, 0.1755, 0.2431, 0.3277, 0.407, 0.5172,
    ),
    "M": (
        -0.2923, -0.2428, -0.1818, -0.1105, -0.08, -0.0575, -0.0412, -0.03, -0.0118, 0.0009, 0.016,
        0.038, 0.0508, 0.0653, 0.0881, 0.1348, 0.2163, 0.3281, 0.4405,
    ),
    "L": (
        -0.2756, -0.1874, -0.139, -0.0737, -0.0447, -0.0288, -0.0198, -0.0137, -0.0055, 0.0, 0.0054,
        0.0148, 0.0206, 0.0292, 0.0424, 0.0678, 0.1414, 0.2585, 0.4291,
    ),
}
# fmt: on
"""How far a side lies outside the true one, share of the box's side; by the size of the
box (`AREAS`).
"""
AREAS = (32**2, 96**2)
"""Areas, in pixels, at which a box is medium and large."""
LEAST_IOU = 0.5
"""With the true box: detections below it are no detections of the object."""
TRIES = 4
LOOSE_SHARE = 1 / 3
"""Share of the boxes in training that are made loose, if any are."""


@dataclass(frozen=True)
class Jitter:
    """Random changes of boxes and crops in training, from torch's global generator.

    Attributes:
        box: the corners of some boxes, marked as loose, move by up to this share of the
            box's side.
        crop: place and side of the crop change by up to this share.
        detector: boxes move by the errors of a detector instead (`box_noise`).
    """

    box: float = 0.0
    crop: float = 0.0
    detector: bool = False

    @property
    def loosens(self) -> bool:
        """Whether some boxes are made loose."""
        return self.box > 0 or self.detector

    def move_boxes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Returns boxes [R, 4], and bool [R]: which of them are loose now."""
        loose = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
        if not self.loosens:
            return boxes, loose
        sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
        loose = (torch.rand(len(boxes)) < LOOSE_SHARE).to(boxes.device)
        if self.detector:
            moved = detector_boxes(boxes)
        else:
            moved = boxes + _uniform(boxes.shape, boxes) * self.box * sides
        return torch.where(loose[:, None], moved, boxes), loose

    def move_regions(self, regions: Tensor) -> Tensor:
        if self.crop == 0:
            return regions
        half = (regions[:, 2:] - regions[:, :2]) / 2
        centre = (regions[:, :2] + regions[:, 2:]) / 2 + _uniform(
            half.shape, half
        ) * self.crop * half
        half = half * torch.exp(_uniform(half.shape, half) * self.crop)
        return torch.cat([centre - half, centre + half], 1)


def _uniform(shape: torch.Size, like: Tensor) -> Tensor:
    """Draws from [−1, 1) on the CPU, so that every device sees the same numbers."""
    return (torch.rand(shape) * 2 - 1).to(like.device, like.dtype)


def detector_boxes(boxes: Tensor) -> Tensor:
    """Returns boxes [R, 4] with a detector's errors, from torch's global generator.

    Sides err independently, as measured. Draws on the CPU, so that every device sees
    the same numbers. A box that would be too far off is drawn again, and after TRIES
    draws stays as it is.
    """
    out, left = boxes.clone(), torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
    for _ in range(TRIES):
        moved = boxes + _errors(boxes)
        fine = left & (box_iou(moved, boxes).diagonal() >= LEAST_IOU)
        out = torch.where(fine[:, None], moved, out)
        left &= ~fine
    return out


def _errors(boxes: Tensor) -> Tensor:
    """Draws how far each corner moves, in pixels, float32 [R, 4]."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1).cpu()
    size = torch.bucketize(areas, torch.tensor(AREAS, dtype=areas.dtype), right=True)
    table = torch.tensor([OUTWARD[name] for name in "SML"])
    outward = between(torch.tensor(LEVELS), table[size], torch.rand(len(boxes), 4))
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    away = torch.tensor([-1.0, -1.0, 1.0, 1.0])
    return (outward * away).to(boxes) * sides


def between(levels: Tensor, values: Tensor, shares: Tensor) -> Tensor:
    """Interpolates quantiles linearly; beyond the first and last level they end.

    Args:
        levels: float32 [q], ascending.
        values: float32 [R, q], of each row.
        shares: float32 [R, k] in [0, 1).
    Returns:
        float32 [R, k].
    """
    clamped = shares.clamp(float(levels[0]), float(levels[-1]))
    upper = torch.searchsorted(levels, clamped.contiguous()).clamp(1, len(levels) - 1)
    low, high = levels[upper - 1], levels[upper]
    part = (clamped - low) / (high - low)
    before, after = values.gather(1, upper - 1), values.gather(1, upper)
    return before + part * (after - before)
