"""The box segmenter on COCO-mini's val: masks in given boxes, of classes that never had
one, beside rules and the all-masks model.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.paper.table1_page import spread
from benchmarks.real.command import Halfmask, run_halfmask
from benchmarks.result import Options, Result, Row
from halfmask.errors import InputError
from halfmask.recipes.recipe import expand

DIRECTIONS = {"voc": "voc → non-voc", "nonvoc": "non-voc → voc"}
"""Masked classes (A) → what the column is called; B is the rest."""
RECIPES = {
    "voc": "coco_mini_voc2nonvoc_box_segmenter",
    "nonvoc": "coco_mini_nonvoc2voc_box_segmenter",
    "all": "coco_mini_all_box_segmenter",
}
MORE = "more"
WITH_MORE = {
    name: recipe.replace("_box_segmenter", "_more_box_segmenter")
    for name, recipe in RECIPES.items()
}
"""The same with further photographs."""
RULES = ("baseline:box", "baseline:ellipse", "baseline:grabcut")
HIDDEN = 5
"""Classes hidden from a first training, for the quality score of the first seed; not of
the all-masks model, which has no B.
"""
LOOSE = 0.1
SHOWN = ("miou", "S", "M", "L", "polygon", "rle", "boundary")
BAR_IOU, BAR_SHARE, BAR_LOOSE = 77.0, 98.0, 3.0


class Measure(NamedTuple):
    """Of one model and direction: B's `given_boxes` block in percent (`boundary`: the mean
    boundary IoU), its mean IoU with
    boxes moved by up to LOOSE, how far the score is right (`quality`), and shared boxes
    (`ambiguous`).
    """

    boxes: dict[str, float]
    loose: float
    quality: dict[str, Any]
    ambiguous: dict[str, Any]


def run(options: Options, halfmask: Halfmask = run_halfmask) -> Result:
    """Trains what is missing and measures it on val. `--set voc`, `nonvoc` or `all`
    makes that model's runs and no table: processes side by side. `--set more` takes the
    recipes with further photographs, without hidden classes and rules, and with one run
    on all masks.

    Raises:
        InputError: another --set, no shared data, or a run fails.
    """
    more = MORE in options.overrides
    chosen = [name for name in options.overrides if name != MORE]
    unknown = [name for name in chosen if name not in RECIPES]
    if unknown:
        raise InputError(f"bench real: --set {unknown[0]}: there are {', '.join([*RECIPES, MORE])}")
    recipes = WITH_MORE if more else RECIPES
    seeds = list(range(options.first_seed, options.first_seed + options.seeds))
    found: dict[tuple[str, str], list[Measure]] = {}
    for name in chosen or RECIPES:
        for seed in seeds[:1] if more and name == "all" else seeds:
            folder = options.out / f"seed-{seed}" / name
            hide = HIDDEN if seed == seeds[0] and name in DIRECTIONS and not more else 0
            model = _trained(recipes[name], seed, hide, folder, halfmask)
            for direction in DIRECTIONS if name == "all" else [name]:
                one = _measured(str(model), direction, folder, halfmask, name in DIRECTIONS)
                found.setdefault((name, direction), []).append(one)
                options.say(
                    f"{name}, {DIRECTIONS[direction]}, seed {seed}: B {one.boxes['miou']:.1f}, "
                    f"loose {one.loose:.1f}"
                )
    if chosen:
        return Result([], {}, "", {})
    for rule in () if more else RULES:
        for direction in DIRECTIONS:
            folder = options.out / rule.replace(":", "-")
            found[rule, direction] = [
                _measured(rule, direction, folder, halfmask, one_of_a_kind=False)
            ]
    command = f"python -m benchmarks real --seeds {options.seeds} --first-seed {options.first_seed}"
    command += f" --set {MORE}" * more
    tables = {"real": _table(found), "real:quality": _quality_table(found)}
    tables = {f"{name}:{MORE}": table for name, table in tables.items()} if more else tables
    measures = [
        {"model": name, "direction": direction, "seed": seed, **one._asdict()}
        for (name, direction), runs in found.items()
        for seed, one in zip(seeds, runs, strict=False)
    ]
    return Result(_rows(found), tables, command, {"measures": measures})


def _trained(recipe: str, seed: int, hide: int, folder: Path, halfmask: Halfmask) -> Path:
    run = folder / "run"
    halfmask(["train", recipe, f"seed={seed}", f"hide={hide}", "--out", str(run), "--resume"])
    return run


def _measured(
    model: str, direction: str, folder: Path, halfmask: Halfmask, one_of_a_kind: bool = True
) -> Measure:
    """one_of_a_kind: a model of this direction. What has none is measured once: the
    other direction's B is this one's A.
    """
    masked, side = (direction, "B") if one_of_a_kind or direction == "voc" else ("voc", "A")
    data = expand("${HALFMASK_SHARED}/data/coco-mini")
    blocks = []
    for loosen in (0.0, LOOSE):
        result = folder / f"{masked}-{loosen:g}.json"
        # A measurement of an older version has no boundary IoU.
        if not result.is_file() or '"boundary"' not in result.read_text(encoding="utf-8"):
            folder.mkdir(parents=True, exist_ok=True)
            truth = [
                str(data / "instances_val.json"),
                "--images",
                str(data / "val"),
                "--masked",
                masked,
            ]
            halfmask(
                [
                    "evaluate",
                    model,
                    *truth,
                    "--given-boxes",
                    "--loosen",
                    f"{loosen:g}",
                    "--json",
                    str(result),
                ]
            )
        blocks.append(json.loads(result.read_text(encoding="utf-8")))
    tight, loose = blocks
    block = tight["given_boxes"][side]
    shown = {key: 100 * block[key] for key in SHOWN if key != "boundary"}
    shown["boundary"] = 100 * block["boundary"]["miou"]
    return Measure(
        shown,
        100 * loose["given_boxes"][side]["miou"],
        tight["quality"][side],
        tight["ambiguous"][side],
    )


Found = dict[tuple[str, str], list[Measure]]


def _mean(found: Found, name: str, direction: str) -> float:
    return statistics.fmean(m.boxes["miou"] for m in found[name, direction])


def _both(found: Found, name: str | None) -> list[float]:
    """The mean of both directions for each seed; None: the models that never saw B's masks."""
    runs = [found[name or direction, direction] for direction in DIRECTIONS]
    return [statistics.fmean(m.boxes["miou"] for m in pair) for pair in zip(*runs, strict=True)]


def _loss(found: Found) -> float:
    """Points of IoU that loose boxes cost, both directions and all seeds."""
    runs = [m for direction in DIRECTIONS for m in found[direction, direction]]
    return statistics.fmean(m.boxes["miou"] - m.loose for m in runs)


def _table(found: Found) -> str:
    heads = ["mean", "S", "M", "L", "polygon", "RLE", "boundary IoU", "loose boxes"]
    lines = []
    own = "**halfmask, masks of the other classes only**"
    rules = [rule for rule in RULES if (rule, "voc") in found]
    names: list[tuple[str, str | None]] = [(f"`{rule}`", rule) for rule in rules]
    names += [(own, None), ("the same model, all masks (oracle)", "all")]
    for direction, shown in DIRECTIONS.items():
        lines += [f"| {shown}, IoU in % | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 1)]
        for title, name in names:
            runs = found[name or direction, direction]
            cells = [_cell([m.boxes[key] for m in runs]) for key in SHOWN]
            cells.append(_cell([m.loose for m in runs]))
            lines.append(f"| {title} | {' | '.join(cells)} |")
        lines.append("")
    lines += ["| mean of both directions, IoU in % | mean |", "|---|---|"]
    lines += [f"| {title} | {_cell(_both(found, name))} |" for title, name in names]
    return "\n".join([*lines, "", *(_summary_line(row) for row in _rows(found))])


def _cell(values: list[float]) -> str:
    return spread(values, 1) if len(values) > 1 else f"{values[0]:.1f}"


def _summary_line(row: Row) -> str:
    return f"- {row['name']}: {row['value']:.1f} {row['unit']}."


def _quality_table(found: Found) -> str:
    lines = [f"| B, first seed | {' | '.join(DIRECTIONS.values())} |", "|---|---|---|"]
    first = [found[direction, direction][0].quality for direction in DIRECTIONS]
    for title, key, form in (
        ("rank correlation (Spearman) with the true IoU", "spearman", ".3f"),
        ("calibration error, ten bins of equal count", "calibration_error", ".3f"),
        ("share of the masks with IoU < 0.5 in the worst-scored fifth", "bad_found", ".0%"),
        ("masks with IoU < 0.5", "bad", ".0%"),
    ):
        cells = ["–" if block[key] is None else format(block[key], form) for block in first]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _rows(found: Found) -> list[Row]:
    own = statistics.fmean(_both(found, None))
    oracle = statistics.fmean(_both(found, "all"))
    box = statistics.fmean(_both(found, RULES[0])) if (RULES[0], "voc") in found else None
    return [
        _row(
            "mask IoU on B, mean of both directions",
            own,
            "%",
            "the box itself",
            box,
            BAR_IOU,
            own >= BAR_IOU,
        ),
        _row(
            "share of the all-masks model",
            100 * own / oracle,
            "%",
            "all masks",
            oracle,
            BAR_SHARE,
            own >= BAR_SHARE / 100 * oracle,
        ),
        _row(
            f"lost with boxes moved by up to {LOOSE:.0%}",
            _loss(found),
            "points",
            None,
            None,
            BAR_LOOSE,
            _loss(found) < BAR_LOOSE,
        ),
    ]


def _row(
    name: str,
    value: float,
    unit: str,
    peer: str | None,
    peer_value: float | None,
    bar: float,
    ok: bool,
) -> Row:
    ratio = None if peer_value is None else value / peer_value
    return {
        "name": name,
        "peer": peer,
        "peer_value": peer_value,
        "value": value,
        "unit": unit,
        "ratio": ratio,
        "bar": bar,
        "ok": ok,
    }
