"""Whole classification networks by name, before they are cut into an encoder."""

from __future__ import annotations

import difflib
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from urllib.error import URLError

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from halfmask.errors import InputError
from halfmask.models.backbones.timm import (
    PREFIX,
    padded_layers,
    split_norms,
    stage_ends,
    timm_network,
)


@dataclass(frozen=True)
class Network:
    """A whole network, its classifier included.

    Attributes:
        norms: paths of timm's norms that were split (`timm.split_norms`).
        ends: stride → module that ends its stage, where the network's makers say so.
        leaves: modules whose computation depends on the map's size.
    """

    module: nn.Module
    norms: set[str] = field(default_factory=set)
    ends: dict[int, str] | None = None
    leaves: tuple[type[nn.Module], ...] = ()


def build_network(
    name: str, weights: str | None, widths: list[int] | None, *, blocks: list[int] | None
) -> Network:
    """Returns the network of a name; the arguments are those of `build_encoder`."""
    if name == "small_resnet":
        if weights is not None and is_weights_name(weights):
            raise InputError(
                f"backbone small_resnet: there are no {weights} weights for it; use null or a file"
            )
        return Network(_small_resnet(widths, blocks))
    if not name.startswith(PREFIX):
        return Network(_torchvision_network(name, weights))
    if weights != "DEFAULT" and weights is not None and is_weights_name(weights):
        raise InputError(
            f"backbone {name}: {weights} is a name of torchvision's weights; use DEFAULT, which is "
            "timm's own, null or a file"
        )
    network = timm_network(name.removeprefix(PREFIX), weights)
    return Network(network, split_norms(network), stage_ends(network), padded_layers())


def is_weights_name(weights: str) -> bool:
    """Whether `weights` is a name (DEFAULT, IMAGENET1K_V1), not a file."""
    return re.fullmatch(r"[A-Z][A-Z0-9_]*", weights) is not None


def move_stride_to_1x1(network: nn.Module, name: str) -> None:
    """Moves the stride of bottleneck blocks to their first 1×1 convolution."""
    blocks = [m for m in network.modules() if isinstance(m, Bottleneck)]
    if not blocks:
        raise InputError(
            f"backbone {name}: stride_in_1x1 is for ResNets of bottleneck blocks (resnet50, "
            "resnet101, …)"
        )
    for block in blocks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)


def _shortcut(before: int, width: int) -> nn.Sequential:
    """Returns a 1×1 convolution of stride 2 and its norm, which picks its cells first.

    oneDNN's own 1×1 convolutions of stride 2 with few channels (4 to 6) write beyond
    their buffers in the backward pass (torch 2.14.1, CPU, channels last). The names are
    those of ResNet's shortcut.
    """
    convolution = nn.Conv2d(before, width, 1, bias=False)
    parts = {"pick": nn.MaxPool2d(1, 2), "0": convolution, "1": nn.BatchNorm2d(width)}
    return nn.Sequential(OrderedDict(parts))


class SmallResNet(nn.Module):
    """A ResNet of any size: a strided 3×3 stem, then stages at strides 4, 8 and so on.

    Args:
        widths: channels of each stage; the first is also the stem's.
        blocks: BasicBlocks in each stage.
    """

    def __init__(self, widths: list[int], blocks: list[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        stages, before = [], widths[0]
        for width, count in zip(widths, blocks, strict=True):
            # Each stage halves the map, the first one too.
            first = BasicBlock(before, width, stride=2, downsample=_shortcut(before, width))
            rest = [BasicBlock(width, width) for _ in range(count - 1)]
            stages.append(nn.Sequential(first, *rest))
            before = width
        self.stages = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Returns the last stage's map."""
        out: Tensor = self.stages(self.stem(images))
        return out


def _small_resnet(widths: list[int] | None, blocks: list[int] | None) -> nn.Module:
    if not widths:
        raise InputError(
            "backbone small_resnet: needs `widths`, the channels of each stage, for example "
            "[24, 48, 64, 96]"
        )
    blocks = blocks if blocks is not None else [1] * len(widths)
    if len(blocks) != len(widths) or min(*widths, *blocks) < 1:
        raise InputError(
            "backbone small_resnet: expected as many blocks as widths, all at least 1, found "
            f"{blocks} and {widths}"
        )
    return SmallResNet(widths, blocks)


def _torchvision_network(name: str, weights: str | None) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, [*known, "small_resnet"], 3)
        raise InputError(
            f"backbone {name}: no torchvision classification network of that name; near: "
            f"{', '.join(near) or 'resnet50, mobilenet_v2, small_resnet'}"
        )
    named = weights if weights is not None and is_weights_name(weights) else None
    if named is not None:
        known = list(torchvision.models.get_model_weights(name).__members__)
        if named not in known:
            raise InputError(
                f"backbone {name}: torchvision has no weights {named} for it; there are: "
                f"{', '.join(known)}; or name a file"
            )
    try:
        network: nn.Module = torchvision.models.get_model(name, weights=named)
    except (URLError, OSError) as error:
        raise InputError(
            f"backbone {name}: {named} weights could not be fetched ({error}); they need a "
            "network once, or name a local file"
        ) from error
    return network
