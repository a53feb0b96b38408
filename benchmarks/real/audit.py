"""`halfmask audit`: how many damaged masks stand at the head of its list.

Masks of COCO-mini's val are damaged on purpose; the shipped model has seen none of
them. `--stage fit` fits the weights of `halfmask/labelling/audit/score.py` on other
photographs that it has not seen either.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import halfmask
from benchmarks.paper.table1_page import spread
from benchmarks.real.audit_fit import fit_weights
from benchmarks.real.damage import KINDS, STRENGTHS, Damaged, damage
from benchmarks.result import Options, Result, Row
from halfmask.coco.file import CocoFile
from halfmask.coco.photographs.reader import PhotographReader, reader_of
from halfmask.errors import InputError
from halfmask.inference.complete.plan import batches_of, pieces_of
from halfmask.inference.predictor import Predictor
from halfmask.labelling.audit.edges import edges_on_grid
from halfmask.labelling.audit.look import Looker, on_grids
from halfmask.labelling.audit.maps import grid_window
from halfmask.labelling.audit.measures import MEASURES, measures_of
from halfmask.labelling.audit.placing import Neighbours, place
from halfmask.labelling.audit.score import wrongness
from halfmask.models.box_segmenter.looks import Effort
from halfmask.recipes.recipe import expand

SHARE, HEAD = 0.05, 0.1
"""Share of damaged masks, and of the list that is looked at."""
FIRST = 100
MODES = {"box stays": 0.0, "box follows": 1.0}
BAR = 80.0
SIZES = {"small": (0.0, 32.0), "medium": (32.0, 96.0), "large": (96.0, float("inf"))}
"""Sides of the box's square in pixels."""
Grid = tuple[NDArray[np.float16], NDArray[np.float16]]


@dataclass
class Looks:
    """The model's maps and the photographs' edges for boxes of a file, by position.

    They do not change with the masks; only a box that was made anew is read again.
    """

    predictor: Predictor
    reader: PhotographReader
    effort: Effort

    def of(self, file: CocoFile, positions: set[int] | None = None) -> dict[int, Grid]:
        """Looks at the masks of a file, or at these positions alone."""
        looker = Looker(predictor=self.predictor, file=file, reader=self.reader, effort=self.effort)
        batches = looker.batches()
        if positions is not None:
            batches = list(batches_of(_chosen(file, positions)))
        found: dict[int, Grid] = {}
        for piece, pixels, drawn in looker.drawings(batches):
            edges = [edges_on_grid(pixels, grid_window((*box,))) for box in drawn.boxes.tolist()]
            rows = zip(piece.positions, on_grids(drawn), edges, strict=True)
            for position, probs, edge in rows:
                found[position] = probs.astype(np.float16), edge.astype(np.float16)
        return found


def _chosen(file: CocoFile, positions: set[int]) -> list[Any]:
    pieces: list[Any] = []
    for image in file.images:
        rows = [(file.position_of(a), a) for a in file.annotations_of(image["id"])]
        pieces += pieces_of(file, image, [row for row in rows if row[0] in positions])
    return pieces


def measured(
    file: CocoFile, grids: dict[int, Grid], image_ids: set[int] | None = None
) -> dict[int, NDArray[np.float32]]:
    """Measures the masks of a file, or of some photographs, by position."""
    found: dict[int, NDArray[np.float32]] = {}
    for image_id in file.image_ids:
        if image_ids is not None and image_id not in image_ids:
            continue
        around = Neighbours.of(file, image_id)
        records = {file.position_of(a): a for a in file.annotations_of(image_id)}
        positions = [k for k in around.positions if k in grids]
        if not positions:
            continue
        placed = place(
            [records[k] for k in positions], positions, around, size=file.size_of(image_id)
        )
        probs, edges = (
            np.stack([grids[k][column] for k in positions]).astype(np.float32) for column in (0, 1)
        )
        values = measures_of(placed.masks, probs, edges, placed=placed.placement)
        found |= dict(zip(positions, values, strict=True))
    return found


def run(options: Options) -> Result:
    """Damages the masks of val with each seed, strength and mode, and ranks them.

    Raises:
        InputError: the shared data are absent.
    """
    if options.stage == "fit":
        return fit_weights(options, measured_damage=_fit_data)
    file, folder = _data("coco-mini", "val")
    effort: Effort = "best" if "effort=best" in options.overrides else "fast"
    model = next((o[6:] for o in options.overrides if o.startswith("model=")), "box-segmenter")
    looks = Looks(halfmask.load(model), reader_of(file, folder), effort)
    grids = looks.of(file)
    clean = measured(file, grids)
    options.say(f"{len(clean)} masks of val looked at")
    rows: list[dict[str, Any]] = []
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for seed in seeds:
        for strength, factor in STRENGTHS.items():
            for mode, follow in MODES.items():
                made = damage(file, SHARE, seed=seed, strengths=(factor,), boxes_follow=follow)
                found = _ranked(made, file, grids, looks=looks, clean=clean)
                rows.append({"seed": seed, "strength": strength, "mode": mode, **found})
                options.say(f"seed {seed}, {strength}, {mode}: {found['recall']:.1f} %")
    return _result(options, rows, effort)


def _ranked(
    made: Damaged,
    original: CocoFile,
    grids: dict[int, Grid],
    *,
    looks: Looks,
    clean: dict[int, NDArray[np.float32]],
) -> dict[str, Any]:
    file = CocoFile.from_document(made.document, "damaged")
    changed = {
        k
        for k in made.kinds
        if made.document["annotations"][k]["bbox"] != original.document["annotations"][k]["bbox"]
    }
    own = grids | looks.of(file, changed) if changed else grids
    images = {made.document["annotations"][k]["image_id"] for k in made.kinds}
    values = clean | measured(file, own, images)
    positions = sorted(values)
    measures = np.stack([values[k] for k in positions])
    wrong = np.array([k in made.kinds for k in positions])
    kinds = [made.kinds.get(k, "") for k in positions]
    sides = 2.0 ** measures[:, MEASURES.index("log_side")]
    orders: dict[str, NDArray[Any]] = {
        "audit": wrongness(measures),
        "IoU alone": -measures[:, MEASURES.index("iou")],
        "shortfall alone": measures[:, MEASURES.index("shortfall")],
        "box alone": measures[:, MEASURES.index("box_side")],
    }
    found = {name: _head(values, wrong) for name, values in orders.items()}
    head = _first(orders["audit"], round(HEAD * len(positions)))
    out: dict[str, Any] = {"recall": found["audit"], "others": found, "damaged": int(wrong.sum())}
    out["first"] = int(wrong[_first(orders["audit"], FIRST)].sum())
    total, seen = Counter(kinds), Counter(kinds[k] for k in head.tolist())
    out["kinds"] = {kind: [seen[kind], total[kind]] for kind in KINDS}
    inside = np.zeros(len(positions), dtype=bool)
    inside[head] = True
    out["sizes"] = {
        name: [int((wrong & inside & at).sum()), int((wrong & at).sum())]
        for name, (low, high) in SIZES.items()
        for at in [(sides >= low) & (sides < high)]
    }
    return out


def _first(scores: NDArray[Any], count: int) -> NDArray[np.int64]:
    return np.argsort(-scores, kind="stable")[:count]


def _head(scores: NDArray[Any], wrong: NDArray[np.bool_]) -> float:
    """Percent of the wrong masks in the first tenth of a list."""
    return 100 * float(wrong[_first(scores, round(HEAD * len(wrong)))].sum() / wrong.sum())


def _data(name: str, part: str) -> tuple[CocoFile, Path]:
    folder = expand(f"${{HALFMASK_SHARED}}/data/{name}")
    path = folder / f"instances_{part}.json"
    if not path.is_file():
        raise InputError(f"{path}: the shared data are not here")
    return CocoFile.read(path), folder / part


def _fit_data(
    name: str, part: str, photographs: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Measures of masks of a data set, and which of them were damaged."""
    file, folder = _data(name, part)
    step = max(1, len(file.image_ids) // photographs)
    file = file.part(file.image_ids[::step])
    made = damage(file, 0.4, seed=seed, strengths=tuple(np.geomspace(0.5, 2, 5)), boxes_follow=0.5)
    damaged = CocoFile.from_document(made.document, name)
    looker = Looker(
        predictor=halfmask.load("box-segmenter"), file=damaged, reader=reader_of(damaged, folder)
    )
    rows = list(looker.look(looker.batches()))
    wrong = np.array([k in made.kinds for row in rows for k in row.positions])
    return np.concatenate([row.measures for row in rows]), wrong


def _result(options: Options, rows: list[dict[str, Any]], effort: Effort) -> Result:
    command = f"python -m benchmarks audit --seeds {options.seeds}" + f" --set effort={effort}" * (
        effort != "fast"
    )
    main = [r["recall"] for r in rows if r["strength"] == "medium" and r["mode"] == "box stays"]
    value = statistics.fmean(main)
    row: Row = {
        "name": "damaged masks in the first tenth of the list, medium damage",
        "peer": "IoU alone",
        "peer_value": _mean(rows, "IoU alone", "medium", "box stays"),
        "value": value,
        "unit": "%",
        "ratio": None,
        "bar": BAR,
        "ok": value >= BAR,
    }
    tables = {"audit": _table(rows), "audit-kinds": _kinds(rows)}
    return Result([row], tables, command, {"measures": rows})


def _mean(rows: list[dict[str, Any]], order: str, strength: str, mode: str) -> float:
    chosen = [r["others"][order] for r in rows if (r["strength"], r["mode"]) == (strength, mode)]
    return statistics.fmean(chosen)


def _table(rows: list[dict[str, Any]]) -> str:
    heads = ["damage", "box", "**audit**", "IoU alone", "shortfall alone", "box alone"]
    heads += [f"errors in the first {FIRST}", "damaged"]
    lines = [f"| {' | '.join(heads)} |", "|---|---|" + "---|" * (len(heads) - 2)]
    for mode in MODES:
        for strength in STRENGTHS:
            some = [r for r in rows if (r["strength"], r["mode"]) == (strength, mode)]
            cells = [spread([r["others"][name] for r in some], 1) for name in some[0]["others"]]
            cells[0] = f"**{cells[0]}**"
            first = spread([float(r["first"]) for r in some], 0)
            count = str(round(statistics.fmean(r["damaged"] for r in some)))
            lines.append(f"| {' | '.join([strength, mode, *cells, first, count])} |")
    return "\n".join(lines)


def _kinds(rows: list[dict[str, Any]]) -> str:
    names = [*KINDS, *SIZES]
    lines = [f"| damage | box | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for mode in MODES:
        for strength in STRENGTHS:
            some = [r for r in rows if (r["strength"], r["mode"]) == (strength, mode)]
            cells = []
            for key, name in [*(("kinds", k) for k in KINDS), *(("sizes", s) for s in SIZES)]:
                seen, total = (sum(r[key][name][i] for r in some) for i in (0, 1))
                cells.append(f"{100 * seen / total:.0f} ({seen} of {total})" if total else "–")
            lines.append(f"| {' | '.join([strength, mode, *cells])} |")
    return "\n".join(lines)
