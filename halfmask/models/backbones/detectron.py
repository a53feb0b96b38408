"""Detectron's ResNets: names of their blobs, and ImageNet weights as an encoder's.

The authors start from R-50.pkl and R-101.pkl: Microsoft's weights, whose BatchNorm is
an affine map of each channel (AffineChannel), for BGR pixels of 0 … 255 less their
means and the stride in the first 1×1 convolution of a block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.models.backbones.blobs import read_blobs

DEPTHS = {
    6: ("resnet50", (3, 4, 6, 3)),
    23: ("resnet101", (3, 4, 23, 3)),
    36: ("resnet152", (3, 8, 36, 3)),
}
"""Blocks of res4 → torchvision's name, blocks of res2 … res5."""
LEFT_OVER = re.compile(r"res\d_\d+_branch(1|2[abc])_b|conv1_b|(fc1000|pred)_[wb]|lr")
"""Blobs from ImageNet training that Detectron does not use."""
FROZEN_EPS = 1e-5
"""Epsilon of the model's BatchNorm.

With a variance of 1 − epsilon, scale and shift equal AffineChannel's to the bit.
"""


def read_detectron_backbone(path: Path) -> dict[str, Tensor]:
    """Returns the weights of R-50.pkl and its like under torchvision's names.

    The pickle is read as data: nothing in it runs.

    Raises:
        InputError: not a ResNet-50, -101 or -152 of Detectron, or blobs are missing or
            unknown.
    """
    blobs = read_blobs(path)
    found = (re.fullmatch(r"res4_(\d+)_branch2a_w", name) for name in blobs)
    blocks = max((int(m[1]) for m in found if m), default=-1) + 1
    if blocks not in DEPTHS:
        raise InputError(
            f"{path}: expected Detectron's R-50.pkl, R-101.pkl or R-152.pkl (6, 23 or 36 blocks of "
            f"res4), found {blocks}; first blobs: {', '.join(sorted(blobs)[:5])}"
        )
    keys = dict(backbone_keys(DEPTHS[blocks][1]))
    missing = sorted(set(keys.values()) - set(blobs))
    unknown = sorted(n for n in set(blobs) - set(keys.values()) if not LEFT_OVER.fullmatch(n))
    if missing or unknown:
        which, names = ("missing", missing) if missing else ("not of a backbone alone", unknown)
        raise InputError(
            f"{path}: {len(names)} blobs are {which} ({', '.join(names[:3])}, …); a whole detector "
            "is for `halfmask import-weights detectron`"
        )
    values = rgb_first({name: torch.from_numpy(blobs[name]) for name in keys.values()})
    state = {key: values[name] for key, name in keys.items()}
    for key in [key for key in state if key.endswith(".bias")]:
        norm = key.removesuffix("bias")
        state[norm + "running_mean"] = torch.zeros_like(state[key])
        state[norm + "running_var"] = torch.ones_like(state[key])
    return affine_norms(state)


def backbone_keys(counts: tuple[int, ...], body: str = "") -> Iterator[tuple[str, str]]:
    """Yields a backbone's keys, after `body`, and their blobs.

    Args:
        counts: blocks of res2 … res5.
    """
    yield body + "conv1.weight", "conv1_w"
    yield from layer_keys(body + "bn1", "res_conv1_bn", "sb")
    for stage, count in enumerate(counts, 1):
        for i in range(count):
            here, blob = f"{body}layer{stage}.{i}.", f"res{stage + 1}_{i}_branch"
            for k, letter in enumerate("abc", 1):
                yield f"{here}conv{k}.weight", f"{blob}2{letter}_w"
                yield from layer_keys(f"{here}bn{k}", f"{blob}2{letter}_bn", "sb")
            if i == 0:
                yield f"{here}downsample.0.weight", f"{blob}1_w"
                yield from layer_keys(f"{here}downsample.1", f"{blob}1_bn", "sb")


def layer_keys(key: str, blob: str, endings: str = "wb") -> Iterator[tuple[str, str]]:
    """Yields a layer's weight and bias, and their blobs with these endings."""
    yield f"{key}.weight", f"{blob}_{endings[0]}"
    yield f"{key}.bias", f"{blob}_{endings[1]}"


def rgb_first(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns blobs whose first convolution takes RGB in place of BGR."""
    first = values.get("conv1_w")
    return values if first is None or first.ndim != 4 else values | {"conv1_w": first.flip(1)}


def affine_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gives AffineChannel, which has no statistics, a mean of 0 and a variance + eps of 1."""
    return {
        key: torch.full_like(t, 1 - FROZEN_EPS) if key.endswith("running_var") else t
        for key, t in state.items()
    }
