"""Encoders: feature maps by stride from a classification network."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.masks.operators import FrozenBatchNorm2d
from halfmask.models.backbones.cut import cut_network
from halfmask.models.backbones.detectron import read_detectron_backbone
from halfmask.models.backbones.networks import (
    Network,
    build_network,
    is_weights_name,
    move_stride_to_1x1,
)
from halfmask.models.backbones.timm import split_keys
from halfmask.recipes.recipe import Backbone, expand


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
        """Returns stride → float [N, C, H/stride, W/stride] of images [N, 3, H, W]."""
        return dict(zip(self.channels, self.body(images), strict=True))


def build_encoder(
    name: str,
    weights: str | None = None,
    widths: list[int] | None = None,
    *,
    blocks: list[int] | None = None,
    norm: str = "batch",
    trainable_stages: int = 5,
    strides: list[int] | None = None,
    stride_in_1x1: bool = False,
) -> Encoder:
    """Builds an encoder by name.

    Args:
        name: a torchvision classification CNN, a timm one (`timm/efficientnet_lite2`),
            or `small_resnet`.
        weights: None (random), `DEFAULT` (torchvision's or timm's own), another name of
            torchvision's (`IMAGENET1K_V1`), a .safetensors or .pth file with their key
            names, or a ResNet's .pkl file of Detectron.
        widths: `small_resnet` only, channels of each stage.
        blocks: `small_resnet` only, blocks in each stage; None: one each.
        norm: `batch`, or `frozen`: BatchNorm's statistics and weights stay as loaded.
        trainable_stages: how many of the last stages learn. The weights of the others
            are buffers. A stage lies between two strides, and the stem is one: a ResNet
            has five.
        strides: the maps to return; None: all. Layers that only coarser maps need are
            dropped.
        stride_in_1x1: bottleneck blocks halve the map in their first 1×1 convolution,
            not in the 3×3 one: for weights trained that way.
    Raises:
        InputError: unknown name, a network without feature maps of these strides (a
            vision transformer, say), or weights that do not fit.
    """
    network = build_network(name, weights, widths, blocks=blocks)
    if weights is not None and not is_weights_name(weights):
        _load(network, expand(weights), strides)
    if stride_in_1x1:
        move_stride_to_1x1(network.module, name)
    try:
        cut = cut_network(network.module, strides, network.ends, leaves=network.leaves)
    except ValueError as error:
        fits = "expected a convolutional network such as resnet50 or mobilenet_v3_large"
        raise InputError(f"backbone {name}: does not fit, {error}; {fits}") from error
    if norm == "frozen":
        _freeze_norms(cut.body)
    for stride in list(cut.stages)[: max(0, len(cut.stages) - trainable_stages)]:
        for module in cut.stages[stride]:
            _freeze(cut.body, module)
    return Encoder(cut.body, cut.channels).train()


def encoder_of(
    config: Backbone, pretrained: bool = True, strides: list[int] | None = None
) -> Encoder:
    """Builds a recipe's encoder. pretrained: load the weights that the recipe names."""
    return build_encoder(
        config.name,
        config.weights if pretrained else None,
        config.widths,
        blocks=config.blocks,
        norm=config.norm,
        trainable_stages=config.trainable_stages,
        strides=strides,
        stride_in_1x1=config.stride_in_1x1,
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads name → tensor from a file of weights.

    It is a .safetensors or .pth file, or a backbone of Detectron (.pkl).

    Raises:
        InputError: no such file, or not one of these.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a .safetensors or .pth file of weights")
    if path.suffix == ".pkl":
        return read_detectron_backbone(path)
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


def _load(network: Network, path: Path, strides: list[int] | None) -> None:
    """Loads a file into a whole network. Only the kept stages need their keys."""
    state = split_keys(read_weights(path), network.norms)
    own = network.module.state_dict()
    try:
        cut = cut_network(network.module, strides, network.ends, leaves=network.leaves)
        body = cut.body.state_dict()
    except ValueError:
        body = own
    needed = sorted(key for key in body if not key.endswith("num_batches_tracked"))
    unknown, missing = sorted(set(state) - set(own)), sorted(set(needed) - set(state))
    parts = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}, …)"
        for kind, keys in (("unknown", unknown), ("missing", missing))
        if keys
    ]
    if parts:
        raise InputError(
            f"{path}: keys do not fit the backbone: {' and '.join(parts)}; is it of the same "
            "architecture?"
        )
    for key in needed:
        if state[key].shape != own[key].shape:
            raise InputError(
                f"{path}: {key}: expected shape {list(own[key].shape)}, found "
                f"{list(state[key].shape)}; is it of the same architecture?"
            )
        if not bool(torch.isfinite(state[key]).all()):
            raise InputError(f"{path}: {key} holds values that are not finite; the file is damaged")
    network.module.load_state_dict({k: state[k] for k in body if k in state}, strict=False)


def _freeze_norms(module: nn.Module) -> None:
    """Replaces each BatchNorm below `module` by its frozen form."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _frozen(child))
        else:
            _freeze_norms(child)


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
