"""Trunks of mask heads: convolutions on the pooled region, then one upsampling."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F


class MaskTrunk(nn.Module):
    """3×3 convolutions, then a transposed one of stride 2, with ReLU (paper 1.3).

    Args:
        in_channels: C of the pooled regions.
        width: channels inside and out.
        convs: number of 3×3 convolutions.
        norm: between each of them and its ReLU, in place of their biases.
    """

    def __init__(
        self, in_channels: int, width: int, convs: int = 4, *, norm: Norm = "none"
    ) -> None:
        super().__init__()
        inputs = [in_channels, *[width] * (convs - 1)][:convs]
        parts = [layer for channels in inputs for layer in _convolution(channels, width, norm)]
        self.convs = nn.Sequential(*parts)
        self.upsample = nn.ConvTranspose2d(width if convs else in_channels, width, 2, stride=2)
        self.activation = nn.ReLU(inplace=True)
        _initialise(self)

    def forward(self, features: Tensor) -> Tensor:
        """Returns float [R, width, 2S, 2S] of [R, in_channels, S, S]; R may be 0."""
        return self.upsampled(self.convs(features))

    def upsampled(self, hidden: Tensor) -> Tensor:
        """Applies the last layer: float [R, width, S, S] → [R, width, 2S, 2S]."""
        out: Tensor = self.activation(self.upsample(hidden))
        return out


GROUPS, LEAST = 8, 4
"""Most groups of GroupNorm, and fewest channels in one (a cell's own would become 0).
"""
Norm = Literal["none", "batch", "group"]


def norm_layers(norm: Norm, width: int) -> list[nn.Module]:
    """Returns the layer between a convolution of `width` channels and its ReLU."""
    if norm == "batch":
        return [nn.BatchNorm2d(width)]
    groups = next(g for g in range(max(1, min(GROUPS, width // LEAST)), 0, -1) if width % g == 0)
    return [nn.GroupNorm(groups, width)] if norm == "group" else []


class HourglassTrunk(nn.Module):
    """Halves the region down to one cell, doubles it again with skips, then upsamples.

    Two 3×3 convolutions reach five cells and cannot see where an object ends; here the
    innermost map sees the whole region. All maps have the same width: deep and narrow
    (S = 16: 14 convolutions).

    Args:
        in_channels: C of the pooled regions.
        width: channels inside and out.
        side: S of the pooled regions; any.
        norm: none or group. BatchNorm cannot average over one cell of one region.
    """

    def __init__(self, in_channels: int, width: int, side: int, *, norm: Norm = "group") -> None:
        super().__init__()
        assert norm != "batch", norm
        self.stem = _convolution(in_channels, width, norm)
        levels = (side - 1).bit_length()  # halvings, rounded up, to a side of 1
        self.down = nn.ModuleList(_convolution(width, width, norm, stride=2) for _ in range(levels))
        self.core = _convolution(width, width, norm)
        self.up = nn.ModuleList(_convolution(width, width, norm) for _ in range(levels))
        self.refine = _convolution(width, width, norm)
        self.upsample = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.activation = nn.ReLU(inplace=True)
        _initialise(self)

    def forward(self, features: Tensor) -> Tensor:
        """Returns float [R, width, 2S, 2S] of [R, in_channels, S, S]; R may be 0."""
        x = self.stem(features)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        x = self.core(x)
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(skip + F.interpolate(x, size=skip.shape[-2:], mode="nearest"))
        out: Tensor = self.activation(self.upsample(self.refine(x)))
        return out


def _convolution(in_channels: int, width: int, norm: Norm, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=norm == "none")
    return nn.Sequential(convolution, *norm_layers(norm, width), nn.ReLU(inplace=True))


def _initialise(trunk: nn.Module) -> None:
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
