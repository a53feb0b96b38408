"""An adaptation in the folder of its run, and what adaptation.json keeps of it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from halfmask.coco.annotations import Annotations
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.models.checkpoint import Checkpoint
from halfmask.recipes.recipe import Recipe, expand
from halfmask.training.data import TrainingData, read_training_data
from halfmask.training.folder import MODEL
from halfmask.training.job import RunOptions
from halfmask.training.single import read_init

logger = logging.getLogger("halfmask")

STATE = "adaptation.json"
CACHE_BYTES = 2 << 30
"""Decoded photographs stay in memory up to this size."""
SHARED_MEMORY = Path("/dev/shm")
BATCHES_AHEAD, BYTES_OF_A_PIXEL = 8, 4
"""Batches that may wait in shared memory, with a margin, and bytes of a float."""


@dataclass(frozen=True, kw_only=True)
class AdaptationJob:
    """What an adaptation works on.

    Attributes:
        recipe: of the adaptation.
        out: folder of the run.
        data: training data of the recipe; without masks too.
        source, start: file and content of the starting checkpoint.
        state: what adaptation.json holds so far.
        deadline: of `time.monotonic`, when the last training should end.
    """

    recipe: Recipe
    out: Path
    options: RunOptions
    data: TrainingData
    source: Path
    start: Checkpoint
    state: dict[str, Any]
    deadline: float

    def save(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        write_json(self.out / STATE, self.state, indent=1)

    @property
    def file(self) -> Annotations:
        """The training images, also those without masks.

        Not the file as it lies on the disk: masks that the recipe removes
        (`data.masked`) must not judge a model either.
        """
        return self.data.training.file

    @property
    def pictures(self) -> CocoInstances:
        """The photographs of `file`."""
        training = self.data.training
        return CocoInstances(self.file, training.folder, use=training.use)

    @property
    def known(self) -> set[str]:
        """Names of the classes whose masks the starting model has learnt."""
        learnt = {i for i, n in self.start.mask_counts.items() if n} | set(self.start.masked)
        return {c["name"] for c in self.start.categories if c["id"] in learnt}


def open_adaptation(
    recipe: Recipe, out: Path, options: RunOptions, *, minutes: float
) -> AdaptationJob:
    """Reads data and starting model, and what an interrupted adaptation has done.

    Raises:
        InputError: the recipe is not for a box segmenter with `init`, or `out` was
            begun with other data or settings.
    """
    begin = time.monotonic()
    if recipe.model.kind != "box_segmenter" or recipe.init is None:
        raise InputError(
            f"{recipe.name}: adapting needs a recipe of a box_segmenter with `init`, found "
            f"{recipe.model.kind} and init={recipe.init}"
        )
    source, start = read_init(recipe.init)
    digest = _digest(recipe, source)
    state = read_state(out)
    if state and state["digest"] != digest:
        raise InputError(
            f"{out}: was begun with other data or settings; delete it, or name another --out"
        )
    data = read_training_data(recipe, needs_masks=False)
    faster = recipe.data.model_copy(update=_reading(data))
    recipe = recipe.model_copy(update={"data": faster})
    return AdaptationJob(
        recipe=recipe,
        out=out,
        options=replace(options, evaluate=False),
        data=data,
        source=source,
        start=start,
        state=state or {"digest": digest, "init": str(recipe.init), "minutes": minutes},
        deadline=begin + 60 * minutes,
    )


def read_state(out: Path) -> dict[str, Any]:
    """Reads adaptation.json of a run's folder; empty if there is none.

    Raises:
        InputError: the file is damaged, or the folder holds another run.
    """
    path = out / STATE
    if not path.is_file():
        if (out / MODEL).exists() or (out / "recipe.yaml").exists():
            raise InputError(
                f"{out} holds a run that no adaptation began; name another folder with --out"
            )
        return {}
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(state["digest"], str)
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(f"{path}: damaged; name another folder with --out") from error
    return dict(state)


def _digest(recipe: Recipe, source: Path) -> str:
    """Identifies recipe, data and starting model."""
    digest = hashlib.blake2b(recipe.to_yaml().encode(), digest_size=16)
    for path in (expand(recipe.data.annotations), source):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def _reading(data: TrainingData) -> dict[str, Any]:
    """Returns keys of the data section by which photographs are read faster here."""
    file = data.training.file
    sizes = [3 * h * w for h, w in map(file.size_of, data.training.image_ids)]
    cache = sum(sizes) <= CACHE_BYTES
    # A worker hands batches over in shared memory, which containers often lack.
    room = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    ahead = BATCHES_AHEAD * 4 * max(sizes, default=0) * BYTES_OF_A_PIXEL
    several = (os.cpu_count() or 1) > 1 and ahead < room
    return {"cache": cache, **({"workers": 1} if several else {})}
