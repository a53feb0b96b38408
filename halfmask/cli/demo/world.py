"""The demo's second part: a world in which half of the classes have masks, and two mask
heads that learn from it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from halfmask.progress import Display

if TYPE_CHECKING:
    from halfmask.cli.demo.clock import Clock, Settings
    from halfmask.pictures.scene import Scene
    from halfmask.recipes.recipe import Recipe

HEADS = {"class-agnostic": "world_agnostic", "transfer": "world_transfer"}
"""What the two heads are called, and the recipes that they come from."""
STRIPS = 4
"""Test pictures that the page shows."""


@dataclass(frozen=True)
class World:
    """What came of it.

    Attributes:
        results: head → `evaluate`'s JSON on the test pictures.
        masked: names of the classes that had masks (A).
        scenes: some test pictures, each as given (A's masks, B's boxes), as completed
            by each head, and as it is (`truth`).
        labels_a: labels of A.
        curves: caption → picture of a run's curves.
        train_images, test_images, classes: the size of the world.
        filled: masks that the transfer model filled into the test file.
        estimate: mean of their quality scores, the model's own guess of their IoU.
    """

    results: dict[str, dict[str, Any]]
    masked: list[str]
    scenes: list[dict[str, Scene]]
    labels_a: set[int]
    curves: dict[str, Path]
    train_images: int
    test_images: int
    classes: int
    filled: int
    estimate: float


@dataclass(frozen=True)
class _Places:
    """The files of the story. `half` is `truth` with the masks of A only."""

    out: Path

    @property
    def train(self) -> Path:
        return self.out / "world" / "train"

    @property
    def test(self) -> Path:
        return self.out / "world" / "test"

    def truth(self, folder: Path) -> Path:
        return folder / "instances.json"

    def half(self, folder: Path) -> Path:
        return folder / "half.json"

    def run(self, name: str) -> Path:
        return self.out / "runs" / name

    def result(self, name: str) -> Path:
        return self.out / "results" / f"{name}.json"

    def completed(self, name: str) -> Path:
        return self.out / "results" / f"completed-{name}.json"


def tell_world(out: Path, settings: Settings, clock: Clock) -> World:
    """Makes the world, trains, evaluates and completes.

    Raises:
        typer.Exit: a signal stopped a training, which has saved its state.
    """
    places = _Places(out)
    in_a = _make(places, settings, clock)
    recipes = {"detector": world_recipe("detector", "boxes", HEADS["class-agnostic"], settings)}
    recipes |= {
        name: world_recipe(name, "masks", recipe, settings) for name, recipe in HEADS.items()
    }
    for name, recipe in recipes.items():
        _train(name, recipe, places, in_a, clock)
    results = {name: _evaluate(name, places, clock) for name in HEADS}
    _print_table(results)
    for name in HEADS:
        _complete(name, places, clock)
    return _gather(places, settings, results, in_a)


def _make(places: _Places, settings: Settings, clock: Clock) -> list[dict[str, Any]]:
    """Draws the pictures, and takes the masks of half of the classes away. Returns the
    categories of A.
    """
    from halfmask.coco.edit import strip_masks
    from halfmask.coco.file import CocoFile
    from halfmask.data.synthetic.classes import attribute_split
    from halfmask.data.synthetic.write import synth
    from halfmask.files.atomic import write_json

    for folder, count, seed in (
        (places.train, settings.train_images, settings.seed),
        (places.test, settings.test_images, settings.seed + 1),
    ):
        title = f"drawing {count:,} pictures of a world, to {'learn from' if folder == places.train else 'measure on'}"
        if places.half(folder).is_file():
            clock.reuse(title)
            continue
        with clock.step(title):
            synth(folder, images=count, seed=seed, classes=settings.classes, size=settings.size)
            whole = CocoFile.read(places.truth(folder))
            kept = attribute_split(whole.categories, settings.masked, settings.seed)
            write_json(places.half(folder), strip_masks(whole.document, kept))
    file = CocoFile.read(places.half(places.train))
    kept = attribute_split(file.categories, settings.masked, settings.seed)
    left = sum(file.mask_counts().values())
    print(
        f"{file.name}: {len(kept)} of {settings.classes} classes keep their masks, {left:,} in all"
    )
    return [category for category in file.categories if category["id"] in kept]


def world_recipe(
    name: str, loss: Literal["boxes", "masks"], recipe: str, settings: Settings
) -> Recipe:
    """The stages of one kind of a shipped recipe, at the demo's length. Where its data
    are is told later.
    """
    from halfmask.recipes.recipe import load_recipe, parse_recipe

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
    """Another number of steps; what the schedule counts in steps shrinks with it."""
    factor = steps / stage["steps"]
    optimiser = stage["optimiser"]
    optimiser["warmup"] = round(optimiser["warmup"] * factor)
    optimiser["steps"] = [max(1, round(step * factor)) for step in optimiser["steps"]]
    stage["steps"] = steps


def _train(
    name: str, recipe: Recipe, places: _Places, in_a: list[dict[str, Any]], clock: Clock
) -> None:
    """One run: the detector, or a mask head that begins at it."""
    from halfmask.training.train import train

    folder = places.run(name)
    detector = name == "detector"
    title = (
        "training the detector, boxes of all classes"
        if detector
        else f"training the {name} mask head, masks of A"
    )
    if (folder / "model.safetensors").is_file():
        clock.reuse(title)
        return
    update = {
        "annotations": str(places.half(places.train)),
        "images": str(places.train / "images"),
        "masked": ",".join(category["name"] for category in in_a),
    }
    init = None if detector else str(places.run("detector").resolve())
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=update), "init": init})
    with clock.step(title):
        done = train(
            recipe,
            out=folder,
            resume=True,
            resume_command=f"halfmask demo --out {places.out}",
            progress=Display(),
        )
        if not done.finished:
            raise typer.Exit(done.exit_code)


def _evaluate(name: str, places: _Places, clock: Clock) -> dict[str, Any]:
    from halfmask.evaluation.run import evaluate
    from halfmask.files.atomic import write_json
    from halfmask.progress import Display

    out = places.result(name)
    title = f"measuring the {name} model"
    if _is_newer(out, places.run(name)):
        clock.reuse(title)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        with clock.step(title), Display(quiet=True) as progress:
            model, truth, images = (
                places.run(name),
                places.truth(places.test),
                places.test / "images",
            )
            done = evaluate(model, truth, images=images, given_boxes=True, progress=progress)
            write_json(out, done.to_json(), indent=2)
    result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return result


def _complete(name: str, places: _Places, clock: Clock) -> None:
    from halfmask.inference.complete.complete import complete

    out = places.completed(name)
    title = f"filling in B's masks with the {name} model"
    if _is_newer(out, places.run(name)):
        clock.reuse(title)
        return
    with clock.step(title):
        done = complete(
            places.run(name), places.half(places.test), images=places.test / "images", out=out
        )
    print(f"{out}: {done.filled} masks filled, {done.counts['kept']} kept")


def _is_newer(out: Path, run: Path) -> bool:
    """Whether a result is there and was made by the model that is there."""
    return out.is_file() and out.stat().st_mtime >= (run / "model.safetensors").stat().st_mtime


def _gather(
    places: _Places,
    settings: Settings,
    results: dict[str, dict[str, Any]],
    in_a: list[dict[str, Any]],
) -> World:
    from halfmask.coco.file import CocoFile
    from halfmask.pictures import ab_bars

    truth = CocoFile.read(places.truth(places.test))
    files = {"given": CocoFile.read(places.half(places.test))}
    files |= {name: CocoFile.read(places.completed(name)) for name in HEADS} | {"truth": truth}
    scores = [
        a["halfmask"]["score"]
        for a in files["transfer"].document["annotations"]
        if isinstance(a.get("halfmask"), dict)
    ]
    curves = {"A and B by mask head": ab_bars(results, places.out / "results" / "ab.png")}
    for name in ("detector", *HEADS):
        picture = places.run(name) / "curves.png"
        if picture.is_file():
            curves[f"training: {name}"] = picture
    ids = {category["id"] for category in in_a}
    return World(
        results,
        [category["name"] for category in in_a],
        _scenes(files, truth, ids, places.test / "images"),
        {truth.label_of[i] for i in ids},
        curves,
        settings.train_images,
        settings.test_images,
        settings.classes,
        len(scores),
        sum(scores) / max(1, len(scores)),
    )


def _scenes(
    files: dict[str, Any], truth: Any, in_a: set[int], images: Path
) -> list[dict[str, Scene]]:
    """The first test pictures in which two box-only objects share a box: chosen by the
    truth, not by what came out.
    """
    from halfmask.pictures import read_scene

    chosen = []
    for image in truth.images:
        rows = [a for a in truth.annotations_of(image["id"]) if a["category_id"] not in in_a]
        groups = [a.get("group") for a in rows]
        if len(set(groups)) < len(groups):
            chosen.append(image)
    chosen = [*chosen, *(image for image in truth.images if image not in chosen)][:STRIPS]
    return [
        {name: read_scene(file, image, images) for name, file in files.items()} for image in chosen
    ]


def _print_table(results: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "mask head",
        title="\nA: classes with masks in training; B: classes with boxes only",
        title_justify="left",
    )
    columns, rows = ab_table(results)
    for column in columns[1:]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    Console(width=100).print(table)


def ab_table(results: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the A/B table: AP in percent, IoU in [0, 1]; a dash where
    nothing could be computed.
    """
    from halfmask.pictures.curves import score

    columns = {
        "box AP": ("box", "all", "AP", ".1f"),
        "mask AP, A": ("mask", "A", "AP", ".1f"),
        "mask AP, B": ("mask", "B", "AP", ".1f"),
        "mask IoU, A": ("given_boxes", "A", "miou", ".3f"),
        "mask IoU, B": ("given_boxes", "B", "miou", ".3f"),
    }
    rows = []
    for name, result in results.items():
        values = [(score(result, *keys), form) for *keys, form in columns.values()]
        rows.append(
            [name, *("–" if value is None else format(value, form) for value, form in values)]
        )
    return ["mask head", *columns], rows
