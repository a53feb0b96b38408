"""`python -m benchmarks`: the benchmarks of docs/, written where docs read them."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from halfmask.errors import InputError

if TYPE_CHECKING:
    from benchmarks.result import Options, Result

BENCHMARKS = {
    "world": "benchmarks.paper.world",
    "table1": "benchmarks.paper.table1",
    "reproduce": "benchmarks.paper.reproduce",
    "heads": "benchmarks.paper.heads",
    "segmenter": "benchmarks.real.segmenter",
    "real": "benchmarks.real.recipes",
    "adapt": "benchmarks.real.adapt",
    "ambiguous": "benchmarks.real.ambiguous",
    "boxes": "benchmarks.real.detector_boxes",
    "clicks": "benchmarks.real.clicks",
    "audit": "benchmarks.real.audit",
    "add-class": "benchmarks.paper.add_class",
    "two-stages": "benchmarks.paper.two_stages",
    "vg": "benchmarks.real.visual_genome",
    "mlp": "benchmarks.paper.mlp",
    "annotations": "benchmarks.scale.annotations",
    "evaluation": "benchmarks.scale.evaluation",
    "classes": "benchmarks.scale.classes",
    "objects": "benchmarks.scale.objects",
    "masks": "benchmarks.scale.masks",
    "train": "benchmarks.speed.train",
    "steps": "benchmarks.speed.steps",
    "inference": "benchmarks.speed.inference",
    "detector": "benchmarks.speed.detector_runtimes",
    "complete": "benchmarks.speed.complete",
    "peers": "benchmarks.speed.promptable_peers",
}
"""Name → module, whose `run` takes Options and gives a Result."""
PARTS = ":chosen", ":more"
"""How tables end that stand beside a benchmark's own: its figure is not drawn from them."""


def run(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(BENCHMARKS)}.")],
    seeds: Annotated[int, typer.Option(min=1, help="Detectors, each on pictures of its own.")] = 3,
    splits: Annotated[
        int,
        typer.Option(
            min=1,
            help="Random A/B splits for each detector and size of A; segmenter: 1 for voc → "
            "non-voc alone.",
        ),
    ] = 3,
    first_seed: Annotated[
        int, typer.Option(min=0, help="Seeds can run side by side: --seeds 1 --first-seed 2.")
    ] = 0,
    data: Annotated[
        str,
        typer.Option(
            help="table1, heads: the pictures, world or composites; table1 also coco, with --root."
        ),
    ] = "world",
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            "--coco",
            help="reproduce, table1 --data coco: folder with annotations/, train2017/, val2017/.",
        ),
    ] = None,
    stage: Annotated[
        str,
        typer.Option(
            help="reproduce: import (published weights), short (a tenth of stage 2), full (Table 1). "
            "audit: fit (the weights of its score)."
        ),
    ] = "import",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="table1 --data coco: key=value for every recipe; segmenter: options to run; "
            "reproduce: weights.KEY=FILE, expect=none, keys of the recipes; add-class: steps, "
            "pictures; real: a model to train, more; boxes: model=MODEL; clicks: model=RUN, masked=voc, fold=0; heads: ways=a;b; "
            "annotations, evaluation: sizes; complete, steps: base, rounds; detector: rounds; audit: effort=best, model=MODEL; adapt: minutes=5, steps=150, masks=50.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write rows and all measures here.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run folder; what is in it already is not done again. [default: runs/DATA]"
        ),
    ] = None,
    docs: Annotated[
        Path | None, typer.Option(help="Page whose table is replaced, for example docs/world.md.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as PyTorch chooses.")] = 0,
    measured: Annotated[
        bool,
        typer.Option(
            help="Run nothing: report the run folder's measurements (segmenter), or draw the "
            "figure of --docs from benchmarks/results."
        ),
    ] = False,
) -> None:
    """Measures what docs state.

    `world`: mask heads on the procedural world, over seeds and random splits of its
    classes into A and B. `table1`: every row of the paper's Table 1 and its Figure 3.
    `reproduce`: published weights and the paper's ordering on COCO 2017. `add-class`:
    classes added to a trained model, beside one that had their boxes from the start.
    `heads`: ways to train a mask head, and the gaps on box-only classes that they
    close. `vg`: the mask branch with 81 and with 3002 classes, and generated data to
    train the latter on. `segmenter`: the box segmenter's options, one at a time, on
    folds of COCO-mini's training photographs. `real`: its recipes, on val. `adapt`: what
    adapting the shipped model gives, by the number of masks. `ambiguous`: whether a label changes its mask in boxes that two objects share.
    `boxes`: masks in the boxes of a detector, and how far its boxes are off. `clicks`:
    the IoU of a mask after clicks on its errors. `audit`: how many damaged masks stand
    at the head of its list. `two-stages`: a
    detector with a box segmenter, beside region heads. `mlp`: the MLP branches of the
    mask head. `classes`: cost against the number of classes. `objects`: images of up to
    3000 masked objects, and the loader. `masks`: probabilities to run lengths. `train`:
    a training step beside torchvision. `steps`: one of the box segmenter, in float32
    and bfloat16. `inference`: photograph to RLE beside
    torchvision, in PyTorch, ONNX Runtime and OpenVINO. `detector`: predict of a Mask
    R-CNN in PyTorch, OpenVINO and 8 bits, and with --max-size. `complete`: the command complete
    from file to file, by effort and runtime. `annotations`: a file of ten
    million annotations, indexed, opened and read. `evaluation`: AP at COCO's size,
    beside pycocotools.

    Example: python -m benchmarks world --seeds 3 --splits 3 --json world.json --docs
    docs/world.md
    """
    import torch

    from benchmarks.plots.figures import FIGURES, redraw
    from benchmarks.result import Options
    from benchmarks.writing import provenance

    if name not in BENCHMARKS:
        raise InputError(f"no benchmark {name}; there are: {', '.join(BENCHMARKS)}")
    if measured and docs is not None and name in FIGURES and name != "segmenter":
        redraw(name, docs)
        return
    if threads:
        torch.set_num_threads(threads)
    folder = out or Path("runs") / (data if name in ("table1", "heads") else name)
    changes = tuple(overrides or ())
    say = functools.partial(print, flush=True)
    options = Options(
        folder, seeds, first_seed, splits, data, root, changes, docs, say, measured, stage
    )
    source = provenance()  # before figures change the tree
    result = _measured(name, options)
    for row in result.rows:
        print(_line(row))
    _write(name, result, json, docs=docs, source=source)


def _measured(name: str, options: Options) -> Result:
    import importlib

    result: Result = importlib.import_module(BENCHMARKS[name]).run(options)
    return result


def _write(
    name: str, result: Result, json: Path | None, *, docs: Path | None, source: dict[str, Any]
) -> None:
    from benchmarks.glance import refresh
    from benchmarks.plots.figures import FIGURES, draw
    from benchmarks.writing import replace_table
    from halfmask.files.atomic import write_json

    if not result.rows:  # a part of the runs, made for a later call: nothing to publish
        return
    found = {"rows": result.rows, "command": result.command, **source, **result.details}
    if json is not None:
        write_json(json, found, indent=1)
    if docs is None:
        return
    tables = dict(result.tables)
    shown = f"<!-- bench:{name}:plot -->" in docs.read_text(encoding="utf-8")
    if name in FIGURES and shown and not any(table.endswith(PARTS) for table in tables):
        tables[f"{name}:plot"] = draw(name, found, docs)
    for marker, table in tables.items():
        replace_table(docs, marker, table, f"{result.command} --docs {docs}", source)
    refresh(docs)


def _line(row: dict[str, Any]) -> str:
    state = "" if row["ok"] is None else f", bar {row['bar']:g}: {'met' if row['ok'] else 'MISSED'}"
    measured = "not measured" if row["peer_value"] is None else f"{row['peer_value']:.3f}"
    peer = "" if row["peer"] is None else f" ({row['peer']} {measured})"
    return f"{row['name']}: {row['value']:.3f} {row['unit']}{peer}{state}"


def main() -> None:
    """Runs the command. Exit code 2: bad input."""
    try:
        typer.run(run)
    except InputError as error:
        typer.echo(f"benchmarks: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
