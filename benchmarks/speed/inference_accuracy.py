"""`bench inference`: AP of every way to run a detector, on the procedural world, beside
torchvision's with the same weights.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.paper.detectors import Say, fit_on
from benchmarks.paper.sources import World
from benchmarks.result import Result, Row
from benchmarks.speed.inference_ways import INT8, PEER, Answer, Way, cpu_ways
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.evaluation.measures.average_precision import PrecisionStream
from halfmask.evaluation.measures.truth import read_truth
from halfmask.inference.images import as_tensor
from halfmask.masks.crops import encode_rle
from halfmask.models.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import MaskRCNN, Recipe, load_recipe, parse_recipe

AP_BAR, INT8_BAR, CALIBRATION = 0.1, 0.3, 32
CLASSES, TRAIN, TEST, STEPS = 8, 400, 200, {"boxes": 240, "masks": 80}
KINDS = ("box", "mask, pasted alike", "mask, as delivered")
CHANGES = [
    "model.backbone={name: resnet18, widths: null, blocks: null}",
    "model.detector.extra_level=true",
]
CHANGES += ["model.detector.anchor_sizes=[24, 36, 54, 80, 96]"]


def measured(
    folder: Path,
    say: Say,
    train: int = TRAIN,
    test: int = TEST,
    steps: dict[str, int] | None = None,
) -> Result:
    """Trains a small detector on the world, or reads the one that an earlier call left
    in `folder`, and compares APs.
    """
    recipe = world_recipe(steps or STEPS)
    source = World(CLASSES)
    training = source.pictures(folder / f"world-{train}", train, 0, test=False)
    held_out = source.pictures(folder / f"world-test-{test}", test, 0, test=True)
    model = trained(recipe, training, folder, say)
    assert isinstance(recipe.model, MaskRCNN)
    with tempfile.TemporaryDirectory() as graphs:
        seen = [
            as_tensor(training.folder / i["file_name"]) for i in training.file.images[:CALIBRATION]
        ]
        ways = cpu_ways(copy.deepcopy(model), recipe.model, CLASSES + 1, Path(graphs), seen)
        found = {name: precisions(way, held_out) for name, way in ways.items()}
    rows = [_row(name, kind, found) for name in found if name != PEER for kind in KINDS]
    return Result(rows, {"inference-ap": _table(found, test)}, "", {"ap": found})


def world_recipe(steps: dict[str, int]) -> Recipe:
    """The world's oracle on a backbone that torchvision has, for a few steps."""
    document = load_recipe("world_oracle", CHANGES).model_dump(mode="json")
    document["evaluate_every"] = 0
    for stage in document["stages"]:
        stage["steps"] = steps[stage["loss"]]
        stage["optimiser"]["warmup"] = min(stage["optimiser"]["warmup"], stage["steps"] // 4)
    return parse_recipe(document, "bench inference")


def trained(recipe: Recipe, training: CocoInstances, folder: Path, say: Say) -> PartialMaskRCNN:
    """The recipe's model, in eval mode; trained once, then read from `folder`.

    Raises:
        InputError: the one in `folder` was trained by another recipe.
    """
    assert isinstance(recipe.model, MaskRCNN)
    torch.manual_seed(recipe.seed)
    path = folder / "world.safetensors"
    model = build_mask_rcnn(recipe.model, CLASSES + 1, pretrained=False)
    if path.is_file():
        kept = load_checkpoint(path)
        if (kept.recipe.model, kept.recipe.stages) != (recipe.model, recipe.stages):
            raise InputError(
                f"{path}: was trained by another recipe; delete it or name another folder with "
                "--out"
            )
        load_weights(model, kept.state, path)
        return model.eval()
    say("training a small detector on the world")
    fit_on(model, recipe, training, folder)
    categories: Any = [{"id": c["id"], "name": c["name"]} for c in training.file.categories]
    masks = training.file.mask_counts()
    save_checkpoint(path, Checkpoint(model.state_dict(), recipe, categories, sorted(masks), masks))
    return model.cpu().eval()


def precisions(way: Way, data: CocoInstances) -> dict[str, float]:
    """AP in percent of boxes, of masks pasted alike, and of masks as the way delivers them."""
    categories = data.file.categories
    streams = {
        kind: PrecisionStream(list(categories), "bbox" if kind == "box" else "segm")
        for kind in KINDS
    }
    for image in data.file.images:
        truth = read_truth(data.file, image["id"])
        answer = way(as_tensor(data.folder / image["file_name"]))
        results = _results(answer, image["id"], [c["id"] for c in categories])
        for kind, stream in streams.items():
            stream.add(truth.image, truth.boxes if kind == "box" else truth.masks, results[kind])
    return {kind: stream.table().block()["AP"] or 0.0 for kind, stream in streams.items()}


def _results(answer: Answer, image: int, ids: list[int]) -> dict[str, list[dict[str, Any]]]:
    pasted = encode_rle(answer.alike())
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    columns = zip(
        answer.boxes.tolist(),
        answer.labels.tolist(),
        answer.scores.tolist(),
        pasted,
        answer.rles,
        strict=True,
    )
    for (x0, y0, x1, y1), label, score, alike, delivered in columns:
        record = {"image_id": image, "category_id": ids[label - 1], "score": score}
        found[KINDS[0]].append(record | {"bbox": [x0, y0, x1 - x0, y1 - y0]})
        found[KINDS[1]].append(record | {"segmentation": alike})
        found[KINDS[2]].append(record | {"segmentation": delivered})
    return found


def _row(name: str, kind: str, found: dict[str, dict[str, float]]) -> Row:
    theirs, value = found[PEER][kind], found[name][kind]
    # As delivered, torchvision's masks are its own: told, not held against either.
    small = INT8 in name
    bar = None if kind == KINDS[2] else INT8_BAR if small else AP_BAR
    off = (
        theirs - value if small else abs(value - theirs)
    )  # fewer bits may lose a little, the same network may not change
    row = {
        "name": f"{name}, {kind} AP on the world",
        "peer": PEER,
        "peer_value": theirs,
        "value": value,
        "unit": "%",
    }
    return row | {"ratio": value - theirs, "bar": bar, "ok": None if bar is None else off <= bar}


def _table(found: dict[str, dict[str, float]], test: int) -> str:
    lines = [
        "| AP on the world, % | box | mask, pasted alike | mask, as delivered |",
        "|---|---|---|---|",
    ]
    for name, values in found.items():
        lines.append(f"| {name} | " + " | ".join(f"{values[kind]:.2f}" for kind in KINDS) + " |")
    steps = " + ".join(str(number) for number in STEPS.values())
    note = (
        f"{test} pictures of 112 × 112, {CLASSES} classes; a ResNet-18 detector after {steps} "
        f"steps. {INT8}: calibrated on {CALIBRATION} training pictures."
    )
    return "\n".join([*lines, "", note])
