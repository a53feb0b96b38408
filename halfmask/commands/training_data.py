"""A recipe's data section made real: the files read, masks stripped, images held out, everything checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from halfmask.coco.annotations import CocoFile, is_id
from halfmask.coco.categories import resolve_masked
from halfmask.coco.split import strip_masks
from halfmask.coco.supervision import is_crowd
from halfmask.config import Data, Recipe, expand
from halfmask.data.dataset import CocoInstances, development_split
from halfmask.data.loader import build_loader
from halfmask.data.transforms import Augment
from halfmask.engine.train import Data as Loaders
from halfmask.errors import InputError
from halfmask.evaluation.evaluate import evaluate
from halfmask.inference.predictor import on_cpu
from halfmask.structures import Detection

DEVELOPMENT_BATCH = 4


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from and is measured on.

    Attributes:
        name: of the annotation file.
        training: the images to learn from; masks that the recipe takes away are gone from its file.
        development: the held-out images with all masks that the file has, or None.
        masked: category ids of set A.
        mask_counts: category id → usable masks to learn from.
        objects: boxes to learn from.
    """

    name: str
    training: CocoInstances
    development: CocoInstances | None
    masked: set[int]
    mask_counts: dict[int, int]
    objects: int

    @property
    def categories(self) -> list[dict[str, Any]]:
        return self.training.file.categories

    @property
    def masks(self) -> int:
        return sum(self.mask_counts.values())

    def loaders(self, data: Data) -> Loaders:
        """For `engine.train.fit`."""
        augment = Augment(data.flip, data.colour_jitter)
        return Loaders(
            lambda batch_size, seed: build_loader(self.training, batch_size, data.workers, seed, augment, shuffle=True),
            lambda batch_size: build_loader(self.training, batch_size, data.workers, 0, None, shuffle=False),
            len(self.training),
        )

    def evaluation(self, workers: int) -> Callable[[nn.Module], dict[str, Any]] | None:
        """Model → box, mask and given_boxes blocks on the development images; None where no image is held out."""
        return None if self.development is None else _Evaluation(self.development, self.masked, workers)


def read_training_data(recipe: Recipe) -> TrainingData:
    """Reads and checks what a recipe learns from.

    Raises:
        InputError: the file is no COCO file, its class list is empty, photographs are missing, there is no box at all, or no mask where
            a stage needs some.
    """
    data = recipe.data
    whole = CocoFile.read(expand(data.annotations))
    if not whole.categories:
        raise InputError(f"{whole.name}: its list of categories is empty: expected at least one class to learn")
    folder = expand(data.images)
    learn, hold = development_split([image["id"] for image in whole.images], data.development)
    # Stripped before anything else sees the masks: what is not there cannot leak.
    document = _images_of(whole.document, set(learn))
    named = None if data.masked is None else resolve_masked(data.masked, whole.categories)
    if named is not None:
        document = strip_masks(document, named)
    file = CocoFile.from_document(document, whole.name)
    counts = file.mask_counts(data.use)
    _check(recipe, file, sum(counts.values()))
    masked = {i for i, n in counts.items() if n >= data.masked_threshold} if named is None else named
    training = CocoInstances(file, folder, learn, data.use, data.cache)
    if data.skip_unmasked:
        training = CocoInstances(file, folder, training.with_masks(), data.use, data.cache)
    development = None
    if hold:
        truth = CocoFile.from_document(_images_of(whole.document, set(hold)), whole.name)
        development = CocoInstances(truth, folder, hold, data.use, data.cache)
    return TrainingData(whole.name, training, development, masked, counts, _objects(file))


def _images_of(document: dict[str, Any], ids: set[int]) -> dict[str, Any]:
    """The document with these images and their annotations only."""

    def belongs(record: Any, key: str) -> bool:
        return isinstance(record, dict) and is_id(record.get(key)) and record[key] in ids

    images = [record for record in document["images"] if belongs(record, "id")]
    return {**document, "images": images, "annotations": [a for a in document["annotations"] if belongs(a, "image_id")]}


def _objects(file: CocoFile) -> int:
    return sum(not is_crowd(a) for image in file.images for a in file.annotations_of(image["id"]))


def _check(recipe: Recipe, file: CocoFile, masks: int) -> None:
    objects = _objects(file)
    if objects == 0:
        raise InputError(
            f"{file.name}: no image to learn from has a usable box (crowds aside); see `halfmask doctor {file.name}`"
        )
    needing = [stage.name for stage in recipe.stages if stage.loss != "boxes"]
    if masks == 0 and needing:
        without = f"data.masked={recipe.data.masked} leaves none" if recipe.data.masked else "it has none"
        raise InputError(
            f"{file.name}: stage {needing[0]} learns masks, and none of the {objects} objects has a usable one ({without}): annotate some "
            "masks, name other classes in data.masked, or train boxes only (loss: boxes)"
        )


def _line(blocks: dict[str, Any]) -> str:
    """The numbers to watch, those that exist, in percent."""
    parts = []
    wanted = (
        ("box AP", "box", "AP", 1),
        ("mask AP", "mask", "AP", 1),
        ("IoU on given boxes", "given_boxes", "miou", 100),
    )
    for title, block, key, factor in wanted:
        values = {name: blocks[block][name][key] for name in ("all", "A", "B")}
        if values["all"] is not None:
            rest = ", ".join(f"{name} {values[name] * factor:.1f}" for name in "AB" if values[name] is not None)
            parts.append(f"{title} {values['all'] * factor:.1f} ({rest})")
    return "; ".join(parts) or "nothing to measure"


class _Evaluation:
    """Runs a model over held-out images."""

    def __init__(self, images: CocoInstances, masked: set[int], workers: int) -> None:
        self._images, self._masked, self._workers = images, masked, workers

    def __call__(self, model: Any) -> dict[str, Any]:
        model.eval()
        detections = self._detections(model) if model.has_detector else None
        given = self._given(model)
        result = evaluate(self._images.file, detections, given, self._masked, self._images.use)
        blocks = {name: result[name] for name in ("box", "mask", "given_boxes")}
        print(f"  {len(self._images)} held-out images: {_line(blocks)}")
        return blocks

    def _batches(self, model: nn.Module) -> Iterator[tuple[list[Tensor], list[Any]]]:
        device = next(model.parameters()).device
        for images, targets in build_loader(self._images, DEVELOPMENT_BATCH, self._workers, shuffle=False):
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
