"""`python -m benchmarks annotations`: what a file of ten million annotations costs to
index, to open and to read, beside pycocotools.
"""

from __future__ import annotations

import shutil
import statistics
from pathlib import Path
from typing import Any

from benchmarks.child import MIB, command, in_child, need_pycocotools, sizes
from benchmarks.peer_table import peer_row, peer_table
from benchmarks.result import Options, Result, Row
from benchmarks.scale.annotations_data import images_of, write_annotations
from benchmarks.scale.annotations_probe import MODULE
from halfmask.coco.index.place import index_path
from halfmask.errors import InputError

DEFAULTS = {"annotations": 10_000_000, "peer": 500_000, "reads": 1000, "workers": 4, "repeats": 5}
"""`--set KEY=VALUE`: annotations of the large file and of the one that pycocotools
reads too; random images to read; worker processes; how often a file is opened, and how
often the two libraries read the smaller one in turn.
"""
INDEX_MIB, OPEN_SECONDS, OPEN_MIB, READ_MS, COPIES = 1024, 1, 200, 1, 1.05
BYTES_EACH = 640
"""An annotation takes with its share of images, index and what verbs write, at most."""
VERBS = {
    "doctor": ("doctor", "FILE"),
    "split": ("split", "FILE", "--masked", "random:1:20", "--out", "OUT"),
    "convert to-coco": ("convert", "to-coco", "FILE", "OUT"),
}
"""Commands that read the large file, after its index was made."""
PEER = "pycocotools"

Measures = dict[str, dict[str, Any]]


def run(options: Options) -> Result:
    """Generates both files in the run folder, measures, and removes them; a file that is
    there already is used, and stays.
    """
    need_pycocotools()
    chosen = sizes(options.overrides, DEFAULTS)
    options.out.mkdir(parents=True, exist_ok=True)
    needed, free = BYTES_EACH * chosen["annotations"], shutil.disk_usage(options.out).free
    if free < needed:
        raise InputError(
            f"{options.out}: {free >> 20} MiB are free, {needed >> 20} MiB are needed; name "
            "another folder (--out), "
            f"or fewer annotations (--set annotations=…)"
        )
    large = _measured(options, chosen, "annotations")
    small = _measured(options, chosen, "peer")
    rows = _rows(chosen, large, small)
    return Result(
        rows,
        {"annotations": _table(chosen, large, rows)},
        command("annotations", options.overrides),
        {"sizes": chosen},
    )


def _measured(options: Options, chosen: dict[str, int], which: str) -> Measures:
    """Everything about one file, each in a process of its own."""
    count, path = chosen[which], options.out / f"annotations_{chosen[which]}.json"
    kept = path.exists()
    try:
        if not kept:
            options.say(f"{path}: generating {count:,} annotations")
            write_annotations(path, count)
        about = {"size": path.stat().st_size / MIB, "images": images_of(count)}
        options.say(f"{path}: {about['size']:.0f} MiB, {about['images']:,} images")
        found: Measures = {"json": about, "index": _probe("index", path)}
        options.say(
            f"indexed in {found['index']['cpu']:.0f} s of CPU, {found['index']['peak']:.0f} MiB "
            "at most"
        )
        opened = [_probe("open", path, chosen["reads"]) for _ in range(chosen["repeats"])]
        found["open"] = {key: statistics.median(one[key] for one in opened) for key in opened[0]}
        found["shared"] = _probe("shared", path, chosen["workers"])
        if which == "annotations":
            found |= _verbs(path, options)
        else:
            options.say(f"pycocotools reads {count:,} annotations, {chosen['repeats']} times")
            found |= _paired(path, chosen)
        return found
    finally:
        if not kept:
            path.unlink(missing_ok=True)
        index_path(path).unlink(missing_ok=True)


def _verbs(path: Path, options: Options) -> Measures:
    """Each command on the large file, whose index is there."""
    found: Measures = {}
    for name, words in VERBS.items():
        found[name] = _probe("verb", path, *words)
        spent, peak = found[name]["cpu"], found[name]["peak"]
        options.say(f"{name}: {spent:.0f} s of CPU, {peak:.0f} MiB at most")
    return found


def _paired(path: Path, chosen: dict[str, int]) -> Measures:
    """Both libraries in turn, so that other work on the machine slows both alike."""
    turns = [
        (_probe("index", path), _probe("peer", path, chosen["reads"]))
        for _ in range(chosen["repeats"])
    ]
    ours, theirs = (
        {key: statistics.median(turn[k][key] for turn in turns) for key in turns[0][k]}
        for k in (0, 1)
    )
    ratios = {
        key: statistics.median(peer[key] / own[key] for own, peer in turns)
        for key in ("seconds", "cpu")
    }
    return {"index": ours, "peer": theirs, "ratio": ratios}


def _probe(what: str, path: Path, *arguments: int | str) -> dict[str, Any]:
    measured = in_child(MODULE, what, path, *arguments)
    if measured is None:
        raise InputError(
            f"bench annotations: {what} ran out of memory; choose a smaller file (--set peer=…)"
        )
    return measured


def _rows(chosen: dict[str, int], large: Measures, small: Measures) -> list[Row]:
    size, peer_size = f"{chosen['annotations']:,} annotations", f"{chosen['peer']:,} annotations"
    index, opened, workers = large["index"], large["open"], large["shared"]
    copies = f"{size}: copies of the index that {chosen['workers']} workers hold together"
    rows = [
        peer_row(f"{size}: indexing, processor time", index["cpu"], "s"),
        peer_row(f"{size}: indexing, peak memory", index["peak"], "MiB", at_most=INDEX_MIB),
        peer_row(f"{size}: opening", opened["seconds"], "s", at_most=OPEN_SECONDS),
        peer_row(
            f"{size}: opening, peak memory of the process", opened["peak"], "MiB", at_most=OPEN_MIB
        ),
        peer_row(
            f"{size}: after {chosen['reads']} images, memory of its own",
            opened["own"],
            "MiB",
            at_most=OPEN_MIB,
        ),
        peer_row(f"{size}: a random image's", opened["read"], "ms", at_most=READ_MS),
        peer_row(copies, workers["pss"] / workers["size"], "copies", at_most=COPIES),
    ]
    for name in VERBS:
        rows.append(peer_row(f"{size}: {name}, processor time", large[name]["cpu"], "s"))
        rows.append(peer_row(f"{size}: {name}, peak memory", large[name]["peak"], "MiB"))
    return rows + _peer_rows(peer_size, small)


def _peer_rows(peer_size: str, small: Measures) -> list[Row]:
    theirs = small["peer"]
    compared = (
        ("indexing, once, processor time", small["index"]["cpu"], "cpu", "s"),
        ("indexing, peak memory", small["index"]["peak"], "peak", "MiB"),
        ("opening, processor time", small["open"]["cpu"], "cpu", "s"),
        ("opening, peak memory of the process", small["open"]["peak"], "peak", "MiB"),
        ("a random image's", small["open"]["read"], "read", "ms"),
    )
    rows = [
        peer_row(f"{peer_size}: {what}", value, unit, (f"{PEER}.COCO", theirs[key]))
        for what, value, key, unit in compared
    ]
    fast = f"{peer_size}: indexing, times as fast in processor time"
    return [*rows, peer_row(fast, small["ratio"]["cpu"], "×")]


def _table(chosen: dict[str, int], large: Measures, rows: list[Row]) -> str:
    about = large["json"]
    note = (
        f"A generated file of {about['size']:,.0f} MiB, {about['images']:,} images, "
        "annotations in no order of images, half of them with "
        f"a polygon; its index has {large['index']['size']:,.0f} MiB. Every measure in a fresh "
        "process; opening is the median of "
        f"{chosen['repeats']}, indexing the smaller file that of as many turns of both, "
        f"a random image the median of {chosen['reads']}, with the file "
        "in the system's cache. The commands use the index; `split` and `convert` write "
        f"{large['split']['written']:,.0f} and {large['convert to-coco']['written']:,.0f} MiB. "
        "Memory of its own: "
        f"what no file backs and no other process can share. {PEER} reads the smaller file alone."
    )
    return peer_table(rows, PEER, note)
