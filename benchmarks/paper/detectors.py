"""The detectors of the benchmarks: one for each seed, trained by the recipe on the
boxes of all classes, kept for later runs.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from halfmask.data.augment.augment import Augment
from halfmask.data.dataset import CocoInstances
from halfmask.data.loader import build_loader
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.models.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.progress import Display
from halfmask.recipes.recipe import MaskRCNN, Recipe, parse_recipe
from halfmask.training.loop.fit import Loaders, fit

Say = Callable[[str], None]


def trained_detector(
    recipe: Recipe, seed: int, training: CocoInstances, folder: Path, say: Say
) -> PartialMaskRCNN:
    """The recipe's model after its box stages on `training`, in eval mode; its mask
    head is untrained.

    Trained once, then read from `folder`; an interrupted training is resumed.
    """
    document = recipe.model_dump(mode="json") | {"seed": seed, "evaluate_every": 0}
    document["stages"] = [stage for stage in document["stages"] if stage["loss"] == "boxes"]
    recipe = parse_recipe(document, recipe.name)
    assert isinstance(recipe.model, MaskRCNN), recipe.model.kind
    torch.manual_seed(seed)
    path = folder / "detector.safetensors"
    model = build_mask_rcnn(
        recipe.model, len(training.file.categories) + 1, pretrained=not path.is_file()
    )
    if path.is_file():
        kept = load_checkpoint(path)
        if kept.recipe.stages != recipe.stages or _detector_of(kept.recipe) != _detector_of(recipe):
            raise InputError(
                f"{path}: was trained by another recipe; delete it or name another folder with "
                "--out"
            )
        load_weights(model, model.state_dict() | kept.state, path)
        return model.eval()
    folder.mkdir(parents=True, exist_ok=True)
    start = time.process_time(), time.perf_counter()
    fit_on(model, recipe, training, folder)
    spent = {
        "cpu_seconds": time.process_time() - start[0],
        "seconds": time.perf_counter() - start[1],
    }
    say(
        f"seed {seed}: detector trained in {spent['seconds']:.0f} s "
        f"({spent['cpu_seconds']:.0f} s of CPU)"
    )
    write_json(folder / "detector.json", spent)
    categories: Any = [{"id": c["id"], "name": c["name"]} for c in training.file.categories]
    state = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith("mask_branch.")
    }
    save_checkpoint(
        path,
        Checkpoint(state=state, recipe=recipe, categories=categories, masked=[], mask_counts={}),
    )
    return model.cpu().eval()


def fit_on(model: PartialMaskRCNN, recipe: Recipe, training: CocoInstances, folder: Path) -> None:
    """Trains a model by a recipe, in FOLDER/training, which goes when it is done; an
    interrupted training is resumed.

    Raises:
        KeyboardInterrupt: a signal stopped it, and its state is saved.
    """
    augment = Augment(recipe.data.flip, recipe.data.colour_jitter)
    data = Loaders(
        lambda batch_size, s: build_loader(
            training, batch_size, 0, seed=s, augment=augment, shuffle=True
        ),
        lambda batch_size: build_loader(training, batch_size, shuffle=False),
        len(training),
    )
    outcome = fit(model, recipe, data, folder=folder / "training", resume=True, progress=Display())
    if not outcome.finished:
        raise KeyboardInterrupt
    # Its resume point would give a later recipe these weights.
    shutil.rmtree(folder / "training")


def _detector_of(recipe: Recipe) -> dict[str, Any]:
    """What of the model the box stages train."""
    return recipe.model.model_dump(exclude={"mask_head"})


def training_seconds(folder: Path) -> float | None:
    """CPU seconds of the training that `trained_detector` kept in `folder`; None where
    they are not known.
    """
    path = folder / "detector.json"
    return (
        float(json.loads(path.read_text(encoding="utf-8"))["cpu_seconds"])
        if path.is_file()
        else None
    )
