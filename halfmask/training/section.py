"""One data section of a recipe: its images, loaders and masks."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from halfmask.coco.adopt import adopt_fillings, fillings_of
from halfmask.coco.annotations import Annotations
from halfmask.coco.categories import resolve_masked
from halfmask.coco.edit import matching_ids
from halfmask.coco.file import CocoFile
from halfmask.coco.index.place import open_annotations
from halfmask.coco.join import join_files
from halfmask.coco.supervision import Use
from halfmask.data.augment.augment import Augment
from halfmask.data.augment.paste import CopyPaste
from halfmask.data.dataset import CocoInstances
from halfmask.data.loader import build_loader
from halfmask.data.unreadable import SkipUnreadable
from halfmask.distributed import current
from halfmask.errors import InputError
from halfmask.recipes.recipe import Data, Recipe, expand
from halfmask.training.loop.batches import Loader
from halfmask.training.loop.fit import Loaders

logger = logging.getLogger("halfmask")


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Training images of one data section.

    Attributes:
        training: the images. Their file lacks the masks that the recipe removes, and
            has the categories of the model.
        masked: category ids of set A.
        mask_counts: category id → usable masks to learn from.
        objects: boxes to learn from.
        classes: how many of the model's classes the file names.
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
        """Returns the section's loaders, which give each process its part of a batch.

        Args:
            draws: see `build_loader`.
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
                examples, own, data.workers, seed=seed, augment=augment, place=place, draws=draws
            )

        return Loaders(
            shuffled,
            lambda batch_size: build_loader(examples, batch_size, data.workers, shuffle=False),
            len(self.training),
        )


@dataclass(frozen=True, kw_only=True)
class SectionFiles:
    """The annotations of a data section.

    Attributes:
        whole: all of its files, joined.
        folder: of the photographs of all.
        own: ids of the images of its first file; only these may be held out.
    """

    whole: Annotations
    folder: Path
    own: list[int]


def read_section(data: Data, in_memory: bool) -> SectionFiles:
    """Reads the annotation files of a section, and joins them if there are several.

    Args:
        in_memory: read files of any size whole, without an index.
    """
    path, folder = expand(data.annotations), expand(data.images)
    if not data.more:
        file = CocoFile.read(path) if in_memory else open_annotations(path)
        _check_file(file)
        return SectionFiles(whole=file, folder=folder, own=file.image_ids)
    first = CocoFile.read(path)
    parts = [(first, folder)]
    parts += [(CocoFile.read(expand(m.annotations)), expand(m.images)) for m in data.more]
    for part, _ in parts:
        _check_file(part)
    whole, folder = join_files(parts)
    return SectionFiles(whole=whole, folder=folder, own=first.image_ids)


def _check_file(file: Annotations) -> None:
    """Warns of suspected problems. Raises InputError without classes."""
    for problem in [*file.readings, *file.suspected]:
        if problem.facts.severity == "problem":
            logger.warning(problem.message)
    if not file.categories:
        raise InputError(
            f"{file.name}: its list of categories is empty: expected at least one class to learn"
        )


def section_pictures(
    data: Data, section: SectionFiles, ids: list[int], *, categories: list[dict[str, Any]]
) -> Pictures:
    """Returns the images `ids` of a section, in the categories of the model."""
    whole = section.whole
    named = (
        None if data.masked is None else resolve_masked(data.masked, whole.categories, whole.name)
    )
    moved = (
        None
        if categories is whole.categories
        else matching_ids(whole.categories, categories, whole.name)
    )
    # Stripped before any other code sees the masks, so that none can leak.
    file = whole.part(ids, named, None if moved is None else (moved, categories))
    if named is not None and moved is not None:
        named = {moved[i] for i in named}
    counts = file.mask_counts(data.use)
    masked = (
        {i for i, n in counts.items() if n >= data.masked_threshold} if named is None else named
    )
    return Pictures(
        training=_images(data, section.folder, file, ids=ids, use=data.use),
        masked=masked,
        mask_counts=counts,
        objects=file.objects,
        classes=len(whole.categories),
    )


def add_teacher(pictures: Pictures, recipe: Recipe, filled: Path) -> Pictures:
    """Adds the teacher's masks to the pictures. Set A and the mask counts stay."""
    data, limits = recipe.data, recipe.self_training
    before = pictures.training
    assert isinstance(before.file, CocoFile), "read in memory"
    taken = adopt_fillings(
        before.file,
        data.use,
        fillings_of(CocoFile.read(filled)),
        min_score=limits.min_score,
        min_tightness=limits.min_tightness,
    )
    logger.info(
        f"{taken.kept} of the teacher's masks to learn from; left out: {taken.doubtful} with a "
        f"score below {limits.min_score}, "
        f"{taken.loose} that do not fill their box"
    )
    file = CocoFile.from_document(taken.document, before.file.name)
    return replace(
        pictures, training=_images(data, before.folder, file, ids=file.image_ids, use="filled")
    )


def _images(
    data: Data, folder: Path, file: Annotations, *, ids: list[int], use: Use
) -> CocoInstances:
    def read(image_ids: list[int]) -> CocoInstances:
        return CocoInstances(
            file,
            folder,
            image_ids,
            use=use,
            cache=data.cache,
            crowds=data.crowds == "label",
            outlines=data.mask_targets == "polygon",
        )

    images = read(ids)
    if data.skip_unmasked:
        return read(images.with_masks())
    return read(images.with_objects()) if data.skip_unannotated else images
