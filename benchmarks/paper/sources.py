"""What the benchmarks of mask heads learn from and are measured on: pictures made
locally, of a seed, and their splits into A and B.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from benchmarks.composites.write import Plan as CompositesPlan
from benchmarks.composites.write import write_composites
from halfmask.coco.annotations import Annotations
from halfmask.coco.categories import NONVOC_IDS, VOC_IDS, resolve_masked
from halfmask.coco.file import CocoFile
from halfmask.data.dataset import CocoInstances
from halfmask.data.synthetic.classes import DEFAULT_CLASSES, attribute_split
from halfmask.data.synthetic.write import synth
from halfmask.errors import InputError
from halfmask.recipes.recipe import expand

TEST_SEEDS = 1_000_000
"""Test pictures are drawn from seeds that no training picture comes from."""


class Source(ABC):
    """Where a benchmark's pictures come from.

    Attributes:
        name: on the command line.
        recipe: shipped recipe, or file, that trains detector and heads on it.
        classes: how many it has.
        main_size: |A| at which every head runs.
        sizes: of A, for Figure 3.
    """

    name: str
    recipe: str
    classes: int
    main_size: int
    sizes: tuple[int, ...]

    @abstractmethod
    def pictures(self, folder: Path, images: int, seed: int, test: bool) -> CocoInstances:
        """`images` pictures of a seed, made in `folder` if they are not there; training
        and test share nothing.
        """

    @abstractmethod
    def split(self, file: Annotations, masked: int, split: int, seed: int) -> set[int]:
        """Category ids of the set A of `masked` classes."""

    @abstractmethod
    def name_vectors(self, file: Annotations, folder: Path) -> Path:
        """A .npy file, float32 [classes, E], of what the classes' names say, in the
        order of the category ids.
        """


class World(Source):
    """The procedural world; splits are random, with each attribute value in A."""

    name = "world"

    def __init__(self, classes: int = DEFAULT_CLASSES, recipe: str = "world_transfer") -> None:
        self.classes = classes
        self.recipe = recipe
        self.main_size = classes // 2
        self.sizes = tuple(classes * k // 8 for k in (3, 4, 5, 6, 7))

    def pictures(self, folder: Path, images: int, seed: int, test: bool) -> CocoInstances:
        if not (folder / "instances.json").is_file():
            synth(
                folder,
                image_count=images,
                seed=TEST_SEEDS + seed if test else seed,
                class_count=self.classes,
            )
        return _opened(folder, images, self.classes)

    def split(self, file: Annotations, masked: int, split: int, seed: int) -> set[int]:
        return attribute_split(file.categories, masked, 1000 * seed + split)

    def name_vectors(self, file: Annotations, folder: Path) -> Path:
        """A 1 for each of a class's attribute values: a name in the world says nothing
        else, and nothing less.
        """
        values = [set(category["attributes"].items()) for category in file.categories]
        known = sorted(set().union(*values))
        path = folder / "names.npy"
        np.save(
            path, np.array([[value in own for value in known] for own in values], dtype=np.float32)
        )
        return path


class Composites(Source):
    """Cut-outs of COCO-mini's masked objects on its photographs: training pictures from
    its train part, test pictures from its val part.

    The first split is the paper's (20 masked classes: VOC's, 60: the others); further
    ones are its random splits.
    """

    name = "composites"

    def __init__(self, recipe: str = "composites_transfer", size: int = 128) -> None:
        self.classes = len(VOC_IDS) + len(NONVOC_IDS)
        self.recipe = recipe
        self.main_size = len(VOC_IDS)
        self.sizes = (20, 30, 40, 50, 60)
        self._size = size

    def pictures(self, folder: Path, images: int, seed: int, test: bool) -> CocoInstances:
        if not (folder / "instances.json").is_file():
            part = "val" if test else "train"
            source = expand("${HALFMASK_SHARED}/data/coco-mini")
            file = CocoFile.read(source / f"instances_{part}.json")
            write_composites(folder, file, source / part, CompositesPlan(images, seed, self._size))
        return _opened(folder, images, self.classes)

    def split(self, file: Annotations, masked: int, split: int, seed: int) -> set[int]:
        papers = {len(VOC_IDS): VOC_IDS, len(NONVOC_IDS): NONVOC_IDS}
        if split == 0 and masked in papers:
            return set(papers[masked])
        trial = split if masked in papers else split + 1  # the generator's trials begin with 1
        return resolve_masked(f"random:{trial}:{masked}", file.categories)

    def name_vectors(self, file: Annotations, folder: Path) -> Path:
        """The paper's own GloVe vectors of COCO's class names."""
        return expand("${HALFMASK_SHARED}/data/embeddings/coco_glove.npy")


def _opened(folder: Path, images: int, classes: int) -> CocoInstances:
    annotations = folder / "instances.json"
    file = CocoFile.read(annotations)
    if len(file.images) != images or len(file.categories) != classes:
        raise InputError(
            f"{annotations}: expected {images} pictures of {classes} classes, found "
            f"{len(file.images)} of {len(file.categories)}; "
            "delete the folder or name another one"
        )
    return CocoInstances(file, folder / "images", cache=True)
