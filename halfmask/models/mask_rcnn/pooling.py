"""Multi-level RoIAlign that reorders its regions once, not level by level."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops.poolers import LevelMapper

from halfmask.masks.operators import roi_align

Sizes = list[tuple[int, int]]


class RegionPool(nn.Module):
    """torchvision's MultiScaleRoIAlign over levels "0", "1", …, bit for bit.

    Values and gradients are the same. torchvision writes each level's regions into the
    result, and the gradient copies the whole result once for each level; here the
    levels are joined and reordered, which copies it once. For 1024 regions of 256 × 7 ×
    7 a copy is 51 MB.

    The scales are those of the strides. torchvision guesses them from the unpadded size
    of the first batch, which is wrong for small pictures (65 px with stride 32 gives
    1/16), and keeps them.

    Args:
        strides: of the levels, powers of two, fine to coarse.
        size: S.
        sampling_ratio: RoIAlign's.
        map_levels: boxes of each image → int64 [R], each region's level; None: by the
            root of its area (FPN, equation 1).
    """

    def __init__(
        self,
        strides: Sequence[int],
        size: int,
        sampling_ratio: int,
        *,
        map_levels: Callable[[list[Tensor]], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.scales = [1.0 / stride for stride in strides]
        self.output_size = (size, size)
        self.sampling_ratio = sampling_ratio
        self.map_levels = map_levels or LevelMapper(*level_range(strides))

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor], sizes: Sizes) -> Tensor:
        """Returns float [R, C, S, S], image after image.

        Args:
            features: maps of the levels.
            boxes: float [r, 4] xyxy for each image.
            sizes: unused, torchvision's argument.
        """
        levels = self.map_levels(boxes)
        # No number of regions leaves a tensor, so that an exported graph fits any
        # number.
        image = torch.cat([torch.full_like(b[:, :1], i) for i, b in enumerate(boxes)])
        rows = torch.cat([image, torch.cat(boxes)], 1)
        members = [torch.where(levels == level)[0] for level in range(len(self.scales))]
        pooled = [
            roi_align(
                features[str(level)], rows[index], self.output_size, scale, self.sampling_ratio
            )
            for level, (index, scale) in enumerate(zip(members, self.scales, strict=True))
        ]
        place = torch.zeros_like(levels).scatter(
            0, torch.cat(members), torch.ones_like(levels).cumsum(0) - 1
        )
        dtype = features["0"].dtype  # under autocast levels may differ
        return torch.cat([p.to(dtype) for p in pooled]).index_select(0, place)


def level_range(strides: Sequence[int]) -> tuple[int, int]:
    """Returns the base-two logarithms of the finest and the coarsest stride."""
    return strides[0].bit_length() - 1, strides[-1].bit_length() - 1
