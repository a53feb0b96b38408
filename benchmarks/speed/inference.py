"""`python -m benchmarks inference`: one photograph to boxes and run lengths, beside
torchvision eager.

Weights are random and equal on both sides, the class logits scaled until as many
detections pass as the model keeps; AP is compared on a detector of the synthetic world
(`inference_accuracy`).
"""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import alternate
from benchmarks.result import Options, Result, Row, compared
from benchmarks.scale.class_pipeline import let_pass
from benchmarks.speed import inference_accuracy as accuracy
from benchmarks.speed import inference_boxes as given_boxes
from benchmarks.speed import inference_gpu as gpu
from benchmarks.speed.inference_check import Sameness, rows_of, sameness
from benchmarks.speed.inference_ways import INT8, PEER, Way, cpu_ways, has_int8, require
from halfmask.inference.images import as_tensor
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import MaskRCNN

PHOTOGRAPH = Path(__file__).parents[2] / "halfmask" / "assets" / "photos" / "000000000285.jpg"
CLASSES, SHORT, LONG, ROUNDS = 81, 800, 1333, 3
SPEED_BAR, INT8_BAR = 1.4, 2.5
Say = Callable[[str], None]


def run(options: Options) -> Result:
    """Measures R50-FPN at 800 × 1333, AP on the world, and the shipped segmenter on
    given boxes (`inference_boxes`).

    Raises:
        InputError: onnxruntime, openvino, pycocotools or transformers is absent.
    """
    require()
    images = {"min_size": [SHORT], "max_size": LONG}
    config = MaskRCNN.model_validate(
        {"kind": "mask_rcnn", "backbone": {"name": "resnet50"}, "images": images}
    )
    image = torch.nn.functional.interpolate(
        as_tensor(PHOTOGRAPH)[None], (SHORT, LONG), mode="bilinear"
    )[0].clamp(0, 1)
    model = scaled_model(config, CLASSES, image)
    parts = [measured(model, config, CLASSES, image, ROUNDS, options.say)]
    if torch.cuda.is_available():
        parts.append(gpu.measured(model, config, CLASSES, image, torch.device("cuda")))
    parts.append(accuracy.measured(options.out, options.say))
    with tempfile.TemporaryDirectory() as folder:
        peers = given_boxes.sam_peers()
        parts.append(
            given_boxes.measured(Path(folder), given_boxes.photographs(), peers, given_boxes.ROUNDS)
        )
    whole = _joined(parts)
    if options.docs is not None:
        whole.tables["inference:plot"] = _plot(
            whole.details, options.docs.parent / "figures" / "inference.png"
        )
    return whole


def scaled_model(config: MaskRCNN, classes: int, image: Tensor) -> PartialMaskRCNN:
    """Random weights of a fixed seed, whose class logits are scaled for this image."""
    torch.manual_seed(0)
    model = build_mask_rcnn(config, classes, pretrained=False).eval()
    with torch.no_grad():
        batch, _ = model.transform([image])
        let_pass(model, model.features(batch.tensors), batch)
    return model


def measured(
    model: PartialMaskRCNN,
    config: MaskRCNN,
    classes: int,
    image: Tensor,
    rounds: int,
    say: Say = print,
) -> Result:
    """Times every way to run the detector on the CPU in turns, and compares its answers
    with torchvision's. `model` stays as it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        ways = cpu_ways(copy.deepcopy(model), config, classes, Path(folder), [image])
        wanted = ways[PEER](image)
        found = {name: sameness(wanted, way(image)) for name, way in ways.items() if name != PEER}
        seconds = {
            n: statistics.median(s) for n, s in alternate(_steps(ways, image), rounds).items()
        }
    for name, spent in seconds.items():
        say(f"{name}: {spent:.2f} s of CPU a photograph")
    rows = []
    for name, checks in found.items():
        small = INT8 in name
        bar = SPEED_BAR if not small else INT8_BAR if has_int8() else None
        rows.append(
            compared(
                f"{name}, photograph to RLE",
                PEER,
                seconds[PEER],
                seconds[name],
                "s",
                bar,
                at_least=True,
            )
        )
        # Random weights decide by margins that 8 bits cannot keep: what INT8 costs is
        # told by AP on trained ones.
        rows += rows_of(name, PEER, checks, told=small)
    table = _table(seconds, found, image, len(wanted.boxes))
    return Result(
        rows,
        {"inference": table},
        "python -m benchmarks inference --threads 1",
        {"seconds": seconds},
    )


def _steps(ways: Mapping[str, Way], image: Tensor) -> dict[str, Callable[[], object]]:
    return {name: lambda way=way: way(image) for name, way in ways.items()}  # type: ignore[misc]


def _joined(parts: list[Result]) -> Result:
    rows: list[Row] = []
    tables: dict[str, str] = {}
    details: dict[str, Any] = {}
    for part in parts:
        rows += part.rows
        tables |= part.tables
        details |= part.details
    return Result(rows, tables, parts[0].command, details)


def _table(seconds: dict[str, float], found: dict[str, Sameness], image: Tensor, count: int) -> str:
    lines = [
        "| photograph to RLE | seconds of CPU | images/s | times as fast | same boxes | worst "
        "mask IoU, pasted alike | "
        "mean, as delivered |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, spent in seconds.items():
        checks = found.get(name)
        told = (
            checks is not None and INT8 not in name
        )  # boxes of random weights are ranked by less than 8 bits: AP says more
        same = (
            f"{checks.boxes:.3f} | {checks.worst:.4f} | {checks.delivered:.3f}"
            if told and checks
            else "– | – | –"
        )
        lines.append(
            f"| {name} | {spent:.2f} | {1 / spent:.3f} | {seconds[PEER] / spent:.2f} | {same} |"
        )
    size = f"{image.shape[1]} × {image.shape[2]}, {count} detections, random weights"
    return "\n".join([*lines, "", f"{size}, float32 except {INT8}."])


def _plot(details: dict[str, Any], path: Path) -> str:
    from benchmarks.plots.speed_plot import speed_plot

    boxes = given_boxes.BOXES
    speed_plot(
        {
            "Detector, photographs/s": {n: 1 / s for n, s in details["seconds"].items()},
            "Given boxes, masks/s": {n: boxes / s for n, s in details["seconds_boxes"].items()},
        },
        path,
    )
    return f"![Photographs and masks per second, by runtime](figures/{path.name})"
