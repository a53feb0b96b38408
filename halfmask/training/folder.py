"""The folder of a run: whether a training may start or resume there, and clean-up."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from halfmask import distributed
from halfmask.errors import InputError
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import OWN_NAME, RUN
from halfmask.recipes.recipe import Recipe, expand, parse_recipe
from halfmask.recipes.yaml_text import read_yaml
from halfmask.training.loop.callback import RESUME_FILE

MODEL = "model.safetensors"
MAY_CHANGE = {
    "data.annotations",
    "data.images",
    "data.validation",
    "data.validation_images",
    "data.workers",
    "data.cache",
    "evaluate_every",
    "checkpoint_every",
    "loggers",
    "devices",
}
"""Keys that may differ in a resumed run, because they do not change what the model
learns. Data may have moved; the data keys hold for a stage's own data too.
"""
FILES = (
    *(MODEL, RESUME_FILE, "recipe.yaml", "report.html", "curves.png", "metrics.json"),
    *("adaptation.json", "quality.json", "reliability.png"),
)
"""Files of a run; `logs` and the folders of helping trainings are beside them."""
SHARED_SECONDS = 60.0
"""Time until a file that one host writes appears on another."""


def run_outputs(out: str | Path | None) -> list[Output]:
    """Returns the folder of a run and the files in it, for `guard`."""
    if out is None:
        return []
    files = (Output(Path(out) / name, "--out", OWN_NAME) for name in FILES)
    return [Output(out, "--out", RUN), *files]


def guard_recipe(recipe: Recipe, outputs: Iterable[Output]) -> None:
    """Refuses outputs that are what a recipe reads, or among its photographs.

    Raises:
        InputError: see `guard`; or a path of the recipe does not exist.
    """
    parts = [recipe.data, *(stage.data for stage in recipe.stages if stage.data is not None)]
    names = [name for d in parts for name in (d.annotations, d.validation) if name is not None]
    folders = [name for d in parts for name in (d.images, d.validation_images) if name is not None]
    starts = [] if recipe.init is None else [recipe.init]
    inputs, photographs = ([_quiet(name) for name in some] for some in (names + starts, folders))
    guard(outputs, inputs=[*inputs, *photographs], photographs=photographs)


def _quiet(name: str) -> Path | None:
    """A path of a recipe; None if its reader will say what is wrong with it."""
    try:
        return expand(name)
    except InputError:
        return None


def check_run_folder(recipe: Recipe, out: Path, resume: bool) -> bool:
    """Checks that the run may start in its folder; returns whether it is finished.

    Raises:
        InputError: the folder is a file, or holds another run or one with other
            settings.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for the run, found a file")
    written = out / "recipe.yaml"
    if not written.is_file() and not (out / MODEL).exists():
        return False
    if not resume:
        raise InputError(
            f"{out} holds a run already: add --resume to continue it, or name another folder "
            "with --out"
        )
    if not written.is_file():
        raise InputError(
            f"{out}: no recipe.yaml, so no run that could be resumed; name another folder "
            "with --out"
        )
    was, now = (_flat(r.model_dump(mode="json")) for r in (_written(written), recipe))
    changed = sorted(
        key
        for key in was.keys() | now.keys()
        if was.get(key) != now.get(key) and not _may_change(key)
    )
    if changed:
        key = changed[0]
        raise InputError(
            f"{out} was started with {key}={was.get(key)}, the recipe now says {now.get(key)}: "
            "resume a run with the settings it started with "
            f"(halfmask train {written} --out {out} --resume)"
        )
    return (out / MODEL).is_file() and not (out / RESUME_FILE).is_file()


def _written(path: Path) -> Recipe:
    try:
        return parse_recipe(read_yaml(path), str(path))
    except InputError as error:
        raise InputError(f"{error}; or name another folder with --out") from error


def _may_change(key: str) -> bool:
    key = re.sub(r"(?<=data\.)more\.\d+\.", "", key)
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


def for_processes(recipe: Recipe, out: Path, *, resume: bool, world: int) -> Recipe:
    """Returns the recipe with the values that the number of processes, `world`, sets.

    A run that several processes began draws by image. Any number of processes can
    resume it, one included.

    Raises:
        InputError: a batch does not divide, or the draws are the stream of one process.
    """
    written = out / "recipe.yaml"
    if recipe.sampling is None and resume and written.is_file():
        begun = _written(written).sampling or "stream"
        if world > 1 and begun == "stream":
            raise InputError(
                f"{out} was started by one process, whose random draws are one stream: resume it "
                "with one process, or start a new run (with sampling=image its number of "
                "processes may change later)"
            )
        recipe = recipe.model_copy(update={"sampling": "image" if begun == "image" else None})
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
    """Waits until this process sees the files of the main one.

    Raises:
        InputError: they do not appear: the hosts do not share the folder.
    """
    deadline = time.monotonic() + (0 if distributed.current().is_main else SHARED_SECONDS)
    while not (out / "recipe.yaml").is_file():
        if time.monotonic() > deadline:
            raise InputError(
                f"{out}: not the same folder on all hosts: put --out on a disk that all hosts share"
            )
        time.sleep(0.2)


def remove_begun(out: Path, before: set[Path] | None) -> None:
    """Removes the files of a run that failed before its first resume point.

    Args:
        before: earlier content of the folder; None if the folder is new.
    """
    for path in set(out.iterdir()) - (before or set()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if before is None:
        out.rmdir()
