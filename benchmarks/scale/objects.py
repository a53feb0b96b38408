"""`python -m benchmarks objects`: images of up to 3000 masked objects, and the loader's
images/s, beside torchvision's reference path.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from benchmarks.measuring import MIB, alternate, in_fresh_process
from benchmarks.result import Options, Result, Row, compared
from benchmarks.scale.coco_reference import CocoReference, mirrored
from benchmarks.scale.crowded import loss_costs, write_crowd
from halfmask.coco.file import CocoFile
from halfmask.data.augment.augment import Augment
from halfmask.data.dataset import CocoInstances
from halfmask.data.loader import build_loader
from halfmask.recipes.recipe import expand

OURS, PEER = "halfmask", "torchvision"
LESS_BAR, LOADER_BAR = 20.0, 2.0
MOST = 4 << 30
"""Bytes of two dense copies of all masks beyond which torchvision's path is not run."""
BATCH = 4


@dataclass(frozen=True)
class Setting:
    """Objects on an image of a size (H, W), those the bar is for, rounds of the
    loaders, and COCO-mini's folder and part.
    """

    counts: Sequence[int] = (10, 100, 1000, 3000)
    barred: int = 1000
    image: tuple[int, int] = (800, 1333)
    rounds: int = 5
    photographs: int = 160
    folder: Path | None = None
    part: str = "train"


@dataclass(frozen=True)
class Crowd:
    """Peak bytes of the targets, by who (None: not run), and largest tensor and peak of
    the whole step with its loss.
    """

    targets: dict[str, int | None]
    step: dict[str, float]


def run(options: Options, setting: Setting = Setting()) -> Result:
    """Makes the crowded images, measures their targets and losses, then the loaders on
    COCO-mini.

    Raises:
        InputError: no shared data, or pycocotools is not installed.
    """
    crowds = {}
    for count in setting.counts:
        folder = options.out / f"objects-{count}"
        write_crowd(folder, count, setting.image)
        crowds[count] = _crowd(folder, count, setting.image)
        options.say(f"{count} objects: targets {(crowds[count].targets[OURS] or 0) / MIB:.1f} MiB")
    speed = loader_speeds(setting)
    options.say(f"loader: {speed[OURS]:.1f} images/s, {PEER} {speed[PEER]:.1f}")
    tables = {"objects": _table(crowds, setting), "objects:loader": _loader_table(speed)}
    return Result(_rows(crowds, speed, setting), tables, "python -m benchmarks objects --threads 1")


def loader_speeds(setting: Setting) -> dict[str, float]:
    """Images per second of CPU time, from files to batches of float images and targets,
    half of them mirrored; nothing is kept between rounds but what each path keeps by
    itself.
    """
    folder = setting.folder or expand("${HALFMASK_SHARED}/data/coco-mini")
    annotations, images = folder / f"instances_{setting.part}.json", folder / setting.part
    ours, theirs = (
        CocoInstances(CocoFile.read(annotations), images),
        CocoReference(images, annotations),
    )
    count = min(setting.photographs, len(ours))
    first = {r["id"] for r in ours.file.images[:count]}
    ours = CocoInstances(ours.file, images, [i for i in ours.image_ids if i in first])
    chosen = Subset(theirs, [k for k, image_id in enumerate(theirs.coco.ids) if image_id in first])
    generator = torch.Generator().manual_seed(0)

    def collate(examples: list[Any]) -> list[Any]:
        turned = torch.rand(len(examples), generator=generator) < 0.5
        return [
            mirrored(*e) if turn else e for e, turn in zip(examples, turned.tolist(), strict=True)
        ]

    readers: dict[str, Callable[[], object]] = {
        OURS: lambda: sum(
            len(b[0]) for b in build_loader(ours, BATCH, augment=Augment(flip=0.5), shuffle=False)
        ),
        PEER: lambda: sum(len(b) for b in DataLoader(chosen, BATCH, collate_fn=collate)),
    }
    seconds = alternate(readers, setting.rounds)
    return {name: count / statistics.median(spent) for name, spent in seconds.items()}


def _crowd(folder: Path, count: int, size: tuple[int, int]) -> Crowd:
    runs = {OURS: True, PEER: 2 * count * size[0] * size[1] <= MOST}
    peaks = {
        who: in_fresh_process("scale.crowded:target_peak", which=who, folder=str(folder))
        if fits
        else None
        for who, fits in runs.items()
    }
    return Crowd(peaks, loss_costs(folder))


def _rows(crowds: dict[int, Crowd], speed: dict[str, float], setting: Setting) -> list[Row]:
    rows = []
    for count, crowd in crowds.items():
        ours, theirs = crowd.targets[OURS], crowd.targets[PEER]
        assert ours is not None
        peer = None if theirs is None else theirs / MIB
        bar = LESS_BAR if count == setting.barred else None
        name = f"{count} objects, peak memory of targets"
        rows.append(compared(name, PEER, peer, ours / MIB, "MiB", bar, at_least=True))
        dense = count * setting.image[0] * setting.image[1]
        limit = (
            1.0 if count >= setting.barred else None
        )  # a few objects are less than the image itself
        name = f"{count} objects, largest tensor of a training step"
        rows.append(
            compared(
                name, "instances × H × W", dense / MIB, crowd.step["largest"] / MIB, "MiB", limit
            )
        )
    faster = compared("loader on COCO-mini", PEER, speed[PEER], speed[OURS], "images/s", None)
    return [*rows, {**faster, "bar": LOADER_BAR, "ok": faster["ratio"] >= LOADER_BAR}]


def _table(crowds: dict[int, Crowd], setting: Setting) -> str:
    columns = [
        "masked objects",
        "targets: halfmask, MiB",
        "torchvision, MiB",
        "ratio",
        "instances × H × W, MiB",
    ]
    columns += ["largest tensor of a step, MiB", "peak of the step, MiB"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for count, crowd in crowds.items():
        ours, theirs = crowd.targets[OURS], crowd.targets[PEER]
        assert ours is not None
        peer = "–" if theirs is None else f"{theirs / MIB:.1f}"
        ratio = "–" if theirs is None else f"{theirs / max(ours, 1):.0f}"
        dense = count * setting.image[0] * setting.image[1] / MIB
        cells = f"{dense:.1f} | {crowd.step['largest'] / MIB:.1f} | {crowd.step['peak'] / MIB:.0f}"
        lines.append(f"| {count} | {ours / MIB:.1f} | {peer} | {ratio} | {cells} |")
    height, width = setting.image
    note = f"One image of {height} × {width}. Targets: from annotations to masks drawn on 128 regions, memory of the process; – : not run."
    return "\n".join([*lines, "", note])


def _loader_table(speed: dict[str, float]) -> str:
    lines = ["| loader, COCO-mini, one core | images/s |", "|---|---|"]
    lines += [f"| {who} | {value:.1f} |" for who, value in speed.items()]
    return "\n".join([*lines, f"| halfmask / {PEER} | {speed[OURS] / speed[PEER]:.2f} |"])
