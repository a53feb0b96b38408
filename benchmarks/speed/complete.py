"""`python -m benchmarks complete`: the command `halfmask complete` from file to file, by
effort, runtime and precision, start included.

Each way runs as a process of its own, in turns, and its processor seconds are counted:
imports, model, photographs, masks, run lengths, the written file. The masks are compared
with the true ones of COCO-mini val, which no way ever sees. `--set base=FOLDER` adds
another checkout of halfmask, by its default settings.
"""

from __future__ import annotations

import copy
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.child import seconds_of_verb
from benchmarks.result import Options, Result, Row, compared
from halfmask.errors import InputError
from halfmask.evaluation.measures.reliability import reliability
from halfmask.masks.crops import MaskCrops, decode, iou
from halfmask.recipes.recipe import expand

DATA = "${HALFMASK_SHARED}/data/coco-mini"
PEER, BASE = "best, PyTorch", "earlier version"
ROUNDS = 3
WAYS: dict[str, tuple[str, ...]] = {
    PEER: ("--effort", "best"),
    "balanced, PyTorch": ("--effort", "balanced"),
    "fast, PyTorch": ("--effort", "fast"),
    "best, auto": ("--effort", "best", "--runtime", "auto"),
    "balanced, auto": ("--effort", "balanced", "--runtime", "auto"),
    "fast, auto": ("--effort", "fast", "--runtime", "auto"),
    "balanced, auto, int8": ("--effort", "balanced", "--runtime", "auto", "--precision", "int8"),
    "fast, auto, int8": ("--effort", "fast", "--runtime", "auto", "--precision", "int8"),
}
"""Way → its flags."""


def run(options: Options) -> Result:
    """Times every way, and measures its masks.

    Raises:
        InputError: the data are not there, an override is unknown, or a way fails.
    """
    given = dict(one.partition("=")[::2] for one in options.overrides)
    if given.keys() - {"base", "rounds"}:
        raise InputError("bench complete: --set takes base=FOLDER and rounds=N")
    source = Path(expand(DATA))
    rounds = int(given.get("rounds", ROUNDS))
    base = given.get("base")
    with tempfile.TemporaryDirectory() as folder:
        return _measured(source, Path(folder), rounds, base, options)


def _measured(
    source: Path, folder: Path, rounds: int, base: str | None, options: Options
) -> Result:
    truth = json.loads((source / "instances_val.json").read_text(encoding="utf-8"))
    boxes = folder / "boxes.json"
    boxes.write_text(json.dumps(without_masks(truth)), encoding="utf-8")
    ways = WAYS if base is None else {BASE: (), **WAYS}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    quality: dict[str, dict[str, Any]] = {}
    for name in ("fast, auto", "fast, auto, int8"):  # makes the graphs, which are kept
        _timed(ways[name], boxes, source, folder / f"{name}.json", None)
    for number in range(rounds):
        for name, flags in ways.items():
            out = folder / f"{number}.json"
            spent = _timed(flags, boxes, source, out, base if name == BASE else None)
            seconds[name].append(spent)
            options.say(f"{name}: {spent:.1f} s of CPU")
            quality.setdefault(name, compared_with(truth, json.loads(out.read_bytes())))
            out.unlink()
    median = {name: statistics.median(all_of) for name, all_of in seconds.items()}
    count = quality[PEER]["instances"]
    result = Result(
        _rows(median, quality, BASE if base else PEER),
        {"complete": _table(median, quality, count, BASE if base else PEER)},
        "python -m benchmarks complete --threads 1",
        {"seconds": seconds, "quality": quality},
    )
    if options.docs is not None:
        path = options.docs.parent / "figures" / "complete.png"
        result.tables["complete:plot"] = _plot(median, quality, count, path)
    return result


def without_masks(truth: dict[str, Any]) -> dict[str, Any]:
    """Returns a COCO document without the masks of single objects."""
    document = copy.deepcopy(truth)
    for one in document["annotations"]:
        if not one.get("iscrowd"):
            one.pop("segmentation", None)
    return document


def _timed(flags: tuple[str, ...], boxes: Path, source: Path, out: Path, base: str | None) -> float:
    """Runs the command; returns its processor seconds, of all its threads.

    Raises:
        InputError: it failed.
    """
    words = ["complete", "box-segmenter", str(boxes), "--images", str(source / "val")]
    return seconds_of_verb([*words, "--out", str(out), *flags], base)


def compared_with(truth: dict[str, Any], filled: dict[str, Any]) -> dict[str, Any]:
    """Measures filled masks and their scores against the true ones; see `reliability`."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    true = {one["id"]: one for one in truth["annotations"] if not one.get("iscrowd")}
    rows = [one for one in filled["annotations"] if one["id"] in true]
    ious = [float(iou(_crops(one, sizes), _crops(true[one["id"]], sizes))[0]) for one in rows]
    found = reliability([one["halfmask"]["score"] for one in rows], ious)
    return {key: found[key] for key in ("instances", "miou", "spearman", "calibration_error")}


def _crops(one: dict[str, Any], sizes: dict[int, tuple[int, int]]) -> MaskCrops:
    size = sizes[one["image_id"]]
    bitmap, place = decode(one["segmentation"], size)
    return MaskCrops.from_bitmaps([bitmap], [place], size)


def _rows(seconds: dict[str, float], quality: dict[str, dict[str, Any]], peer: str) -> list[Row]:
    rows = []
    for name, spent in seconds.items():
        if name == peer:
            continue
        rows.append(compared(f"{name}, file to file", peer, seconds[peer], spent, "s", None, True))
        value = quality[name]["miou"]
        row = compared(f"{name}, mask IoU", peer, quality[peer]["miou"], value, "of 1", None)
        rows.append(row)
    return rows


def _table(
    seconds: dict[str, float], quality: dict[str, dict[str, Any]], count: int, peer: str
) -> str:
    lines = [
        f"| effort, runtime | seconds of CPU | masks/s and core | times {peer} | mask IoU, % | "
        "rank correlation of the score | its calibration error |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, spent in seconds.items():
        q = quality[name]
        lines.append(
            f"| {name} | {spent:.1f} | {count / spent:.0f} | {seconds[peer] / spent:.2f} | "
            f"{100 * q['miou']:.2f} | {q['spearman']:.3f} | {q['calibration_error']:.3f} |"
        )
    note = (
        f"{count} boxes of 144 photographs, start of the command included; graphs are in the "
        "cache. Medians of the rounds."
    )
    return "\n".join([*lines, "", note])


def _plot(
    seconds: dict[str, float], quality: dict[str, dict[str, Any]], count: int, path: Path
) -> str:
    from benchmarks.plots.speed_plot import speed_plot

    speed_plot(
        {
            "masks/s and core, file to file": {n: count / s for n, s in seconds.items()},
            "mask IoU, %": {n: 100 * q["miou"] for n, q in quality.items()},
        },
        path,
        ours=("best", "balanced", "fast"),
    )
    return f"![Masks per second and mask IoU, by effort and runtime](figures/{path.name})"
