"""Runs each verb on a malformed data set, and sums up its output in a few words."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from halfmask.cli import complete, doctor, evaluate, index, split
from halfmask.errors import InputError
from tests.bad_input.malformed.base import BESIDE, DataSet

MODEL = "baseline:box"
TINY = {
    "kind": "box_segmenter",
    "encoder": {"name": "small_resnet", "widths": [4, 6, 8, 8], "blocks": [1, 1, 1, 1]},
}
STAGE = {
    "name": "masks",
    "train": ["all"],
    "steps": 1,
    "batch_size": 1,
    "loss": "masks",
    "optimiser": {"lr": 0.1},
}
MASKS = 3
"""Masks of the sound file."""
UNSAID = ("category_without_annotations", "image_without_annotations")
"""Notes that follow from a finding."""
MOST_UNREADABLE = 0.5
"""Share of photographs that training may leave out here; the default is 0.01, and one
of three is more.
"""


@dataclass(frozen=True)
class VerbResult:
    """What a verb did, printed and logged; `refused` is the line of its InputError."""

    cell: str
    printed: str = ""
    refused: str = ""


def run_verb(verb: str, given: DataSet, out: Path) -> VerbResult:
    """Runs a verb, which writes to the folder `out`. Any exception but an InputError
    passes: it is a crash.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), _logged(said):
        try:
            cell = VERBS[verb](given, out, said)
        except InputError as error:
            return VerbResult("refused", said.getvalue(), str(error))
    return VerbResult(cell, said.getvalue())


@contextlib.contextmanager
def _logged(said: io.StringIO) -> Iterator[None]:
    """Writes what the library logs to `said`, as the command line does."""
    logger, handler = logging.getLogger("halfmask"), logging.StreamHandler(said)
    before = logger.level, logger.handlers
    logger.setLevel(logging.INFO)
    logger.handlers = [handler]
    try:
        yield
    finally:
        logger.setLevel(before[0])
        logger.handlers = before[1]


def _run(verb: Callable[[], object]) -> None:
    """Runs a verb to its end; exit code 1 means that it found problems."""
    with contextlib.suppress(typer.Exit):
        verb()


def _doctor(given: DataSet, out: Path, _: io.StringIO) -> str:
    report = out / "doctor.json"
    _run(lambda: doctor.run(given.data, given.images, report, out / "doctor.html"))
    found: dict[str, list[str]] = {}
    rows = [p for p in json.loads(report.read_text())["problems"] if p["kind"] not in UNSAID]
    for problem in rows:
        ids = "+".join(f"2^{i.bit_length() - 1}" if i > 1 << 40 else str(i) for i in problem["ids"])
        found.setdefault(problem["kind"].replace("_", " "), []).append(ids)
    word = "reported" if any(p["severity"] == "problem" for p in rows) else "noted"
    kinds = "; ".join(f"{kind} {', '.join(ids)}".strip() for kind, ids in found.items())
    return f"{word}: {kinds}" if rows else "read"


def _split(given: DataSet, out: Path, _: io.StringIO) -> str:
    _run(lambda: split.run(given.data, "cat", out / "split.json"))
    after = _first(out / "split.json")
    if json.dumps(after) == json.dumps(_numbered(given.first)):
        return "kept"
    assert "segmentation" not in after, after
    return "mask removed"


def _index(given: DataSet, out: Path, _: io.StringIO) -> str:
    from halfmask.coco.index.place import open_index
    from halfmask.data.dataset import build_target

    _run(lambda: index.run(given.data, out, anew=True))
    file = open_index(given.data, folder=out)
    return _taught([build_target(file, i) for i in file.image_ids], given.first)


def _complete(given: DataSet, out: Path, _: io.StringIO) -> str:
    report = out / "report.json"
    _run(
        lambda: complete.run(
            MODEL, given.data, images=given.images, out=out / "completed.json", json=report
        )
    )
    done = json.loads(report.read_text())
    if done["skipped"]:
        return "photograph skipped, reported"
    after = _first(out / "completed.json")
    if json.dumps(after) == json.dumps(_numbered(given.first)):
        if done["suspects"] or done["unusable"] or done["broken"]:
            return "left alone, reported"
        return "left alone" if done["counts"].get("crowd") else "kept"
    return "filled, old value kept" if "replaced" in after["halfmask"] else "filled"


def _train(given: DataSet, _: Path, said: io.StringIO) -> str:
    """What train learns from: its data read and checked, the photographs read, broken
    ones left out.
    """
    from halfmask.data.unreadable import SkipUnreadable
    from halfmask.recipes.recipe import parse_recipe
    from halfmask.training.data import read_training_data

    data = {
        "annotations": str(given.data),
        "images": str(given.images),
        "masked_threshold": 1,
        "development": 0,
    }
    recipe = parse_recipe(
        {"name": "malformed", "model": TINY, "data": data, "stages": [STAGE]}, "recipe"
    )
    examples = SkipUnreadable(read_training_data(recipe).training, MOST_UNREADABLE)
    targets = [examples[k][1] for k in range(len(examples))]
    if examples.left_out:
        assert "left out:" in said.getvalue(), said.getvalue()
        return "photograph left out, reported"
    return _taught(targets, given.first)


def _evaluate(given: DataSet, out: Path, said: io.StringIO) -> str:
    from halfmask.coco.file import CocoFile
    from halfmask.data.dataset import build_target

    report = out / "evaluation.json"
    _run(lambda: evaluate.run(MODEL, given.data, given.images, json=report, workers=0))
    if "skipped" in said.getvalue():
        return "photograph skipped, reported"
    file = CocoFile.read(given.data)
    taught = _taught([build_target(file, i) for i in file.image_ids], given.first)
    compared = json.loads(report.read_text())["given_boxes"]["all"]["instances"]
    assert compared == (MASKS if taught == "read" else MASKS - 1), (taught, compared)
    return "not compared" if taught in ("box only", "mask left out") else taught


def _taught(targets: list[Any], first: Any) -> str:
    """What is learnt from the annotation under test; its sound neighbour must teach
    whatever it does.
    """
    number = _numbered(first).get("id") if isinstance(first, dict) else None
    for target in targets:
        ids = target.annotation_ids.tolist()
        if number in ids:
            assert BESIDE in ids, "its sound neighbour is gone"
            if target.has_mask[ids.index(number)]:
                return "read"
            return "box only" if first.get("segmentation") in (None, [], [[]]) else "mask left out"
    return "left out"


def _numbered(first: Any) -> Any:
    """The annotation under test with the whole numbers that its ids mean."""
    if not isinstance(first, dict):
        return first
    meant = {"1": 1, "7": 7, "photo 1": 1, "1.png": 1, "cat": 1}
    found = dict(first)
    for key in {"id", "image_id", "category_id"} & found.keys():
        value = found[key]
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        found[key] = meant.get(value, value) if isinstance(value, str) else value
    return found


def _first(path: Path) -> Any:
    return json.loads(path.read_bytes())["annotations"][0]


VERBS: dict[str, Callable[[DataSet, Path, io.StringIO], str]] = {
    "doctor": _doctor,
    "split": _split,
    "index": _index,
    "train": _train,
    "complete": _complete,
    "evaluate": _evaluate,
}
