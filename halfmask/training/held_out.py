"""Evaluations during a training, on its held-out images."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from halfmask.data.dataset import CocoInstances
from halfmask.data.loader import build_loader
from halfmask.evaluation.measures.evaluate import evaluate
from halfmask.inference.predictor import on_cpu
from halfmask.structures import Detection

logger = logging.getLogger("halfmask")

BATCH = 4


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


class Evaluation:
    """Measures a model on held-out images."""

    def __init__(self, images: CocoInstances, masked: set[int], workers: int) -> None:
        self._images, self._masked, self._workers = images, masked, workers

    def __call__(self, model: Any) -> dict[str, Any]:
        model.eval()
        detections = self._detections(model) if model.has_detector else None
        given = self._given(model)
        result = evaluate(self._images.file, detections, given, self._masked, self._images.use)
        blocks = {name: result[name] for name in ("box", "mask", "given_boxes")}
        logger.info(f"  {len(self._images)} held-out images: {_line(blocks)}")
        return blocks

    def _batches(self, model: nn.Module) -> Iterator[tuple[list[Tensor], list[Any]]]:
        device = next(model.parameters()).device
        for images, targets in build_loader(self._images, BATCH, self._workers, shuffle=False):
            yield [image.to(device) for image in images], [target.to(device) for target in targets]

    @torch.no_grad()
    def _detections(self, model: Any) -> Iterator[tuple[int, Detection]]:
        for images, targets in self._batches(model):
            for target, found in zip(targets, model.detect(images), strict=True):
                yield target.image_id, on_cpu(found)

    @torch.no_grad()
    def _given(self, model: Any) -> Iterator[tuple[int, Tensor, Detection]]:
        for images, targets in self._batches(model):
            drawn = model.segment(images, [t.boxes for t in targets], [t.labels for t in targets])
            for target, found in zip(targets, drawn, strict=True):
                yield target.image_id, target.annotation_ids, on_cpu(found)
