"""The seam of every mask head: region features, labels and class weights in, one map per region out."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class MaskPredictor(nn.Module, ABC):
    """The last layer of a mask head.

    Attributes:
        needs_labels: whether the map depends on the region's class.
    """

    needs_labels: bool

    @abstractmethod
    def forward(self, features: Tensor, labels: Tensor, class_weights: Tensor) -> Tensor:
        """One logit map for each region.

        Args:
            features: float [R, C, h, w], R may be 0.
            labels: int64 [R] in 0…K−1.
            class_weights: float [K, D]; predictors that have no use for it ignore it.
        Returns:
            float [R, h, w].
        """
