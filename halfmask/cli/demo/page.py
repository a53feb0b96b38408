"""The demo's page: its results, explained for a reader who did not run it."""

from __future__ import annotations

import datetime
import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from halfmask._version import __version__
from halfmask.cli.demo.photographs import mean
from halfmask.cli.demo.results import ab_table
from halfmask.pictures import attribution_of, overlay
from halfmask.pictures.curves import score
from halfmask.pictures.report import (
    Bars,
    Chart,
    Compare,
    Headline,
    Link,
    Page,
    ReportSection,
    Strip,
    Table,
    write_report,
)

if TYPE_CHECKING:
    from halfmask.cli.demo.clock import Clock
    from halfmask.cli.demo.photographs import Photograph, Photographs
    from halfmask.cli.demo.results import World
    from halfmask.pictures.scene import Scene

HERO = "000000423617.jpg"
LICENCES = {4: "CC BY 2.0", 5: "CC BY-SA 2.0", 7: "no known copyright restrictions"}


def write_demo_page(out: Path, photographs: Photographs, world: World, clock: Clock) -> Path:
    """Writes the page to `out`, and returns its path."""
    compares = {row.image["file_name"]: _compare(row, photographs) for row in photographs.rows}
    page = Page(
        title="Boxes in, masks out",
        lead="Half of the classes have masks, the other half have only boxes. halfmask learns "
        "from both, segments every class, and fills in the missing masks. One command made "
        f"this page in {_time(clock.total)}.",
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
    return write_report(page, out)


def _headlines(photographs: Photographs, world: World) -> list[Headline]:
    ious = photographs.ious
    heads = [
        Headline(
            f"{mean(ious):.2f}",
            "IoU",
            f"of {len(ious)} masks on twelve photographs with the masks that people drew",
            f"1 would be identical; the boxes alone reach {mean(photographs.box_ious):.2f}",
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
            "filled in, on pictures of the world that no model saw in training",
        )
    )
    return heads


def _photographs(photographs: Photographs, compares: list[Compare]) -> ReportSection:
    return ReportSection(
        title="Real photographs, completed",
        text=[
            f"Twelve photographs came with {len(photographs.ious)} boxes and no mask. The box "
            "segmenter that ships with halfmask drew the masks in "
            f"{photographs.seconds:.1f} seconds, loading included. Drag the divider.",
            "This model learned from masks of all classes, on 1758 other photographs "
            "(COCO-mini train and Pascal VOC). It knows these classes, but not these twelve "
            "photographs. They were chosen for their licences and their variety, not for their "
            "masks, so weak masks appear, too. The rest of this page shows how well it works for "
            "classes that never had a mask.",
        ],
        compares=compares,
    )


def _compare(row: Photograph, photographs: Photographs) -> Compare:
    scene, credit = row.drawn, attribution_of(row.image, photographs.licenses)
    names = photographs.names
    return Compare(
        overlay(
            scene.image, scene.boxes, None, labels=scene.labels, names=names, attribution=credit
        ),
        overlay(
            scene.image, None, scene.masks, labels=scene.labels, names=names, attribution=credit
        ),
        f"{row.caption} · IoU {mean(row.ious):.2f}",
        _credit(row.image, photographs.licenses),
    )


def _credit(image: dict[str, Any], licenses: list[dict[str, Any]]) -> list[Link]:
    source = str(image["flickr_url"])
    number = re.search(r"/(\d+)_", source)
    page = f"https://www.flickr.com/photo.gne?id={number.group(1)}" if number else source
    links = {entry["id"]: str(entry["url"]) for entry in licenses}
    licence = image["license"]
    return [Link("Photo on Flickr", page), Link(LICENCES.get(licence, "licence"), links[licence])]


def _numbers(world: World) -> ReportSection:
    columns, rows = ab_table(world.results)
    count, size = len(world.masked), world.settings
    return ReportSection(
        title="What a class loses that never had a mask",
        text=[
            f"A world of {size.classes} classes, drawn for this demo. {count} classes keep "
            f"their masks (A), the other {size.classes - count} keep only boxes (B). One "
            f"detector learned the boxes of all classes from {size.train_images:,} pictures; "
            "on top of it, two mask heads learned from A's masks. All numbers are from "
            f"{size.test_images} other pictures.",
            "A class-agnostic head has one idea of “object”. If two objects share a box, it "
            "cannot know which one is meant. A transfer head turns the detector's knowledge of "
            "a class into a mask filter for that class, whether it had masks or not.",
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


def _pictures(world: World) -> ReportSection:
    captions = {"given": "given: A has masks, B has boxes", "truth": "the truth"}
    true_mean = _value(world.results["transfer"], "given_boxes", "B", "miou")
    strips = [
        Strip(
            [
                (_scene_picture(name, scene, world), captions.get(name, name))
                for name, scene in scenes.items()
            ]
        )
        for scenes in world.scenes
    ]
    return ReportSection(
        title="The same boxes, two mask heads",
        text=[
            "The first test pictures in which two box-only objects share a box, not the best "
            "ones. Every object has its own colour, outlined or filled; the letter says whether "
            "its class had masks in training.",
            f"In all {world.settings.test_images} pictures the transfer head filled "
            f"{world.filled:,} masks. Its own estimate of their IoU is {world.estimate:.2f} on "
            f"average; the true mean is {true_mean}.",
        ],
        strips=strips,
    )


def _scene_picture(name: str, scene: Scene, world: World) -> Image.Image:
    """Draws the given annotations in the world's colours, and masks on a grey copy."""
    # The palette's own order gives each object its own colour.
    numbers = [12 * (k // 11) + (k % 11 * 5 + 5) % 12 for k in range(len(scene.labels))]
    order = torch.tensor(numbers, dtype=torch.int64)
    sets = ["A" if label in world.labels_a else "B" for label in scene.labels.tolist()]
    letters = dict(zip(numbers, sets, strict=True))
    if name == "given":
        boxes = scene.boxes * ~scene.has_mask[:, None]
        return overlay(scene.image, boxes, scene.masks, labels=order, names=letters, fill=0.0)
    grey = np.asarray(Image.fromarray(scene.image).convert("L"))
    return overlay(grey, None, scene.masks, labels=order, names=letters, fill=0.6)


def _classes(world: World) -> ReportSection:
    series = list(world.results)
    tables = [
        {row["id"]: row for row in result["per_category"]} for result in world.results.values()
    ]
    rows = sorted(tables[0].values(), key=lambda row: (row["masked"], row["name"]))
    groups = [
        (row["name"], "A" if row["masked"] else "B", [table[row["id"]]["miou"] for table in tables])
        for row in rows
    ]
    note = "Mask IoU on the true boxes, in percent; a dash where no test picture shows the class."
    return ReportSection(title="Class by class", bars=Bars(series, groups, note))


def _training(world: World, clock: Clock) -> ReportSection:
    steps = [(name, _time(seconds)) for name, seconds in clock.seconds.items()]
    return ReportSection(
        title="How it was made",
        table=Table(
            ["step", "time"], [*steps, ("in all", _time(clock.total))], strong=[len(steps)]
        ),
        charts=[
            Chart(path, name) for name, path in world.curves.items() if name.startswith("training")
        ],
    )


def _facts(photographs: Photographs, world: World, clock: Clock) -> list[tuple[str, str]]:
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
            "COCO val2017, each under the licence below it; drawn on, otherwise unchanged. "
            "Pictures made from CC BY-SA photographs are under CC BY-SA 2.0. Annotations: COCO "
            "Consortium, CC BY 4.0.",
        ),
        ("Classes in A", ", ".join(world.masked)),
    ]


def _value(result: dict[str, Any], *keys: str) -> str:
    value = score(result, *keys)
    return "–" if value is None else f"{value:.2f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
