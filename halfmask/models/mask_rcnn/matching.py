"""Matches each anchor to an object without the table of all objects × all anchors.

torchvision's detectors compute IoU for every pair at once: 267,000 anchors of a
photograph of 800 × 1333 and 1000 objects take 1 GB, and several times that in between.
Here the pairs are taken some anchors at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou

PAIRS = 1 << 20
"""Most IoUs computed at once (the IoUs of an anchor are never divided)."""


@dataclass(frozen=True)
class BoxPairs:
    """Every object with every place, in the role of torchvision's IoU table.

    Attributes:
        objects: float [n, 4] xyxy.
        places: float [A, 4] xyxy.
    """

    objects: Tensor
    places: Tensor


class BoxMatcher:
    """torchvision's `Matcher` on pairs: the same matches, bit for bit.

    Args:
        matcher: supplies the thresholds.
    """

    BELOW_LOW_THRESHOLD = Matcher.BELOW_LOW_THRESHOLD
    BETWEEN_THRESHOLDS = Matcher.BETWEEN_THRESHOLDS

    def __init__(self, matcher: Matcher) -> None:
        self.high, self.low = matcher.high_threshold, matcher.low_threshold
        self.allow_low_quality = matcher.allow_low_quality_matches

    def __call__(self, pairs: BoxPairs) -> Tensor:
        """Returns int64 [A]: the row of each place's object.

        −1 stands for below the low threshold, −2 for between the thresholds. n and A
        are at least 1.
        """
        size = max(1, PAIRS // len(pairs.objects))
        parts = torch.split(pairs.places, size)
        # Before the loop: small tensors between large temporary ones would keep the
        # heap from reusing their memory.
        value = pairs.places.new_empty(len(pairs.places))
        row = torch.empty(len(pairs.places), dtype=torch.int64, device=value.device)
        highest = value.new_empty((len(parts), len(pairs.objects)))
        for number, part in enumerate(parts):
            overlap = box_iou(pairs.objects, part)
            place = slice(number * size, number * size + len(part))
            value[place], row[place] = overlap.max(0)
            highest[number] = overlap.amax(1)
        match = row.masked_fill(value < self.high, self.BETWEEN_THRESHOLDS)
        match = match.masked_fill(value < self.low, self.BELOW_LOW_THRESHOLD)
        if self.allow_low_quality:
            best = _best_of_some_object(pairs.objects, parts, highest)
            match = torch.where(best, row, match)
        return match


def match_in_parts(rpn: RegionProposalNetwork) -> None:
    """Lets torchvision's RPN match by `BoxMatcher`.

    The RPN only passes the table of `box_similarity` on to `proposal_matcher`.
    """
    rpn.box_similarity = BoxPairs
    rpn.proposal_matcher = BoxMatcher(rpn.proposal_matcher)


def _best_of_some_object(objects: Tensor, parts: tuple[Tensor, ...], highest: Tensor) -> Tensor:
    """Returns bool [A]: places with the greatest IoU for some object, ties included.

    Args:
        highest: [parts, n], the best IoU of each part.
    """
    most = highest.amax(0)
    size = len(parts[0])
    found = torch.empty(sum(map(len, parts)), dtype=torch.bool, device=objects.device)
    for number, (part, own) in enumerate(zip(parts, highest, strict=True)):
        reached = torch.where(own == most)[0]  # the other objects' best place is in another part
        overlap = box_iou(objects[reached], part)
        found[number * size : number * size + len(part)] = (overlap == most[reached, None]).any(0)
    return found
