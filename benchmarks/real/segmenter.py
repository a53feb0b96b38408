"""The box segmenter's options one at a time, on folds of COCO-mini's training
photographs, in both directions.

Every run is a `halfmask train` of its own with a short budget; what is measured is the
mask IoU on the given boxes of the held-out fold's objects, B's and A's. `val` is not
touched.
"""

from __future__ import annotations

import statistics

import torch

from benchmarks.paper.table1_page import T_95, Difference, spread
from benchmarks.real.command import Halfmask, run_halfmask
from benchmarks.real.segmenter_options import BASE, DIRECTIONS, chosen_options
from benchmarks.real.segmenter_runs import (
    Job,
    Store,
    Timed,
    arguments_of,
    digest,
    measured,
    ms_per_mask,
)
from benchmarks.result import Options, Result, Row


def run(options: Options, halfmask: Halfmask = run_halfmask, timed: Timed = ms_per_mask) -> Result:
    """Trains what is missing, and writes the table. `--set NAME` runs that option alone
    beside the base (repeatable), for a table of its own; `--set "NAME: key=value …"`
    adds one; `--splits 1` leaves out the direction non-voc → voc; `--measured` trains
    nothing and takes what has been measured: options with fewer runs say so.

    Raises:
        InputError: an option that is not known, or a run that fails.
    """
    chosen = chosen_options(options.overrides)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    # What one direction says is worth having before the other is begun.
    directions = list(DIRECTIONS)[: options.splits]
    jobs = [Job(name, masked, seed) for masked in directions for seed in seeds for name in chosen]
    store = Store(options.out / "measures.json")
    found: dict[Job, dict[str, float]] = {}
    for job in jobs:
        arguments = arguments_of(job, chosen[job.option])
        recipe = digest(arguments)
        scores = store.find(recipe)
        if scores is None and options.measured:
            continue
        if scores is None:
            scores = measured(job, arguments, options.out, halfmask=halfmask, timed=timed)
            store.add({**job._asdict(), **scores, "arguments": arguments, "recipe": recipe})
            options.say(
                f"{job.option}, {job.masked}, seed {job.seed}: B {scores['B']:.1f}, A "
                f"{scores['A']:.1f}"
            )
        found[job] = scores
    command = f"python -m benchmarks segmenter --seeds {options.seeds} --first-seed {options.first_seed} --threads {torch.get_num_threads()}"
    command += "" if options.splits >= len(DIRECTIONS) else f" --splits {options.splits}"
    command += (
        "".join(f' --set "{one}"' for one in options.overrides) + " --measured" * options.measured
    )
    names = [name for name in chosen if any(job.option == name for job in found)]
    table = _table(found, names, list(seeds))
    return Result(
        _rows(found, names, list(seeds)),
        {"segmenter:chosen" if options.overrides else "segmenter": table},
        command,
        {"measures": store.measures},
    )


def differences(
    found: dict[Job, dict[str, float]], option: str, seeds: list[int], what: str
) -> Difference | None:
    """option − base, paired by seed (which is the fold too); both directions of a seed
    count once, as their mean.
    """
    means = []
    for seed in seeds:
        pairs = [
            (found.get(Job(option, m, seed)), found.get(Job(BASE, m, seed))) for m in DIRECTIONS
        ]
        known = [
            one[what] - base[what]
            for one, base in pairs
            if one is not None and base is not None and what in one and what in base
        ]
        if known:
            means.append(statistics.fmean(known))
    if not means:
        return None
    if len(means) == 1:
        return Difference(means[0], None)
    quantile = T_95[min(len(means) - 2, len(T_95) - 1)]
    return Difference(
        statistics.fmean(means), quantile * statistics.stdev(means) / len(means) ** 0.5
    )


def _table(found: dict[Job, dict[str, float]], names: list[str], seeds: list[int]) -> str:
    columns = [
        "",
        "IoU on B, voc → non-voc",
        "non-voc → voc",
        "difference on B",
        "difference on A",
        "boundary IoU on B, difference",
        "ms a mask",
        "runs",
    ]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for name in names:
        values = [
            [found[Job(name, m, s)]["B"] for s in seeds if Job(name, m, s) in found]
            for m in DIRECTIONS
        ]
        cells = [spread(v, 1) if len(v) > 1 else f"{v[0]:.1f}" if v else "not run" for v in values]
        moves = [
            "" if name == BASE else str(differences(found, name, seeds, what) or "–")
            for what in ("B", "A", "boundary")
        ]
        costs = [v["ms"] for job, v in found.items() if job.option == name and "ms" in v]
        cost = f"{statistics.median(costs):.1f}" if costs else "–"
        lines.append(f"| {' | '.join([name, *cells, *moves, cost, str(sum(map(len, values)))])} |")
    return "\n".join(lines)


def _rows(found: dict[Job, dict[str, float]], names: list[str], seeds: list[int]) -> list[Row]:
    mean = {
        n: statistics.fmean(v["B"] for job, v in found.items() if job.option == n) for n in names
    }
    rows = []
    for name in names:
        move = None if name == BASE else differences(found, name, seeds, "B")
        title = f"mask IoU on B of the held-out fold, {name}" + (
            "" if move is None else f", ahead by {move}"
        )
        row: Row = {
            "name": title,
            "peer": BASE,
            "peer_value": mean[BASE],
            "value": mean[name],
            "unit": "%",
        }
        rows.append(row | {"ratio": mean[name] / mean[BASE], "bar": None, "ok": None})
    return rows
