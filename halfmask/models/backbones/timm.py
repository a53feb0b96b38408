"""timm's convolutional networks as this package's encoders want them: BatchNorm and its
activation in modules of their own.
"""

from __future__ import annotations

import difflib
from urllib.error import URLError

import timm
from timm.layers import AvgPool2dSame, BatchNormAct2d, Conv2dSame
from torch import Tensor, nn

from halfmask.errors import InputError

PREFIX = "timm/"
"""Before the name of a network of timm's, in a recipe."""
LEAVES: tuple[type[nn.Module], ...] = (Conv2dSame, AvgPool2dSame)
"""TensorFlow's padding: how much, and on which side, depends on the map's size."""


def timm_network(name: str, weights: str | None) -> nn.Module:
    """A network of timm's with its own parameter names.

    Args:
        name: as timm has it, `efficientnet_lite2`, without PREFIX.
        weights: `DEFAULT`: timm's own (need a network once); else random.
    Raises:
        InputError: unknown name, or weights that cannot be fetched.
    """
    if not timm.is_model(name):
        near = (
            ", ".join(difflib.get_close_matches(name, timm.list_models(), 3))
            or "efficientnet_lite2, resnet50"
        )
        raise InputError(f"backbone {PREFIX}{name}: timm has no network of that name; near: {near}")
    try:
        network: nn.Module = timm.create_model(name, pretrained=weights == "DEFAULT")
    except (URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"backbone {PREFIX}{name}: DEFAULT weights could not be fetched ({error}); they "
            "need a network once, or name a local file"
        ) from error
    return network


def stage_ends(network: nn.Module) -> dict[int, str] | None:
    """Stride → path of the module that ends that stage, as timm says; None where it does not."""
    info = getattr(network, "feature_info", None)
    if not isinstance(info, list):
        return None
    return {int(stage["reduction"]): str(stage["module"]) for stage in info}


def split_norms(network: nn.Module) -> set[str]:
    """Replaces each of timm's norms with activation by the two in a row, so that norm
    can be frozen, or folded into a convolution.

    Returns:
        The paths of the norms that were replaced: what was `path.weight` is
            `path.0.weight` now.
    """
    found = [
        (path, module)
        for path, module in network.named_modules()
        if isinstance(module, BatchNormAct2d)
    ]
    for path, module in found:
        norm = nn.BatchNorm2d(module.num_features, eps=module.eps, momentum=module.momentum)
        norm.load_state_dict(module.state_dict())
        parent, _, last = path.rpartition(".")
        setattr(
            network.get_submodule(parent),
            last,
            nn.Sequential(norm, module.drop, module.act).train(module.training),
        )
    return {path for path, _ in found}


def split_keys(state: dict[str, Tensor], norms: set[str]) -> dict[str, Tensor]:
    """A state dict of timm's names for a network after `split_norms`."""

    def renamed(key: str) -> str:
        path, _, last = key.rpartition(".")
        return f"{path}.0.{last}" if path in norms else key

    return {renamed(key): tensor for key, tensor in state.items()}
