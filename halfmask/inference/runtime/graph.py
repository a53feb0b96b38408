"""The network of a box segmenter as an ONNX graph, in float32 or 8 bits.

The graph takes crops and returns probabilities. Reading crops, averaging looks, scores
and masks stay outside: they are the same code for every runtime and every effort.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from halfmask.inference.export.int8 import CHOICES, ENOUGH, save_ranges, session_of, write_quantized
from halfmask.inference.images import as_tensor
from halfmask.inference.runtime.names import Precision
from halfmask.models.box_segmenter.crops import crop_regions
from halfmask.models.box_segmenter.model import BoxSegmenter

OPSET = 18
LAYOUT = 2
"""Number of this graph's inputs, outputs and facts; another one makes cached graphs
useless.
"""
PHOTOGRAPHS = Path(__file__).parents[2] / "assets" / "photos"
"""Ship with the package, with boxes: every graph is compared, and 8 bits are fitted, on
them.
"""
CALIBRATED = 24
"""Crops in one call while ranges are measured."""


class NetworkGraph(nn.Module):
    """`BoxSegmenter.logits` as probabilities."""

    def __init__(self, model: BoxSegmenter) -> None:
        super().__init__()
        self.model = model

    def forward(self, crops: Tensor, labels: Tensor) -> Tensor:
        """Returns float32 [R, M, M] of crops [R, C, S, S] and labels int64 [R]."""
        return self.model.logits(crops, labels).float().sigmoid()


def shipped_boxes() -> list[tuple[Path, Tensor]]:
    """Returns the shipped photographs, each with its boxes float32 [n, 4] xyxy."""
    found = json.loads((PHOTOGRAPHS / "photos.json").read_text(encoding="utf-8"))
    boxes: dict[int, list[list[float]]] = {image["id"]: [] for image in found["images"]}
    for one in found["annotations"]:
        if not one.get("iscrowd"):
            x, y, width, height = one["bbox"]
            boxes[one["image_id"]].append([x, y, x + width, y + height])
    return [
        (PHOTOGRAPHS / image["file_name"], torch.tensor(boxes[image["id"]]))
        for image in found["images"]
        if boxes[image["id"]]
    ]


@torch.no_grad()
def shipped_crops(model: BoxSegmenter) -> Tensor:
    """Returns the crops of all shipped boxes in all contexts, float32 [R, C, S, S]."""
    out = []
    for path, boxes in shipped_boxes():
        image = model.reader.pyramid(as_tensor(path))
        for context in model.best_looks.contexts:
            out.append(model.reader.read(image, boxes, crop_regions(boxes, context)))
    return torch.cat(out)


def build_graph(model: BoxSegmenter, precision: Precision) -> tuple[bytes, dict[str, Any]]:
    """Traces the network, and makes it 8 bits where that is wanted.

    Returns:
        The ONNX file, and what is known of it: `layers` in 8 bits, `of` how many.
    """
    with tempfile.TemporaryDirectory(prefix="halfmask-graph-") as folder:
        path = Path(folder) / "network.onnx"
        _trace(model, path)
        facts = {} if precision == "float32" else _quantize(model, path)
        return path.read_bytes(), facts


def _trace(model: BoxSegmenter, path: Path) -> None:
    reader = model.reader
    example = torch.zeros(2, reader.channels, reader.size, reader.size)
    names = ["crops", "labels"] if model.needs_labels else ["crops"]
    axes = {name: {0: "crops"} for name in (*names, "probs")}
    # It warns of values that it takes for constant; they are.
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            NetworkGraph(model).eval(),
            (example, torch.zeros(2, dtype=torch.int64)),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            output_names=["probs"],
            dynamic_axes=axes,
        )


def _quantize(model: BoxSegmenter, path: Path) -> dict[str, Any]:
    """Makes a graph 8 bits: the first choice of layers whose masks are almost equal."""
    crops = shipped_crops(model)
    labels = torch.zeros(CALIBRATED, dtype=torch.int64)
    feeds = [
        {"crops": some.numpy(), "labels": labels[: len(some)].numpy()}
        for some in torch.split(crops, CALIBRATED)
    ]
    wanted = {one.name for one in session_of(path).get_inputs()}
    feeds = [{name: feed[name] for name in wanted} for feed in feeds]
    ranges, small = path.with_name("ranges.json"), path.with_name("small.onnx")
    save_ranges(path, feeds, ranges)
    exact = _answers(path, feeds)
    best: tuple[float, bytes, dict[str, Any]] | None = None
    for kept in CHOICES:
        counts = write_quantized(path, small, ranges, kept=kept)
        same = mean_iou(exact, _answers(small, feeds), crops)
        if best is None or same > best[0]:
            best = same, small.read_bytes(), {"layers": counts[0], "of": counts[1]}
        if same >= ENOUGH:
            break
    assert best is not None
    path.write_bytes(best[1])
    return best[2]


def _answers(path: Path, feeds: list[dict[str, Any]]) -> Tensor:
    session = session_of(path)
    return torch.cat([torch.from_numpy(session.run(None, feed)[0]) for feed in feeds])


def mean_iou(wanted: Tensor, found: Tensor, crops: Tensor) -> float:
    """Mean IoU of maps, float32 [R, M, M], within the boxes (the crops' fourth channel)."""
    inside = nn.functional.adaptive_avg_pool2d(crops[:, 3], wanted.shape[-1]) > 0
    one, other = (wanted >= 0.5) & inside, (found >= 0.5) & inside
    both, either = (one & other).sum((1, 2)), (one | other).sum((1, 2))
    return float(torch.where(either > 0, both / either.clamp_min(1), 1.0).mean())
