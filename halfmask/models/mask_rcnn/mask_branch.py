"""The mask branch: trunk, predictor, optional MLP, and the class weights they read.

It computes one map per region, whatever K is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from halfmask.models.class_weights import ClassRows, ClassVectors, ClassWeights
from halfmask.models.heads.predictors import MaskPredictor, one_map
from halfmask.models.heads.trunks import MaskTrunk
from halfmask.models.mask_rcnn.regions import RegionRules, teaching_rows
from halfmask.structures import Target

PART = 32
"""Regions whose upsampled maps are in memory at once in training.

A batch of no more regions is not computed twice.
"""


class ObjectTeacher(nn.Module):
    """A class-agnostic 1×1 convolution beside the predictor, for training only.

    No mask checks the filter of a box-only class, so it may point anywhere. Still, two
    things are known of regions of its objects: the object is not where a masked
    neighbour lies, and "an object at all" can be learned without classes.

    Args:
        channels: C of the trunk's output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = one_map(channels)

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns logits [R, M, M] of float [R, C, M, M]."""
        logits: Tensor = self.conv(hidden)
        return logits[:, 0]


class MaskBranch(nn.Module):
    """Turns pooled regions into mask logits.

    Args:
        trunk: [R, C, S, S] → [R, width, M, M].
        predictor: [R, width, M, M], labels, class weights → [R, M, M].
        class_weights: the source of the predictor's class weights.
        mlp: class-agnostic [R, width, M, M] → [R, M, M], added to the predictor's
            logits before the sigmoid.
        teacher: makes pseudo-targets for regions of box-only objects; None: these
            regions teach nothing.
        rules: the regions to learn from, and which of their cells count.
        loss: logits, targets [R, M, M], cells that count [R, M, M] or None → the mean
            loss; None: binary cross-entropy.
        sampler: boxes [r, 4], labels [r] of an image → rows that teach; None: all.
    """

    def __init__(
        self,
        trunk: nn.Module,
        predictor: MaskPredictor,
        class_weights: ClassWeights,
        *,
        mlp: nn.Module | None = None,
        teacher: ObjectTeacher | None = None,
        rules: RegionRules | None = None,
        loss: Callable[..., Tensor] | None = None,
        sampler: Callable[..., Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.predictor = predictor
        self.class_weights = class_weights
        self.mlp = mlp
        self.teacher = teacher
        self.rules = rules or RegionRules()
        self.loss, self.sampler = loss, sampler

    def rows(self, cls_weight: Tensor, box_weight: Tensor) -> ClassRows:
        """Returns class weights [K, D] for `forward`, made row by row on demand."""
        return ClassRows(self.class_weights, cls_weight, box_weight)

    def teaching(self, targets: list[Target], device: torch.device) -> list[Tensor]:
        """Returns bool [n + c] for each image: the rows that teach the mask head."""
        return [teaching_rows(target, self.teacher is not None).to(device) for target in targets]

    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        """Returns mask logits, float [R, M, M].

        Args:
            features: float [R, C, S, S].
            labels: int64 [R].
            class_weights: float [K, D], or `rows`.
        """
        many = len(features) > PART and torch.is_grad_enabled()
        if many and self.mlp is None and isinstance(self.trunk, MaskTrunk):
            return self._in_parts(
                self.trunk, self.trunk.convs(features), labels, class_weights=class_weights
            )
        return self.predict(self.trunk(features), labels, class_weights)

    def predict(self, hidden: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        """Returns `forward` from the trunk's output [R, width, M, M]."""
        logits: Tensor = self.predictor(hidden, labels, class_weights)
        return logits if self.mlp is None else logits + self.mlp(hidden)

    def _in_parts(
        self, trunk: MaskTrunk, hidden: Tensor, labels: Tensor, *, class_weights: ClassVectors
    ) -> Tensor:
        """Upsamples and predicts PART regions at a time, again in the backward pass.

        The upsampled maps are by far the branch's largest (width × M × M for each
        region, and two gradients of that size). Computing them again costs a thirtieth
        of its time.
        """

        def finish(part: Tensor, classes: Tensor) -> Tensor:
            return self.predict(trunk.upsampled(part), classes, class_weights)

        parts = zip(torch.split(hidden, PART), torch.split(labels, PART), strict=True)
        rows = [
            checkpoint(finish, part, classes, use_reentrant=False, preserve_rng_state=False)
            for part, classes in parts
        ]
        return torch.cat(rows)
