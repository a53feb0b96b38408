"""Which regions a mask head learns on, and which of their cells count: what lies in a box-only neighbour's box is not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from halfmask import team
from halfmask.models.regions import MaskRegions


@dataclass(frozen=True)
class RegionRules:
    """A recipe's `mask_head.unknown`, `unknown_limit`, `regions` and `region_jitter`, see there."""

    unknown: Literal["background", "ignore", "skip"] = "background"
    limit: float = 0.2
    source: Literal["proposals", "boxes"] = "proposals"
    jitter: float = 0.0

    def taught(self, regions: MaskRegions) -> tuple[MaskRegions, Tensor | None]:
        """The regions that the loss is of, and bool [R, M, M]: the cells of them that count; None: all do.

        A batch in which every region is beyond the limit keeps them all, without their unknown cells.
        """
        if self.unknown == "background":
            return regions, None
        if self.unknown == "skip":
            kept = self._within_limit(regions)
            if team.total(len(kept)) > 0 and len(kept) < len(regions.labels):
                regions = rows_of(regions, kept)
        if len(regions.labels) == 0:
            return regions, None
        assert regions.unknown is not None, "regions were pooled without their neighbours"
        return regions, ~regions.unknown

    def _within_limit(self, regions: MaskRegions) -> Tensor:
        """int64: the regions that have few enough unknown cells."""
        if len(regions.labels) == 0:
            return regions.labels
        assert regions.unknown is not None, "regions were pooled without their neighbours"
        return torch.where(regions.unknown.float().mean((1, 2)) <= self.limit)[0]


def rows_of(regions: MaskRegions, index: Tensor) -> MaskRegions:
    """The regions at `index`, int64 [r]."""
    unknown = None if regions.unknown is None else regions.unknown[index]
    has_mask = None if regions.has_mask is None else regions.has_mask[index]
    return MaskRegions(regions.features[index], regions.labels[index], regions.targets[index], unknown, has_mask)
