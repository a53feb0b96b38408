"""Class weights w_det [K, D]: the mask head's knowledge of each class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.models.class_vectors import read_vectors
from halfmask.recipes.recipe import Transfer, expand


class ClassWeights(nn.Module, ABC):
    """A source of class weights, background row first."""

    @abstractmethod
    def forward(
        self, cls_weight: Tensor, box_weight: Tensor, classes: Tensor | None = None
    ) -> Tensor:
        """Returns float [K, D] from the box head's layers, without biases (paper 1.1).

        Args:
            cls_weight: [K, D'].
            box_weight: [4K, D'].
            classes: int64 [n]: returns the rows of these classes alone, [n, D], and
                computes no others.
        """


@dataclass(frozen=True)
class ClassRows:
    """Class weights [K, D] with rows on demand: `rows[classes]` is float [n, D].

    The cost depends on the classes of the batch, not on K.
    """

    source: ClassWeights
    cls_weight: Tensor
    box_weight: Tensor

    def __getitem__(self, classes: Tensor) -> Tensor:
        rows: Tensor = self.source(self.cls_weight, self.box_weight, classes)
        return rows


ClassVectors = Tensor | ClassRows


class DetectorWeights(ClassWeights):
    """Rows of the box head.

    Args:
        rows: `cls`, `box` (the four rows of a class, one after another) or `cls+box`,
            in that order.
        input_norm: each class's vector is rescaled to this length; None: raw. A zero
            vector stays zero.
        stop_gradient: the mask loss does not reach the box head.
    """

    def __init__(
        self,
        rows: Literal["cls", "box", "cls+box"],
        input_norm: float | None = None,
        stop_gradient: bool = True,
    ) -> None:
        super().__init__()
        self.rows = rows
        self.input_norm = input_norm
        self.stop_gradient = stop_gradient

    def forward(
        self, cls_weight: Tensor, box_weight: Tensor, classes: Tensor | None = None
    ) -> Tensor:
        if self.stop_gradient:
            cls_weight, box_weight = cls_weight.detach(), box_weight.detach()
        boxes = box_weight.reshape(len(cls_weight), -1)
        if classes is not None:  # first: the cost of joining and rescaling K rows grows with K
            cls_weight, boxes = cls_weight[classes], boxes[classes]
        weights = {"cls": cls_weight, "box": boxes}.get(self.rows)
        weights = torch.cat([cls_weight, boxes], 1) if weights is None else weights
        return weights if self.input_norm is None else rescale(weights, self.input_norm)


class FixedWeights(ClassWeights):
    """Class vectors that do not learn: random ones, or word embeddings.

    Args:
        vectors: float32 [K−1, D], a row for each foreground class; the background's row
            is zeros.
        input_norm: as in DetectorWeights.
    """

    vectors: Tensor

    def __init__(self, vectors: Tensor, input_norm: float | None = None) -> None:
        super().__init__()
        self.input_norm = input_norm
        self.register_buffer("vectors", torch.zeros(len(vectors) + 1, vectors.shape[1]))
        self.set_vectors(vectors)

    def set_vectors(self, vectors: Tensor) -> None:
        """Replaces the vectors by others of the same size, [K−1, D]."""
        rows = vectors if self.input_norm is None else rescale(vectors, self.input_norm)
        self.vectors[1:] = rows.to(self.vectors)

    def forward(
        self,
        cls_weight: Tensor | None = None,
        box_weight: Tensor | None = None,
        classes: Tensor | None = None,
    ) -> Tensor:
        return self.vectors if classes is None else self.vectors[classes]


class NoWeights(ClassWeights):
    """Empty class weights [K, 0], for predictors that need none."""

    def forward(
        self, cls_weight: Tensor, box_weight: Tensor, classes: Tensor | None = None
    ) -> Tensor:
        empty = cls_weight.detach()[:, :0]
        return empty if classes is None else empty[classes]


def rescale(weights: Tensor, length: float) -> Tensor:
    """Scales rows of [K, D] to a Euclidean length; zero rows stay, without gradient."""
    norms = torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    zero = norms == 0
    scale: Tensor = torch.where(zero, 0.0, length / torch.where(zero, 1.0, norms))
    return weights * scale


def random_vectors(num_classes: int, size: int, seed: int) -> Tensor:
    """Returns Gaussian vectors [K−1, size] with expected squared length 1."""
    generator = torch.Generator().manual_seed(seed)
    shape = num_classes - 1, size
    vectors: Tensor = torch.randn(shape, generator=generator, device="cpu") / size**0.5
    return vectors


RANDOM_SIZE = 300
"""Length of random class vectors if the recipe does not say; the paper's."""


def build_class_weights(
    transfer: Transfer,
    num_classes: int,
    box_width: int,
    *,
    pretrained: bool = True,
    names: Sequence[str] | None = None,
) -> tuple[ClassWeights, int]:
    """Returns the source of T's input, and its size D.

    Args:
        box_width: D', width of the box head.
        others: as in `build_model`.
    Raises:
        InputError: an embedding's file does not fit or its size is unknown, or the
            input belongs to the other kind of model.
    """
    t = transfer
    if t.input == "prototype":
        raise InputError(
            "transfer.input: prototype is for a box_segmenter; a mask_rcnn has rows of its box "
            "head: cls, box, cls+box"
        )
    if t.input == "cls" or t.input == "box" or t.input == "cls+box":
        size = {"cls": 1, "box": 4, "cls+box": 5}[t.input] * box_width
        return DetectorWeights(t.input, t.input_norm, t.stop_gradient), size
    if t.input == "embedding" and pretrained:
        assert t.embedding is not None
        vectors = read_vectors(expand(t.embedding), num_classes, names, size=t.embedding_size)
    else:
        if t.input == "embedding" and t.embedding_size is None:
            raise InputError(
                "transfer.embedding_size is null: expected the length of the embedding's vectors "
                "(`with_embedding_size` reads it from the file)"
            )
        # For an embedding in a checkpoint only the shape matters: its values follow.
        vectors = random_vectors(num_classes, t.embedding_size or RANDOM_SIZE, t.seed)
    return FixedWeights(vectors, t.input_norm), vectors.shape[1]
