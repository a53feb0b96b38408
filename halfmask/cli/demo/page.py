"""The demo's page: what happened, for someone who was not there."""

from __future__ import annotations

import datetime
import os
import platform
import re
from typing import TYPE_CHECKING, Any

from halfmask._version import __version__
from halfmask.pictures import attribution_of, overlay
from halfmask.pictures.curves import score
from halfmask.pictures.report import (
    Bars,
    Chart,
    Compare,
    Headline,
    Link,
    Page,
    Section,
    Strip,
    Table,
)

if TYPE_CHECKING:
    from PIL import Image

    from halfmask.cli.demo.clock import Clock
    from halfmask.cli.demo.photographs import Photograph, Photographs
    from halfmask.cli.demo.world import World
    from halfmask.pictures.scene import Scene

HERO = "000000423617.jpg"
LICENCES = {4: "CC BY 2.0", 5: "CC BY-SA 2.0", 7: "no known copyright restrictions"}


def demo_page(photographs: Photographs, world: World, clock: Clock) -> Page:
    """Puts the page together."""
    compares = {row.image["file_name"]: _compare(row, photographs) for row in photographs.rows}
    return Page(
        title="Boxes in, masks out",
        lead="Half of the classes have masks, the other half have only boxes. halfmask learns "
        "from both, segments every "
        "class, and fills in the masks that were never drawn. One command made this page in "
        f"{_time(clock.total)}.",
        headlines=_headlines(photographs, world),
        hero=compares.get(HERO, next(iter(compares.values()))),
        sections=[
            _photographs(photographs, list(compares.values())),
            _numbers(world),
            _pictures(world),
            _classes(world),
            _training(world, clock),
        ],
        facts=_facts(photographs, world, clock),
    )


def _headlines(photographs: Photographs, world: World) -> list[Headline]:
    ious = photographs.ious
    heads = [
        Headline(
            f"{_mean(ious):.2f}",
            "IoU",
            f"of {len(ious)} masks on twelve photographs with the masks that people drew",
            f"1 would be identical; the boxes alone reach {_mean(photographs.box_ious):.2f}",
        )
    ]
    for block, key, factor, label in (
        ("given_boxes", "miou", 100, "mask IoU on classes that never had a mask"),
        ("mask", "AP", 1, "mask AP on the same classes"),
    ):
        values = [score(result, block, "B", key) for result in world.results.values()]
        if all(v is not None for v in values):
            shown = " → ".join(f"{(v or 0.0) * factor:.0f}" for v in values)
            heads.append(
                Headline(shown, "%" if key == "miou" else "", label, " → ".join(world.results))
            )
    heads.append(
        Headline(
            f"{world.filled:,}",
            "masks",
            "filled in, on pictures of the world that no model had seen",
        )
    )
    return heads


def _photographs(photographs: Photographs, compares: list[Compare]) -> Section:
    return Section(
        "Real photographs, completed",
        [
            f"Twelve photographs came in with {len(photographs.ious)} boxes and no mask. The "
            "box segmenter that ships with "
            f"halfmask drew the masks in {photographs.seconds:.0f} seconds, loading included. "
            "Drag the divider.",
            "To be fair: this model learned from masks of all classes, on about 300 other "
            "photographs (COCO-mini train), so "
            "these classes are not new to it; these twelve photographs are. They were chosen "
            "for their licences and their "
            "variety before the model was trained, so the weak masks are here too. How well it "
            "works for classes that never had "
            "a mask is what the rest of this page is about.",
        ],
        compares=compares,
    )


def _compare(row: Photograph, photographs: Photographs) -> Compare:
    scene, credit = row.drawn, attribution_of(row.image, photographs.licenses)
    names = photographs.names
    return Compare(
        overlay(scene.image, scene.boxes, None, scene.labels, names, attribution=credit),
        overlay(scene.image, None, scene.masks, scene.labels, names, attribution=credit),
        f"{row.caption} · IoU {_mean(row.ious):.2f}",
        _credit(row.image, photographs.licenses),
    )


def _credit(image: dict[str, Any], licenses: list[dict[str, Any]]) -> list[Link]:
    source = str(image["flickr_url"])
    number = re.search(r"/(\d+)_", source)
    page = f"https://www.flickr.com/photo.gne?id={number.group(1)}" if number else source
    links = {entry["id"]: str(entry["url"]) for entry in licenses}
    licence = image["license"]
    return [Link("Photo on Flickr", page), Link(LICENCES.get(licence, "licence"), links[licence])]


def _numbers(world: World) -> Section:
    from halfmask.cli.demo.world import ab_table

    columns, rows = ab_table(world.results)
    count = len(world.masked)
    return Section(
        "What a class loses that never had a mask",
        [
            f"A world of {world.classes} classes, drawn for this demo. {count} classes keep "
            "their masks (A), the other "
            f"{world.classes - count} keep only boxes (B). One detector learned the boxes of "
            "all classes from "
            f"{world.train_images:,} pictures; on top of it, two mask heads learned from A's "
            "masks. "
            f"All numbers are from {world.test_images} other pictures.",
            "A class-agnostic head has one idea of “object”. Where two objects share a box it "
            "cannot know which one is meant. "
            "A transfer head turns what the detector knows of a class into a mask filter for "
            "that class, whether it "
            "had masks or not.",
        ],
        table=Table(
            columns,
            rows,
            "AP in percent, the best 100 detections of a picture over all classes. Mask IoU in "
            "[0, 1], on the true boxes.",
            [len(rows) - 1],
        ),
        charts=[
            Chart(path, name)
            for name, path in world.curves.items()
            if not name.startswith("training")
        ],
    )


def _pictures(world: World) -> Section:
    captions = {"given": "given: A has masks, B has boxes", "truth": "the truth"}
    strips = [
        Strip(
            [
                (_scene_picture(name, scene, world), captions.get(name, name))
                for name, scene in scenes.items()
            ]
        )
        for scenes in world.scenes
    ]
    return Section(
        "The same boxes, two mask heads",
        [
            "The first test pictures in which two box-only objects share a box, not the best "
            "ones. Every object has a colour "
            "of its own, outlined or filled; the letter says whether its class had masks in "
            "training.",
            f"In all {world.test_images} pictures the transfer head filled {world.filled:,} "
            "masks. It guessed their IoU itself, one by "
            f"one: {world.estimate:.2f} on average; the truth is "
            f"{_value(world.results['transfer'], 'given_boxes', 'B', 'miou')}.",
        ],
        strips=strips,
    )


def _scene_picture(name: str, scene: Scene, world: World) -> Image.Image:
    """As given in the world's own colours; what was drawn on a grey copy, a colour for
    each object.
    """
    import numpy as np
    import torch
    from PIL import Image as Pictures

    numbers = [
        12 * (k // 11) + (k % 11 * 5 + 5) % 12 for k in range(len(scene.labels))
    ]  # the palette in its own order
    order = torch.tensor(numbers, dtype=torch.int64)
    sets = ["A" if label in world.labels_a else "B" for label in scene.labels.tolist()]
    letters = dict(zip(numbers, sets, strict=True))
    if name == "given":
        boxes = scene.boxes * ~scene.has_mask[:, None]
        return overlay(scene.image, boxes, scene.masks, order, letters, fill=0.0)
    grey = np.asarray(Pictures.fromarray(scene.image).convert("L"))
    return overlay(grey, None, scene.masks, order, letters, fill=0.6)


def _classes(world: World) -> Section:
    series = list(world.results)
    tables = [
        {row["id"]: row for row in result["per_category"]} for result in world.results.values()
    ]
    rows = sorted(tables[0].values(), key=lambda row: (row["masked"], row["name"]))
    groups = [
        (row["name"], "A" if row["masked"] else "B", [table[row["id"]]["miou"] for table in tables])
        for row in rows
    ]
    note = "Mask IoU on the true boxes, in percent; a dash where the test pictures show no such object."
    return Section("Class by class", bars=Bars(series, groups, note))


def _training(world: World, clock: Clock) -> Section:
    steps = [(name, _time(seconds)) for name, seconds in clock.seconds.items()]
    return Section(
        "How it was made",
        table=Table(
            ["step", "time"], [*steps, ("in all", _time(clock.total))], strong=[len(steps)]
        ),
        charts=[
            Chart(path, name) for name, path in world.curves.items() if name.startswith("training")
        ],
    )


def _facts(photographs: Photographs, world: World, clock: Clock) -> list[tuple[str, str]]:
    import torch

    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    cores = f"{os.cpu_count()} CPU cores, {torch.get_num_threads()} threads"
    return [
        ("Command", f"halfmask demo --out {clock.folder}"),
        (
            "Made by",
            f"halfmask {__version__}, torch {torch.__version__}, Python "
            f"{platform.python_version()}, {now}",
        ),
        ("Machine", f"{cores}, {platform.machine()}, {platform.system()}"),
        ("Photo model", photographs.model),
        (
            "Photographs",
            "COCO val2017, each under the licence that stands below it; drawn on, otherwise "
            "unchanged. Pictures made "
            "from CC BY-SA photographs are under CC BY-SA 2.0. Annotations: COCO Consortium, "
            "CC BY 4.0.",
        ),
        ("Classes in A", ", ".join(world.masked)),
    ]


def _value(result: dict[str, Any], *keys: str) -> str:
    value = score(result, *keys)
    return "–" if value is None else f"{value:.2f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
