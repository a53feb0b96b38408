"""`python -m benchmarks heads`: what each way to train a mask head is worth on box-only
classes, and how much of the gaps it closes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.paper.experiment import Job, Plan, run_plan
from benchmarks.paper.heads_page import heads_markdown, heads_rows
from benchmarks.paper.region_heads import HEADS
from benchmarks.paper.sources import Source
from benchmarks.paper.table1 import SOURCES
from benchmarks.paper.world import own_head
from benchmarks.paper.world_table import AGNOSTIC, ORACLE
from benchmarks.result import Options, Result
from halfmask.errors import InputError

PLAIN = ""
HOURGLASS_WAY = "hourglass"
HOURGLASS = {"trunk": "hourglass", "norm": "group", "width": 32, "roi_size": 16}
VARIANTS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "ignore": {"unknown": "ignore"},
    "skip": {"unknown": "skip"},
    "boxes": {"regions": "boxes", "region_jitter": 0.1},
    "boxes, ignore": {"regions": "boxes", "region_jitter": 0.1, "unknown": "ignore"},
    "taught": {"box_only": "taught"},
    "hourglass": HOURGLASS,
    "hourglass, ignore": {**HOURGLASS, "unknown": "ignore"},
    "hourglass, skip": {**HOURGLASS, "unknown": "skip"},
}
"""What each way changes in a mask head, by the words that follow its name."""
REFERENCES: dict[str, dict[str, Any]] = {
    f"{AGNOSTIC}, all masks": {"kind": "agnostic"},
    f"{AGNOSTIC}, hourglass, all masks": {"kind": "agnostic", **HOURGLASS},
    ORACLE: {"kind": "per_class"},
    f"{ORACLE}, hourglass": {"kind": "per_class", **HOURGLASS},
}
"""Heads that learn from the masks of all classes, for each trunk."""


def run(options: Options) -> Result:
    """Runs or resumes the matrix, see `benchmarks.paper.experiment`.

    Raises:
        InputError: `data` is not one of the sources, or an override is not `ways=` and
            some of VARIANTS.
    """
    if options.data not in SOURCES:
        raise InputError(
            f"bench heads: --data {options.data}: expected one of {', '.join(SOURCES)}"
        )
    source = SOURCES[options.data]()
    seeds = tuple(range(options.first_seed, options.first_seed + options.seeds))
    jobs = heads_jobs(source, options.splits, chosen_ways(options.overrides))
    plan = Plan(source, jobs, seeds, heads=matrix(own_head(source)), on_all=frozenset(REFERENCES))
    measures = run_plan(plan, options.out, options.say)
    counts = f"--seeds {options.seeds} --splits {options.splits} --first-seed {options.first_seed}"
    changes = "".join(f" --set '{change}'" for change in options.overrides)
    command = f"python -m benchmarks heads --data {source.name} {counts}{changes}"
    inputs = inputs_of(own_head(source))
    heads = [head for head in matrix(own_head(source)) if head not in REFERENCES]
    page = heads_markdown(measures, source.main_size, inputs, heads)
    rows = heads_rows(measures, source.main_size, inputs, heads)
    return Result(rows, {f"heads:{source.name}": page}, command, {"measures": measures})


def inputs_of(own: str) -> tuple[str, ...]:
    """Class-agnostic, the recipe's own head, and T on what class names say."""
    return AGNOSTIC, own, "T(names)"


def chosen_ways(overrides: Sequence[str]) -> tuple[str, ...]:
    """The ways to run: all, or those that `--set ways=ignore;taught` names. Plain ones
    and the references they need always run.
    """
    ways = tuple(VARIANTS)
    for override in overrides:
        key, _, value = override.partition("=")
        ways = (PLAIN, *(way.strip() for way in value.split(";") if way.strip()))
        unknown = [way for way in ways if way not in VARIANTS]
        if key != "ways" or unknown:
            known = ";".join(way for way in VARIANTS if way)
            raise InputError(f"bench heads: --set {override}: expected ways= and some of {known}")
    return ways


def matrix(own: str, ways: Sequence[str] = tuple(VARIANTS)) -> dict[str, dict[str, Any]]:
    """Name → what it changes in the recipe's mask head: each input in each way, and the
    references.
    """
    heads = {
        f"{head}, {way}" if way else head: HEADS[head] | VARIANTS[way]
        for way in ways
        for head in inputs_of(own)
        if head != AGNOSTIC
        or "box_only" not in VARIANTS[way]  # it has no filters of classes to teach
    }
    if HOURGLASS_WAY not in " ".join(ways):
        return heads | {
            name: change for name, change in REFERENCES.items() if HOURGLASS_WAY not in name
        }
    return heads | REFERENCES


def heads_jobs(
    source: Source, splits: int, ways: Sequence[str] = tuple(VARIANTS)
) -> tuple[Job, ...]:
    """The matrix at the main size of A."""
    heads = matrix(own_head(source), ways)
    return tuple(Job(source.main_size, split, head) for split in range(splits) for head in heads)
