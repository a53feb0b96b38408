"""Detectron's Mask^X R-CNN, written out from its rules for the tests beside it.

Plain torch in float64: no line of torchvision's or of the package's. Boxes are
Detectron's, [x1, y1, x2, y2] with the last pixel; parameters have Detectron's names.
Draws are given: the anchors and regions that a step uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pycocotools.mask
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
BGR_MEANS = (102.9801, 115.9465, 122.7717)


@dataclass
class Picture:
    """A training image and its annotations.

    Attributes:
        rgb: float64 [3, H, W] in [0, 1].
        boxes: [n, 4], objects, then crowds.
        polygons: of the objects that have a mask; None for the others.
        crowd: bool [n].
    """

    rgb: Tensor
    boxes: Array
    labels: NDArray[np.int64]
    polygons: list[list[list[float]] | None]
    crowd: NDArray[np.bool_]


@dataclass
class Draws:
    """What a step draws from each image: rows of anchors, and regions [r, 4]."""

    foreground: list[NDArray[np.int64]]
    background: list[NDArray[np.int64]]
    regions: list[Array]
    labels: list[NDArray[np.int64]] = field(default_factory=list)


def mirrored(boxes: Array, width: int) -> Array:
    """`extend_with_flipped_entries`."""
    out = boxes.copy()
    out[:, 0], out[:, 2] = width - boxes[:, 2] - 1, width - boxes[:, 0] - 1
    return out


def mirrored_polygon(polygon: Sequence[float], width: int) -> list[float]:
    """`flip_segms`."""
    flipped = np.array(polygon)
    flipped[0::2] = width - flipped[0::2] - 1
    return list(flipped.tolist())


def generate_anchors(stride: int, size: int, ratios: Sequence[float]) -> Array:
    """The anchors of one cell: rounded at the stride's size, then scaled up."""
    centre, area = 0.5 * (stride - 1), float(stride * stride)
    rows = []
    for ratio in ratios:
        w = np.round(np.sqrt(area / ratio))
        h = np.round(w * ratio)
        w, h = w * size / stride, h * size / stride
        x, y = 0.5 * (w - 1), 0.5 * (h - 1)
        rows.append([centre - x, centre - y, centre + x, centre + y])
    return np.array(rows)


def field_of_anchors(
    maps: Sequence[Tensor], strides: Sequence[int], sizes: Sequence[int], ratios: Sequence[float]
) -> Array:
    """All anchors, level after level, row after row, ratio after ratio."""
    out = []
    for level, stride, size in zip(maps, strides, sizes, strict=True):
        height, width = level.shape[-2:]
        cell = generate_anchors(stride, size, ratios)
        for y in range(height):
            for x in range(width):
                out.append(cell + np.array([x, y, x, y]) * stride)
    return np.concatenate(out)


def overlaps(a: Array, b: Array) -> Array:
    """IoU of inclusive boxes, [len(a), len(b)]."""
    area = [(v[:, 2] - v[:, 0] + 1) * (v[:, 3] - v[:, 1] + 1) for v in (a, b)]
    sides = [
        (
            np.minimum(a[:, None, i + 2], b[None, :, i + 2])
            - np.maximum(a[:, None, i], b[None, :, i])
            + 1
        ).clip(0)
        for i in (0, 1)
    ]
    both = sides[0] * sides[1]
    found: Array = both / (area[0][:, None] + area[1][None] - both)
    return found


def offsets_to(boxes: Array, goals: Array, weights: Sequence[float]) -> Array:
    """`bbox_transform_inv`: what a box must learn to become its goal."""
    size, goal = boxes[:, 2:] - boxes[:, :2] + 1, goals[:, 2:] - goals[:, :2] + 1
    centre, aim = boxes[:, :2] + 0.5 * size, goals[:, :2] + 0.5 * goal
    both = np.concatenate([(aim - centre) / size, np.log(goal / size)], 1)
    return np.asarray(both * np.array(weights))


def anchor_labels(anchors: Array, objects: Array, height: int, width: int) -> tuple[Any, Any]:
    """Labels (1, 0, −1 for neither) and the matched object of each anchor."""
    inside = np.where(
        (anchors[:, 0] >= 0)
        & (anchors[:, 1] >= 0)
        & (anchors[:, 2] < width)
        & (anchors[:, 3] < height)
    )[0]
    labels, match = np.full(len(anchors), -1), np.zeros(len(anchors), dtype=np.int64)
    table = overlaps(anchors[inside], objects)
    most = table.max(1)
    here = np.full(len(inside), -1)
    here[most < 0.3] = 0
    here[np.where(table == table.max(0))[0]] = 1
    here[most >= 0.7] = 1
    labels[inside], match[inside] = here, table.argmax(1)
    return labels, match


def smooth_l1(x: Tensor, beta: float) -> Tensor:
    size = x.abs()
    return torch.where(size < beta, 0.5 * x * x / beta, size - 0.5 * beta)


def roi_align(level: Tensor, roi: Array, scale: float, side: int, ratio: int = 2) -> Tensor:
    """Caffe2's RoIAlign of one region, [C, S, S]: no half pixel, sides of at least 1."""
    height, width = level.shape[-2:]
    x1, y1, x2, y2 = roi * scale
    samples = []
    for low, high in ((y1, y2), (x1, x2)):
        cell = max(high - low, 1.0) / side
        samples.append(low + (np.arange(side * ratio) + 0.5) * cell / ratio)
    axes = []
    for place, limit in zip(samples, (height, width), strict=True):
        valid = (place >= -1) & (place <= limit)
        p = np.maximum(place, 0)
        first = np.minimum(p.astype(int), limit - 1)
        second = np.minimum(first + 1, limit - 1)
        share = np.where(first >= limit - 1, 0.0, p - first)
        weight = np.zeros((len(place), limit))
        np.add.at(weight, (np.arange(len(place)), first), (1 - share) * valid)
        np.add.at(weight, (np.arange(len(place)), second), share * valid)
        axes.append(torch.from_numpy(weight.reshape(side, ratio, limit).mean(1)))
    return torch.einsum("ya,cab,xb->cyx", axes[0], level, axes[1])


def level_of(roi: Array, coarsest: int) -> int:
    """`map_rois_to_fpn_levels`, from P2."""
    area = (roi[2] - roi[0] + 1) * (roi[3] - roi[1] + 1)
    return int(np.clip(np.floor(4 + np.log2(np.sqrt(area) / 224 + 1e-6)), 2, coarsest))


def polygon_target(polygons: list[list[float]], roi: Array, side: int) -> Tensor:
    """`polys_to_mask_wrt_box`."""
    x0, y0, x1, y1 = roi.astype(np.float32)
    w, h = np.maximum(x1 - x0, 1), np.maximum(y1 - y0, 1)
    placed = []
    for polygon in polygons:
        p = np.array(polygon, dtype=np.float32)
        p[0::2], p[1::2] = (p[0::2] - x0) * side / w, (p[1::2] - y0) * side / h
        placed.append(p.astype(np.float64).tolist())
    drawn = pycocotools.mask.decode(pycocotools.mask.frPyObjects(placed, side, side))
    return torch.from_numpy((drawn.sum(2) > 0).astype(np.float64))


@dataclass
class Network:
    """The model's sizes and parameters.

    Attributes:
        p: Detectron's blob name → parameter.
        blocks: of res2, res3, …
    """

    p: dict[str, Tensor]
    blocks: Sequence[int]
    strides: Sequence[int]
    sizes: Sequence[int]
    ratios: Sequence[float]
    rpn_batch: int
    box_side: int
    mask_side: int
    stop_gradient: bool
    minibatch: int

    def conv(self, name: str, x: Tensor, stride: int = 1, bias: bool = True) -> Tensor:
        w = self.p[name + "_w"]
        return F.conv2d(x, w, self.p[name + "_b"] if bias else None, stride, w.shape[-1] // 2)

    def affine(self, name: str, x: Tensor) -> Tensor:
        return x * self.p[name + "_s"][:, None, None] + self.p[name + "_b"][:, None, None]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.p[name + "_w"].T + self.p[name + "_b"]

    def body(self, x: Tensor) -> list[Tensor]:
        """ResNet: AffineChannel for BatchNorm, the stride in a block's first layer."""
        x = self.affine("res_conv1_bn", self.conv("conv1", x, 2, False)).relu()
        x = F.max_pool2d(x, 3, 2, 1)
        tops = []
        for stage, count in enumerate(self.blocks, 2):
            for i in range(count):
                name, stride = f"res{stage}_{i}_branch", 2 if i == 0 and stage > 2 else 1
                y = x
                for letter in "abc":
                    y = self.conv(f"{name}2{letter}", y, stride if letter == "a" else 1, False)
                    y = self.affine(f"{name}2{letter}_bn", y)
                    y = y if letter == "c" else y.relu()
                if i == 0:
                    x = self.affine(f"{name}1_bn", self.conv(f"{name}1", x, stride, False))
                x = (x + y).relu()
            if stage == 2:
                x = x.detach()  # FREEZE_AT: 2
            tops.append(x)
        return tops

    def pyramid(self, pictures: Sequence[Picture]) -> list[Tensor]:
        """P2 … and one level more, of the padded BGR batch."""
        height, width = (
            max(-(-picture.rgb.shape[i] // 32) * 32 for picture in pictures) for i in (1, 2)
        )
        batch = torch.zeros(len(pictures), 3, height, width, dtype=torch.float64)
        means = torch.tensor(BGR_MEANS, dtype=torch.float64)[:, None, None]
        for row, picture in zip(batch, pictures, strict=True):
            h, w = picture.rgb.shape[1:]
            row[:, :h, :w] = picture.rgb.flip(0) * 255 - means
        tops = self.body(batch)
        inner, maps = None, []
        for i, top in reversed(list(enumerate(tops, 2))):
            lateral = self.conv(f"fpn_inner_res{i}", top)
            if inner is not None:
                lateral = lateral + inner.repeat_interleave(2, 2).repeat_interleave(2, 3)
            inner = lateral
            maps.insert(0, self.conv(f"fpn_res{i}", inner))
        return [*maps, maps[-1][..., ::2, ::2]]

    def losses(self, pictures: Sequence[Picture], draws: Draws) -> dict[str, Tensor]:
        """The five losses of a step."""
        maps = self.pyramid(pictures)
        found = self.rpn_losses(maps, pictures, draws)
        boxes = self.box_losses(maps, pictures, draws)
        return {**found, **boxes, "loss_mask": self.mask_loss(maps, pictures, draws)}

    def rpn(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [N, A] and offsets [N, A, 4] in the order of `field_of_anchors`."""
        logits, offsets = [], []
        for level in maps:
            hidden = self.conv("conv_rpn", level).relu()
            n = len(hidden)
            logits.append(self.conv("rpn_cls_logits", hidden).permute(0, 2, 3, 1).reshape(n, -1))
            raw = self.conv("rpn_bbox_pred", hidden).permute(0, 2, 3, 1)
            offsets.append(raw.reshape(n, -1, 4))
        return torch.cat(logits, 1), torch.cat(offsets, 1)

    def rpn_losses(
        self, maps: list[Tensor], pictures: Sequence[Picture], draws: Draws
    ) -> dict[str, Tensor]:
        anchors = field_of_anchors(maps, self.strides, self.sizes, self.ratios)
        logits, offsets = self.rpn(maps)
        cls = box = torch.zeros((), dtype=torch.float64)
        for i, picture in enumerate(pictures):
            objects = picture.boxes[~picture.crowd]
            labels, match = anchor_labels(anchors, objects, *picture.rgb.shape[1:])
            fg, bg = draws.foreground[i], draws.background[i]
            assert (labels[fg] == 1).all()
            assert (labels[bg] == 0).all()
            cls = cls + F.softplus(-logits[i, fg]).sum() + F.softplus(logits[i, bg]).sum()
            goal = offsets_to(anchors[fg], objects[match[fg]], (1, 1, 1, 1))
            loss = smooth_l1(offsets[i, fg] - torch.from_numpy(goal), 1 / 9).sum()
            box = box + loss / (len(fg) + len(bg))
        n = len(pictures)
        return {"loss_objectness": cls / self.rpn_batch / n, "loss_rpn_box_reg": box / n}

    def pooled(self, maps: list[Tensor], image: int, rois: Array, side: int) -> Tensor:
        coarsest = len(self.strides)  # P2 … of the maps without the extra one
        out = []
        for roi in rois:
            level = level_of(roi, coarsest)
            out.append(roi_align(maps[level - 2][image], roi, 1 / 2**level, side))
        empty = maps[0].new_zeros((0, maps[0].shape[1], side, side))
        return torch.stack(out) if out else empty

    def box_losses(
        self, maps: list[Tensor], pictures: Sequence[Picture], draws: Draws
    ) -> dict[str, Tensor]:
        x, labels, goals = [], [], []
        draws.labels = []
        for i, (picture, rois) in enumerate(zip(pictures, draws.regions, strict=True)):
            x.append(self.pooled(maps, i, rois, self.box_side))
            every = overlaps(rois, picture.boxes)
            label = np.where(every.max(1) >= 0.5, picture.labels[every.argmax(1)], 0)
            objects = picture.boxes[~picture.crowd]
            near = objects[overlaps(rois, objects).argmax(1)]
            goals.append(offsets_to(rois, near, (10, 10, 5, 5)))
            draws.labels.append(label)
            labels.append(label)
        hidden = self.linear("fc6", torch.cat(x).flatten(1)).relu()
        hidden = self.linear("fc7", hidden).relu()
        scores, offsets = self.linear("cls_score", hidden), self.linear("bbox_pred", hidden)
        truth, goal = (
            torch.from_numpy(np.concatenate(labels)),
            torch.from_numpy(np.concatenate(goals)),
        )
        rows = torch.arange(len(truth))
        cls = (torch.logsumexp(scores, 1) - scores[rows, truth]).mean()
        own = offsets.reshape(len(truth), -1, 4)[rows, truth]
        box = (smooth_l1(own - goal, 1.0).sum(1) * (truth > 0)).sum() / len(truth)
        return {"loss_classifier": cls, "loss_box_reg": box}

    def mask_loss(self, maps: list[Tensor], pictures: Sequence[Picture], draws: Draws) -> Tensor:
        """Dense: K maps of each region, with −1 for what does not count."""
        p = self.p
        classes = len(p["cls_score_w"])
        rows = torch.cat([p["cls_score_w"], p["bbox_pred_w"].reshape(classes, -1)], 1)
        rows = rows.detach() if self.stop_gradient else rows
        hidden = self.linear("bbox2mask_mlp_l1", rows)
        hidden = torch.where(hidden > 0, hidden, 0.1 * hidden)
        filters = self.linear("mask_fcn_logits_w_flat", hidden)
        groups = range(0, len(pictures), self.minibatch)
        parts = []
        for start in groups:
            members = range(start, min(start + self.minibatch, len(pictures)))
            parts.append(self._mask_part(maps, pictures, draws, list(members), filters))
        return torch.stack(parts).mean()

    def _mask_part(
        self,
        maps: list[Tensor],
        pictures: Sequence[Picture],
        draws: Draws,
        members: list[int],
        filters: Tensor,
    ) -> Tensor:
        x, labels, targets = [], [], []
        for i in members:
            picture, rois = pictures[i], draws.regions[i]
            every = overlaps(rois, picture.boxes).argmax(1)
            for r, roi in enumerate(rois):
                polygons = picture.polygons[every[r]]
                if draws.labels[i][r] > 0 and polygons is not None:
                    x.append(self.pooled(maps, i, roi[None], self.mask_side))
                    labels.append(int(draws.labels[i][r]))
                    targets.append(polygon_target(polygons, roi, 2 * self.mask_side))
        if not x:
            return torch.zeros((), dtype=torch.float64)
        y, side = torch.cat(x), 2 * self.mask_side
        number = 1
        while f"_[mask]_fcn{number}_w" in self.p:
            y = self.conv(f"_[mask]_fcn{number}", y).relu()
            number += 1
        up = torch.einsum("nchw,coab->nohawb", y, self.p["conv5_mask_w"])
        features = (
            up.reshape(len(y), -1, side, side) + self.p["conv5_mask_b"][:, None, None]
        ).relu()
        logits = torch.einsum("nchw,kc->nkhw", features, filters)
        if "mask_mlp_logits_raw_w" in self.p:
            flat = self.linear("mask_mlp_logits_raw", features.flatten(1))
            logits = logits + flat.reshape(-1, 1, side, side)
        truth = -torch.ones_like(logits)
        for r, (label, target) in enumerate(zip(labels, targets, strict=True)):
            truth[r, label] = target
        valid = truth >= 0
        loss = F.softplus(logits) - logits * truth
        return (loss * valid).sum() / valid.sum()


@dataclass
class Caffe2Sgd:
    """MomentumSGDUpdate with Detectron's rates: biases twice, without decay."""

    base: float
    decay: float
    warmup: int
    drops: Sequence[int]
    momentum: float = 0.9
    rate: float = 0.0
    velocity: dict[str, Tensor] = field(default_factory=dict)

    def rate_at(self, step: int) -> float:
        rate = self.base * 0.1 ** sum(step >= drop for drop in self.drops)
        if step < self.warmup:
            alpha = step / self.warmup
            rate *= (1 - alpha) / 3 + alpha
        return rate

    def step(self, number: int, p: dict[str, Tensor], grads: dict[str, Tensor]) -> None:
        new, old = self.rate_at(number), self.rate
        if new != old:
            change = max(new / max(old, 1e-10), old / max(new, 1e-10))
            if old > 1e-7 and change > 1.1:
                self.velocity = {k: v * new / old for k, v in self.velocity.items()}
            self.rate = new
        for name, grad in grads.items():
            g = 2 * grad if name.endswith("_b") else grad + self.decay * p[name].detach()
            before = self.velocity.get(name, torch.zeros_like(g))
            self.velocity[name] = self.momentum * before + new * g
            with torch.no_grad():
                p[name] -= self.velocity[name]
