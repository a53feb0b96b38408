"""Reads the training data of a recipe: strips masks, holds out images, checks everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from halfmask.coco.annotations import Annotations
from halfmask.coco.doctor.groups import MaskGroups
from halfmask.coco.edit import matching_ids
from halfmask.coco.index.place import open_annotations
from halfmask.data.dataset import CocoInstances, development_split
from halfmask.errors import InputError
from halfmask.models.checkpoint import Checkpoint
from halfmask.recipes.recipe import Data, Recipe, Stage, expand
from halfmask.training.held_out import HeldOutEvaluation
from halfmask.training.loop.fit import Loaders
from halfmask.training.section import (
    Pictures,
    SectionFiles,
    add_teacher,
    read_section,
    section_pictures,
)


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """Training and held-out images of a run.

    Attributes:
        name: of the recipe's annotation file.
        main: the recipe's data, with the categories of the model.
        development: its held-out images with all masks of the file, or None.
        own: stage number → data of that stage alone.
        masked: category ids of set A: classes with masks in data that a stage learns
            masks from (in the main data if no stage does).
        mask_counts: category id → usable masks in the same data.
        given: the classes by the masks that the model is given: those of `mask_counts`
            and those that its initial weights have learned from.
    """

    name: str
    main: Pictures
    development: CocoInstances | None
    masked: set[int]
    mask_counts: dict[int, int]
    given: MaskGroups
    own: Mapping[int, Pictures] = field(default_factory=dict)

    @property
    def training(self) -> CocoInstances:
        """Training images of the main data."""
        return self.main.training

    @property
    def categories(self) -> list[dict[str, Any]]:
        """The model's classes."""
        return self.training.file.categories

    @property
    def masks(self) -> int:
        """Usable masks to learn from."""
        return sum(self.mask_counts.values())

    def loaders(self, recipe: Recipe) -> Loaders:
        """Returns the loaders of all stages, for `fit`."""
        draws = recipe.sampling == "image"
        own = {}
        for index, pictures in self.own.items():
            data = recipe.stages[index].data
            assert data is not None, index
            own[index] = pictures.loaders(data, draws)
        return replace(self.main.loaders(recipe.data, draws), own=own)

    def evaluation(self, workers: int) -> Callable[[nn.Module], dict[str, Any]] | None:
        """Returns the evaluation on the development images; None if there are none."""
        if self.development is None:
            return None
        return HeldOutEvaluation(self.development, self.masked, groups=self.given, workers=workers)

    def files(self, recipe: Recipe) -> dict[str, list[Path]]:
        """Returns the files that a run of the recipe reads: annotations and photographs."""
        sections = [recipe.data, *(stage.data for stage in recipe.stages if stage.data)]
        names = [name for data in sections for name in (data.annotations, data.validation) if name]
        names += [more.annotations for data in sections for more in data.more]
        parts = [self.main.training, *(pictures.training for pictures in self.own.values())]
        parts += [] if self.development is None else [self.development]
        return {
            "annotations": [expand(name) for name in names],
            "photographs": [part.path_of(i) for part in parts for i in part.image_ids],
        }

    def started_from(self, start: Checkpoint) -> TrainingData:
        """Returns the same data, for a model with the weights of another checkpoint."""
        before, own = start.masks_given.by_name, self.mask_counts
        masked = {c["name"] for c in start.categories if c["id"] in set(start.masked)}
        threshold = self.given.threshold
        counts: dict[int, int | None] = {}
        for category in self.categories:
            number, name = category["id"], category["name"]
            earlier = before.get(name, 0)
            if earlier is None:  # a checkpoint without numbers still names its set A
                earlier = 0 if name not in masked or own[number] >= threshold else None
            # Not their sum: the start may have learned from the same masks.
            counts[number] = None if earlier is None else max(own[number], earlier)
        return replace(self, given=replace(self.given, counts=counts))


def read_training_data(
    recipe: Recipe, filled: Path | None = None, in_memory: bool = False, *, needs_masks: bool = True
) -> TrainingData:
    """Reads and checks the data of a recipe. A large file is indexed first.

    Args:
        filled: the training images with a teacher's masks (`training/rounds.py`). Masks
            that pass `self_training` are learnt from too.
        in_memory: read files of any size whole; always so with `filled`.
        needs_masks: raise if a stage needs masks and there are none.
    Raises:
        InputError: a file is not COCO, has no categories, photographs are missing,
            there is no box, or no mask where a stage needs some; a stage's own data
            have a class that the recipe's do not.
    """
    in_memory = in_memory or filled is not None
    section = read_section(recipe.data, in_memory)
    whole = section.whole
    share, fold = recipe.data.development, recipe.data.development_fold
    held = set(development_split(section.own, share, fold)[1])
    learn = [i for i in whole.image_ids if i not in held]
    hold = [i for i in section.own if i in held]
    main = section_pictures(recipe.data, section, learn, categories=whole.categories)
    if filled is not None:
        main = add_teacher(main, recipe, filled)
    development = _held_out(recipe.data, section, hold)
    own = _own_pictures(recipe, main, whole, in_memory=in_memory)
    if needs_masks:
        _check(recipe, main, own)
    sources = {
        id(own.get(i, main)): own.get(i, main)
        for i, stage in enumerate(recipe.stages)
        if stage.loss != "boxes"
    }
    teaching = list(sources.values()) or [main]
    counts = {i: sum(p.mask_counts[i] for p in teaching) for i in main.mask_counts}
    return TrainingData(
        name=whole.name,
        main=main,
        development=development,
        masked=set().union(*(p.masked for p in teaching)),
        mask_counts=counts,
        given=MaskGroups(counts, recipe.data.masked_threshold),
        own=own,
    )


def _held_out(data: Data, section: SectionFiles, hold: list[int]) -> CocoInstances | None:
    """Returns the images for evaluations on the way, with all of their masks."""
    whole = section.whole
    if data.validation is not None:
        file = open_annotations(expand(data.validation))
        ids, images = file.image_ids, data.validation_images or data.images
        if _classes(file) != _classes(whole):
            moved = matching_ids(file.categories, whole.categories, file.name)
            file = file.part(ids, None, (moved, whole.categories))
        return CocoInstances(file, expand(images), ids, use=data.use)
    if not hold:
        return None
    file = whole.part(hold)
    return CocoInstances(file, section.folder, hold, use=data.use, cache=data.cache)


def _classes(file: Annotations) -> list[tuple[int, str]]:
    return [(c["id"], c["name"]) for c in file.categories]


def _own_pictures(
    recipe: Recipe, main: Pictures, whole: Annotations, *, in_memory: bool
) -> dict[int, Pictures]:
    """Reads the stages' own data, each file once."""
    own: dict[int, Pictures] = {}
    read: dict[Data, Pictures] = {recipe.data: main}
    for index, stage in enumerate(recipe.stages):
        data = stage.data
        if data is not None:
            if data not in read:
                _refuse_held_out(recipe, index, data)
                theirs = read_section(data, in_memory)
                ids = theirs.whole.image_ids
                read[data] = section_pictures(data, theirs, ids, categories=whole.categories)
            own[index] = read[data]
            _refuse_missing_classes(stage, read[data], whole)
    return own


def _refuse_held_out(recipe: Recipe, index: int, data: Data) -> None:
    """Refuses a stage that reads the recipe's own file, held-out images included."""
    same = expand(data.annotations).resolve() == expand(recipe.data.annotations).resolve()
    if same and recipe.data.development > 0:
        raise InputError(
            f"stages.{index}.data: names the recipe's own file, whose held-out images "
            f"(data.development={recipe.data.development}) it "
            "would learn from; leave the stage's data out, or set data.development=0"
        )


def _refuse_missing_classes(stage: Stage, pictures: Pictures, whole: Annotations) -> None:
    """Refuses box losses on a file that does not label all classes."""
    have, classes = pictures.classes, len(whole.categories)
    if stage.loss != "masks" and have < classes:
        raise InputError(
            f"stage {stage.name}: its own data have {have} of the model's {classes} classes, "
            f"and loss={stage.loss} would teach the objects of the others as background; set its "
            "loss to masks, or give it a file with all classes"
        )


def _check(recipe: Recipe, main: Pictures, own: dict[int, Pictures]) -> None:
    for index, stage in enumerate(recipe.stages):
        pictures, data = own.get(index, main), stage.data or recipe.data
        name = pictures.training.file.name
        if pictures.objects == 0:
            raise InputError(
                f"{name}: no image to learn from has a usable box (crowds aside); see "
                f"`halfmask doctor {name}`"
            )
        if stage.loss != "boxes" and pictures.masks == 0:
            key = "data.masked" if stage.data is None else f"stages.{index}.data.masked"
            without = f"{key}={data.masked} leaves none" if data.masked else "it has none"
            raise InputError(
                f"{name}: stage {stage.name} learns masks, and none of the {pictures.objects} "
                f"objects has a usable one ({without}): "
                f"annotate some masks, name other classes in {key}, or train boxes only (loss: "
                "boxes)"
            )
