"""Teachers for objects without masks: the mean of the starting and the adapted models.

The starting model keeps what adapting forgets, the adapted ones know the domain. Their
mean is better than each, and one student learns it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halfmask.coco.file import CocoFile
from halfmask.files.atomic import write_json
from halfmask.masks.crops import encode_rle
from halfmask.structures import Detection
from halfmask.training.adapt.holdout import draw_rows
from halfmask.training.adapt.job import AdaptationJob
from halfmask.training.measure import load_for_measuring, readable

logger = logging.getLogger("halfmask")

FOLDER = "teacher"
MOST = 600
"""Objects that get a teacher's mask, at most, spread evenly over the classes."""
ABOUND = 0.05
"""Objects without a mask, as a share of the masks, from which on teachers are asked."""
LOOKED_AT = 1000
"""Photographs from which the objects are drawn, at most."""


def teach(job: AdaptationJob, checkpoints: Sequence[Path]) -> Path | None:
    """Draws masks for objects without one, or finds those of an interrupted run.

    Args:
        checkpoints: the teachers, box segmenters of the same first context.
    Returns:
        A COCO file of the training images with the teachers' masks; None if hardly any
        object lacks a mask.
    """
    file, data = job.data.training.file, job.data
    bare = job.file.objects - data.masks
    if bare < max(1.0, ABOUND * data.masks) or not isinstance(file, CocoFile):
        return None
    path = job.out / FOLDER / "filled.json"
    if path.is_file():
        return path
    # The mirror makes the teacher better. Zooms do not, and the maps of several
    # contexts cover different regions.
    models = [load_for_measuring(checkpoint, zooms=False) for checkpoint in checkpoints]
    training = job.data.training
    order = np.random.default_rng([job.recipe.seed, 21]).permutation(len(training))
    chosen = draw_rows(training, order[:LOOKED_AT].tolist(), MOST, masked=False)
    found: dict[tuple[int, int], dict[str, Any]] = {}
    title, progress = "teachers draw masks", job.options.progress
    for image, target, rows in readable(training, chosen, title=title, progress=progress):
        mean = mean_masks(models, image, target.boxes[rows], labels=target.labels[rows])
        masks = zip(encode_rle(mean.crops()), mean.quality.tolist(), strict=True)
        for annotation, (rle, score) in zip(
            target.annotation_ids[rows].tolist(), masks, strict=True
        ):
            note = {"model": "teacher", "score": round(score, 4), "state": "filled"}
            found[target.image_id, annotation] = {"segmentation": rle, "halfmask": note}
    rows_of_file = [_with_mask(row, found) for row in file.document["annotations"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**file.document, "annotations": rows_of_file})
    logger.info(f"{len(found)} masks by {len(models)} teachers for objects without one")
    return path


def _with_mask(row: Any, found: dict[tuple[int, int], dict[str, Any]]) -> Any:
    if not isinstance(row, dict):
        return row
    key: Any = row.get("image_id"), row.get("id")
    return row | found.get(key, {})


@torch.no_grad()
def mean_masks(models: Sequence[Any], image: Tensor, boxes: Tensor, *, labels: Tensor) -> Detection:
    """Returns the mean of several box segmenters' masks, on the CPU.

    Args:
        models: with the same first context, so that their maps cover the same regions.
        image: float32 [3, H, W].
        boxes: float32 [n, 4] xyxy.
        labels: int64 [n].
    """
    drawn: list[Detection] = []
    for model in models:
        device = next(model.parameters()).device
        [one] = model.segment([image.to(device)], [boxes.to(device)], [labels.to(device)])
        drawn.append(one)
    probs = torch.stack([one.mask_probs.cpu() for one in drawn]).mean(0)
    quality = torch.stack([one.quality.cpu() for one in drawn]).mean(0)
    first = drawn[0]
    return replace(
        first,
        boxes=first.boxes.cpu(),
        regions=first.regions.cpu(),
        labels=first.labels.cpu(),
        scores=first.scores.cpu(),
        mask_probs=probs,
        quality=quality,
    )
