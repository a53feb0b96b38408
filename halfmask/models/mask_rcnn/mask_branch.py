"""The mask branch: trunk, predictor, optional MLP, and the class weights it asks for.
One map per region, whatever K is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from halfmask.models.class_weights import ClassRows, ClassVectors, ClassWeights
from halfmask.models.heads.predictors import MaskPredictor
from halfmask.models.heads.trunks import MaskTrunk
from halfmask.models.mask_rcnn.regions import RegionRules
from halfmask.models.mask_rcnn.teacher import ObjectTeacher

PART = 32
"""Regions whose widened maps are in memory at once, in training; a batch of no more is
not computed twice.
"""


class MaskBranch(nn.Module):
    """Pooled regions → mask logits (pattern A of the design).

    Args:
        trunk: [R, C, S, S] → [R, width, M, M].
        predictor: [R, width, M, M], labels, class weights → [R, M, M].
        class_weights: where the predictor's class weights come from.
        mlp: class-agnostic [R, width, M, M] → [R, M, M], added to the predictor's
            logits before the sigmoid.
        teacher: makes what box-only objects' regions teach the predictor; None: they
            teach nothing.
        rules: which regions it learns on, and which of their cells count.
    """

    def __init__(
        self,
        trunk: nn.Module,
        predictor: MaskPredictor,
        class_weights: ClassWeights,
        mlp: nn.Module | None = None,
        teacher: ObjectTeacher | None = None,
        rules: RegionRules | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.predictor = predictor
        self.class_weights = class_weights
        self.mlp = mlp
        self.teacher = teacher
        self.rules = rules or RegionRules()

    def rows(self, cls_weight: Tensor, box_weight: Tensor) -> ClassRows:
        """The class weights [K, D] for `forward`, made row by row: the branch costs the
        same whatever K is.
        """
        return ClassRows(self.class_weights, cls_weight, box_weight)

    def forward(self, features: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        """float [R, M, M] logits of regions [R, C, S, S] with labels int64 [R], given
        class weights [K, D] (or their `rows`).
        """
        many = len(features) > PART and torch.is_grad_enabled()
        if many and self.mlp is None and isinstance(self.trunk, MaskTrunk):
            return self._in_parts(self.trunk, self.trunk.convs(features), labels, class_weights)
        return self.predict(self.trunk(features), labels, class_weights)

    def _in_parts(
        self, trunk: MaskTrunk, hidden: Tensor, labels: Tensor, class_weights: ClassVectors
    ) -> Tensor:
        """The widening and the prediction of some regions at a time, computed once more
        in the backward pass.

        The widened maps are the largest of the branch by far (width × M × M for each
        region, and two such gradients); to compute them again costs a thirtieth of its
        time.
        """

        def finish(part: Tensor, classes: Tensor) -> Tensor:
            return self.predict(trunk.widen(part), classes, class_weights)

        rows = [
            checkpoint(finish, part, classes, use_reentrant=False, preserve_rng_state=False)
            for part, classes in zip(
                torch.split(hidden, PART), torch.split(labels, PART), strict=True
            )
        ]
        return torch.cat(rows)

    def predict(self, hidden: Tensor, labels: Tensor, class_weights: ClassVectors) -> Tensor:
        """The same from the trunk's output [R, width, M, M]."""
        logits: Tensor = self.predictor(hidden, labels, class_weights)
        return logits if self.mlp is None else logits + self.mlp(hidden)
