"""The seam of every mask head: region features, labels and class weights in, one map per region out."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from halfmask.models.class_weights import ClassVectors


class MaskPredictor(nn.Module, ABC):
    """The last layer of a mask head.

    Attributes:
        needs_labels: whether the map depends on the region's class.
    """

    needs_labels: bool

    @abstractmethod
    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        """One logit map for each region.

        Args:
            features: float [R, C, h, w], R may be 0.
            labels: int64 [R] in 0…K−1.
            class_weights: float [K, D], or what makes its rows when they are asked for; predictors that have no use for it ignore
                it, the others take the rows of the classes that occur.
        Returns:
            float [R, h, w].
        """
