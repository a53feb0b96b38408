"""What mask heads share: convolutions on the pooled region, then one upsampling."""

from __future__ import annotations

from torch import Tensor, nn

from halfmask.models.heads.hourglass import Norm, norm_layers


class MaskTrunk(nn.Module):
    """3×3 convolutions with ReLU, then a 2×2 transposed convolution of stride 2 with ReLU (paper 1.3).

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
            parts.append(nn.Conv2d(in_channels if i == 0 else width, width, 3, padding=1, bias=norm == "none"))
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
