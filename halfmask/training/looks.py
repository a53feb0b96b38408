"""What the classes look like, for a model that is conditioned on it: some boxes of each
class are read before the training begins.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from halfmask.data.dataset import CocoInstances
    from halfmask.models.base import SegmentationModel
    from halfmask.recipes.recipe import Recipe
    from halfmask.structures import Target
    from halfmask.training.data import TrainingData

logger = logging.getLogger("halfmask")


def learn_looks(model: SegmentationModel, recipe: Recipe, data: TrainingData) -> None:
    """Prototypes of the classes, where the recipe conditions the model on them
    (`models.box_segmenter.prototypes`); else nothing.
    """
    from halfmask.data.dataset import CocoInstances
    from halfmask.models.box_segmenter.model import BoxSegmenter

    condition = recipe.model.condition if recipe.model.kind == "box_segmenter" else None
    if condition is None or condition.input != "prototype":
        return
    assert isinstance(model, BoxSegmenter)
    assert recipe.model.kind == "box_segmenter"
    if recipe.model.encoder.weights is None and recipe.init is None:
        logger.warning(
            "model.condition.input: prototype: the encoder has no weights, so classes look "
            "alike to it; name some"
        )
    # Photographs without a mask too: a box-only class may be on no other.
    pictures = CocoInstances(data.main.training.file, data.main.training.folder)
    model.learn_prototypes(_examples(pictures))


def _examples(pictures: CocoInstances) -> Iterator[tuple[Tensor, Target]]:
    """The photographs that have a class of which not enough was seen yet, with a
    progress display.
    """
    from halfmask.models.box_segmenter.prototypes import PER_CLASS
    from halfmask.progress import tracked

    seen: Counter[int] = Counter()
    for index, image_id in enumerate(
        tracked(pictures.image_ids, "looking at the classes", len(pictures), "image")
    ):
        classes = [a["category_id"] for a in pictures.file.annotations_of(image_id)]
        if any(seen[c] < PER_CLASS for c in classes):
            seen.update(classes)
            yield pictures[index]
