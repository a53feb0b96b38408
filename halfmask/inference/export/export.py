"""A model as ONNX graphs, checked against the model itself.

Pasting a mask into the photograph stays outside: it is cheap, and in a graph it would
be a canvas for each object.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.inference.export.graphs import BoxSegmenterGraph, DetectorGraph, RegionSegmenterGraph
from halfmask.inference.export.int8 import Array, answer, quantize_graph, session_of
from halfmask.inference.export.samples import Sample
from halfmask.inference.predictor import Predictor
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.models.mask_rcnn.model import PartialMaskRCNN

OPSET = 18
MASKS = ("mask_probs", "regions", "quality")
FOUND = ("boxes", "labels", "scores", *MASKS)
CASES = ((300, 400, 3), (517, 233, 1), (640, 800, 40), (64, 48, 0))
"""Height, width and boxes of the made-up images that a graph is compared on."""


@dataclass(frozen=True)
class Graph:
    """One graph to export.

    Attributes:
        module: makes it, from the tensors of `example`.
        names: of its outputs.
        reference: what the model itself answers to the same inputs.
    """

    name: str
    module: nn.Module
    names: tuple[str, ...]
    reference: Callable[..., tuple[Tensor, ...]]

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("image",) if self.name == "detect" else ("image", "boxes", "labels")


def export(predictor: Predictor, out: Path, calibration: Sequence[Sample] = ()) -> dict[str, Any]:
    """Writes OUT/segment.onnx (masks for given boxes), OUT/detect.onnx where the model
    finds boxes, and OUT/model.json: classes, what the graphs take and give, and how far
    their answers are from the model's.

    Args:
        calibration: photographs to make an 8-bit copy of each graph on,
            OUT/NAME.int8.onnx; none: no copies.
    Returns:
        What model.json says.
    Raises:
        InputError: onnx or onnxruntime is absent, or a model that has no graph (a rule,
            Detectron's geometry).
    """
    require_extra()
    out.mkdir(parents=True, exist_ok=True)
    graphs = graphs_of(predictor)
    report: dict[str, Any] = {
        "model": predictor.identity,
        "version": predictor.version,
        "categories": [
            {"label": i + 1, **category} for i, category in enumerate(predictor.categories)
        ],
        "image": "float32 [3, H, W], RGB in [0, 1]",
        "boxes": "float32 [R, 4], xyxy in pixels",
        "labels": "int64 [R], 0 where the class is not known",
        "mask_probs": "float32 [R, M, M], spread over regions [R, 4]; a mask is what is at "
        "least 0.5 within its box",
        "opset": OPSET,
        "graphs": {},
    }
    for graph in graphs:
        path = out / f"{graph.name}.onnx"
        write_graph(graph, path)
        report["graphs"][graph.name] = {
            "file": path.name,
            "bytes": path.stat().st_size,
            **parity(graph, path),
        }
        if calibration:
            report["graphs"][graph.name]["int8"] = write_int8(path, calibration)
    write_json(out / "model.json", report, indent=1)
    return report


def write_int8(path: Path, calibration: Sequence[Sample]) -> dict[str, Any]:
    """Writes NAME.int8.onnx beside NAME.onnx.

    Returns:
        file, bytes, and what `quantize_graph` says.
    """
    exact, out = session_of(path), path.with_suffix(".int8.onnx")
    same = quantize_graph(path, out, exact, calibration)
    return {"file": out.name, "bytes": out.stat().st_size, **same}


def graphs_of(predictor: Predictor) -> list[Graph]:
    """The graphs that stand for a model: `segment`, and `detect` where it finds boxes.

    Raises:
        InputError: a model that has none.
    """
    graphs = [_segment_graph(predictor.model, predictor.name)]
    finder = predictor.detector or predictor
    if finder.can_detect:
        if not isinstance(finder.model, PartialMaskRCNN):
            raise InputError(f"export: {finder.name} finds no boxes that a graph could")
        graphs.append(_detect_graph(_usual(finder.model, finder.name)))
    return graphs


def _segment_graph(model: nn.Module, name: str) -> Graph:
    def reference(image: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(model, BoxSegmenter | PartialMaskRCNN)
        found = model.segment([image], [boxes], [labels])[0]
        return found.mask_probs, found.regions, found.quality

    if isinstance(model, BoxSegmenter):
        return Graph("segment", BoxSegmenterGraph(model), MASKS, reference)
    if isinstance(model, PartialMaskRCNN):
        return Graph("segment", RegionSegmenterGraph(_usual(model, name)), MASKS, reference)
    raise InputError(f"export: {name} is a rule, not a network; name a trained model")


def _detect_graph(model: PartialMaskRCNN) -> Graph:
    def reference(image: Tensor) -> tuple[Tensor, ...]:
        found = model.detect([image])[0]
        return (
            found.boxes,
            found.labels,
            found.scores,
            found.mask_probs,
            found.regions,
            found.quality,
        )

    return Graph("detect", DetectorGraph(model), FOUND, reference)


def _usual(model: PartialMaskRCNN, name: str) -> PartialMaskRCNN:
    if model.legacy:
        raise InputError(
            f"export: {name} has Detectron's geometry (imported weights), which is not "
            "exported; train on from it without "
            "`model.detector.legacy`, or run it in PyTorch"
        )
    return model


def parity(graph: Graph, path: Path, seed: int = 0) -> dict[str, Any]:
    """How far a graph's answers in ONNX Runtime are from the model's, on images of
    noise of several sizes.

    Returns:
        largest_difference: output → largest absolute difference; images: how many were
            compared; boxes: how many answers.
    """
    session = session_of(path)
    largest = dict.fromkeys(graph.names, 0.0)
    answers = 0
    for case in _cases(seed):
        inputs = case[: len(graph.inputs)]
        with torch.no_grad():
            wanted = graph.reference(*inputs)
        got = answer(session, inputs)
        answers += len(wanted[0])
        for name, mine, theirs in zip(graph.names, wanted, got, strict=True):
            if tuple(theirs.shape) != tuple(mine.shape):
                raise InputError(
                    f"{path}: gives {name} {tuple(theirs.shape)} where the model gives "
                    f"{tuple(mine.shape)}: not exported faithfully; "
                    "please report this"
                )
        if len(got[0]) and graph.name == "detect":
            order = _same_rows(wanted[0].numpy(), wanted[1].numpy(), got[0], got[1])
            got = [rows[order] for rows in got]
        for name, mine, theirs in zip(graph.names, wanted, got, strict=True):
            if theirs.size:
                difference = float(np.abs(theirs.astype(np.float64) - mine.numpy()).max())
                largest[name] = max(largest[name], difference)
    return {"largest_difference": largest, "images": len(CASES), "boxes": answers}


def _same_rows(boxes: Array, labels: Array, other_boxes: Array, other_labels: Array) -> Array:
    """For each row the other's with its label and the nearest box: detections of almost
    one score may stand in another order.
    """
    far = np.abs(boxes[:, None] - other_boxes[None]).max(2) + 1e6 * (
        labels[:, None] != other_labels[None]
    )
    order: Array = far.argmin(1)
    return order


def _cases(seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for height, width, count in CASES:
        image = torch.rand((3, height, width), generator=generator)
        yield (
            image,
            _some_boxes(height, width, count, generator),
            torch.zeros(count, dtype=torch.int64),
        )


def _some_boxes(height: int, width: int, count: int, generator: torch.Generator) -> Tensor:
    corners = torch.rand((count, 2, 2), generator=generator)
    low, high = corners.amin(1), corners.amax(1).clamp_min(0.02) + 0.02
    return torch.cat([low, high], 1).clamp_max(1) * torch.tensor([width, height, width, height])


def write_graph(graph: Graph, path: Path) -> None:
    """Writes beside and renames."""
    example = next(_cases(0))[: len(graph.inputs)]
    axes = {"image": {1: "height", 2: "width"}}
    axes |= {name: {0: "objects"} for name in (*graph.inputs[1:], *graph.names)}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        beside = Path(folder) / path.name
        # Its warnings are of values that it takes for fixed; those are meant to be, as
        # `parity` shows.
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            # The exporter on torch.export gives the same answers, and took minutes
            # where this one takes seconds.
            torch.onnx.export(
                graph.module.eval(),
                example,
                beside,
                dynamo=False,
                opset_version=OPSET,
                input_names=list(graph.inputs),
                output_names=list(graph.names),
                dynamic_axes=axes,
            )
        _tidy(beside)
        beside.replace(path)


def _tidy(path: Path) -> None:
    """Takes out the shapes that the tracer guessed for values inside: some are wrong
    for other numbers of boxes, and runtimes complain.
    """
    import onnx

    model = onnx.load(path)
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    onnx.save(model, path)


def require_extra() -> None:
    """Whether the packages of the extra are there.

    Raises:
        InputError: one is not.
    """
    absent = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if absent:
        raise InputError(
            f"export needs the extra `export` ({absent[0]} is not installed): pip install "
            "'halfmask[export]'"
        )
