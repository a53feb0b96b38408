"""The modules that all forks share, and the files that the commands read."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

from tests.reliability.kill.cases import (
    SAVE_EVERY,
    STEPS,
    Case,
    Completing,
    Exporting,
    ExportingInt8,
    FromYolo,
    Indexing,
    ToCoco,
    ToCvat,
    ToLabelStudio,
    ToVoc,
    ToYolo,
    Training,
    TrainingHidden,
    TrainingRounds,
)
from tests.reliability.kill.editing import Editing
from tests.reliability.kill.reviewing import Reviewing

PHOTOGRAPHS, SIDE, CLASSES, MASKED = 48, 64, 6, 3
RECORDS = 8_000
"""Annotations of the file that is indexed and converted."""
HEAVY = (
    "halfmask.cli.main",
    "halfmask.training.report",
    "halfmask.training.data",
    "halfmask.training.hide",
    "halfmask.training.loop.fit",
    "halfmask.evaluation.measures.metrics",
    "halfmask.formats.registry",
    "halfmask.coco.index.place",
    "halfmask.inference.complete.complete",
    "halfmask.inference.export.export",
    "halfmask.models.build",
    "halfmask.pictures.curves",
    "halfmask.web.review.review",
    "halfmask.web.review.app",
    "onnx",
    "onnxruntime.quantization",
    "safetensors.torch",
    "torch.utils.tensorboard",
    "uvicorn",
)
RECIPE = """
name: tiny
model:
  kind: box_segmenter
  encoder: {{name: small_resnet, widths: [8, 12, 16], blocks: [1, 1, 1]}}
  crop_size: 32
  decoder_widths: [12, 8]
data: {{annotations: {world}/partial.json, images: {world}/images, masked_threshold: 1, development: 0.2, flip: 0.5, workers: 0}}
stages:
  - {{name: one, train: [all], loss: masks, steps: {steps}, batch_size: 2, optimiser: {{lr: 0.01}}, ema: 0.9}}
  - {{name: two, train: [all], loss: masks, steps: {steps}, batch_size: 2, optimiser: {{name: adamw, lr: 0.001}}}}
checkpoint_every: {every}
evaluate_every: {steps}
"""
CASES: tuple[type[Case], ...] = (
    Training,
    Completing,
    Indexing,
    FromYolo,
    ToVoc,
    Reviewing,
    Editing,
    Exporting,
    TrainingRounds,
    ToYolo,
    ExportingInt8,
    TrainingHidden,
    ToCoco,
    ToCvat,
    ToLabelStudio,
)


def preload() -> None:
    """Imports what the commands need, so that a fork has it. Nothing is computed:
    torch's threads would not survive.
    """
    for module in HEAVY:
        importlib.import_module(module)


def make_inputs(folder: Path, run: Callable[[Case, list[str], Path], int]) -> None:
    """Photographs, their COCO file whole and with half of the masks, a larger one, a
    YOLO folder, a recipe and its model.
    """
    from halfmask.data.synthetic.write import synth

    source = synth(folder, image_count=PHOTOGRAPHS, class_count=CLASSES, size=SIDE).path
    document = json.loads(source.read_text(encoding="utf-8"))
    rows = [_masked(row) for row in document["annotations"]]
    (folder / "partial.json").write_text(json.dumps(document | {"annotations": rows}))
    copies = -(-RECORDS // len(rows))
    many = [
        row | {"id": k * len(rows) + row["id"]}
        for k in range(copies)
        for row in document["annotations"]
    ]
    (folder / "large.json").write_text(json.dumps(document | {"annotations": many}))
    recipe = RECIPE.format(world=folder, steps=STEPS, every=SAVE_EVERY)
    for name, more in (("recipe", ""), ("rounds", "rounds: 2\n"), ("hide", "hide: 1\n")):
        (folder / f"{name}.yaml").write_text(recipe + more)
    work = folder.parent / "making"
    work.mkdir()
    training = Training(folder)
    to_yolo = [
        "convert",
        "to-yolo",
        str(source),
        str(folder / "yolo"),
        "--images",
        str(folder / "images"),
    ]
    for arguments in (training.arguments(work), to_yolo):
        if run(training, arguments, work) != 0:
            raise SystemExit((work / "log.txt").read_text())
    (work / "run" / "model.safetensors").rename(folder / "model.safetensors")
    completing = Completing(folder)
    if run(completing, completing.arguments(work), work) != 0:
        raise SystemExit((work / "log.txt").read_text())
    (work / "out" / "masks.json").rename(folder / "filled.json")
    export = ["export", str(folder / "model.safetensors"), "--precision"]
    calibrate = ["--calibrate", str(folder / "images")]
    for precision, more in (("float32", []), ("int8", calibrate)):
        arguments = [*export, precision, "--out", str(folder / precision), *more]
        if run(completing, arguments, work) != 0:
            raise SystemExit((work / "log.txt").read_text())


def _masked(row: dict[str, object]) -> dict[str, object]:
    keep = int(str(row["category_id"])) <= MASKED
    return row if keep else {key: value for key, value in row.items() if key != "segmentation"}
