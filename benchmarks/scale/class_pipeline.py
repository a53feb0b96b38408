"""From the FPN's maps to masks at thousands of classes: both models with the same
weights, side by side.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from benchmarks.measuring import alternate, in_fresh_process, process_peak_of
from benchmarks.speed.torchvision_peer import torchvision_twin
from halfmask.masks.crops import iou
from halfmask.masks.paste import paste
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.models.mask_rcnn.detections import DetectionRules, detections
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import MaskRCNN

Found = tuple[Tensor, Tensor, Tensor, Tensor]
"""boxes [n, 4], labels [n], scores [n], mask probabilities [n, M, M]."""


@dataclass(frozen=True)
class PipelineCost:
    """Median seconds and peak bytes of the process above the model, by who; whether
    boxes, labels and scores are the same; the worst IoU of two masks; how many
    detections.
    """

    seconds: dict[str, float]
    peaks: dict[str, int]
    same_boxes: bool
    worst_iou: float
    detections: int


def pipeline_cost(
    classes: int, config: dict[str, Any], size: tuple[int, int], rounds: int
) -> PipelineCost:
    """Measures both models on random features of an image of `size` (H, W); memory of
    each in a process of its own.
    """
    steps = _both(classes, config, size)
    ours, theirs = steps["halfmask"](), steps["torchvision"]()
    same = all(torch.equal(a, b) for a, b in zip(ours[:3], theirs[:3], strict=True))
    worst = 0.0
    if len(ours[0]) == len(theirs[0]) > 0:
        drawn = [paste(found[3], found[0], found[0], image_size=size) for found in (ours, theirs)]
        overlap, empty = iou(*drawn), (drawn[0].areas() == 0) & (drawn[1].areas() == 0)
        worst = float(torch.where(empty, 1.0, overlap).min())
    seconds = {name: statistics.median(s) for name, s in alternate(steps, rounds).items()}
    arguments = {"classes": classes, "config": config, "size": list(size)}
    peaks = {
        name: in_fresh_process("scale.class_pipeline:peak", which=name, **arguments)
        for name in steps
    }
    return PipelineCost(seconds, peaks, same, worst, len(ours[0]))


def peak(which: str, classes: int, config: dict[str, Any], size: list[int]) -> int:
    """Bytes above the resident models, of one pass; for a fresh process."""
    step = _both(classes, config, (size[0], size[1]))[which]
    return process_peak_of(step)


def _both(
    classes: int, config: dict[str, Any], size: tuple[int, int]
) -> dict[str, Callable[[], Found]]:
    settings = MaskRCNN.model_validate(config)
    torch.manual_seed(0)
    ours = build_mask_rcnn(settings, classes + 1, pretrained=False).eval()
    features, batch = _features(settings, size)
    let_pass(ours, features, batch)
    theirs: Any = torchvision_twin(ours, settings, classes + 1).eval()

    def halfmask() -> Found:
        found = ours.boxes_on(features, batch, batch.image_sizes)[0]
        return (
            found.boxes,
            found.labels,
            found.scores,
            ours.mask_probs(found.features, found.labels),
        )

    @torch.no_grad()
    def torchvision() -> Found:
        proposals, _ = theirs.rpn(batch, features)
        found, _ = theirs.roi_heads(features, proposals, batch.image_sizes)
        return found[0]["boxes"], found[0]["labels"], found[0]["scores"], found[0]["masks"][:, 0]

    return {"halfmask": halfmask, "torchvision": torchvision}


def _features(settings: MaskRCNN, size: tuple[int, int]) -> tuple[dict[str, Tensor], ImageList]:
    padded = [-(-side // 32) * 32 for side in size]
    generator = torch.Generator().manual_seed(3)
    width = settings.detector.fpn_channels
    maps = {
        str(i): torch.randn(1, width, padded[0] // stride, padded[1] // stride, generator=generator)
        for i, stride in enumerate(settings.detector.strides)
    }
    maps["pool"] = maps[str(len(maps) - 1)][:, :, ::2, ::2].contiguous()
    return maps, ImageList(torch.zeros(1, 3, *padded), [size])


@torch.no_grad()
def let_pass(model: PartialMaskRCNN, features: dict[str, Tensor], batch: ImageList) -> None:
    """Scales the class logits of random weights until as many detections pass as the
    model keeps, by halving the interval.
    """
    heads, sizes = model.box_heads, batch.image_sizes
    proposals, _ = model.rpn(batch, features)
    logits, offsets = heads.box_predictor(
        heads.box_head(heads.box_roi_pool(features, proposals, sizes))
    )
    rules = DetectionRules(heads.score_thresh, heads.nms_thresh, heads.detections_per_img)

    def passing(scale: float) -> int:
        return len(
            detections(
                logits * scale, offsets, proposals, sizes=sizes, coder=heads.box_coder, rules=rules
            )[0][0]
        )

    low, high = 1.0, 2.0
    while passing(high) < rules.most and high < 1e6:
        low, high = high, 2 * high
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (low, middle) if passing(middle) >= rules.most else (middle, high)
    for parameter in heads.box_predictor.cls_score.parameters():
        parameter.mul_(high)
