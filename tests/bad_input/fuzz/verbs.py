"""The verbs that read a COCO file, run in this process for the fuzzer."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import typer

from halfmask.cli import complete, doctor, index, split
from halfmask.errors import InputError


def run_doctor(data: Path, images: Path, out: Path) -> None:
    doctor.run(data, images, out / "doctor.json", out / "doctor.html")


def run_split(data: Path, images: Path, out: Path) -> None:
    split.run(data, "random:1:1", out / "split.json")


def run_index(data: Path, images: Path, out: Path) -> None:
    """Builds it, opens it and reads every target through it."""
    from halfmask.coco.index.place import open_index
    from halfmask.data.dataset import build_target

    with contextlib.suppress(typer.Exit):  # something in it was reported
        index.run(data, None, anew=True)
    file = open_index(data)
    for image_id in file.image_ids:
        build_target(file, image_id)


def run_complete(data: Path, images: Path, out: Path) -> None:
    complete.run("baseline:grabcut", data, images=images, out=out / "completed.json", dry_run=True)


def run_loader(data: Path, images: Path, out: Path) -> None:
    """Every target; the photographs of those images that have one."""
    from halfmask.coco.file import CocoFile
    from halfmask.coco.images import missing_photographs
    from halfmask.data.dataset import CocoInstances, build_target

    file = CocoFile.read(data)
    for image_id in file.image_ids:
        build_target(file, image_id)
    absent = {image["id"] for image in missing_photographs(images, file.images)}
    there = [i for i in file.image_ids if i not in absent]
    data_set = CocoInstances(file, images, there)
    for place in range(len(data_set)):
        data_set[place]


VERBS: dict[str, Callable[[Path, Path, Path], None]] = {
    "doctor": run_doctor,
    "split": run_split,
    "index": run_index,
    "complete": run_complete,
    "loader": run_loader,
}


def outcome(verb: str, data: Path, images: Path, out: Path) -> str:
    """`read`, or `refused: …` with the message of its InputError. Any other exception
    passes: it is a crash.
    """
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            VERBS[verb](data, images, out)
        except InputError as error:
            return f"refused: {error}"
        except typer.Exit:
            return "read"
    return "read"
