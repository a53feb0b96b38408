"""`halfmask bench inference`: one photograph to boxes and run lengths, beside torchvision eager, on the CPU.

Weights are random and equal on both sides, the class logits scaled until as many detections pass as the model keeps.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halfmask.bench import inference_boxes as given_boxes
from halfmask.bench.class_pipeline import let_pass
from halfmask.bench.measuring import alternate
from halfmask.bench.result import Options, Result, Row, compared
from halfmask.bench.torchvision_peer import torchvision_twin
from halfmask.config import MaskRCNN
from halfmask.errors import InputError
from halfmask.inference.export import answer, graphs_of, session_of, write_graph
from halfmask.inference.images import as_tensor
from halfmask.inference.predictor import Predictor
from halfmask.masks import encode_rle, iou, paste
from halfmask.models.build import build_mask_rcnn
from halfmask.models.fold_norm import fold_for_inference
from halfmask.models.rcnn import PartialMaskRCNN

PHOTOGRAPH = Path(__file__).parents[1] / "assets" / "photos" / "000000000285.jpg"
CLASSES, SHORT, LONG, ROUNDS = 81, 800, 1333, 3
SPEED_BAR, IOU_BAR, BOX_BAR = 1.4, 0.99, 0.5
PEER = "torchvision"


@dataclass(frozen=True)
class Answer:
    """boxes float32 [n, 4] xyxy, labels int64 [n], mask probabilities float32 [n, M, M], and compressed RLE of each mask."""

    boxes: Tensor
    labels: Tensor
    probs: Tensor
    rles: list[dict[str, object]]


Step = Callable[[], Answer]


def run(options: Options) -> Result:
    """Measures R50-FPN at 800 × 1333, and the shipped segmenter on given boxes (`inference_boxes`).

    Raises:
        InputError: onnxruntime, openvino, pycocotools or transformers is absent.
    """
    images = {"min_size": [SHORT], "max_size": LONG}
    config = MaskRCNN.model_validate({"kind": "mask_rcnn", "backbone": {"name": "resnet50"}, "images": images})
    image = torch.nn.functional.interpolate(as_tensor(PHOTOGRAPH)[None], (SHORT, LONG), mode="bilinear")[0]
    detectors = measured(config, CLASSES, image.clamp(0, 1), ROUNDS, options.say)
    with tempfile.TemporaryDirectory() as folder:
        boxes = given_boxes.measured(
            Path(folder), given_boxes.photographs(), given_boxes.sam_peers(), given_boxes.ROUNDS
        )
    return Result(
        detectors.rows + boxes.rows,
        detectors.tables | boxes.tables,
        detectors.command,
        detectors.details | boxes.details,
    )


def measured(config: MaskRCNN, classes: int, image: Tensor, rounds: int, say: Callable[[str], None]) -> Result:
    """Times every way to run the detector in turns, and compares its answers with torchvision's."""
    _require()
    with tempfile.TemporaryDirectory() as folder:
        steps = _steps(config, classes, image, Path(folder))
        wanted = steps[PEER]()
        found = {
            name: _difference(wanted, step(), (image.shape[1], image.shape[2]))
            for name, step in steps.items()
            if name != PEER
        }
        seconds = {name: statistics.median(s) for name, s in alternate(steps, rounds).items()}
    for name, spent in seconds.items():
        say(f"{name}: {spent:.2f} s of CPU a photograph")
    rows = [row for name in found for row in _rows(name, seconds, found[name])]
    table = _table(seconds, found, image, len(wanted.boxes))
    return Result(rows, {"inference": table}, "halfmask bench inference --threads 1", {"seconds": seconds})


def _require() -> None:
    for package, extra in (
        ("onnxruntime", "export"),
        ("openvino", "openvino"),
        ("pycocotools", "dev"),
        ("transformers", "sam"),
    ):
        if find_spec(package) is None:
            raise InputError(
                f"bench inference needs {package}, which is not installed: pip install 'halfmask[{extra}]'"
            )


def _steps(config: MaskRCNN, classes: int, image: Tensor, folder: Path) -> dict[str, Step]:
    torch.manual_seed(0)
    ours = build_mask_rcnn(config, classes, pretrained=False).eval()
    with torch.no_grad():
        batch, _ = ours.transform([image])
        let_pass(ours, ours.features(batch.tensors), batch)
    theirs = torchvision_twin(ours, config, classes).eval()
    fold_for_inference(ours)  # as `load` does
    path = folder / "detect.onnx"
    write_graph(graphs_of(Predictor(ours, None, "bench", "", torch.device("cpu")))[-1], path)
    session, compiled = session_of(path, torch.get_num_threads()), _openvino(path)
    return {
        PEER: lambda: _torchvision(theirs, image),
        "halfmask, PyTorch": lambda: _eager(ours, image),
        "halfmask, ONNX Runtime": lambda: _drawn(answer(session, (image,)), image),
        "halfmask, OpenVINO": lambda: _drawn(list(compiled([image.numpy()]).to_tuple()), image),
    }


def _openvino(path: Path) -> Any:
    import openvino

    hints = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(str(path), "CPU", hints)


@torch.no_grad()
def _torchvision(model: Any, image: Tensor) -> Answer:
    from pycocotools import mask

    maps: list[Tensor] = []
    hook = model.roi_heads.register_forward_hook(lambda _m, _i, out: maps.append(out[0][0]["masks"][:, 0]))
    found = model([image])[0]
    hook.remove()
    canvases = (found["masks"][:, 0] >= 0.5).to(torch.uint8).numpy()
    rles = mask.encode(np.asfortranarray(canvases.transpose(1, 2, 0)))
    return Answer(found["boxes"], found["labels"], maps[0], rles)


def _eager(model: PartialMaskRCNN, image: Tensor) -> Answer:
    found = model.detect([image])[0]
    return Answer(found.boxes, found.labels, found.mask_probs, encode_rle(found.crops()))


def _drawn(found: list[Any], image: Tensor) -> Answer:
    boxes, labels, _, probs, regions, _ = (torch.from_numpy(rows) for rows in found)
    size = (int(image.shape[1]), int(image.shape[2]))
    return Answer(boxes, labels, probs, encode_rle(paste(probs, regions, boxes, size)))


def _difference(wanted: Answer, got: Answer, size: tuple[int, int]) -> tuple[float, float]:
    """Share of torchvision's detections found again (same label, all sides within BOX_BAR pixels), and the worst IoU of their masks.

    Both sides' probabilities are pasted in the same way: torchvision cuts a mask's box to whole pixels, halfmask does not.
    """
    if not len(wanted.boxes) or not len(got.boxes):
        return 0.0, 0.0
    far = (got.boxes[None] - wanted.boxes[:, None]).abs().amax(2) + 1e6 * (got.labels[None] != wanted.labels[:, None])
    distance, row = far.min(1)
    same = distance <= BOX_BAR
    if not bool(same.any()):
        return 0.0, 0.0
    boxes = wanted.boxes[same]
    first, second = (paste(probs, boxes, boxes, size) for probs in (wanted.probs[same], got.probs[row[same]]))
    empty = (first.areas() == 0) & (second.areas() == 0)
    return float(same.float().mean()), float(torch.where(empty, 1.0, iou(first, second)).min())


def _rows(name: str, seconds: dict[str, float], found: tuple[float, float]) -> list[Row]:
    bars = (("same boxes", found[0], IOU_BAR), ("worst mask IoU of those", found[1], IOU_BAR))
    faster = compared(f"{name}, photograph to RLE", PEER, seconds[PEER], seconds[name], "s", SPEED_BAR, at_least=True)
    base = {"peer": PEER, "peer_value": 1.0, "unit": "of 1"}
    checks = [
        {"name": f"{name}, {what}", **base, "value": v, "ratio": v, "bar": bar, "ok": v >= bar} for what, v, bar in bars
    ]
    return [faster, *checks]


def _table(seconds: dict[str, float], found: dict[str, tuple[float, float]], image: Tensor, count: int) -> str:
    lines = [
        "| photograph to RLE | seconds of CPU | times as fast | same boxes | worst mask IoU |",
        "|---|---|---|---|---|",
    ]
    for name, spent in seconds.items():
        same, overlap = (f"{value:.3f}" for value in found[name]) if name in found else ("–", "–")
        lines.append(f"| {name} | {spent:.2f} | {seconds[PEER] / spent:.2f} | {same} | {overlap} |")
    size = f"{image.shape[1]} × {image.shape[2]}, {count} detections, random weights, float32. GPU: not measured."
    return "\n".join([*lines, "", size])
