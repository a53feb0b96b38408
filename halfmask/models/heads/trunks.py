"""What mask heads share: convolutions on the pooled region, then one upsampling."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F


class MaskTrunk(nn.Module):
    """3×3 convolutions with ReLU, then a 2×2 transposed convolution of stride 2 with
    ReLU (paper 1.3).

    Args:
        in_channels: C of the pooled regions.
        width: channels inside and out.
        convs: number of 3×3 convolutions.
        norm: between each of them and its ReLU, in place of their biases.
    """

    def __init__(self, in_channels: int, width: int, convs: int = 4, norm: Norm = "none") -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for i in range(convs):
            parts.append(
                nn.Conv2d(
                    in_channels if i == 0 else width, width, 3, padding=1, bias=norm == "none"
                )
            )
            parts += [*norm_layers(norm, width), nn.ReLU(inplace=True)]
        self.convs = nn.Sequential(*parts)
        self.upsample = nn.ConvTranspose2d(width if convs else in_channels, width, 2, stride=2)
        self.activation = nn.ReLU(inplace=True)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> Tensor:
        """float [R, in_channels, S, S] → [R, width, 2S, 2S]; R may be 0."""
        return self.widen(self.convs(features))

    def widen(self, hidden: Tensor) -> Tensor:
        """The last layer, float [R, width, S, S] → [R, width, 2S, 2S]."""
        out: Tensor = self.activation(self.upsample(hidden))
        return out


GROUPS, LEAST = 8, 4
"""Most groups of GroupNorm, and fewest channels in one: at the innermost cell a channel
alone would be normalised to nothing.
"""
Norm = Literal["none", "batch", "group"]


def norm_layers(norm: Norm, width: int) -> list[nn.Module]:
    """What stands between a convolution of `width` channels and its ReLU: nothing or one layer."""
    if norm == "batch":
        return [nn.BatchNorm2d(width)]
    groups = next(g for g in range(max(1, min(GROUPS, width // LEAST)), 0, -1) if width % g == 0)
    return [nn.GroupNorm(groups, width)] if norm == "group" else []


class HourglassTrunk(nn.Module):
    """Halves the region until one cell is left, then doubles it again, adding what it
    was at each size, and upsamples once more.

    Two 3×3 convolutions reach five cells; whether an object ends at the box's other
    side is out of their sight. Here the innermost map has seen the whole region. All
    maps have the same width, so the trunk is deep and narrow (S = 16: 14 convolutions).

    Args:
        in_channels: C of the pooled regions.
        width: channels inside and out.
        side: S of the pooled regions; any.
        norm: none or group, after each convolution; BatchNorm has nothing to average
            over at one cell of one region.
    """

    def __init__(self, in_channels: int, width: int, side: int, norm: Norm = "group") -> None:
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
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> Tensor:
        """float [R, in_channels, S, S] → [R, width, 2S, 2S]; R may be 0."""
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


def _convolution(in_channels: int, width: int, norm: Norm, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=norm == "none")
    return nn.Sequential(convolution, *norm_layers(norm, width), nn.ReLU(inplace=True))
