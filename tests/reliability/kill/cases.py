"""The commands to kill: what each reads, what a kill may leave, and the right result."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

STEPS, SAVE_EVERY = 10, 2


class Case(ABC):
    """One command. `folder` is where a run of it may write, `reference` where one that
    nobody disturbed has written.
    """

    verb: ClassVar[str]
    name: ClassVar[str]

    def __init__(self, inputs: Path) -> None:
        self.inputs = inputs

    @abstractmethod
    def arguments(self, folder: Path) -> list[str]:
        """Of the command line."""

    def again(self, folder: Path) -> list[str]:
        """Of the command that goes on after a kill."""
        return self.arguments(folder)

    def watch(self, folder: Path) -> None:  # noqa: B027 - most commands need none
        """In the process of the command, before it begins: notes what the checks want to know."""

    @abstractmethod
    def left(self, folder: Path, reference: Path) -> tuple[str, list[str]]:
        """After a kill: where it fell, and what is wrong with the files that lie there
        under their final names.
        """

    @abstractmethod
    def finished(self, folder: Path, reference: Path) -> list[str]:
        """After the command has run again: what is wrong."""


class Training(Case):
    verb = name = "train"

    def arguments(self, folder: Path) -> list[str]:
        return ["train", str(self.inputs / "recipe.yaml"), "--out", str(folder / "run")]

    def again(self, folder: Path) -> list[str]:
        return [*self.arguments(folder), "--resume"]

    def left(self, folder: Path, reference: Path) -> tuple[str, list[str]]:
        from halfmask.errors import InputError
        from halfmask.training.loop.resume import read_resume_point

        run, whole = folder / "run", reference / "run"
        wrong = _other_bytes(run, whole, ["model.safetensors", "recipe.yaml"]) + _broken(run)
        if (run / "model.safetensors").exists():
            return "model written", wrong
        try:
            step = read_resume_point(run / "resume.ckpt")["halfmask"]["course"]["step"]
        except InputError as error:
            missing = not (run / "resume.ckpt").exists()
            return (
                ("before the first resume point", wrong) if missing else ("?", [*wrong, str(error)])
            )
        return ("last resume point" if step == 2 * STEPS else "between resume points"), wrong

    def finished(self, folder: Path, reference: Path) -> list[str]:
        run, whole = folder / "run", reference / "run"
        lacking = sorted(_names(whole) - _names(run))
        extra = sorted(_names(run) - _names(whole))
        wrong = [f"{name} is missing" for name in lacking] + [
            f"{name} is left over" for name in extra
        ]
        return wrong + _other_bytes(run, whole, ["model.safetensors", "recipe.yaml"]) + _broken(run)


class Completing(Case):
    verb = name = "complete"

    def arguments(self, folder: Path) -> list[str]:
        data, photographs = str(self.inputs / "partial.json"), str(self.inputs / "images")
        model = str(self.inputs / "model.safetensors")
        return [
            "complete",
            model,
            data,
            "--images",
            photographs,
            "--out",
            str(folder / "out" / "masks.json"),
        ]

    def watch(self, folder: Path) -> None:
        """One byte of drawn.txt for each batch that is drawn."""
        from halfmask.inference.complete.draw import MaskDrawer

        draw = MaskDrawer.draw

        def noted(self: MaskDrawer, *arguments: object) -> object:
            file = os.open(folder / "drawn.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(file, b".")
            os.close(file)
            return draw(self, *arguments)  # type: ignore[arg-type]

        MaskDrawer.draw = noted  # type: ignore[assignment, method-assign]

    def left(self, folder: Path, reference: Path) -> tuple[str, list[str]]:
        out = folder / "out"
        wrong = _other_bytes(out, reference / "out", ["masks.json"])
        if (out / "masks.json").exists():
            if not (out / "masks.json.journal").exists():
                (folder / "drawn.txt").unlink()  # done: the same command starts over, and may
            return "result written", wrong
        return ("drawing" if (folder / "drawn.txt").exists() else "before the first batch"), wrong

    def finished(self, folder: Path, reference: Path) -> list[str]:
        wrong = _scraps(folder / "out") + _other_tree(folder / "out", reference / "out")
        drawn, batches = ((place / "drawn.txt").stat().st_size for place in (folder, reference))
        return (
            wrong
            if drawn <= batches + 1
            else [*wrong, f"{drawn} batches drawn in both runs, of {batches}"]
        )


class Indexing(Case):
    verb = name = "index"

    def arguments(self, folder: Path) -> list[str]:
        return ["index", str(self.inputs / "large.json"), "--folder", str(folder / "out")]

    def left(self, folder: Path, reference: Path) -> tuple[str, list[str]]:
        return _where(folder / "out"), _subset(folder / "out", reference / "out")

    def finished(self, folder: Path, reference: Path) -> list[str]:
        return _scraps(folder / "out") + _other_tree(folder / "out", reference / "out")


class FromYolo(Case):
    verb, name = "convert", "convert yolo"

    def arguments(self, folder: Path) -> list[str]:
        return ["convert", "yolo", str(self.inputs / "yolo"), str(folder / "out" / "coco.json")]

    def left(self, folder: Path, reference: Path) -> tuple[str, list[str]]:
        return _where(folder / "out"), _subset(folder / "out", reference / "out")

    def finished(self, folder: Path, reference: Path) -> list[str]:
        return _other_tree(folder / "out", reference / "out")


class ToVoc(Case):
    verb, name = "convert", "convert to-voc"

    def arguments(self, folder: Path) -> list[str]:
        return [
            "convert",
            "to-voc",
            str(self.inputs / "instances.json"),
            str(folder / "out" / "voc"),
        ]

    def left(self, folder: Path, reference: Path) -> tuple[str, list[str]]:
        out, whole = folder / "out", reference / "out"
        return _where(out), _other_tree(out / "voc", whole / "voc") if (
            out / "voc"
        ).exists() else []

    def again(self, folder: Path) -> list[str]:
        # A folder that is there whole is refused on purpose: the second command writes
        # beside it.
        if (folder / "out" / "voc").exists():
            (folder / "out" / "voc").rename(folder / "first")
        return self.arguments(folder)

    def finished(self, folder: Path, reference: Path) -> list[str]:
        return _other_tree(folder / "out", reference / "out")


def digest(folder: Path) -> dict[str, str]:
    """Path below the folder → SHA-256 of the file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _where(out: Path) -> str:
    if not out.exists():
        return "before the output's folder"
    names = [path.name for path in out.iterdir()]
    whole = any(not name.startswith(".") for name in names)
    return "result written" if whole else "writing beside" if names else "before the first byte"


def _names(folder: Path) -> set[str]:
    """Files of a run, the loggers' own event files (their names hold a time) left out."""
    return {name for name in digest(folder) if "tensorboard" not in name}


def _subset(out: Path, whole: Path) -> list[str]:
    """What lies under a final name is as it should be; scraps beside have a dot before
    their name.
    """
    expected = digest(whole)
    found = _without_scraps(digest(out))
    return [
        f"{name} is not as without the kill"
        for name, value in found.items()
        if expected.get(name) != value
    ]


def _scraps(out: Path) -> list[str]:
    """What a killed run left beside, and the next of these commands sweeps up;
    `convert` leaves it, and an empty lock does no harm.
    """
    return [
        f"{path.name} is left over"
        for path in out.iterdir()
        if path.name.startswith(".") and path.stat().st_size
    ]


def _without_scraps(files: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in files.items() if not name.startswith(".")}


def _other_tree(out: Path, whole: Path) -> list[str]:
    found, expected = _without_scraps(digest(out)), digest(whole)
    return [
        f"{n} differs, is missing or left over"
        for n in sorted(found.keys() | expected)
        if found.get(n) != expected.get(n)
    ]


def _other_bytes(out: Path, whole: Path, names: list[str]) -> list[str]:
    there = [name for name in names if (out / name).exists()]
    return [
        f"{name} is not as without the kill"
        for name in there
        if (out / name).read_bytes() != (whole / name).read_bytes()
    ]


def _broken(run: Path) -> list[str]:
    """Files of a run that differ from run to run (they hold times), but must be whole."""
    from PIL import Image

    wrong = []
    for path in run.rglob("*") if run.is_dir() else ():
        if path.name.startswith("."):
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".png":
                Image.open(path).load()
            elif path.suffix == ".html":
                assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
        except (ValueError, OSError, AssertionError) as error:
            wrong.append(f"{path.name} is not whole ({type(error).__name__})")
    return wrong
