"""Classes added to a trained detector: rows of their own beside its box predictor.

The trained layers stay as they are, and what they say is computed by the same calls on
the same tensors. So neither a score nor a box nor a mask of an earlier class changes,
not even in its last bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from halfmask.models.base import precise
from halfmask.models.mask_rcnn.detections import LazyOffsets

NEVER = -1e4
"""Bias of a class that no box has taught: its score is 0."""


@dataclass(frozen=True)
class ClassGroup:
    """The classes that were added together, or those of the first training.

    Attributes:
        first: label that its column 0 stands for; the group's classes follow.
        logits: float [R, 1 + n]; column 0 is background, for added classes all that is
            none of them.
        offsets: of regions and columns.
    """

    first: int
    logits: Tensor
    offsets: LazyOffsets


class AddedRows(nn.Module):
    """The rows of n classes that were added together.

    They start as rows of classes that are never found. The layers find objects. The
    mask head reads rows of its own, which look like those that it has learned from.

    Args:
        width: of the box head, D.
        classes: n.
    Attributes:
        read_cls, read_box: float32 [n, D] and [4n, D], what the mask head reads.
    """

    read_cls: Tensor
    read_box: Tensor

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, classes)
        self.bbox_pred = nn.Linear(width, 4 * classes)
        for layer in (self.cls_score, self.bbox_pred):
            nn.init.zeros_(layer.weight)
        nn.init.constant_(self.cls_score.bias, NEVER)
        nn.init.zeros_(self.bbox_pred.bias)
        self.register_buffer("read_cls", torch.zeros(classes, width))
        self.register_buffer("read_box", torch.zeros(4 * classes, width))


class GrownPredictor(nn.Module):
    """A trained box predictor, and rows of classes added to it.

    Earlier classes keep their scores, a softmax over themselves and background. Each
    group of added classes has a softmax of its own, over its classes and, as one rest,
    all that came before: a class scores high where its logit exceeds all logits of the
    first training and of the groups before it.

    Args:
        cls_score, bbox_pred: the trained layers; they keep their names in the state
            dict.
        added: number of classes of each group.
    """

    def __init__(self, cls_score: nn.Linear, bbox_pred: nn.Linear, added: Sequence[int]) -> None:
        super().__init__()
        self.cls_score, self.bbox_pred = cls_score, bbox_pred
        self.added = nn.ModuleList(AddedRows(cls_score.in_features, n) for n in added)

    @property
    def firsts(self) -> list[int]:
        """The first label of each added group."""
        firsts, label = [], self.cls_score.out_features
        for rows in self._groups():
            firsts.append(label)
            label += rows.cls_score.out_features
        return firsts

    def rows(self) -> tuple[Tensor, Tensor]:
        """Returns the rows of all classes that the mask head reads, [K, D] and [4K, D]."""
        cls = [self.cls_score.weight, *(rows.read_cls for rows in self._groups())]
        boxes = [self.bbox_pred.weight, *(rows.read_box for rows in self._groups())]
        return torch.cat(cls), torch.cat(boxes)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits [R, K] and offsets [R, 4K] of all classes, as training needs them."""
        layers = [(self.cls_score, self.bbox_pred), *self._added_layers()]
        return torch.cat([c(hidden) for c, _ in layers], 1), torch.cat(
            [b(hidden) for _, b in layers], 1
        )

    def groups(self, hidden: Tensor) -> list[ClassGroup]:
        """Returns the groups' logits and offsets, the first training's first.

        Args:
            hidden: float [R, D] of the box head.
        """
        logits = precise(self.cls_score(hidden))
        out = [ClassGroup(0, logits, LazyOffsets(hidden, self.bbox_pred))]
        rest = logits.logsumexp(1, keepdim=True)
        for first, (classes, boxes) in zip(self.firsts, self._added_layers(), strict=True):
            logits = torch.cat([rest, precise(classes(hidden))], 1)
            out.append(ClassGroup(first - 1, logits, LazyOffsets(hidden, boxes, first=1)))
            rest = logits.logsumexp(1, keepdim=True)
        return out

    def _groups(self) -> list[AddedRows]:
        return [rows for rows in self.added if isinstance(rows, AddedRows)]

    def _added_layers(self) -> list[tuple[nn.Linear, nn.Linear]]:
        return [(rows.cls_score, rows.bbox_pred) for rows in self._groups()]


Found = tuple[list[Tensor], list[Tensor], list[Tensor]]
"""Boxes [n, 4], scores [n] and labels [n] of each image."""


def merged(groups: Sequence[Found], firsts: Sequence[int]) -> Found:
    """Joins the groups' detections, best first.

    Of equal scores the earlier group's comes first.

    Args:
        groups: their labels are columns of `ClassGroup.logits`.
        firsts: `ClassGroup.first` of each.
    """
    if len(groups) == 1:
        return groups[0]
    images = []
    for image in range(len(groups[0][0])):
        boxes = torch.cat([found[0][image] for found in groups])
        scores = torch.cat([found[1][image] for found in groups])
        labels = [found[2][image] + first for found, first in zip(groups, firsts, strict=True)]
        # `sort` has no stable form in ONNX; its TopK keeps the order of equal values.
        if torch.onnx.is_in_onnx_export():
            order = scores.topk(scores.shape[0]).indices
        else:
            order = scores.sort(descending=True, stable=True).indices
        images.append((boxes[order], scores[order], torch.cat(labels)[order]))
    boxes_of_all, scores_of_all, labels_of_all = zip(*images, strict=True)
    return list(boxes_of_all), list(scores_of_all), list(labels_of_all)


def by_group(labels: Tensor, firsts: Sequence[int], draw: Callable[[Tensor], Tensor]) -> Tensor:
    """Lets each group of classes be drawn by a call of its own.

    A matrix product may round differently beside other rows.

    Args:
        labels: int64 [R].
        firsts: first label of each added group, rising.
        draw: rows int64 [r] → [r, …].
    Returns:
        The answers in the order of the labels, [R, …].
    """
    limits = [0, *firsts, torch.iinfo(torch.int64).max]
    rows = [
        torch.where((labels >= low) & (labels < high))[0]
        for low, high in itertools.pairwise(limits)
    ]
    order = torch.cat(rows)
    place = torch.zeros_like(order).scatter(0, order, torch.ones_like(order).cumsum(0) - 1)
    return torch.cat([draw(index) for index in rows]).index_select(0, place)
