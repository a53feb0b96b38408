"""Writes a model as ONNX graphs and checks them against the model.

Pasting a mask into the photograph is not part of a graph: it is cheap outside, and
inside it would need a canvas for each object.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.files.atomic import write_text
from halfmask.files.folders import replaced_folder
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import EXPORT
from halfmask.formats.report import ConversionReport
from halfmask.formats.source import DataSource
from halfmask.inference.export.checksums import REPORT, digest_of, sealed
from halfmask.inference.export.graphs import BoxSegmenterGraph, DetectorGraph, RegionSegmenterGraph
from halfmask.inference.export.int8 import quantize_graph, session_of
from halfmask.inference.export.parity import Graph, cases, parity
from halfmask.inference.export.samples import Sample, samples
from halfmask.inference.jobs import open_boxes
from halfmask.inference.predictor import Predictor, as_predictor
from halfmask.inference.refine import takes_clicks
from halfmask.inference.runtime.detector import calibrate_parts
from halfmask.inference.runtime.names import Computing
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.models.detectors.base import BoxDetector
from halfmask.models.mask_rcnn.model import PartialMaskRCNN

OPSET = 18
MASKS = ("mask_probs", "regions", "quality")
FOUND = ("boxes", "labels", "scores", *MASKS)


@dataclass(frozen=True, kw_only=True)
class Export:
    """What `export` wrote.

    Attributes:
        out: the folder.
        report: the content of OUT/model.json.
        reading: what in `data` could not be read, and notes.
        calibrated: each Mask R-CNN by name, and whether `--runtime` uses its 8 bits.
    """

    out: Path
    report: dict[str, Any]
    reading: ConversionReport = field(default_factory=ConversionReport)
    calibrated: tuple[tuple[str, str], ...] = ()

    @property
    def graphs(self) -> list[dict[str, Any]]:
        """Each graph's file, bytes, largest_difference from the model, and int8 copy."""
        return list(self.report["graphs"].values())

    @property
    def left_out(self) -> str | None:
        """What the model takes and its graphs do not."""
        return self.report.get("left_out")

    def to_json(self) -> dict[str, Any]:
        """Returns what OUT/model.json holds."""
        return self.report


def export(
    model: Predictor | str | Path,
    *,
    out: str | Path,
    detector: str | Path | None = None,
    precision: Literal["float32", "int8"] = "float32",
    calibrate: str | Path | None = None,
    data: str | Path | None = None,
    max_size: int | None = None,
) -> Export:
    """Writes a model as ONNX graphs and measures how far they are from the model.

    The folder gets segment.onnx (masks for given boxes), detect.onnx if the model finds
    boxes, and model.json: classes, inputs, outputs, differences and checksums.

    Args:
        model: a model on the CPU, or a name or path for `load`.
        out: the folder to write into.
        detector: a model that finds the boxes which `model` fills.
        precision: int8 adds an 8-bit copy of each graph, NAME.int8.onnx.
        calibrate: int8: a folder of photographs like those to come.
        data: int8: a data set with boxes of these photographs, in any format that
            `convert` reads; None makes up boxes of many sizes.
        max_size: of the photographs that a Mask R-CNN sees; see `load`. The graphs
            resize to it.
    Raises:
        InputError: the extra `export` is not installed, the options do not fit, or the
            model has no graph (a rule, Detectron's geometry).
    """
    read = (model, detector, calibrate, data)
    guard([Output(out, "--out", EXPORT)], inputs=read, photographs=[calibrate])
    calibration: list[Sample] = []
    source: DataSource | None = None
    if precision == "int8":
        if calibrate is None:
            raise InputError(
                "export --precision int8: name a folder of photographs like those to come with "
                "--calibrate"
            )
        require_extra()
        if data is not None:
            source = open_boxes(Path(data), Path(calibrate))
        calibration = samples(Path(calibrate), source)
    elif precision != "float32":
        raise InputError(f"precision: expected float32 or int8, found {precision!r}")
    elif calibrate is not None or data is not None:
        raise InputError("export: --calibrate and --data are for --precision int8")
    predictor = as_predictor(model, detector, "cpu", computing=Computing(max_size=max_size))
    if predictor.device.type != "cpu":
        raise InputError(f"export: {predictor.name} is on {predictor.device}; load it on the CPU")
    if predictor.runtime != "torch":
        raise InputError(
            f"export: {predictor.name} runs in {predictor.runtime}; load it with runtime torch"
        )
    report = write_graphs(predictor, Path(out), calibration)
    models = [predictor, predictor.detector] if calibration else []
    calibrated = [
        (one.name, calibrate_parts(one.model, calibration, one.digest))
        for one in models
        if isinstance(one, Predictor) and isinstance(one.model, PartialMaskRCNN)
    ]
    reading = ConversionReport() if source is None else source.report
    return Export(out=Path(out), report=report, reading=reading, calibrated=tuple(calibrated))


def write_graphs(
    predictor: Predictor, out: Path, calibration: Sequence[Sample] = ()
) -> dict[str, Any]:
    """Writes the graphs and model.json; returns what model.json holds.

    An older export in the folder is replaced as a whole, or not at all.

    Args:
        calibration: photographs to make 8-bit copies with; without any, no copies.
    Raises:
        InputError: as `export`.
    """
    require_extra()
    EXPORT.check(out, "out")
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
    if predictor.max_size is not None:
        report["max_size"] = predictor.max_size
    if takes_clicks(predictor):
        report["left_out"] = "clicks and earlier masks: the graph draws the mask of a box alone"
    graphs = graphs_of(predictor)
    with replaced_folder(out) as folder:
        for graph in graphs:
            path = folder / f"{graph.name}.onnx"
            write_graph(graph, path)
            entry = {"file": path.name, "bytes": path.stat().st_size, **parity(graph, path)}
            if calibration:
                entry["int8"] = write_int8(path, calibration)
            report["graphs"][graph.name] = entry
        report["files"] = {path.name: digest_of(path) for path in sorted(folder.glob("*.onnx"))}
        text = sealed(report)
        write_text(folder / REPORT, text)
    return cast("dict[str, Any]", json.loads(text))


def write_int8(path: Path, calibration: Sequence[Sample]) -> dict[str, Any]:
    """Writes NAME.int8.onnx beside NAME.onnx; returns file, bytes, and `quantize_graph`'s."""
    exact, out = session_of(path), path.with_suffix(".int8.onnx")
    same = quantize_graph(path, out, exact, samples=calibration)
    return {"file": out.name, "bytes": out.stat().st_size, **same}


def graphs_of(predictor: Predictor) -> list[Graph]:
    """Returns the graphs of a model: `segment`, and `detect` if it finds boxes.

    Raises:
        InputError: the model has no graph.
    """
    predictor.effort.expect(None)  # the graph holds the looks of the predictor's effort
    graphs = [_segment_graph(predictor.model, predictor.name)]
    finder = predictor.detector or predictor
    if isinstance(finder, BoxDetector):
        raise InputError(
            f"export: {finder.name} is another project's detector; name a trained halfmask one, or "
            "leave it out"
        )
    if finder.can_detect:
        if not isinstance(finder.model, PartialMaskRCNN):
            raise InputError(
                f"export: {finder.name} finds no boxes by a network; name a trained detector"
            )
        graphs.append(_detect_graph(_usual(finder.model, finder.name)))
    return graphs


def _segment_graph(model: nn.Module, name: str) -> Graph:
    def reference(image: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(model, BoxSegmenter | PartialMaskRCNN)
        found = model.segment([image], [boxes], [labels])[0]
        return tuple(getattr(found, name) for name in MASKS)

    if isinstance(model, BoxSegmenter):
        return Graph("segment", BoxSegmenterGraph(model), MASKS, reference)
    if isinstance(model, PartialMaskRCNN):
        return Graph("segment", RegionSegmenterGraph(_usual(model, name)), MASKS, reference)
    raise InputError(f"export: {name} is a rule, not a network; name a trained model")


def _detect_graph(model: PartialMaskRCNN) -> Graph:
    def reference(image: Tensor) -> tuple[Tensor, ...]:
        found = model.detect([image])[0]
        return tuple(getattr(found, name) for name in FOUND)

    return Graph("detect", DetectorGraph(model), FOUND, reference)


def _usual(model: PartialMaskRCNN, name: str) -> PartialMaskRCNN:
    if model.legacy:
        raise InputError(
            f"export: {name} has Detectron's geometry (imported weights), which is not "
            "exported; train on from it without "
            "`model.detector.legacy`, or run it in PyTorch"
        )
    return model


def write_graph(graph: Graph, path: Path) -> None:
    """Writes a graph's file whole: a reader never sees half of it."""
    example = next(cases(0))[: len(graph.inputs)]
    axes = {"image": {1: "height", 2: "width"}}
    axes |= {name: {0: "objects"} for name in (*graph.inputs[1:], *graph.names)}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        beside = Path(folder) / path.name
        # It warns of values that it takes for constant; they are, as `parity` shows.
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            # The exporter on torch.export gives the same answers in minutes, not
            # seconds.
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
    """Drops the tracer's guesses of inner shapes.

    Some are wrong for other numbers of boxes, and runtimes warn about them.
    """
    import onnx

    model = onnx.load(path)
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    onnx.save(model, path)


def require_extra() -> None:
    """Makes sure that the packages of the extra `export` are installed.

    Raises:
        InputError: one is not.
    """
    absent = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if absent:
        raise InputError(
            f"export needs the extra `export` ({absent[0]} is not installed): pip install "
            "'halfmask[export]'"
        )
