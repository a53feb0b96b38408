"""The results of the demo's world: table, curves and example pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmask.coco.file import CocoFile
from halfmask.pictures import ab_bars, read_scene
from halfmask.pictures.curves import score
from halfmask.terminal import PlainConsole, PlainTable

if TYPE_CHECKING:
    from halfmask.cli.demo.clock import Settings
    from halfmask.pictures.scene import Scene

HEADS = {"class-agnostic": "world_agnostic", "transfer": "world_transfer"}
"""Name of a mask head → its recipe."""
STRIPS = 4
"""Test pictures on the page."""


TRAIN, TEST = "world/train", "world/test"
"""Folders of the world in the demo's folder."""
TRUTH, HALF = "instances.json", "half.json"
"""Files in both: with all masks, and with the masks of A only."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The results of the demo's world.

    Attributes:
        results: head → `evaluate`'s JSON on the test pictures.
        masked: names of the classes with masks (A).
        scenes: some test pictures, each as given (A's masks, B's boxes), as completed
            by each head, and with the true masks (`truth`).
        labels_a: labels of A.
        curves: caption → picture of a run's curves.
        settings: size of the world.
        filled: masks that the transfer model filled into the test file.
        estimate: mean of their scores, the model's own estimate of their IoU.
    """

    results: dict[str, dict[str, Any]]
    masked: list[str]
    scenes: list[dict[str, Scene]]
    labels_a: set[int]
    curves: dict[str, Path]
    settings: Settings
    filled: int
    estimate: float


def gather(
    out: Path, settings: Settings, results: dict[str, dict[str, Any]], in_a: list[dict[str, Any]]
) -> World:
    """Reads the results for the page; `in_a` has the categories with masks."""
    truth = CocoFile.read(out / TEST / TRUTH)
    files = {"given": CocoFile.read(out / TEST / HALF)}
    files |= {name: CocoFile.read(completed(out, name)) for name in HEADS} | {"truth": truth}
    scores = [
        a["halfmask"]["score"]
        for a in files["transfer"].document["annotations"]
        if isinstance(a.get("halfmask"), dict)
    ]
    curves = {"A and B by mask head": ab_bars(results, out / "results" / "ab.png")}
    pictures = {name: out / "runs" / name / "curves.png" for name in ("detector", *HEADS)}
    curves |= {f"training: {name}": path for name, path in pictures.items() if path.is_file()}
    ids = {category["id"] for category in in_a}
    return World(
        results=results,
        masked=[category["name"] for category in in_a],
        scenes=_scenes(files, truth, ids, out / TEST / "images"),
        labels_a={truth.label_of[i] for i in ids},
        curves=curves,
        settings=settings,
        filled=len(scores),
        estimate=sum(scores) / max(1, len(scores)),
    )


def completed(out: Path, name: str) -> Path:
    """Returns the test file that the model `name` completed."""
    return out / "results" / f"completed-{name}.json"


def _scenes(
    files: dict[str, CocoFile], truth: CocoFile, in_a: set[int], images: Path
) -> list[dict[str, Scene]]:
    """Reads the first test pictures in which two box-only objects share a box.

    The true masks decide, not the results.
    """
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


def print_table(results: dict[str, dict[str, Any]]) -> None:
    table = PlainTable(
        "mask head",
        title="\nA: classes with masks in training; B: classes with boxes only",
        title_justify="left",
    )
    columns, rows = ab_table(results)
    for column in columns[1:]:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    PlainConsole(width=100).print(table)


def ab_table(results: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Returns columns and rows of the A/B table: AP in percent, IoU in [0, 1].

    A dash stands for a number that could not be computed.
    """
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
