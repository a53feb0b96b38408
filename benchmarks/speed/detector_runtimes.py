"""`python -m benchmarks detector`: `halfmask predict` of a Mask R-CNN by what computes its
parts and by `--max-size`, from file to file.

Weights are random, so 8 bits are timed whatever they find: `load` would compare them with
PyTorch first. The start of the command is not counted.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import alternate
from benchmarks.result import Options, Result, Row, compared
from benchmarks.speed.inference import LONG, PHOTOGRAPH, SHORT, scaled_model
from halfmask.errors import InputError
from halfmask.inference.export.int8 import CHOICES
from halfmask.inference.export.samples import Sample, some_boxes
from halfmask.inference.images import as_tensor
from halfmask.inference.predict import predict
from halfmask.inference.predictor import Predictor, load
from halfmask.inference.runtime.names import TITLES, Runtime
from halfmask.inference.runtime.parts import (
    Graphs,
    attach,
    engines_of,
    ranges_of,
    small_parts,
    write_parts,
)
from halfmask.models.checkpoint import Checkpoint, save_checkpoint
from halfmask.recipes.recipe import MaskRCNN, parse_recipe

PEER, CLASSES, ROUNDS = "PyTorch", 81, 3
SIZES = (800, 640)
FAST: Runtime = "openvino"


def run(options: Options) -> Result:
    """Times every way on one photograph.

    Raises:
        InputError: OpenVINO is absent, or an override is unknown.
    """
    given = dict(one.partition("=")[::2] for one in options.overrides)
    if given.keys() - {"rounds"}:
        raise InputError("bench detector: --set takes rounds=N")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        path = _checkpoint(place / "r50.safetensors")
        options.say("the model is made")
        steps = _steps(path, place)
        spent = alternate(steps, int(given.get("rounds", ROUNDS)))
    seconds = {name: statistics.median(all_of) for name, all_of in spent.items()}
    rows: list[Row] = [
        compared(f"{name}, photograph to files", PEER, seconds[PEER], value, "s", None, True)
        for name, value in seconds.items()
        if name != PEER
    ]
    command = "python -m benchmarks detector --threads 1"
    return Result(rows, {"detector": _table(seconds)}, command, {"seconds": spent})


def _checkpoint(path: Path) -> Path:
    """Saves a Mask R-CNN R50-FPN whose scores let as many boxes pass as it keeps."""
    stage = {"name": "all", "train": ["all"], "steps": 1, "batch_size": 1}
    document: dict[str, Any] = {
        "name": "r50",
        "model": {
            "kind": "mask_rcnn",
            "backbone": {"name": "resnet50"},
            "images": {"min_size": [SHORT], "max_size": LONG},
        },
        "data": {"annotations": "none", "images": "none"},
        "stages": [stage | {"optimiser": {"lr": 0.1}}],
    }
    recipe = parse_recipe(document, "bench")
    assert isinstance(recipe.model, MaskRCNN)
    model = scaled_model(recipe.model, CLASSES, as_tensor(PHOTOGRAPH))
    names: list[Any] = [{"id": k, "name": f"class {k}"} for k in range(1, CLASSES)]
    counts = dict.fromkeys(range(1, CLASSES), 1)
    save_checkpoint(
        path,
        Checkpoint(
            state=model.state_dict(),
            recipe=recipe,
            categories=names,
            masked=list(counts),
            mask_counts=counts,
        ),
    )
    return path


def _steps(path: Path, folder: Path) -> dict[str, Callable[[], object]]:
    image = as_tensor(PHOTOGRAPH)
    height, width = image.shape[-2:]
    boxes = some_boxes(height, width, torch.Generator().manual_seed(0))
    sample = Sample(image, boxes, torch.zeros(len(boxes), dtype=torch.int64))
    plain = load(path, device="cpu")
    files = write_parts(plain.model, folder)  # type: ignore[arg-type]
    exact = {part: file.read_bytes() for part, file in files.items()}
    ranges = ranges_of(plain.model, files, [sample])  # type: ignore[arg-type]
    small = small_parts(files, ranges, CHOICES[0])
    ways: dict[str, tuple[Graphs | None, int | None]] = {
        PEER: (None, None),
        TITLES[FAST]: (exact, None),
        f"{TITLES[FAST]}, int8": (small, None),
    }
    for most in SIZES:
        ways[f"{PEER}, --max-size {most}"] = None, most
        ways[f"{TITLES[FAST]}, int8, --max-size {most}"] = small, most
    steps: dict[str, Callable[[], object]] = {}
    for number, (name, (graphs, size)) in enumerate(ways.items()):
        model = load(path, device="cpu", max_size=size)
        if graphs is not None:
            attach(model.model, engines_of(FAST, graphs))  # type: ignore[arg-type]
        steps[name] = _step(model, folder / str(number))
    return steps


def _step(model: Predictor, out: Path) -> Callable[[], object]:
    return lambda: predict(model, PHOTOGRAPH, out=out, overlays=False)


def _table(seconds: dict[str, float]) -> str:
    lines = ["| `halfmask predict` | seconds of CPU | times as fast |", "|---|---|---|"]
    for name, spent in seconds.items():
        lines.append(f"| {name} | {spent:.2f} | {seconds[PEER] / spent:.2f} |")
    height, width = as_tensor(PHOTOGRAPH).shape[-2:]
    note = (
        f"Mask R-CNN R50-FPN, {CLASSES - 1} classes, random weights, one photograph of {width} × "
        f"{height} pixels, whose sides the recipe resizes to {SHORT} and {LONG} at most; "
        "photograph to results.json and instances.json with up to 100 masks, without the start "
        "of the command. Medians of the rounds."
    )
    return "\n".join([*lines, "", note])
