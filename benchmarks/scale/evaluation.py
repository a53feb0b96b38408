"""`python -m benchmarks evaluation`: box and mask AP of a set of COCO's size, beside
pycocotools: the same numbers, and how long they take.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import command, in_child, need_pycocotools, sizes
from benchmarks.peer_table import peer_row, peer_table
from benchmarks.result import Options, Result, Row
from benchmarks.scale.evaluation_probe import KINDS, MODULE
from halfmask.errors import InputError

DEFAULTS = {"images": 5000, "truth": 36_000, "detections": 500_000, "repeats": 3}
"""`--set KEY=VALUE`: COCO val2017's sizes with 100 detections an image; how often ours
is measured (pycocotools once).
"""
FASTER = 30
NAMES = {"bbox": "box", "segm": "mask"}
PEER = "pycocotools"


def run(options: Options) -> Result:
    """Measures each in a process of its own, on the same generated records."""
    need_pycocotools()
    chosen = sizes(options.overrides, DEFAULTS)
    options.out.mkdir(parents=True, exist_ok=True)
    files = {who: options.out / f"evaluation_{who}.npz" for who in ("ours", "peer")}
    try:
        ours = []
        for _ in range(chosen["repeats"]):
            ours.append(_probe("ours", chosen, files["ours"]))
            options.say(f"halfmask: {ours[-1]['bbox'] + ours[-1]['segm']:.1f} s")
        mine = {key: statistics.median(one[key] for one in ours) for key in ours[0]}
        options.say("pycocotools, some minutes")
        theirs = _probe("peer", chosen, files["peer"])
        options.say(f"pycocotools: {theirs['bbox'] + theirs['segm']:.1f} s")
        tables = {who: dict(np.load(path)) for who, path in files.items()}
    finally:
        for path in files.values():
            path.unlink(missing_ok=True)
    rows = _rows(mine, theirs, tables)
    return Result(
        rows,
        {"evaluation": _table(chosen, rows)},
        command("evaluation", options.overrides),
        {"sizes": chosen},
    )


def _probe(who: str, chosen: dict[str, int], out: Path) -> dict[str, Any]:
    measured = in_child(MODULE, who, chosen["images"], chosen["truth"], chosen["detections"], out)
    if measured is None:
        raise InputError(
            f"bench evaluation: {who} ran out of memory; choose fewer detections (--set "
            "detections=…)"
        )
    return measured


def _rows(
    ours: dict[str, Any], theirs: dict[str, Any], tables: dict[str, dict[str, Any]]
) -> list[Row]:
    rows = []
    for kind in KINDS:
        mine, other = (100 * float(tables[who][f"{kind}_stats"][0]) for who in ("ours", "peer"))
        rows.append(peer_row(f"{NAMES[kind]} AP", mine, "%", (PEER, other)))
        apart = f"{NAMES[kind]}: largest difference in precision or recall"
        rows.append(peer_row(apart, _apart(tables, kind), "", at_most=0))
    rows += [
        peer_row(f"{NAMES[kind]} AP, time", ours[kind], "s", (PEER, theirs[kind])) for kind in KINDS
    ]
    rows.append(peer_row("both together, CPU time", ours["cpu"], "s", (PEER, theirs["cpu"])))
    faster = sum(theirs[kind] for kind in KINDS) / sum(ours[kind] for kind in KINDS)
    rows.append(peer_row("both together, times as fast", faster, "×", at_least=FASTER))
    rows.append(peer_row("peak memory of the process", ours["peak"], "MiB", (PEER, theirs["peak"])))
    return rows


def _apart(tables: dict[str, dict[str, Any]], kind: str) -> float:
    """Over every class, threshold, recall, area and limit."""
    parts = [
        np.abs(tables["ours"][key] - tables["peer"][key]).max()
        for key in (f"{kind}_precision", f"{kind}_recall")
    ]
    return float(max(parts))


def _table(chosen: dict[str, int], rows: list[Row]) -> str:
    note = (
        f"{chosen['images']:,} generated images of 640 × 480, {chosen['truth']:,} annotations "
        "(polygons, crowds as RLE), "
        f"{chosen['detections']:,} detections (RLE), 80 classes. halfmask takes them image by "
        "image "
        f"and matches sixteen at a time (median of {chosen['repeats']} runs), "
        f"{PEER} all at once (one run); times are from records in memory to AP."
    )
    return peer_table(rows, PEER, note)
