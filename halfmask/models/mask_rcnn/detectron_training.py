"""Detectron's training of the RPN, its crowds and its box loss, on torchvision's parts.

Each difference from torchvision is a key of a recipe's `model.detector`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import box_iou

from halfmask.recipes.detector import Detector

RPN_BETA = 1 / 9
"""β of the RPN's smooth L1 loss, the same in torchvision and in Detectron."""

Sizes = list[tuple[int, int]]
BoxTargets = list[dict[str, Tensor]]


@dataclass(frozen=True)
class RpnRules:
    """The recipe's `straddling_anchors`, `rpn_divisor` and `rpn_post_nms_per`.

    Attributes:
        straddling: whether anchors across the image's border take part.
        fixed_divisor: whether losses are divided by fixed numbers (see `rpn_divisor`).
        group: images that share the proposals after NMS; None: each has its own.
    """

    straddling: bool = True
    fixed_divisor: bool = False
    group: int | None = None

    @classmethod
    def of(cls, detector: Detector, minibatch: int) -> RpnRules:
        """Returns a recipe's rules, for minibatches of that many images."""
        shared = detector.rpn_post_nms_per == "minibatch"
        return cls(
            straddling=detector.straddling_anchors,
            fixed_divisor=detector.rpn_divisor == "fixed",
            group=minibatch if shared else None,
        )

    @property
    def are_torchvisions(self) -> bool:
        """Whether torchvision's own forward computes the same."""
        return self == RpnRules()


def propose(
    rpn: RegionProposalNetwork,
    rules: RpnRules,
    batch: ImageList,
    *,
    features: dict[str, Tensor],
    targets: BoxTargets,
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Returns proposals [r, 4] of each image and the RPN's losses, as its forward does.

    Args:
        rpn: in training.
        batch: the resized images with their own sizes, to which proposals are clipped.
        features: the FPN's maps.
        targets: `boxes` of each image's objects, without crowds.
    """
    maps = list(features.values())
    logits, offsets = rpn.head(maps)
    anchors = rpn.anchor_generator(batch, maps)
    counts = [level[0].numel() for level in logits]
    objectness, deltas = concat_box_prediction_layers(logits, offsets)
    decoded = rpn.box_coder.decode(deltas.detach(), anchors).view(len(anchors), -1, 4)
    boxes, scores = rpn.filter_proposals(decoded, objectness, batch.image_sizes, counts)
    if rules.group is not None:
        boxes = best_of_groups(boxes, scores, rules.group, most=rpn.post_nms_top_n())
    if rules.straddling:
        labels, matched = rpn.assign_targets_to_anchors(anchors, targets)
    else:
        labels, matched = _assign_inside(rpn, anchors, targets, sizes=batch.image_sizes)
    goals = torch.cat(rpn.box_coder.encode(matched, anchors))
    foreground, background = rpn.fg_bg_sampler(labels)
    losses = _losses(objectness.flatten(), deltas, goals, drawn=(foreground, background))
    return boxes, _divided(losses, rpn.fg_bg_sampler.batch_size_per_image, rules.fixed_divisor)


def best_of_groups(
    boxes: list[Tensor], scores: list[Tensor], group: int, *, most: int
) -> list[Tensor]:
    """Returns the `most` best boxes of each group of images, image by image.

    Args:
        boxes: [r, 4] of each image, best first.
        scores: [r] of each image.
        group: images of a group, in their order.
    """
    kept = []
    for start in range(0, len(boxes), group):
        members = slice(start, start + group)
        every = torch.cat(scores[members])
        chosen = torch.zeros(len(every), dtype=torch.bool, device=every.device)
        chosen[every.sort(descending=True, stable=True).indices[:most]] = True
        parts = torch.split(chosen, [len(s) for s in scores[members]])
        kept += [b[rows] for b, rows in zip(boxes[members], parts, strict=True)]
    return kept


def _assign_inside(
    rpn: RegionProposalNetwork, anchors: list[Tensor], targets: BoxTargets, *, sizes: Sizes
) -> tuple[list[Tensor], list[Tensor]]:
    """Returns labels and matched boxes of anchors; straddling ones are ignored, −1.

    An object's best anchor, too, is the best of those inside.
    """
    labels, matched = [], []
    for places, target, (height, width) in zip(anchors, targets, sizes, strict=True):
        inside = (places[:, :2] >= 0).all(1) & (places[:, 2] <= width) & (places[:, 3] <= height)
        rows = torch.where(inside)[0]
        label = places.new_full((len(places),), -1.0)
        box = places.clone()  # an ignored anchor's own box encodes to finite numbers
        if len(rows):
            (some,), (found,) = rpn.assign_targets_to_anchors([places[rows]], [target])
            label[rows], box[rows] = some.to(label), found.to(box)
            background = torch.where(some == 0)[0]
            box[rows[background]] = places[rows[background]]
        labels.append(label)
        matched.append(box)
    return labels, matched


@dataclass(frozen=True)
class _Sums:
    """Sums of the RPN's losses: classification, and regression image by image.

    Attributes:
        drawn: int64 [N], anchors drawn from each image.
    """

    objectness: Tensor
    boxes: Tensor
    drawn: Tensor


def _losses(
    objectness: Tensor, deltas: Tensor, goals: Tensor, *, drawn: tuple[list[Tensor], list[Tensor]]
) -> _Sums:
    """Returns the sums over drawn anchors (flags [A] of each image, fore- and background)."""
    foreground, background = (torch.cat(flags) > 0 for flags in drawn)
    rows = torch.where(foreground | background)[0]
    cells = F.binary_cross_entropy_with_logits(
        objectness[rows], foreground[rows].to(objectness.dtype), reduction="sum"
    )
    image = torch.repeat_interleave(
        torch.arange(len(drawn[0]), device=goals.device),
        torch.tensor([len(flags) for flags in drawn[0]], device=goals.device),
    )
    positive = torch.where(foreground)[0]
    each = F.smooth_l1_loss(
        deltas[positive], goals[positive].to(deltas), beta=RPN_BETA, reduction="none"
    ).sum(1)
    boxes = each.new_zeros(len(drawn[0])).index_add(0, image[positive], each)
    count = torch.stack([(f + b).sum() for f, b in zip(*drawn, strict=True)])
    return _Sums(cells, boxes, count)


def _divided(sums: _Sums, per_image: int, fixed: bool) -> dict[str, Tensor]:
    images = len(sums.drawn)
    if fixed:
        objectness = sums.objectness / (per_image * images)
        boxes = (sums.boxes / sums.drawn.clamp_min(1)).sum() / images
    else:
        count = sums.drawn.sum().clamp_min(1)
        objectness, boxes = sums.objectness / count, sums.boxes.sum() / count
    return {"loss_objectness": objectness, "loss_rpn_box_reg": boxes}


def box_losses(
    logits: Tensor, offsets: Tensor, labels: Tensor, *, goals: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """Returns the box head's losses, means over all regions.

    With β = 1/9 they are torchvision's `fastrcnn_loss`, bit for bit.

    Args:
        logits: float [R, K].
        offsets: float [R, 4K].
        labels: int64 [R], 0 is background.
        goals: float [R, 4], the offsets to learn.
        beta: of smooth L1.
    """
    rows = torch.where(labels > 0)[0]
    own = offsets.reshape(len(labels), -1, 4)[rows, labels[rows]]
    distance = F.smooth_l1_loss(own, goals[rows], beta=beta, reduction="sum")
    return F.cross_entropy(logits, labels), distance / labels.numel()


def with_crowds(target: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns boxes and labels of an image's objects, then of its crowds."""
    if len(target["boxes"]) == 0 or "crowds" not in target:
        return target["boxes"], target["labels"]
    return (
        torch.cat([target["boxes"], target["crowds"]]),
        torch.cat([target["labels"], target["crowd_labels"]]),
    )


def goal_boxes(regions: Tensor, matched: Tensor, target: dict[str, Tensor]) -> Tensor:
    """Returns float [r, 4]: the box that each region's offsets lead to.

    It is the matched object's. A region that matches a crowd takes the object that it
    overlaps most.

    Args:
        regions: float [r, 4].
        matched: int64 [r], row in `with_crowds`.
        target: the image's objects and crowds.
    """
    objects = target["boxes"]
    if len(objects) == 0:
        return torch.zeros_like(regions)
    best = box_iou(objects.to(regions), regions).argmax(0)
    own = torch.where(matched < len(objects), matched, best)
    return objects.to(regions)[own]


def start_xavier(head: nn.Module) -> None:
    """Starts fully connected layers as Caffe2's XavierFill does, biases at 0."""
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            bound = math.sqrt(3 / layer.in_features)
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)
