"""Encoders: any classification CNN of torchvision or timm, or a small ResNet, as
feature maps by stride.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError

import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from halfmask.errors import InputError
from halfmask.models.backbones.cut import cut_network
from halfmask.recipes.recipe import expand


class Encoder(nn.Module):
    """A network that turns images into feature maps.

    Attributes:
        body: the network, with the parameter names of the network it was cut from.
        channels: stride → channels, fine to coarse. A map of stride s has the size of
            the image divided by s, if that is a multiple of the coarsest stride.
    """

    def __init__(self, body: nn.Module, channels: dict[int, int]) -> None:
        super().__init__()
        self.body = body
        self.channels = dict(channels)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Stride → float [N, channels[stride], H/stride, W/stride] of normalised images
        [N, 3, H, W], fine to coarse.
        """
        return dict(zip(self.channels, self.body(images), strict=True))


class SmallResNet(nn.Module):
    """A ResNet of any size: a strided 3×3 stem (stride 2), then stages of BasicBlocks
    at strides 4, 8, 16, …

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
            change = nn.Sequential(
                nn.Conv2d(before, width, 1, stride=2, bias=False), nn.BatchNorm2d(width)
            )
            first = BasicBlock(before, width, stride=2, downsample=change)
            stages.append(
                nn.Sequential(first, *(BasicBlock(width, width) for _ in range(count - 1)))
            )
            before = width
        self.stages = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """The last stage's map."""
        out: Tensor = self.stages(self.stem(images))
        return out


def build_encoder(
    name: str,
    weights: str | None = None,
    widths: list[int] | None = None,
    blocks: list[int] | None = None,
    norm: str = "batch",
    trainable_stages: int = 5,
    strides: list[int] | None = None,
    stride_in_1x1: bool = False,
) -> Encoder:
    """An encoder by name.

    Args:
        name: a torchvision classification CNN, one of timm's
            (`timm/efficientnet_lite2`), or `small_resnet`.
        weights: None (random), `DEFAULT` (torchvision's or timm's own), or a
            .safetensors or .pth file of their key names.
        widths: `small_resnet` only, channels of each stage.
        blocks: `small_resnet` only, blocks in each stage; None: one each.
        norm: `batch`, or `frozen`: BatchNorm's statistics and weights stay as loaded.
        trainable_stages: how many of the last stages learn; the weights of the others
            are buffers, so that nothing can train them. A stage is what lies between
            two strides, the stem included: a ResNet has five.
        strides: the wanted maps; None for all. What only coarser maps need is dropped.
        stride_in_1x1: a ResNet's blocks halve the map in their first 1×1 convolution,
            not in the 3×3 one: for weights that were so trained.
    Raises:
        InputError: unknown name, a network without such maps (a vision transformer,
            say), or weights that do not fit.
    """
    made = _network(name, weights, widths, blocks)
    network = made.network
    if weights is not None and weights != "DEFAULT":
        _load(made, expand(weights), strides)
    elif weights == "DEFAULT" and name == "small_resnet":
        raise InputError(
            "backbone small_resnet: there are no DEFAULT weights for it; use null or a file"
        )
    if stride_in_1x1:
        _stride_to_1x1(network, name)
    try:
        cut = cut_network(network, strides, made.ends, made.leaves)
    except ValueError as error:
        fits = "expected a convolutional network such as resnet50 or mobilenet_v3_large"
        raise InputError(f"backbone {name}: does not fit, {error}; {fits}") from error
    if norm == "frozen":
        _freeze_norm(cut.body)
    for stride in list(cut.stages)[: max(0, len(cut.stages) - trainable_stages)]:
        for module in cut.stages[stride]:
            _freeze(cut.body, module)
    return Encoder(cut.body, cut.channels).train()


@dataclass(frozen=True)
class _Made:
    """A whole network, its classifier included.

    Attributes:
        norms: which of its norms were split since its makers gave their names
            (`timm_networks.split_norms`).
        ends: stride → the module that ends its stage, where the makers say so.
        leaves: modules whose computation depends on the map's size.
    """

    network: nn.Module
    norms: set[str] = field(default_factory=set)
    ends: dict[int, str] | None = None
    leaves: tuple[type[nn.Module], ...] = ()


def _network(
    name: str, weights: str | None, widths: list[int] | None, blocks: list[int] | None
) -> _Made:
    if name == "small_resnet":
        return _Made(_small_resnet(widths, blocks))
    if not name.startswith("timm/"):
        return _Made(_torchvision_network(name, weights))
    try:
        from halfmask.models.backbones.timm import (
            LEAVES,
            PREFIX,
            split_norms,
            stage_ends,
            timm_network,
        )
    except ImportError as error:
        raise InputError(f"backbone {name}: needs timm: pip install 'halfmask[timm]'") from error
    network = timm_network(name.removeprefix(PREFIX), weights)
    return _Made(network, split_norms(network), stage_ends(network), LEAVES)


def load_backbone_weights(network: nn.Module, path: Path, strides: list[int] | None = None) -> None:
    """Loads a file of torchvision's key names into a whole network; what only its
    classifier has is ignored.

    Args:
        network: as torchvision makes it, classifier included.
        path: .safetensors, or .pth / .pt with a dictionary of tensors (read with
            `weights_only`).
        strides: as in `build_encoder`: keys that only a dropped stage needs may be
            absent.
    Raises:
        InputError: unreadable, no dictionary of tensors, unknown or missing keys, other
            shapes, or values that are not finite.
    """
    _load(_Made(network), path, strides)


def _load(made: _Made, path: Path, strides: list[int] | None) -> None:
    network = made.network
    state = read_weights(path)
    if made.norms:
        from halfmask.models.backbones.timm import split_keys

        state = split_keys(state, made.norms)
    own = network.state_dict()
    try:
        body = cut_network(network, strides, made.ends, made.leaves).body.state_dict()
    except ValueError:
        body = own
    needed = {key for key in body if not key.endswith("num_batches_tracked")}
    unknown, missing = sorted(set(state) - set(own)), sorted(needed - set(state))
    if unknown or missing:
        parts = [
            f"{len(keys)} {what} ({', '.join(keys[:3])}, …)"
            for what, keys in (("unknown", unknown), ("missing", missing))
            if keys
        ]
        raise InputError(
            f"{path}: keys do not fit the backbone: {' and '.join(parts)}; is it of the same "
            "architecture?"
        )
    for key in sorted(needed):
        if state[key].shape != own[key].shape:
            found, expected = list(state[key].shape), list(own[key].shape)
            raise InputError(
                f"{path}: {key}: expected shape {expected}, found {found}; is it of the same "
                "architecture?"
            )
        if not bool(torch.isfinite(state[key]).all()):
            raise InputError(f"{path}: {key} holds values that are not finite; the file is damaged")
    network.load_state_dict({key: state[key] for key in body if key in state}, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Name → tensor of a .safetensors or .pth file (read with `weights_only`). Raises
    InputError where it is none.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a .safetensors or .pth file of weights")
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes these readers raise nearly anything
        raise InputError(
            f"{path}: not a file of weights ({type(error).__name__}); expected .safetensors or .pth"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path}: expected a dictionary of tensors, found {type(state).__name__}")
    return state


def _torchvision_network(name: str, weights: str | None) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = (
            ", ".join(difflib.get_close_matches(name, [*known, "small_resnet"], 3))
            or "resnet50, mobilenet_v2, small_resnet"
        )
        raise InputError(
            f"backbone {name}: no torchvision classification network of that name; near: {near}"
        )
    try:
        network: nn.Module = torchvision.models.get_model(
            name, weights="DEFAULT" if weights == "DEFAULT" else None
        )
    except (URLError, OSError) as error:
        raise InputError(
            f"backbone {name}: DEFAULT weights could not be fetched ({error}); they need a "
            "network once, or name a local file"
        ) from error
    return network


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


def _stride_to_1x1(network: nn.Module, name: str) -> None:
    blocks = [m for m in network.modules() if isinstance(m, Bottleneck)]
    if not blocks:
        raise InputError(
            f"backbone {name}: stride_in_1x1 is for ResNets of bottleneck blocks (resnet50, "
            "resnet101, …)"
        )
    for block in blocks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)


def _freeze_norm(module: nn.Module) -> None:
    """Replaces BatchNorm below `module` by its frozen form, statistics and weights as they are."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _frozen(child))
        else:
            _freeze_norm(child)


def _frozen(norm: nn.BatchNorm2d) -> nn.Module:
    out: nn.Module = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
    out.load_state_dict({k: v for k, v in norm.state_dict().items() if k != "num_batches_tracked"})
    return out


def _freeze(body: nn.Module, name: str) -> None:
    """Turns the parameters of one module, or one bare parameter, into buffers."""
    parent_name, _, last = name.rpartition(".")
    parent = body.get_submodule(parent_name)
    if last in parent._parameters:
        _as_buffer(parent, last)
        return
    module = body.get_submodule(name)
    if isinstance(module, nn.BatchNorm2d):
        setattr(parent, last, _frozen(module))
        return
    for owner in module.modules():
        for parameter in list(owner._parameters):
            _as_buffer(owner, parameter)


def _as_buffer(module: nn.Module, name: str) -> None:
    parameter = module._parameters.pop(name)
    if parameter is not None:
        module.register_buffer(name, parameter.detach())
    else:
        module.register_parameter(name, None)
