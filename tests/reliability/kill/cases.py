"""The commands to kill: what each reads, what a kill may leave, and the right result."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
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
    recipe: ClassVar[str] = "recipe.yaml"
    helper: ClassVar[str] = ""
    """Folder, in the run's, of the training that comes before."""
    same: ClassVar[tuple[str, ...]] = ("model.safetensors", "recipe.yaml")
    """Files with the same bytes as without a kill."""

    def arguments(self, folder: Path) -> list[str]:
        return ["train", str(self.inputs / self.recipe), "--out", str(folder / "run")]

    def again(self, folder: Path) -> list[str]:
        return [*self.arguments(folder), "--resume"]

    def left(self, folder: Path, reference: Path) -> tuple[str, list[str]]:
        from halfmask.errors import InputError
        from halfmask.training.loop.resume import read_resume_point

        run, whole = folder / "run", reference / "run"
        wrong = _other_bytes(run, whole, self.same) + _broken(run)
        if (run / "model.safetensors").exists():
            return "model written", wrong
        try:
            step = read_resume_point(run / "resume.ckpt")["halfmask"]["course"]["step"]
        except InputError as error:
            if (run / "resume.ckpt").exists():
                return "?", [*wrong, str(error)]
            if self.helper and (run / self.helper).exists():
                return "first of two trainings", wrong
            return "before the first resume point", wrong
        return ("last resume point" if step == 2 * STEPS else "between resume points"), wrong

    def finished(self, folder: Path, reference: Path) -> list[str]:
        run, whole = folder / "run", reference / "run"
        lacking = sorted(_names(whole) - _names(run))
        extra = sorted(_names(run) - _names(whole))
        wrong = [f"{name} is missing" for name in lacking] + [
            f"{name} is left over" for name in extra
        ]
        return wrong + _other_bytes(run, whole, self.same) + _broken(run)


class TrainingRounds(Training):
    name, recipe, helper = "train, rounds: 2", "rounds.yaml", "teacher"
    same = (*Training.same, "teacher/model.safetensors", "teacher/filled.json")


class TrainingHidden(Training):
    name, recipe, helper = "train, hide: 1", "hide.yaml", "hidden"
    same = (*Training.same, "hidden/model.safetensors", "quality.json")


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

        draw = MaskDrawer._drawn

        def noted(self: MaskDrawer, *arguments: object) -> object:
            file = os.open(folder / "drawn.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(file, b".")
            os.close(file)
            return draw(self, *arguments)  # type: ignore[arg-type]

        MaskDrawer._drawn = noted  # type: ignore[assignment, method-assign]

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
        # A batch is encoded while the next ones are drawn: three may be on their way.
        return (
            wrong
            if drawn <= batches + 3
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


class FromCoco(Case):
    """`convert to-FORMAT`."""

    verb = "convert"
    target: ClassVar[str]

    def arguments(self, folder: Path) -> list[str]:
        data, out = self.inputs / "instances.json", folder / "out" / self.target
        images = ["--images", str(self.inputs / "images")] if self.target in WITH_IMAGES else []
        return [*self.name.split(), str(data), str(out), *images]

    def left(self, folder: Path, reference: Path) -> tuple[str, list[str]]:
        out, whole = folder / "out", reference / "out"
        is_there = (out / self.target).exists()
        return _where(out), _other_tree(out, whole) if is_there else _subset(out, whole)

    def again(self, folder: Path) -> list[str]:
        # A folder that is there whole is refused on purpose: the second command writes
        # beside it.
        if (folder / "out" / self.target).is_dir():
            (folder / "out" / self.target).rename(folder / "first")
        return self.arguments(folder)

    def finished(self, folder: Path, reference: Path) -> list[str]:
        return _scraps(folder / "out") + _other_tree(folder / "out", reference / "out")


WITH_IMAGES = ("yolo",)
"""Targets with photographs in them."""


class ToVoc(FromCoco):
    name, target = "convert to-voc", "voc"


class ToYolo(FromCoco):
    name, target = "convert to-yolo", "yolo"


class ToCoco(FromCoco):
    name, target = "convert to-coco", "coco"


class ToCvat(FromCoco):
    name, target = "convert to-cvat", "cvat.xml"


class ToLabelStudio(FromCoco):
    name, target = "convert to-label-studio", "label-studio"


class Exporting(Case):
    """`export`, over an older export: it is there whole, or the new one is."""

    verb = name = "export"
    older: ClassVar[str] = "int8"
    more: ClassVar[tuple[str, ...]] = ()

    def arguments(self, folder: Path) -> list[str]:
        model, out = self.inputs / "model.safetensors", folder / "out" / "deployed"
        more = [word.format(inputs=self.inputs) for word in self.more]
        return ["export", str(model), "--out", str(out), *more]

    def watch(self, folder: Path) -> None:
        if not (folder / "out").exists():
            copy = folder / "copy"
            shutil.copytree(self.inputs / self.older, copy / "deployed", dirs_exist_ok=True)
            copy.rename(folder / "out")  # at once: a kill may fall here, too

    def left(self, folder: Path, reference: Path) -> tuple[str, list[str]]:
        out, whole = folder / "out", reference / "out"
        if not out.exists():
            return "before the older export", []
        wrong = _other_tree(out / "deployed", whole / "deployed")
        if not wrong:
            return "result written", wrong
        scraps = any(path.name.startswith(".") for path in out.iterdir())
        where = "writing beside" if scraps else "before the first byte"
        return where, _other_tree(out / "deployed", self.inputs / self.older)

    def finished(self, folder: Path, reference: Path) -> list[str]:
        from halfmask.inference.export.checksums import check_export

        check_export(folder / "out" / "deployed")
        return _scraps(folder / "out") + _other_tree(folder / "out", reference / "out")


class ExportingInt8(Exporting):
    name, older = "export --precision int8", "float32"
    more = ("--precision", "int8", "--calibrate", "{inputs}/images")


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


def _other_bytes(out: Path, whole: Path, names: Sequence[str]) -> list[str]:
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
