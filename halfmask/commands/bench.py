"""`halfmask bench`: the benchmarks of docs/, written where docs read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

NAMES = ("world",)


def run(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(NAMES)}.")],
    seeds: Annotated[int, typer.Option(min=1, help="Detectors, each on a world of its own.")] = 3,
    splits: Annotated[int, typer.Option(min=1, help="Random A/B splits for each detector and size of A.")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="Seeds can run side by side: --seeds 1 --first-seed 2.")] = 0,
    json: Annotated[Path | None, typer.Option(help="Write rows and all measures here.")] = None,
    out: Annotated[Path, typer.Option(help="Run folder; what is in it already is not done again.")] = Path(
        "runs/world"
    ),
    docs: Annotated[Path | None, typer.Option(help="Page whose table is replaced, for example docs/world.md.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as PyTorch chooses.")] = 0,
) -> None:
    """Measures what docs state. `world`: mask heads on the procedural world, over seeds and random splits of its classes into A and B.

    Example: halfmask bench world --seeds 3 --splits 3 --json world.json --docs docs/world.md
    """
    import torch

    from halfmask.bench.world import Plan, bench_rows, markdown, run_world
    from halfmask.bench.writing import provenance, replace_table
    from halfmask.coco.write import write_json
    from halfmask.errors import InputError

    if name not in NAMES:
        raise InputError(f"bench: no benchmark {name}; there are: {', '.join(NAMES)}")
    if threads:
        torch.set_num_threads(threads)
    plan = Plan(seeds=seeds, first_seed=first_seed, splits=splits)
    measures = run_world(plan, out, lambda line: print(line, flush=True))
    rows = bench_rows(measures, plan.classes)
    source = provenance()
    for row in rows:
        print(_line(row))
    if json is not None:
        write_json(json, {"rows": rows, **source, "measures": measures}, indent=1)
    if docs is not None:
        command = f"halfmask bench world --seeds {seeds} --splits {splits} --docs {docs}"
        replace_table(docs, "world", markdown(measures, plan.classes), command, source)


def _line(row: dict[str, Any]) -> str:
    state = "" if row["bar"] is None else f", bar {row['bar']:g}: {'met' if row['ok'] else 'MISSED'}"
    peer = "" if row["peer"] is None else f" ({row['peer']} {row['peer_value']:.3f})"
    return f"{row['name']}: {row['value']:.3f} {row['unit']}{peer}{state}"
