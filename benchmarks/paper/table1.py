"""`python -m benchmarks table1`: the rows of the paper's Table 1 and its Figure 3, on
pictures that every machine can make.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.paper.end_to_end import END_TO_END
from benchmarks.paper.experiment import Job, Plan, run_plan
from benchmarks.paper.region_heads import HEADS
from benchmarks.paper.sources import Composites, Source, World
from benchmarks.paper.table1_coco import run_coco
from benchmarks.paper.table1_page import gain_points, gain_rows, table1_markdown, table_rows
from benchmarks.paper.world import own_head
from benchmarks.paper.world_table import AGNOSTIC
from benchmarks.plots.gain_plot import gain_plot
from benchmarks.result import Options, Result
from halfmask.errors import InputError

SOURCES: dict[str, Callable[[], Source]] = {"world": World, "composites": Composites}
END_TO_END_SPLITS = 1
"""An end-to-end row trains a detector each time, two minutes where the others take half
a one: it runs on the first split of each seed.
"""


def run(options: Options) -> Result:
    """Runs or resumes the table.

    Raises:
        InputError: `data` is not known, or needs a `root`.
    """
    if options.data == "coco":
        return run_coco(options)
    if options.data not in SOURCES:
        raise InputError(
            f"bench table1: --data {options.data}: expected one of {', '.join(SOURCES)}, coco"
        )
    source = SOURCES[options.data]()
    own = own_head(source)
    seeds = tuple(range(options.first_seed, options.first_seed + options.seeds))
    measures = run_plan(
        Plan(source, table1_jobs(source, options.splits), seeds), options.out, options.say
    )
    page = table1_markdown(measures, source.main_size, table_rows(own))
    if options.docs is not None:
        picture = options.docs.parent / "figures" / f"table1_{source.name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        gain_plot(gain_points(measures, own), source.classes, picture)
        page += f"\n\n![Gain of transfer over class-agnostic against the number of masked classes](figures/{picture.name})"
    counts = f"--seeds {options.seeds} --splits {options.splits} --first-seed {options.first_seed}"
    command = f"python -m benchmarks table1 --data {source.name} {counts}"
    tables = {f"table1:{source.name}": page}
    return Result(
        gain_rows(measures, source.main_size, own), tables, command, {"measures": measures}
    )


def table1_jobs(source: Source, splits: int) -> tuple[Job, ...]:
    """Every row at the main size of A, end-to-end rows on the first split alone;
    class-agnostic and T at the other sizes.
    """
    size = source.main_size
    stage_wise = [Job(size, split, head) for split in range(splits) for head in HEADS]
    joint = [
        Job(size, split, head)
        for split in range(min(splits, END_TO_END_SPLITS))
        for head in END_TO_END
    ]
    others = [s for s in source.sizes if s != size]
    pairs = [
        Job(s, split, head)
        for s in others
        for split in range(splits)
        for head in (AGNOSTIC, own_head(source))
    ]
    return (*stage_wise, *joint, *pairs)
