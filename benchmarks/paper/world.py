"""`python -m benchmarks world`: how far transfer comes on the procedural world, by the
input of T.
"""

from __future__ import annotations

from benchmarks.paper.experiment import Job, Plan, run_plan
from benchmarks.paper.region_heads import INPUTS
from benchmarks.paper.sources import Source, World
from benchmarks.paper.world_table import AGNOSTIC, ORACLE, bench_rows, markdown
from benchmarks.result import Options, Result
from halfmask.recipes.recipe import MaskRCNN, load_recipe


def run(options: Options) -> Result:
    """Runs or resumes the benchmark, see `benchmarks.paper.experiment`."""
    source = World()
    masked = (source.classes // 2, source.classes * 3 // 4)
    jobs = world_jobs(source, masked, options.splits)
    seeds = tuple(range(options.first_seed, options.first_seed + options.seeds))
    measures = run_plan(Plan(source, jobs, seeds), options.out, options.say)
    command = f"python -m benchmarks world --seeds {options.seeds} --splits {options.splits} --first-seed {options.first_seed}"
    rows = bench_rows(measures, source.classes)
    return Result(
        rows, {"world": markdown(measures, source.classes)}, command, {"measures": measures}
    )


def world_jobs(source: Source, masked: tuple[int, ...], splits: int) -> tuple[Job, ...]:
    """At the first size of A every input of T runs, at the others the recipe's own;
    class-agnostic and oracle always.
    """
    at_others = (AGNOSTIC, own_head(source), ORACLE)
    return tuple(
        Job(size, split, head)
        for size in masked
        for split in range(splits)
        for head in (INPUTS if size == masked[0] else at_others)
    )


def own_head(source: Source) -> str:
    """The name of the recipe's own mask head."""
    recipe = load_recipe(source.recipe)
    assert isinstance(recipe.model, MaskRCNN), recipe.model.kind
    return f"T({recipe.model.mask_head.transfer.input})"
