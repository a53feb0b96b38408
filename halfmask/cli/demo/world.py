"""The demo's second part: trains two mask heads on a world with masks for half of its classes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import typer

import halfmask
from halfmask.cli.demo.results import (
    HALF,
    HEADS,
    TEST,
    TRAIN,
    TRUTH,
    World,
    completed,
    gather,
    print_table,
)
from halfmask.coco.edit import strip_masks
from halfmask.coco.file import CocoFile
from halfmask.data.synthetic.classes import attribute_split
from halfmask.files.atomic import write_json
from halfmask.progress import Display
from halfmask.recipes.recipe import Recipe, load_recipe, parse_recipe
from halfmask.terminal import say

if TYPE_CHECKING:
    from pathlib import Path

    from halfmask.cli.demo.clock import Clock, Settings


def make_world(out: Path, settings: Settings, clock: Clock) -> World:
    """Draws the world, trains, evaluates and completes.

    Raises:
        typer.Exit: a signal stopped a training, which has saved its state.
    """
    in_a = _draw(out, settings, clock)
    recipes = {"detector": world_recipe("detector", "boxes", HEADS["class-agnostic"], settings)}
    recipes |= {
        name: world_recipe(name, "masks", recipe, settings) for name, recipe in HEADS.items()
    }
    for name, recipe in recipes.items():
        _train(name, recipe, out, in_a, clock)
    results = {name: _evaluate(name, out, clock) for name in HEADS}
    print_table(results)
    for name in HEADS:
        _complete(name, out, clock)
    return gather(out, settings, results, in_a)


def _draw(out: Path, settings: Settings, clock: Clock) -> list[dict[str, Any]]:
    """Draws the pictures and removes B's masks; returns the categories of A."""
    for folder, count, seed, purpose in (
        (out / TRAIN, settings.train_images, settings.seed, "training"),
        (out / TEST, settings.test_images, settings.seed + 1, "testing"),
    ):
        title = f"drawing {count:,} pictures of a world, for {purpose}"
        if (folder / HALF).is_file():
            clock.reuse(title)
            continue
        with clock.step(title):
            halfmask.synth(
                folder,
                image_count=count,
                seed=seed,
                class_count=settings.classes,
                size=settings.size,
            )
            whole = CocoFile.read(folder / TRUTH)
            kept = attribute_split(whole.categories, settings.masked, settings.seed)
            write_json(folder / HALF, strip_masks(whole.document, kept))
    file = CocoFile.read(out / TRAIN / HALF)
    kept = attribute_split(file.categories, settings.masked, settings.seed)
    left = sum(file.mask_counts().values())
    say(f"{file.name}: {len(kept)} of {settings.classes} classes keep their masks, {left:,} in all")
    return [category for category in file.categories if category["id"] in kept]


def world_recipe(
    name: str, loss: Literal["boxes", "masks"], recipe: str, settings: Settings
) -> Recipe:
    """Returns the stages with one loss of a shipped recipe, at the demo's length.

    The recipe does not name the data yet.
    """
    document = load_recipe(recipe, list(settings.overrides)).model_dump(mode="json")
    document["name"] = f"demo_{name}".replace("-", "_")
    document["stages"] = [stage for stage in document["stages"] if stage["loss"] == loss]
    assert document["stages"], f"{recipe} has no stage of {loss}"
    document["data"]["development"], document["evaluate_every"] = 0.0, 0
    steps = settings.detector_steps if loss == "boxes" else settings.head_steps
    if steps is not None:
        for stage in document["stages"]:
            _shorten(stage, steps)
    return parse_recipe(document, f"the demo's {recipe}")


def _shorten(stage: dict[str, Any], steps: int) -> None:
    """Sets the number of steps, and scales the schedule with it."""
    factor = steps / stage["steps"]
    optimiser = stage["optimiser"]
    optimiser["warmup"] = round(optimiser["warmup"] * factor)
    optimiser["steps"] = [max(1, round(step * factor)) for step in optimiser["steps"]]
    stage["steps"] = steps


def _train(name: str, recipe: Recipe, out: Path, in_a: list[dict[str, Any]], clock: Clock) -> None:
    """Trains the detector, or a mask head on top of it."""
    folder = out / "runs" / name
    detector = name == "detector"
    title = (
        "training the detector, boxes of all classes"
        if detector
        else f"training the {name} mask head, masks of A"
    )
    if (folder / "model.safetensors").is_file():
        clock.reuse(title)
        return
    data = {
        "annotations": str(out / TRAIN / HALF),
        "images": str(out / TRAIN / "images"),
        "masked": ",".join(category["name"] for category in in_a),
    }
    init = None if detector else str((out / "runs" / "detector").resolve())
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=data), "init": init})
    with clock.step(title):
        again = f"halfmask demo --out {out}"
        run = halfmask.train(recipe, out=folder, resume=True, resume_command=again)
        if run.checkpoint is None:
            raise typer.Exit(130)


def _evaluate(name: str, out: Path, clock: Clock) -> dict[str, Any]:
    run, test, report = out / "runs" / name, out / TEST, out / "results" / f"{name}.json"
    title = f"evaluating the {name} model"
    if _is_newer(report, run):
        clock.reuse(title)
    else:
        report.parent.mkdir(parents=True, exist_ok=True)
        with clock.step(title), Display(quiet=True) as progress:
            done = halfmask.evaluate(
                run, test / TRUTH, images=test / "images", given_boxes=True, progress=progress
            )
            write_json(report, done.to_json(), indent=2)
    result: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return result


def _complete(name: str, out: Path, clock: Clock) -> None:
    run, test, file = out / "runs" / name, out / TEST, completed(out, name)
    title = f"filling in B's masks with the {name} model"
    if _is_newer(file, run):
        clock.reuse(title)
        return
    with clock.step(title):
        done = halfmask.complete(run, test / HALF, images=test / "images", out=file)
    say(f"{file}: {done.filled} masks filled, {done.counts['kept']} kept")


def _is_newer(out: Path, run: Path) -> bool:
    """Returns whether a result exists that the current model made."""
    return out.is_file() and out.stat().st_mtime >= (run / "model.safetensors").stat().st_mtime
