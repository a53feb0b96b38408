"""A recipe's data section made real: the files read, masks stripped, images held out,
everything checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from halfmask.coco.adopt import adopt_fillings, fillings_of
from halfmask.coco.annotations import Annotations
from halfmask.coco.categories import resolve_masked
from halfmask.coco.edit import matching_ids
from halfmask.coco.file import CocoFile
from halfmask.coco.index.place import open_annotations
from halfmask.data.augment.augment import Augment
from halfmask.data.augment.paste import CopyPaste
from halfmask.data.dataset import CocoInstances, development_split
from halfmask.data.loader import build_loader
from halfmask.data.unreadable import SkipUnreadable
from halfmask.distributed import current
from halfmask.errors import InputError
from halfmask.recipes.recipe import Data, Recipe, Stage, expand
from halfmask.training.held_out import Evaluation
from halfmask.training.loop.batches import Loader
from halfmask.training.loop.fit import Data as Loaders


@dataclass(frozen=True)
class Pictures:
    """What one data section gives to learn from.

    Attributes:
        training: the images; masks that the recipe takes away are gone from its file,
            whose categories are the model's.
        masked: category ids of set A.
        mask_counts: category id → usable masks to learn from.
        objects: boxes to learn from.
        classes: how many of the model's classes its file names.
    """

    training: CocoInstances
    masked: set[int]
    mask_counts: dict[int, int]
    objects: int
    classes: int

    @property
    def masks(self) -> int:
        return sum(self.mask_counts.values())

    def loaders(self, data: Data, draws: bool = False) -> Loaders:
        """Batches as this data section wants them; of several processes each gets its
        part. draws: see `build_loader`.
        """
        examples, paste = SkipUnreadable(self.training, data.unreadable), None
        if data.paste > 0:
            masked = set(self.training.with_masks())
            rows = [k for k, i in enumerate(self.training.image_ids) if i in masked]
            paste = CopyPaste(examples, data.paste, data.paste_most, rows=rows)
        augment = Augment(data.flip, data.colour_jitter, paste, rotation=data.rotation)
        place = current().place

        def shuffled(batch_size: int, seed: int) -> Loader:
            own = batch_size // place.world
            return build_loader(
                examples,
                own,
                data.workers,
                seed=seed,
                augment=augment,
                shuffle=True,
                place=place,
                draws=draws,
            )

        return Loaders(
            shuffled,
            lambda batch_size: build_loader(
                examples, batch_size, data.workers, seed=0, augment=None, shuffle=False
            ),
            len(self.training),
        )


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from and is measured on.

    Attributes:
        name: of the recipe's annotation file.
        main: the recipe's data, whose categories are the model's.
        development: its held-out images with all masks that the file has, or None.
        own: stage number → data of that stage's own.
        masked: category ids of set A: classes with masks in data that a stage learns
            masks from (the main data where none does).
        mask_counts: category id → usable masks in the same data.
    """

    name: str
    main: Pictures
    development: CocoInstances | None
    masked: set[int]
    mask_counts: dict[int, int]
    own: Mapping[int, Pictures] = field(default_factory=dict)

    @property
    def training(self) -> CocoInstances:
        """The main data's images to learn from."""
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
        """For `engine.train.fit`."""
        main = self.main.loaders(recipe.data, recipe.sampling == "image")
        return Loaders(main.shuffled, main.in_order, main.images, self._own_loaders(recipe))

    def _own_loaders(self, recipe: Recipe) -> dict[int, Loaders]:
        loaders = {}
        for index, pictures in self.own.items():
            data = recipe.stages[index].data
            assert data is not None, index
            loaders[index] = pictures.loaders(data, recipe.sampling == "image")
        return loaders

    def evaluation(self, workers: int) -> Callable[[nn.Module], dict[str, Any]] | None:
        """Model → box, mask and given_boxes blocks on the development images; None
        where no image is held out.
        """
        return (
            None if self.development is None else Evaluation(self.development, self.masked, workers)
        )


def read_training_data(
    recipe: Recipe, filled: Path | None = None, in_memory: bool = False
) -> TrainingData:
    """Reads and checks what a recipe learns from. A large file is indexed first, where
    its index is not there yet.

    Args:
        filled: the training images with a teacher's masks (`training/rounds.py`): those
            that pass `self_training` are learnt from too.
        in_memory: read files of any size whole, as what `filled` is added to always is.
    Raises:
        InputError: a file is no COCO file, its class list is empty, photographs are
            missing, there is no box at all, or no mask where a stage needs some; a
            stage's own data have a class that the recipe's do not.
    """
    in_memory = in_memory or filled is not None
    whole = _read(recipe.data, in_memory)
    share, fold = recipe.data.development, recipe.data.development_fold
    learn, hold = development_split(whole.image_ids, share, fold)
    main = _pictures(recipe.data, whole, learn, whole.categories)
    if filled is not None:
        main = _with_teacher(main, recipe, filled)
    development = None
    if hold:
        development = CocoInstances(
            whole.part(hold),
            expand(recipe.data.images),
            hold,
            use=recipe.data.use,
            cache=recipe.data.cache,
        )
    own: dict[int, Pictures] = {}
    read: dict[Data, Pictures] = {recipe.data: main}
    for index, stage in enumerate(recipe.stages):
        data = stage.data
        if data is not None:
            if data not in read:
                _refuse_held_out(recipe, index, data)
                theirs = _read(data, in_memory)
                read[data] = _pictures(data, theirs, theirs.image_ids, whole.categories)
            own[index] = read[data]
            _refuse_missing_classes(stage, read[data], whole)
    _check(recipe, main, own)
    sources = {
        id(own.get(i, main)): own.get(i, main)
        for i, stage in enumerate(recipe.stages)
        if _learns_masks(stage)
    }
    teaching = list(sources.values()) or [main]
    counts = {i: sum(p.mask_counts[i] for p in teaching) for i in main.mask_counts}
    masked = set().union(*(p.masked for p in teaching))
    return TrainingData(whole.name, main, development, masked, counts, own)


def _refuse_held_out(recipe: Recipe, index: int, data: Data) -> None:
    """A stage that reads the recipe's file by itself would learn from the images that
    the recipe holds out.
    """
    same = expand(data.annotations).resolve() == expand(recipe.data.annotations).resolve()
    if same and recipe.data.development > 0:
        raise InputError(
            f"stages.{index}.data: names the recipe's own file, whose held-out images "
            f"(data.development={recipe.data.development}) it "
            "would learn from; leave the stage's data out, or set data.development=0"
        )


def _refuse_missing_classes(stage: Stage, pictures: Pictures, whole: Annotations) -> None:
    """What a file does not label is background to the box losses."""
    have, classes = pictures.classes, len(whole.categories)
    if stage.loss != "masks" and have < classes:
        raise InputError(
            f"stage {stage.name}: its own data have {have} of the model's {classes} classes, "
            f"and loss={stage.loss} would teach objects of "
            "the others as background; set its loss to masks, or give it a file with all classes"
        )


def _read(data: Data, in_memory: bool) -> Annotations:
    path = expand(data.annotations)
    file = CocoFile.read(path) if in_memory else open_annotations(path)
    if not file.categories:
        raise InputError(
            f"{file.name}: its list of categories is empty: expected at least one class to learn"
        )
    return file


def _pictures(
    data: Data, whole: Annotations, ids: list[int], categories: list[dict[str, Any]]
) -> Pictures:
    """The images of a file that are to be learnt from, told in the model's categories."""
    named = (
        None if data.masked is None else resolve_masked(data.masked, whole.categories, whole.name)
    )
    moved = (
        None
        if categories is whole.categories
        else matching_ids(whole.categories, categories, whole.name)
    )
    # Stripped before anything else sees the masks: what is not there cannot leak.
    file = whole.part(ids, named, None if moved is None else (moved, categories))
    if named is not None and moved is not None:
        named = {moved[i] for i in named}
    counts = file.mask_counts(data.use)
    masked = (
        {i for i, n in counts.items() if n >= data.masked_threshold} if named is None else named
    )
    folder = expand(data.images)
    training = CocoInstances(file, folder, ids, use=data.use, cache=data.cache)
    if data.skip_unmasked:
        training = CocoInstances(
            file, folder, training.with_masks(), use=data.use, cache=data.cache
        )
    return Pictures(training, masked, counts, file.objects, len(whole.categories))


def _with_teacher(pictures: Pictures, recipe: Recipe, filled: Path) -> Pictures:
    """The same pictures with the teacher's masks beside people's. Which classes are A,
    and how many masks they have, stays.
    """
    data, limits = recipe.data, recipe.self_training
    before = pictures.training
    assert isinstance(before.file, CocoFile), "read in memory, for this"
    taken = adopt_fillings(
        before.file,
        data.use,
        fillings_of(CocoFile.read(filled)),
        min_score=limits.min_score,
        min_tightness=limits.min_tightness,
    )
    print(
        f"{taken.kept} of the teacher's masks to learn from; left out: {taken.doubtful} with a "
        f"score below {limits.min_score}, "
        f"{taken.loose} that do not fill their box"
    )
    file = CocoFile.from_document(taken.document, before.file.name)
    training = CocoInstances(file, before.folder, file.image_ids, use="filled", cache=data.cache)
    if data.skip_unmasked:
        training = CocoInstances(
            file, before.folder, training.with_masks(), use="filled", cache=data.cache
        )
    return replace(pictures, training=training)


def _learns_masks(stage: Stage) -> bool:
    return stage.loss != "boxes"


def _check(recipe: Recipe, main: Pictures, own: dict[int, Pictures]) -> None:
    for index, stage in enumerate(recipe.stages):
        pictures, data = own.get(index, main), stage.data or recipe.data
        name = pictures.training.file.name
        if pictures.objects == 0:
            raise InputError(
                f"{name}: no image to learn from has a usable box (crowds aside); see "
                f"`halfmask doctor {name}`"
            )
        if _learns_masks(stage) and pictures.masks == 0:
            key = "data.masked" if stage.data is None else f"stages.{index}.data.masked"
            without = f"{key}={data.masked} leaves none" if data.masked else "it has none"
            raise InputError(
                f"{name}: stage {stage.name} learns masks, and none of the {pictures.objects} "
                f"objects has a usable one ({without}): "
                f"annotate some masks, name other classes in {key}, or train boxes only (loss: "
                "boxes)"
            )
