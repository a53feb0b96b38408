"""Evaluations during a training, on its held-out images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from halfmask.data.dataset import CocoInstances
from halfmask.data.loader import build_loader
from halfmask.evaluation.measures.metrics import compute_metrics
from halfmask.progress import Progress
from halfmask.structures import Detection, Target

logger = logging.getLogger("halfmask")

BATCH = 4

Segment = Callable[[list[Tensor], list[Target]], list[Detection]]


SHOWN = (
    ("box AP", "box", "AP", 1),
    ("mask AP", "mask", "AP", 1),
    ("IoU on given boxes", "given_boxes", "miou", 100),
)


def _line(blocks: dict[str, Any]) -> str:
    """Summarises an evaluation in percent, without values that do not exist."""
    parts = []
    for title, block, key, factor in SHOWN:
        found = {name: blocks[block][name][key] for name in ("all", "A", "B")}
        values = {name: v * factor for name, v in found.items() if v is not None}
        if "all" in values:
            rest = ", ".join(f"{name} {values[name]:.1f}" for name in "AB" if name in values)
            parts.append(f"{title} {values['all']:.1f} ({rest})")
    return "; ".join(parts) or "nothing to measure"


class HeldOutEvaluation:
    """Measures a model on held-out images."""

    def __init__(self, images: CocoInstances, masked: set[int], workers: int) -> None:
        self._images, self._masked, self._workers = images, masked, workers

    def __call__(self, model: Any) -> dict[str, Any]:
        model.eval()
        detections = self._detections(model) if model.has_detector else None
        given = drawn_masks(segment_with(model), self._images, self._workers)
        result = compute_metrics(
            self._images.file, detections, given, masked=self._masked, use=self._images.use
        )
        blocks = {name: result[name] for name in ("box", "mask", "given_boxes")}
        logger.info(f"  {len(self._images)} held-out images: {_line(blocks)}")
        return blocks

    @torch.no_grad()
    def _detections(self, model: Any) -> Iterator[tuple[int, Detection]]:
        device = next(model.parameters()).device
        for images, targets in build_loader(self._images, BATCH, self._workers, shuffle=False):
            found = model.detect([image.to(device) for image in images])
            yield from ((t.image_id, f.on_cpu()) for t, f in zip(targets, found, strict=True))


def segment_with(model: Any) -> Segment:
    """Returns the function that draws a model's masks into the boxes of targets."""
    device = next(model.parameters()).device
    model.eval()

    @torch.no_grad()
    def segment(images: list[Tensor], targets: list[Target]) -> list[Detection]:
        given = [t.boxes.to(device) for t in targets], [t.labels.to(device) for t in targets]
        drawn = model.segment([image.to(device) for image in images], *given)
        return [found.on_cpu() for found in drawn]

    return segment


def drawn_masks(
    segment: Segment, images: CocoInstances, workers: int, *, progress: Progress | None = None
) -> Iterator[tuple[int, Tensor, Detection]]:
    """Yields image id, annotation ids and masks in the boxes of each image."""
    done = 0
    for batch, targets in build_loader(images, BATCH, workers, shuffle=False):
        for target, found in zip(targets, segment(batch, targets), strict=True):
            yield target.image_id, target.annotation_ids, found
        done += len(targets)
        if progress is not None:
            progress("masks for the report", done, len(images))
