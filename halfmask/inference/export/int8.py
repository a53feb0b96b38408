"""Makes 8-bit copies of exported graphs and measures how far their masks are off.

The copies come from ONNX Runtime's static quantisation after training.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_iou

from halfmask.errors import InputError
from halfmask.inference.export.samples import Sample
from halfmask.masks.crops import MaskCrops, iou
from halfmask.masks.paste import paste

Array = np.ndarray[Any, Any]
Feed = dict[str, Array]
"""Input of a graph → its value."""

OPERATORS = ("Conv", "Gemm")
EXACT = r"predictor|cls_logits|bbox_pred|cls_score"
"""Pattern of the names of layers that stay float32: the last ones, which cost little.

The first layer, which reads pixels, stays float32 too.
"""
CHOICES = (EXACT, EXACT + r"|^/encoder/|^/backbone/")
"""Patterns of layers that stay float32, tried in turn until the masks are almost equal.

An encoder of depthwise convolutions loses accuracy in 8 bits.
"""
ENOUGH = 0.99
"""Mean IoU with the float32 masks from which masks count as almost equal."""
SAME_BOX = 0.5
"""IoU from which two boxes of one label count as the same detection."""


def quantize_graph(
    source: Path, out: Path, exact: Any, *, samples: Sequence[Sample]
) -> dict[str, Any]:
    """Writes an 8-bit copy of a graph.

    Convolutions and fully connected layers get 8-bit weights (a scale for each
    channel), inputs and outputs, with the ranges seen on `samples`; the rest stays
    float32. The first of `CHOICES` with almost equal masks is kept, else the one with
    the nearest.

    Args:
        source: the graph.
        out: the copy.
        exact: a session of the graph.
        samples: photographs to calibrate and to compare on.
    Returns:
        layers: how many are 8-bit, of: how many there are, tried: layers and mean IoU
            of each choice; and `agreement`.
    Raises:
        InputError: the graph finds nothing on the samples.
    """
    best: dict[str, Any] = {}
    tried: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        ranges, beside = Path(folder) / "ranges.json", Path(folder) / "try.onnx"
        save_ranges(source, feeds_of(exact, samples), ranges)
        for kept in CHOICES:
            counts = write_quantized(source, beside, ranges, kept=kept)
            same = agreement(exact, session_of(beside), samples)
            tried.append({"layers": counts[0], "mean_iou": same["mean_iou"]})
            if not best or (same["mean_iou"] or 0) > (best["mean_iou"] or 0):
                best = {"layers": counts[0], "of": counts[1], **same}
                beside.replace(Path(folder) / out.name)
            if (best["mean_iou"] or 1) >= ENOUGH:
                break
        (Path(folder) / out.name).replace(out)
    return {**best, "tried": tried}


def write_quantized(
    source: Path, out: Path, ranges: Path, *, kept: str = EXACT, reads_pixels: bool = True
) -> tuple[int, int]:
    """Writes the 8-bit graph of one choice of layers.

    Args:
        ranges: the file of `save_ranges`.
        kept: regular expression of the names of layers that stay float32.
        reads_pixels: whether the first layer does, and stays float32.
    Returns:
        The number of 8-bit layers, and the number of layers that could be.
    """
    import onnx
    from onnxruntime import quantization

    layers = _layers(onnx.load(source))
    chosen = [
        node.name
        for node in layers
        if not re.search(kept, node.name)
        and not (reads_pixels and node.input[1] == layers[0].input[1])
    ]
    with _quiet():
        quantization.quantize_static(
            source,
            out,
            None,
            quant_format=quantization.QuantFormat.QDQ,  # every runtime reads it
            op_types_to_quantize=list(OPERATORS),
            nodes_to_quantize=chosen,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibration_cache_path=ranges,
        )
    model = onnx.load(out)
    del model.graph.value_info[:]  # guessed shapes, some wrong: see export
    onnx.save(model, out)
    return len(chosen), len(layers)


def _layers(model: Any) -> list[Any]:
    return [node for node in model.graph.node if node.op_type in OPERATORS]


def save_ranges(source: Path, feeds: Iterable[Feed], path: Path) -> None:
    """Writes the least and the greatest input and output of each layer over all feeds."""
    ranges = Ranges(source)
    for feed in feeds:
        ranges.add(feed)
    ranges.save(path)


class Ranges:
    """The least and the greatest input and output of each layer of a graph.

    `quantize_static` reads them from a file. Its own collector adds guessed shapes to
    the graph, and with wrong shapes a detector's graph does not load.
    """

    def __init__(self, source: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            watched = Path(folder) / "watched.onnx"
            self._names = _watch(source, watched)
            self._session = session_of(watched)
        self._low = np.full(len(self._names), np.inf, np.float32)
        self._high = np.full(len(self._names), -np.inf, np.float32)

    def add(self, feed: Feed) -> None:
        """Widens the ranges by what a graph's input gives."""
        # A layer that saw no box has no least value: not a number, or infinite.
        found = [v.reshape(-1)[0] if v.size else np.nan for v in self._session.run(None, feed)]
        values = np.array(found, np.float32)
        values[~np.isfinite(values)] = np.nan
        self._low, self._high = np.fmin(self._low, values[::2]), np.fmax(self._high, values[1::2])

    def save(self, path: Path) -> None:
        """Writes the file; raises InputError if a layer saw nothing."""
        from onnxruntime.quantization import CalibrationMethod, calibrate

        if not np.isfinite([self._low, self._high]).all():
            raise InputError(
                "--calibrate: the model finds nothing on these photographs; name a folder of "
                "pictures like those to come"
            )
        rows = zip(self._names, self._low, self._high, strict=True)
        tensors = {name: calibrate.TensorData(lowest=a, highest=b) for name, a, b in rows}
        calibrate.save_tensors_data(calibrate.TensorsData(CalibrationMethod.MinMax, tensors), path)


def _watch(source: Path, out: Path) -> list[str]:
    """Writes a graph that returns the least and the greatest value of each layer's tensors."""
    import onnx

    model = onnx.load(source)
    names = list(
        dict.fromkeys(name for node in _layers(model) for name in (node.input[0], node.output[0]))
    )
    del model.graph.output[:]
    for name in names:
        for kind in ("ReduceMin", "ReduceMax"):
            given = f"{name}:{kind}"
            model.graph.node.append(onnx.helper.make_node(kind, [name], [given], keepdims=0))
            model.graph.output.append(
                onnx.helper.make_tensor_value_info(given, onnx.TensorProto.FLOAT, [])
            )
    onnx.save(model, out)
    return names


def feeds_of(session: Any, samples: Sequence[Sample]) -> list[Feed]:
    """Returns the samples as inputs of a session's graph."""
    wanted = [i.name for i in session.get_inputs()]
    rows = [{"image": s.image, "boxes": s.boxes, "labels": s.labels} for s in samples]
    return [{name: row[name].numpy() for name in wanted} for row in rows]


def agreement(exact: Any, coarse: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    """Compares an 8-bit graph with the float32 one, in two sessions.

    Returns:
        photographs, masks (of the float32 graph), found (share of its detections that
        the other finds; 1 for given boxes), mean_iou and p5_iou (mean and 5th
        percentile of the IoU of their masks; null without any).
    """
    overlaps: list[torch.Tensor] = []
    masks = 0
    for sample, feed in zip(samples, feeds_of(exact, samples), strict=True):
        size = (int(sample.image.shape[1]), int(sample.image.shape[2]))
        wanted, got = exact.run(None, feed), coarse.run(None, feed)
        if "boxes" in feed:
            mine, theirs = (_pasted(answer, feed["boxes"], size) for answer in (wanted, got))
            overlaps.append(iou(mine, theirs))
        else:
            rows, others = same_boxes(wanted[0], wanted[1], got[0], other_labels=got[1])
            mine, theirs = (_pasted(answer[3:], answer[0], size) for answer in (wanted, got))
            overlaps.append(iou(mine.select(rows), theirs.select(others)))
        masks += len(mine)
    found = torch.cat(overlaps) if overlaps else torch.zeros(0)
    return {
        "photographs": len(samples),
        "masks": masks,
        "found": len(found) / masks if masks else 1.0,
        "mean_iou": float(found.mean()) if len(found) else None,
        "p5_iou": float(found.quantile(0.05)) if len(found) else None,
    }


def _pasted(answer: Sequence[Array], boxes: Array, size: tuple[int, int]) -> MaskCrops:
    return paste(
        torch.from_numpy(answer[0]),
        torch.from_numpy(answer[1]),
        torch.from_numpy(boxes),
        image_size=size,
    )


def same_boxes(
    boxes: Array, labels: Array, other_boxes: Array, *, other_labels: Array
) -> tuple[list[int], list[int]]:
    """Rows of the first detections and of the same detections among the others, used once."""
    if not len(boxes) or not len(other_boxes):
        return [], []
    overlap = box_iou(torch.from_numpy(boxes), torch.from_numpy(other_boxes))
    overlap = overlap * torch.from_numpy(labels[:, None] == other_labels[None])
    rows, others = [], []
    for row in range(len(boxes)):
        best = int(overlap[row].argmax())
        if float(overlap[row, best]) >= SAME_BOX:
            rows.append(row)
            others.append(best)
            overlap[:, best] = 0
    return rows, others


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the tool, which logs advice about itself to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def answer(session: Any, inputs: tuple[Tensor, ...]) -> list[Array]:
    """Runs an ONNX Runtime session on image (, boxes, labels); not every graph takes labels."""
    named = dict(zip(("image", "boxes", "labels"), inputs, strict=False))
    found: list[Array] = session.run(
        None, {i.name: named[i.name].numpy() for i in session.get_inputs()}
    )
    return found


def session_of(path: Path, threads: int = 0) -> Any:
    """Returns an ONNX Runtime session on the CPU; with 0 threads it chooses their number."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # it warns of empty pyramid levels
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
