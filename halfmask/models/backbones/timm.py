"""timm's convolutional networks as encoders. timm is an optional extra."""

from __future__ import annotations

import difflib
from urllib.error import URLError

from torch import Tensor, nn

from halfmask.errors import InputError

PREFIX = "timm/"
"""Sets the name of a timm network apart in a recipe."""


def timm_network(name: str, weights: str | None) -> nn.Module:
    """Returns a timm network with its own parameter names.

    Args:
        name: such as `efficientnet_lite2`, without PREFIX.
        weights: `DEFAULT` for timm's own weights (a download); else random.
    Raises:
        InputError: no timm, no such network, or no weights.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"backbone {PREFIX}{name}: needs timm: pip install 'halfmask[timm]'"
        ) from error
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 3)
        raise InputError(
            f"backbone {PREFIX}{name}: timm has no network of that name; near: "
            f"{', '.join(near) or 'efficientnet_lite2, resnet50'}"
        )
    try:
        network: nn.Module = timm.create_model(name, pretrained=weights == "DEFAULT")
    except (URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"backbone {PREFIX}{name}: DEFAULT weights could not be fetched ({error}); they "
            "need a network once, or name a local file"
        ) from error
    return network


def padded_layers() -> tuple[type[nn.Module], ...]:
    """Layers with TensorFlow's padding, which depends on the map's size."""
    from timm.layers import AvgPool2dSame, Conv2dSame

    return Conv2dSame, AvgPool2dSame


def stage_ends(network: nn.Module) -> dict[int, str] | None:
    """Returns stride → module that ends the stage; None if timm does not say."""
    info = getattr(network, "feature_info", None)
    if not isinstance(info, list):
        return None
    return {int(stage["reduction"]): str(stage["module"]) for stage in info}


def split_norms(network: nn.Module) -> set[str]:
    """Splits each fused norm and activation, so that norms can be frozen or folded.

    Returns the paths of the replaced norms: the former `path.weight` is
    `path.0.weight`.
    """
    from timm.layers import BatchNormAct2d

    found = [(path, m) for path, m in network.named_modules() if isinstance(m, BatchNormAct2d)]
    for path, module in found:
        norm = nn.BatchNorm2d(module.num_features, eps=module.eps, momentum=module.momentum)
        norm.load_state_dict(module.state_dict())
        pair = nn.Sequential(norm, module.drop, module.act).train(module.training)
        network.set_submodule(path, pair)
    return {path for path, _ in found}


def split_keys(state: dict[str, Tensor], norms: set[str]) -> dict[str, Tensor]:
    """Renames timm's state-dict keys for a network after `split_norms`."""

    def renamed(key: str) -> str:
        path, _, last = key.rpartition(".")
        return f"{path}.0.{last}" if path in norms else key

    return {renamed(key): tensor for key, tensor in state.items()}
