"""Class weights w_det [K, D]: what the mask head knows of each class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from halfmask.errors import InputError


class ClassWeights(nn.Module, ABC):
    """Hands out the class weights, background row first."""

    @abstractmethod
    def forward(self, cls_weight: Tensor, box_weight: Tensor) -> Tensor:
        """float [K, D] from the box head's layers: cls_weight [K, D'], box_weight [4K, D']. Biases are no part of it (paper 1.1)."""


class DetectorWeights(ClassWeights):
    """Rows of the box head.

    Args:
        rows: `cls`, `box` (the four rows of a class, one after another) or `cls+box`, in that order.
        input_norm: each class's vector is rescaled to this length; None: raw. A zero vector stays zero.
        stop_gradient: the mask loss does not reach the box head.
    """

    def __init__(
        self, rows: Literal["cls", "box", "cls+box"], input_norm: float | None = None, stop_gradient: bool = True
    ) -> None:
        super().__init__()
        self.rows = rows
        self.input_norm = input_norm
        self.stop_gradient = stop_gradient

    def forward(self, cls_weight: Tensor, box_weight: Tensor) -> Tensor:
        if self.stop_gradient:
            cls_weight, box_weight = cls_weight.detach(), box_weight.detach()
        boxes = box_weight.reshape(len(cls_weight), -1)
        weights = {"cls": cls_weight, "box": boxes}.get(self.rows)
        weights = torch.cat([cls_weight, boxes], 1) if weights is None else weights
        return weights if self.input_norm is None else rescale(weights, self.input_norm)


class FixedWeights(ClassWeights):
    """Class vectors that nothing trains: random ones, or a word embedding.

    Args:
        vectors: float32 [K−1, D], a row for each foreground class; the background's row is zeros.
        input_norm: as in DetectorWeights.
    """

    vectors: Tensor

    def __init__(self, vectors: Tensor, input_norm: float | None = None) -> None:
        super().__init__()
        rows = torch.cat([torch.zeros_like(vectors[:1]), vectors])
        self.register_buffer("vectors", rows if input_norm is None else rescale(rows, input_norm))

    def forward(self, cls_weight: Tensor | None = None, box_weight: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return self.vectors


class NoWeights(ClassWeights):
    """For predictors that ask for none: [K, 0]."""

    def forward(self, cls_weight: Tensor, box_weight: Tensor) -> Tensor:  # noqa: ARG002
        return cls_weight.detach()[:, :0]


def rescale(weights: Tensor, length: float) -> Tensor:
    """Rows of `weights` [K, D] brought to Euclidean length `length`; zero rows stay zero and get no gradient."""
    norms = torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    zero = norms == 0
    scale: Tensor = torch.where(zero, 0.0, length / torch.where(zero, 1.0, norms))
    return weights * scale


def random_vectors(num_classes: int, size: int, seed: int) -> Tensor:
    """float32 [K−1, size], Gaussian with expected squared length 1 (the paper's random vectors have length 0.94 in the mean)."""
    generator = torch.Generator().manual_seed(seed)
    vectors: Tensor = torch.randn(num_classes - 1, size, generator=generator) / size**0.5
    return vectors


def read_vectors(path: Path, num_classes: int, size: int) -> Tensor:
    """float32 [K−1, size] from a .npy file in the order of the category ids. Raises InputError where the file does not fit."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}: class vectors cannot be read ({type(error).__name__}); expected a .npy file"
        ) from error
    if not isinstance(array, np.ndarray) or array.shape != (num_classes - 1, size):
        found = list(getattr(array, "shape", ()))
        raise InputError(
            f"{path}: expected class vectors [{num_classes - 1}, {size}] (foreground classes × embedding_size), found {found}"
        )
    vectors = torch.from_numpy(array.astype(np.float32))
    if not bool(torch.isfinite(vectors).all()):
        raise InputError(f"{path}: class vectors hold values that are not finite; mend the file")
    return vectors
