"""What `train DATA` names: data of any format, and the recipe that adapts to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from halfmask.coco.reading.read_as import ReadAs
from halfmask.errors import InputError
from halfmask.formats.source import DataSource, open_source
from halfmask.progress import Progress
from halfmask.recipes.recipe import Recipe, load_recipe, shipped_recipes
from halfmask.recipes.yaml_text import read_yaml
from halfmask.training.folder import run_outputs

RECIPE = "adapt"
"""Shipped recipe. DATA and IMAGES in it stand for what a user names."""
MINUTES = 10.0
COPIES = "data"
"""Folder of converted data, in the folder of a run."""


@dataclass(frozen=True, kw_only=True)
class AdaptRequest:
    """An adaptation that a user asks for.

    Attributes:
        recipe: `adapt`, with the user's data and overrides.
        sources: the data, and the validation data if there are some.
        steps: of the last training, if an override names them; None: fitted to the
            minutes.
    """

    recipe: Recipe
    sources: list[DataSource] = field(default_factory=list)
    steps: int | None = None

    @property
    def faults(self) -> list[str]:
        """Lines about what could not be read in the data."""
        return [line for s in self.sources for line in s.report.lines(s.report.faults)]

    @property
    def notes(self) -> list[str]:
        """Lines about what the data's format holds and training does not use."""
        return [line for s in self.sources for line in s.report.lines(s.report.notes)]


def checked_minutes(minutes: float | None) -> float:
    """Returns how long adapting may take; None: 10 minutes.

    Raises:
        InputError: no time at all.
    """
    minutes = MINUTES if minutes is None else minutes
    if not 0 < minutes < math.inf:
        raise InputError(f"minutes: expected more than 0, found {minutes:g}")
    return minutes


def is_recipe(source: str | Path) -> bool:
    """Whether a name means a recipe: a shipped one, or a file with stages or a model.

    Any other existing file or folder is data. A name of nothing counts as a recipe,
    whose reader then says what there is.
    """
    path = Path(source)
    if str(source) in shipped_recipes() and not path.exists():
        return True
    if path.suffix.lower() not in (".yaml", ".yml"):
        return not path.exists()
    try:
        document = read_yaml(path)
    except InputError:
        return True
    return not isinstance(document, dict) or bool({"stages", "model"} & document.keys())


def read_request(
    data: str | Path,
    overrides: Sequence[str],
    *,
    images: str | Path | None,
    val: str | Path | None,
    out: Path | None,
    read_as: ReadAs | None = None,
    progress: Progress | None = None,
) -> AdaptRequest:
    """Opens a user's data and fills them into the recipe `adapt`.

    Args:
        data: of any format that `convert` reads.
        overrides: `key=value` of the recipe.
        images: folder of the photographs; None: where the data say.
        val: data to measure the result on.
        out: folder of the run, whose folder `data` gets converted copies; None: they go
            where `open_source` puts them.
        read_as: how COCO files among the data are written.
    Raises:
        InputError: the data cannot be read, the photographs are nowhere, or an override
            does not fit.
    """
    recipe = load_recipe(RECIPE, list(overrides))
    _refuse_unused_keys(recipe)
    copies = None if out is None else out / COPIES
    opened = partial(open_source, folder=copies, read_as=read_as, progress=progress)
    source = opened(data, images=images)
    source.guard(run_outputs(out), val)
    sources, changes = (
        [source],
        {"annotations": str(source.annotations), "images": str(source.photographs())},
    )
    if val is not None:
        held = opened(val)
        if held.images is None and images is not None:
            held = opened(val, images=images)
        held.guard(run_outputs(out), data)
        sources.append(held)
        changes |= {
            "validation": str(held.annotations),
            "validation_images": str(held.photographs()),
        }
    steps = any(override.split("=")[0].endswith(".steps") for override in overrides)
    return AdaptRequest(
        recipe=_with_data(recipe, changes),
        sources=sources,
        steps=sum(stage.steps for stage in recipe.stages) if steps else None,
    )


def _refuse_unused_keys(recipe: Recipe) -> None:
    """Refuses keys that an adaptation decides itself, rather than ignore them."""
    reasons = {
        "devices": (recipe.devices > 1, "adapting trains in one process"),
        "hide": (recipe.hide > 0, "adapting holds masks back by itself"),
        "rounds": (recipe.rounds > 1, "adapting has teachers of its own"),
    }
    for key, (given, why) in reasons.items():
        if given:
            raise InputError(f"{key}: {why}; leave the key out")


def _with_data(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """Returns the recipe with keys of its data section replaced."""
    # `$` would be read as an environment variable.
    odd = next((value for value in changes.values() if "$" in value), None)
    if odd is not None:
        raise InputError(f"{odd}: a path with $ cannot stand in a recipe; rename the folder")
    data = recipe.data.model_copy(update=changes)
    return recipe.model_copy(update={"data": data})


def refuse_placeholders(recipe: Recipe) -> None:
    """Refuses `adapt` as a plain recipe without data.

    Raises:
        InputError: its DATA or IMAGES were not replaced.
    """
    if recipe.data.annotations == "DATA" or recipe.data.images == "IMAGES":
        raise InputError(
            f"{recipe.name}: names no data: run halfmask train DATA --images DIR --out RUN, or "
            "set data.annotations=FILE and data.images=DIR"
        )
