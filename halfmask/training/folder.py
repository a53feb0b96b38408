"""The folder of a run: whether a training may begin or go on in it, what is written
first and last, what is taken away when it fails.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from halfmask import distributed
from halfmask.errors import InputError
from halfmask.recipes.recipe import Recipe, parse_recipe

if TYPE_CHECKING:
    from halfmask.models.base import SegmentationModel
    from halfmask.training.data import TrainingData

MAY_CHANGE = {
    "data.annotations",
    "data.images",
    "data.workers",
    "data.cache",
    "evaluate_every",
    "checkpoint_every",
    "loggers",
    "devices",
}
"""Keys that a resumed run may have otherwise: they do not change what is learnt (data
may have moved). The data keys hold for a stage's own data too.
"""
SHARED_SECONDS = 60.0
"""How late a file may appear on another host."""


def check_folder(recipe: Recipe, out: Path, resume: bool) -> Path | None:
    """Whether the run may start in its folder; the checkpoint of a run that is already
    finished.

    Raises:
        InputError: the folder is a file, holds another run, or one that was begun
            otherwise.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for the run, found a file")
    written = out / "recipe.yaml"
    if not written.is_file() and not (out / "model.safetensors").exists():
        return None
    if not resume:
        raise InputError(
            f"{out} holds a run already: add --resume to go on with it, or name another folder "
            "with --out"
        )
    if not written.is_file():
        raise InputError(
            f"{out}: no recipe.yaml: this is no run that could be resumed; name another folder "
            "with --out"
        )
    before = _written(written)
    was, now = _flat(before.model_dump(mode="json")), _flat(recipe.model_dump(mode="json"))
    changed = sorted(
        key
        for key in was.keys() | now.keys()
        if was.get(key) != now.get(key) and not _may_change(key)
    )
    if changed:
        key = changed[0]
        raise InputError(
            f"{out} was begun with {key}={was.get(key)}, the recipe now says {now.get(key)}: a "
            "run is resumed as it was begun "
            f"(halfmask train {written} --out {out} --resume)"
        )
    model = out / "model.safetensors"
    return model if model.is_file() and not (out / "resume.ckpt").is_file() else None


def _written(path: Path) -> Recipe:
    try:
        return parse_recipe(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as YAML; name another folder with --out") from error


def _may_change(key: str) -> bool:
    return re.sub(r"^stages\.\d+\.(?=data\.)|(?<=^loggers)\.\d+$", "", key) in MAY_CHANGE


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, dict | list) and node:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        return {
            key: value
            for name, child in items
            for key, value in _flat(child, f"{prefix}.{name}").items()
        }
    return {prefix.lstrip("."): node}


def for_processes(recipe: Recipe, out: Path, resume: bool, world: int) -> Recipe:
    """The recipe with what the number of processes decides, as the run keeps it.

    A run that several processes began draws by image, and goes on so with any number of
    them, one included.

    Raises:
        InputError: a batch does not divide, or the draws are one process's stream.
    """
    written = out / "recipe.yaml"
    if recipe.sampling is None and resume and written.is_file():
        begun = _written(written).sampling or "stream"
        if world > 1 and begun == "stream":
            raise InputError(
                f"{out} was begun by one process, whose random draws are one stream: go on "
                "with one process, or begin a new run (with "
                "sampling=image its number of processes may change later)"
            )
        recipe = recipe.model_copy(update={"sampling": begun if begun == "image" else None})
    if world == 1:
        return recipe
    if recipe.sampling == "stream":
        raise InputError(
            f"sampling=stream is for one process, and there are {world}: leave it out, or set "
            "sampling=image"
        )
    for stage in recipe.stages:
        if stage.batch_size % world and not stage.cache_features:
            raise InputError(
                f"stage {stage.name}: batch_size={stage.batch_size} is the batch of all "
                f"processes, and does not divide among {world}: "
                f"set it to {-(-stage.batch_size // world) * world}, or take another number of "
                "processes"
            )
    return recipe.model_copy(update={"sampling": "image"})


def await_folder(out: Path) -> None:
    """Waits until a process sees what the first one wrote.

    Raises:
        InputError: it does not appear: the hosts do not share the folder.
    """
    deadline = time.monotonic() + (0 if distributed.current().is_main else SHARED_SECONDS)
    while not (out / "recipe.yaml").is_file():
        if time.monotonic() > deadline:
            raise InputError(
                f"{out}: not the same folder on all hosts: put --out on a disk that all of "
                "them share"
            )
        time.sleep(0.2)


def remove_begun(out: Path, before: set[Path] | None) -> None:
    """Takes away what a run wrote that failed before its first resume point, so that
    the mended run may have the same folder.

    Args:
        before: what the folder held already; None: it was not there.
    """
    import shutil

    for path in set(out.iterdir()) - (before or set()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if before is None:
        out.rmdir()


def begin_run(recipe: Recipe, data: TrainingData, model: SegmentationModel, out: Path) -> None:
    """Prepares the model and the folder, by the first process; the others take the
    model from it (`fit`).
    """
    from halfmask.files.atomic import write_text
    from halfmask.training.looks import learn_looks

    members = distributed.current()
    if members.is_main:
        if not (out / "resume.ckpt").is_file():  # else it has them
            learn_looks(model, recipe, data)
        out.mkdir(parents=True, exist_ok=True)
        for scrap in out.glob(".*.part"):  # of a run that was killed while it wrote
            scrap.unlink()
        write_text(out / "recipe.yaml", recipe.to_yaml())
    members.wait()
    await_folder(out)


def finish_run(recipe: Recipe, data: TrainingData, model: SegmentationModel, out: Path) -> None:
    """Writes what a finished training leaves: model.safetensors and its curves."""
    from halfmask.models.checkpoint import Checkpoint, save_checkpoint
    from halfmask.pictures.curves import training_curves

    path = out / "model.safetensors"
    categories: list[Any] = [{"id": c["id"], "name": c["name"]} for c in data.categories]
    save_checkpoint(
        path,
        Checkpoint(
            state=model.state_dict(),
            recipe=recipe,
            categories=categories,
            masked=sorted(data.masked),
            mask_counts=data.mask_counts,
        ),
    )
    try:
        training_curves(out)
    except (
        InputError
    ) as error:  # a run of less steps than one log line: nothing to draw, and no reason to fail
        print(f"no curves: {error}")
