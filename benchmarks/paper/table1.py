"""`python -m benchmarks table1`: the rows of the paper's Table 1 and its Figure 3, on
pictures that every machine can make.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path

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
from halfmask.coco.supervision import MaskState
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
    plan = Plan(source, table1_jobs(source, options.splits), seeds)
    measures = run_plan(plan, options.out, options.say)
    masks = masks_per_class(plan, options.out)
    page = table1_markdown(measures, source.main_size, table_rows(own))
    if options.docs is not None:
        picture = options.docs.parent / "figures" / f"table1_{source.name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        gain_plot(gain_points(measures, own), source.classes, picture, masks)
        page += f"\n\n![Gain of transfer over class-agnostic against the number of masked classes, with the masks per class](figures/{picture.name})"
    counts = f"--seeds {options.seeds} --splits {options.splits} --first-seed {options.first_seed}"
    command = f"python -m benchmarks table1 --data {source.name} {counts}"
    tables = {f"table1:{source.name}": page}
    details = {"measures": measures, "masks_per_class": masks}
    return Result(gain_rows(measures, source.main_size, own), tables, command, details)


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


def masks_per_class(plan: Plan, out: Path) -> dict[int, float]:
    """|A| → masks that the stage-wise heads learn from of a class of A: the mean over
    its classes, seeds and splits (the second axis of Figure 3).

    Args:
        plan: the run.
        out: its folder; pictures that are not there are made.
    """
    source = plan.source
    found: dict[int, list[float]] = {}
    for seed in plan.seeds:
        folder = out / f"seed-{seed}" / "train"
        pictures = source.pictures(folder, plan.train_images, seed, test=False)
        file, counts = pictures.file, Counter[int]()
        for image_id in pictures.image_ids[: plan.mask_images]:
            rows = file.instances_of(image_id, pictures.use)
            counts.update(row.label for row in rows if row.state == MaskState.MASK)
        for masked, split in sorted({(job.masked, job.split) for job in plan.jobs}):
            in_a = source.split(file, masked, split, seed)
            found.setdefault(masked, []).append(
                statistics.fmean(counts[file.label_of[i]] for i in in_a)
            )
    return {masked: statistics.fmean(values) for masked, values in sorted(found.items())}
