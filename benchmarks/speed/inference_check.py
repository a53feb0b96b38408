"""Whether two ways to run a detector find the same: boxes, masks pasted alike, and
masks as each delivers them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.result import Row
from benchmarks.speed.inference_ways import Answer
from halfmask.masks.crops import MaskCrops, decode, iou

SAME_BAR, IOU_BAR, BOX_BAR = 0.99, 0.99, 0.5


@dataclass(frozen=True)
class Sameness:
    """How far one way's answer is another's.

    Attributes:
        boxes: share of the other's detections found again: same label, all sides within
            BOX_BAR pixels.
        worst: lowest IoU of those detections' masks, both ways' probabilities pasted in
            the same way.
        delivered: mean IoU of those detections' masks as each way delivers them.
            torchvision cuts a mask's box to whole pixels before it spreads the map
            there, halfmask does not: on maps of random weights, which are noise, that
            moves every border.
    """

    boxes: float
    worst: float
    delivered: float


def sameness(wanted: Answer, got: Answer) -> Sameness:
    """Compares two ways' answers to one photograph; nothing found counts as nothing the same."""
    if not len(wanted.boxes) or not len(got.boxes):
        return Sameness(0.0, 0.0, 0.0)
    far = (got.boxes[None] - wanted.boxes[:, None]).abs().amax(2) + 1e6 * (
        got.labels[None] != wanted.labels[:, None]
    )
    distance, row = far.min(1)
    same = torch.where(distance <= BOX_BAR)[0]
    if not len(same):
        return Sameness(0.0, 0.0, 0.0)
    theirs = row[same]
    alike = _overlaps(wanted.alike().select(same), got.alike().select(theirs))
    delivered = _overlaps(_delivered(wanted, same), _delivered(got, theirs))
    return Sameness(len(same) / len(wanted.boxes), float(alike.min()), float(delivered.mean()))


def rows_of(name: str, peer: str, found: Sameness, told: bool = False) -> list[Row]:
    """Returns the rows of a way's checks; `told` leaves out the targets."""
    checks: list[tuple[str, float, float | None]] = [
        ("same boxes", found.boxes, None if told else SAME_BAR),
        ("worst mask IoU of those, pasted alike", found.worst, None if told else IOU_BAR),
        ("mean mask IoU of those, as delivered", found.delivered, None),
    ]
    base = {"peer": peer, "peer_value": 1.0, "unit": "of 1"}
    return [
        {
            "name": f"{name}, {what}",
            **base,
            "value": v,
            "ratio": v,
            "bar": bar,
            "ok": None if bar is None else v >= bar,
        }
        for what, v, bar in checks
    ]


def _delivered(answer: Answer, rows: Tensor) -> MaskCrops:
    decoded = [decode(answer.rles[k], answer.size) for k in rows.tolist()]
    return MaskCrops.from_bitmaps(
        [bitmap for bitmap, _ in decoded], [place for _, place in decoded], answer.size
    )


def _overlaps(first: MaskCrops, second: MaskCrops) -> Tensor:
    """IoU by pair; 1 where both are empty."""
    empty = (first.areas() == 0) & (second.areas() == 0)
    return torch.where(empty, 1.0, iou(first, second))
