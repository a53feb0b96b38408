"""Evaluations during a training, on its held-out images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from halfmask.coco.doctor.groups import MaskGroups
from halfmask.data.dataset import CocoInstances
from halfmask.data.loader import build_loader
from halfmask.evaluation.measures.metrics import compute_metrics
from halfmask.pictures.curves import score
from halfmask.pictures.sets import ALL, short_title, shown_sets
from halfmask.progress import Progress
from halfmask.structures import Detection, Target

logger = logging.getLogger("halfmask")

BATCH = 4

Segment = Callable[[list[Tensor], list[Target]], list[Detection]]


MEASURED = ("box", "mask", "boundary", "given_boxes")
LEFT_OUT = ("mask_over_box", "quality", "ambiguous")
"""Measures that `halfmask evaluate` has and metrics.json has not."""
SHOWN = (
    ("box AP", ("box", "AP"), 1),
    ("mask AP", ("mask", "AP"), 1),
    ("IoU on given boxes", ("given_boxes", "miou"), 100),
    ("boundary IoU", ("given_boxes", "boundary", "miou"), 100),
)


def _line(blocks: dict[str, Any]) -> str:
    """Summarises an evaluation in percent, without values that do not exist."""
    parts, sets = [], shown_sets(blocks)
    for title, keys, factor in SHOWN:
        found = {name: score(measures, *keys) for name, measures in sets.items()}
        values = {name: v * factor for name, v in found.items() if v is not None}
        every = values.pop(ALL, None)
        if every is not None:
            rest = ", ".join(f"{short_title(name)} {v:.1f}" for name, v in values.items())
            parts.append(f"{title} {every:.1f} ({rest})")
    return "; ".join(parts) or "nothing to measure"


class HeldOutEvaluation:
    """Measures a model on held-out images."""

    def __init__(
        self, images: CocoInstances, masked: set[int], *, groups: MaskGroups, workers: int
    ) -> None:
        self._images, self._masked, self._workers = images, masked, workers
        self._groups = groups

    def __call__(self, model: Any) -> dict[str, Any]:
        model.eval()
        detections = self._detections(model) if model.has_detector else None
        given = drawn_masks(segment_with(model), self._images, self._workers)
        result = compute_metrics(
            self._images.file,
            detections,
            given,
            masked=self._masked,
            groups=self._groups,
            use=self._images.use,
        )
        blocks = {name: result[name] for name in MEASURED}
        blocks["groups"] = {
            group: {key: value for key, value in block.items() if key not in LEFT_OUT}
            for group, block in result["groups"].items()
        }
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
