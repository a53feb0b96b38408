"""Decoders from an encoder's maps to one fine map: a U-Net, or a second hourglass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halfmask.models.heads.trunks import HourglassTrunk


class Decoder(nn.Module):
    """A U-Net's decoder: fuses an encoder's maps, coarse to fine.

    Args:
        channels: stride → channels of the encoder's maps, fine to coarse.
        widths: channels of the decoder at the encoder's strides from the second
            coarsest on; it climbs one stride for each. The last is that of the result.
    """

    def __init__(self, channels: dict[int, int], widths: list[int]) -> None:
        super().__init__()
        strides = sorted(channels, reverse=True)
        assert 1 <= len(widths) < len(strides), (widths, strides)
        self._strides = strides[: len(widths) + 1]
        # Maps of networks with folded or frozen norm may have any scale (standard
        # deviation 5 to 7 in MobileNetV2), and would dominate the decoder's own maps.
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels[stride]) for stride in self._strides)
        # The coarsest map is wide (1280 channels in MobileNetV2), but small.
        self.narrow = nn.Conv2d(channels[strides[0]], widths[0], 1)
        before = [widths[0], *widths[:-1]]
        self.steps = nn.ModuleList(
            _conv_block(wide + channels[stride], width)
            for wide, stride, width in zip(before, strides[1:], widths, strict=False)
        )
        self.stride = self._strides[-1]
        self.out_channels = widths[-1]

    def forward(self, maps: dict[int, Tensor]) -> Tensor:
        """Returns float [R, widths[-1], S/stride, S/stride] of stride → maps."""
        sides = [norm(maps[stride]) for stride, norm in zip(self._strides, self.norms, strict=True)]
        x: Tensor = self.narrow(sides[0])
        for side, step in zip(sides[1:], self.steps, strict=True):
            x = F.interpolate(x, size=side.shape[-2:], mode="bilinear", align_corners=False)
            x = step(torch.cat([x, side], 1))
        return x


class HourglassDecoder(nn.Module):
    """Adds an encoder's maps at its second finest stride, goes down to a cell and up.

    Stacked hourglasses: Newell et al., ECCV 2016. Deep-MAC finds that they generalise
    to classes without masks.

    Args:
        channels: stride → channels of the encoder's maps, at least two.
        width: channels of every map, and of the result.
        size: S, the side of the crops. The result has the encoder's finest stride.
    """

    def __init__(self, channels: dict[int, int], width: int, size: int) -> None:
        super().__init__()
        finest, *self._strides = sorted(channels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels[stride]) for stride in self._strides)
        self.laterals = nn.ModuleList(
            nn.Conv2d(channels[stride], width, 1) for stride in self._strides
        )
        self.trunk = HourglassTrunk(width, width, size // self._strides[0], norm="group")
        self.stride = finest
        self.out_channels = width

    def forward(self, maps: dict[int, Tensor]) -> Tensor:
        """Returns float [R, width, S/stride, S/stride] of stride → maps of R crops."""
        rows = zip(self._strides, self.norms, self.laterals, strict=True)
        parts = [lateral(norm(maps[stride])) for stride, norm, lateral in rows]
        size = parts[0].shape[-2:]
        coarse = [
            F.interpolate(part, size=size, mode="bilinear", align_corners=False)
            for part in parts[1:]
        ]
        out: Tensor = self.trunk(torch.stack([parts[0], *coarse]).sum(0))
        return out


def _conv_block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
