"""Prepares the folder and the model of a run: its recipe, and prototypes of the classes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from halfmask import distributed
from halfmask.data.dataset import CocoInstances
from halfmask.files.atomic import write_text
from halfmask.models.base import SegmentationModel
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.models.box_segmenter.prototypes import PER_CLASS
from halfmask.progress import Progress
from halfmask.recipes.recipe import Recipe
from halfmask.structures import Target
from halfmask.training.data import TrainingData
from halfmask.training.folder import await_folder
from halfmask.training.loop.callback import RESUME_FILE

logger = logging.getLogger("halfmask")


def begin_run(
    recipe: Recipe, data: TrainingData, model: SegmentationModel, out: Path, *, progress: Progress
) -> None:
    """Prepares model and folder in the main process; `fit` copies the model to the others."""
    members = distributed.current()
    if members.is_main:
        if not (out / RESUME_FILE).is_file():  # which would hold the prototypes
            _learn_looks(model, recipe, data, progress)
        out.mkdir(parents=True, exist_ok=True)
        for scrap in out.glob(".*.part"):  # left by a killed process
            scrap.unlink()
        write_text(out / "recipe.yaml", recipe.to_yaml())
    members.wait()
    await_folder(out)


def _learn_looks(
    model: SegmentationModel, recipe: Recipe, data: TrainingData, progress: Progress
) -> None:
    """Sets the class prototypes from boxes of the training images.

    Does nothing unless the recipe conditions the model on prototypes
    (`models.box_segmenter.prototypes`).
    """
    condition = recipe.model.condition if recipe.model.kind == "box_segmenter" else None
    if condition is None or condition.input != "prototype":
        return
    assert isinstance(model, BoxSegmenter)
    assert recipe.model.kind == "box_segmenter"
    if recipe.model.encoder.weights is None and recipe.init is None:
        logger.warning(
            "model.condition.input: prototype: the encoder has no weights, so all classes look "
            "alike to it; name some"
        )
    # Photographs without a mask too: a box-only class may appear on no other.
    pictures = CocoInstances(data.main.training.file, data.main.training.folder)
    model.learn_looks(_examples(pictures, progress))


def _examples(pictures: CocoInstances, progress: Progress) -> Iterator[tuple[Tensor, Target]]:
    """Yields photographs that show a class with too few examples so far."""
    seen: Counter[int] = Counter()
    for index, image_id in enumerate(pictures.image_ids):
        classes = [a["category_id"] for a in pictures.file.annotations_of(image_id)]
        if any(seen[c] < PER_CLASS for c in classes):
            seen.update(classes)
            yield pictures[index]
        progress("looking at the classes", index + 1, len(pictures))
