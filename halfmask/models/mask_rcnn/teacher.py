"""What a class-agnostic map makes of a box-only object's region, for a predictor that
knows classes to learn from.
"""

from __future__ import annotations

from torch import Tensor, nn

from halfmask.models.mask_rcnn.regions import MaskRegions

SURE = 0.7
"""A cell is taught where the map gives object or ground at least this: nowhere at the
start, and more and more as it learns.
"""
COVERED = 0.5


class ObjectTeacher(nn.Module):
    """A class-agnostic 1×1 convolution beside the predictor, on the same trunk;
    inference has no use for it.

    The filter of a box-only class is never held against a mask, and may point anywhere.
    Yet much is known of its objects' regions: where a masked neighbour lies they are
    not, and what is an object at all can be learnt without classes.

    Args:
        channels: C of the trunk's output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)
        nn.init.normal_(self.conv.weight, std=0.001)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """float [R, C, M, M] → logits [R, M, M]."""
        logits: Tensor = self.conv(hidden)
        return logits[:, 0]


def lesson(logits: Tensor, regions: MaskRegions) -> tuple[Tensor, Tensor]:
    """What box-only objects' regions are taught.

    Args:
        logits: float [R, M, M] of the teacher; no gradient goes back into them.
        regions: of box-only objects; `targets` is what masked neighbours cover,
            `unknown` what other box-only objects may.
    Returns:
        Targets, float [R, M, M] of 0 and 1, and bool [R, M, M], the cells that count:
        those of masked neighbours, which are no part of the object, and those that the
        teacher is sure of and no other box-only object may claim.
    """
    assert regions.unknown is not None
    probability = logits.detach().sigmoid()
    neighbour = regions.targets >= COVERED
    sure = (probability - 0.5).abs() >= SURE - 0.5
    return ((probability > 0.5) & ~neighbour).to(logits.dtype), neighbour | (
        sure & ~regions.unknown
    )
