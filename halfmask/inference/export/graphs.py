"""Models for tracing: only tensors, and nothing depends on the number of boxes.

Shape letters: R boxes, M side of a mask, H×W image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import roi_align

from halfmask.masks.paste import best_threshold, expected_iou, recentred
from halfmask.models.box_segmenter.border import FINER, Maps
from halfmask.models.box_segmenter.crops import (
    MAX_LEVEL,
    Boxes,
    CropReader,
    crop_regions,
    inside_box,
    other_boxes,
    resample,
)
from halfmask.models.box_segmenter.model import THRESHOLDS, BoxSegmenter
from halfmask.models.box_segmenter.quality import agreement_of, mask_features
from halfmask.models.mask_rcnn.added_classes import by_group
from halfmask.models.mask_rcnn.box_heads import Features
from halfmask.models.mask_rcnn.detections import Sizes
from halfmask.models.mask_rcnn.model import PartialMaskRCNN


class BoxSegmenterGraph(nn.Module):
    """`BoxSegmenter.segment` for one image.

    Args:
        model: in evaluation mode.
    """

    def __init__(self, model: BoxSegmenter) -> None:
        super().__init__()
        self.model = model
        self.fitted = model.quality_score.fitted

    def forward(
        self, image: Tensor, boxes: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns mask probabilities, their regions and the quality.

        Args:
            image: float32 [3, H, W], RGB in [0, 1].
            boxes: float32 [R, 4] xyxy, pixels.
            labels: int64 [R]; 0 for an unknown class.
        Returns:
            Probabilities float32 [R, M, M], regions that they cover float32 [R, 4]
            xyxy, quality float32 [R].
        """
        reader, size = self.model.reader, self.model.mask_size
        levels = _levels((image - reader.mean[:, None, None]) / reader.std[:, None, None])
        places = [crop_regions(boxes, context) for context in reader.contexts]
        closest, regions, count = places[0], torch.cat(places), boxes.shape[0]
        # All contexts in one call: a few boxes leave a processor idle, and a runtime
        # prepares one network instead of several.
        crops = _crops(reader, levels, boxes=boxes, regions=regions)
        kept: list[Maps] = []
        looks = self.model.readings(crops, labels.repeat(len(places)), kept)
        views, means = [], []
        for k, place in enumerate(places):
            found = [maps[k * count : (k + 1) * count] for maps in looks]
            if k:
                found = [resample(view, place, closest) for view in found]
            views += found
            means.append(torch.stack(found).mean(0))
        probs = torch.stack(means).mean(0)
        agreement = agreement_of(views, probs, inside_box(boxes, closest, size) > 0.5)
        limits = _within(image, boxes)
        visible = inside_box(limits, closest, size) > 0.5
        features = mask_features(probs, visible, boxes, regions=closest, agreement=agreement)
        quality = self.model.quality_score.curve(features) if self.fitted else features[:, 0]
        if self.model.border is not None:
            fine = size * FINER**2
            pixels = torch.cat(
                [_read(levels, closest, fine), inside_box(boxes, closest, fine)[:, None]], 1
            )
            maps = tuple(side[:count] for side in kept[0])
            probs = self.model.border(pixels, probs, maps).sigmoid()
            visible = inside_box(limits, closest, size * FINER) > 0.5
        if self.model.best_iou:
            probs = recentred(probs, best_threshold(probs * visible).clamp(*THRESHOLDS))
        if self.model.settling is not None:
            probs = self.model.settling(probs, closest, limits, at_once=True)
        return probs, closest, quality


def _within(image: Tensor, boxes: Tensor) -> Tensor:
    """Returns boxes float32 [R, 4] clipped to an image [3, H, W]."""
    height, width = image.shape[1], image.shape[2]
    sides = [
        boxes[:, 0].clamp(min=0),
        boxes[:, 1].clamp(min=0),
        boxes[:, 2].clamp(max=width),
        boxes[:, 3].clamp(max=height),
    ]
    return torch.stack(sides, 1)


def _crops(reader: CropReader, levels: list[Tensor], *, boxes: Tensor, regions: Tensor) -> Tensor:
    """Reads crops like `CropReader.read`; regions: those of all boxes, context by context."""
    times = len(reader.contexts)
    box = inside_box(boxes.repeat(times, 1), regions, reader.size)
    parts = [_read(levels, regions, reader.size), box[:, None]]
    if reader.neighbours:
        own = torch.ones_like(boxes[:, 0], dtype=torch.int64).cumsum(0) - 1
        parts.append(other_boxes(Boxes(boxes, own.repeat(times)), regions, reader.size))
    if reader.clicks:  # no input of the graph: as for a box without clicks
        parts.append(torch.zeros_like(parts[0]))
    return torch.cat(parts, 1)


def _levels(image: Tensor) -> list[Tensor]:
    """The image pyramid, [1, 3, H', W'] each; see `ImagePyramid`."""
    levels = [image[None]]
    for _ in range(MAX_LEVEL):
        levels.append(F.avg_pool2d(levels[-1], 2, ceil_mode=True, count_include_pad=False))
    return levels


def _read(levels: list[Tensor], regions: Tensor, size: int) -> Tensor:
    """Reads regions like `ImagePyramid.read`, for a traced graph.

    Each level reads its own regions, none or many; then the order is restored (as
    `RegionPool` does).
    """
    cell = (regions[:, 2:] - regions[:, :2]).amax(1) / size
    wanted = (cell / 2).clamp_min(1).log2().floor().clamp_max(MAX_LEVEL)
    members = [torch.where(wanted == level)[0] for level in range(len(levels))]
    rois = torch.cat([torch.zeros_like(regions[:, :1]), regions], 1)
    pooled = [
        roi_align(image, rois[rows], (size, size), 0.5**level, aligned=True)
        for level, (image, rows) in enumerate(zip(levels, members, strict=True))
    ]
    index = torch.cat(members)
    place = torch.zeros_like(index).scatter(0, index, torch.ones_like(index).cumsum(0) - 1)
    return torch.cat(pooled).index_select(0, place)


class DetectorGraph(nn.Module):
    """`PartialMaskRCNN.detect` for one image.

    Args:
        model: in evaluation mode, not of Detectron's geometry.
    """

    def __init__(self, model: PartialMaskRCNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns detections, best first.

        Args:
            image: float32 [3, H, W], RGB in [0, 1].
        Returns:
            Boxes float32 [R, 4] xyxy, labels int64 [R], scores float32 [R], then as
            `BoxSegmenterGraph.forward`.
        """
        model = self.model
        batch, _ = model.transform([image])
        features = model.features(batch.tensors)
        proposals, _ = model.rpn(batch, features)
        found, labels, scores = model.box_heads.find(features, proposals, batch.image_sizes)
        probs = _masks(model, features, found, labels=labels[0], sizes=batch.image_sizes)
        boxes = resize_boxes(found[0], batch.image_sizes[0], _size(image))
        return boxes, labels[0], scores[0], probs, boxes + model.mask_shift, expected_iou(probs)


class RegionSegmenterGraph(nn.Module):
    """`PartialMaskRCNN.segment` for one image.

    Args:
        model: in evaluation mode, not of Detectron's geometry.
    """

    def __init__(self, model: PartialMaskRCNN) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, image: Tensor, boxes: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `BoxSegmenterGraph.forward`.

        Where the mask head needs a class and it is unknown, the box head chooses it.
        """
        model = self.model
        batch, _ = model.transform([image])
        features = model.features(batch.tensors)
        placed = [resize_boxes(boxes, _size(image), batch.image_sizes[0])]
        if model.needs_labels:
            guessed, _ = model.box_heads.classify(features, placed, batch.image_sizes)
            labels = torch.where(labels == 0, guessed, labels)
        probs = _masks(model, features, placed, labels=labels, sizes=batch.image_sizes)
        return probs, boxes + model.mask_shift, expected_iou(probs)


def _masks(
    model: PartialMaskRCNN, features: Features, boxes: list[Tensor], *, labels: Tensor, sizes: Sizes
) -> Tensor:
    pooled = model.mask_pool(features, boxes, sizes)
    weights, added = model.class_rows(), model.box_heads.added

    def draw(features: Tensor, classes: Tensor) -> Tensor:
        logits: Tensor = model.mask_branch(features, classes, weights)
        return logits.float().sigmoid()

    if added:
        return by_group(labels, added, lambda rows: draw(pooled[rows], labels[rows]))
    return draw(pooled, labels)


def _size(image: Tensor) -> list[int]:
    """[H, W], as traced numbers while a graph is traced."""
    return [image.shape[-2], image.shape[-1]]
