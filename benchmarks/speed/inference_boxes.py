"""`bench inference`, given boxes: the shipped segmenter beside SAM ViT-B and SAM 2
tiny, photograph to RLE, on the CPU.

SAM's weights are random, as its time does not depend on them; its image encoder runs
anew for each photograph.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import alternate
from benchmarks.result import Result, Row, compared
from benchmarks.speed.inference_ways import INT8, openvino_of
from halfmask.errors import InputError
from halfmask.inference.export.export import graphs_of, write_graph
from halfmask.inference.export.int8 import answer, quantize_graph, session_of
from halfmask.inference.export.samples import Sample, samples
from halfmask.inference.images import as_tensor
from halfmask.inference.predictor import Predictor, load
from halfmask.masks.crops import MaskCrops, encode_rle, iou
from halfmask.masks.paste import paste
from halfmask.models.fixed.sam import SamSegmenter

PHOTOS = Path(__file__).parents[2] / "halfmask" / "assets" / "photos"
BOXES, ROUNDS = 7, 3
SPEED_BAR, IOU_BAR = 150.0, 0.99
PEER, EAGER = "SAM ViT-B", "halfmask, PyTorch"
ONE_LOOK = "one look a box"
"""Without the mirror and with one context in place of three: a sixth of the crops,
somewhat other masks, and no agreement for the score.
"""

Photograph = tuple[Tensor, Tensor]
"""float32 [3, H, W] and boxes float32 [BOXES, 4] xyxy."""
Draw = Callable[[Tensor, Tensor], MaskCrops]


def photographs() -> list[Photograph]:
    """The shipped photographs that have BOXES objects, with the first of them."""
    found = json.loads((PHOTOS / "photos.json").read_text(encoding="utf-8"))
    boxes: dict[int, list[list[float]]] = defaultdict(list)
    for one in found["annotations"]:
        if not one.get("iscrowd"):
            x, y, width, height = one["bbox"]
            boxes[one["image_id"]].append([x, y, x + width, y + height])
    return [
        (as_tensor(PHOTOS / image["file_name"]), torch.tensor(boxes[image["id"]][:BOXES]))
        for image in found["images"]
        if len(boxes[image["id"]]) >= BOXES
    ]


def measured(
    folder: Path,
    given: list[Photograph],
    peers: dict[str, Draw],
    rounds: int,
    calibration: Sequence[Sample] = (),
) -> Result:
    """Times the shipped model in each runtime beside `peers`.

    Args:
        folder: graphs go there.
        calibration: of the 8-bit graph; none: the shipped photographs with made-up
            boxes.
    """
    ours = _ours(folder, calibration or samples(PHOTOS))
    # A peer takes the next photograph in each round, and cannot keep what it encoded.
    steps: dict[str, Callable[[], object]] = {
        name: _next(draw, given) for name, draw in peers.items()
    }
    steps |= {name: _all(draw, given) for name, draw in ours.items()}
    each = {name: len(given) if name in ours else 1 for name in steps}
    seconds = {
        name: statistics.median(s) / each[name] for name, s in alternate(steps, rounds).items()
    }
    same = {
        name: _sameness(ours[EAGER], draw, given) for name, draw in ours.items() if name != EAGER
    }
    return Result(
        _rows(seconds, same, list(peers)),
        {"inference-boxes": _table(seconds, same, len(given))},
        "python -m benchmarks inference --threads 1",
        {"seconds_boxes": seconds},
    )


def sam_peers() -> dict[str, Draw]:
    """SAM ViT-B and SAM 2 tiny of random weights.

    Raises:
        InputError: transformers is absent.
    """
    if find_spec("transformers") is None:
        raise InputError(
            "bench inference needs transformers, which is not installed: pip install "
            "'halfmask[sam]'"
        )
    import transformers as hf

    torch.manual_seed(0)
    first = SamSegmenter(
        hf.SamModel(hf.SamConfig()).eval(), hf.SamProcessor(hf.SamImageProcessor())
    )
    second = SamSegmenter(
        hf.Sam2Model(hf.Sam2Config()).eval(), hf.Sam2Processor(hf.Sam2ImageProcessor())
    )
    return {PEER: _sam(first), "SAM 2 tiny": _sam(second)}


def _sam(model: SamSegmenter) -> Draw:
    return lambda image, boxes: model.segment([image], [boxes])[0].crops()


def _ours(folder: Path, calibration: Sequence[Sample]) -> dict[str, Draw]:
    predictor, quick = load("box-segmenter", device="cpu"), _one_look()
    path, small, single = (
        folder / f"{name}.onnx" for name in ("segment", "segment.int8", "segment.one_look")
    )
    write_graph(graphs_of(predictor)[0], path)
    write_graph(graphs_of(quick)[0], single)
    quantize_graph(path, small, session_of(path), samples=calibration)
    threads = torch.get_num_threads()
    return {
        EAGER: lambda image, boxes: predictor.segment(image, boxes).crops(),
        "halfmask, ONNX Runtime": _drawn_by(_onnx_runner(path, threads)),
        "halfmask, OpenVINO": _drawn_by(_openvino_runner(path)),
        f"halfmask, ONNX Runtime, {INT8}": _drawn_by(_onnx_runner(small, threads)),
        f"halfmask, OpenVINO, {INT8}": _drawn_by(_openvino_runner(small)),
        f"halfmask, PyTorch, {ONE_LOOK}": lambda image, boxes: quick.segment(image, boxes).crops(),
        f"halfmask, ONNX Runtime, {ONE_LOOK}": _drawn_by(_onnx_runner(single, threads)),
    }


def _one_look() -> Predictor:
    return load("box-segmenter", device="cpu", effort="fast")


Runner = Callable[[Tensor, Tensor], list[Any]]
"""An image and its boxes → the outputs of a `segment` graph."""


def _onnx_runner(path: Path, threads: int) -> Runner:
    """A `segment` graph in ONNX Runtime."""
    session = session_of(path, threads)
    return lambda image, boxes: answer(
        session, (image, boxes, torch.zeros(len(boxes), dtype=torch.int64))
    )


def _openvino_runner(path: Path) -> Runner:
    compiled = openvino_of(path)  # the shipped model has no use for labels
    return lambda image, boxes: list(compiled([image.numpy(), boxes.numpy()]).to_tuple())


def _drawn_by(run: Runner) -> Draw:
    def draw(image: Tensor, boxes: Tensor) -> MaskCrops:
        probs, regions, _ = (torch.from_numpy(rows) for rows in run(image, boxes))
        return paste(probs, regions, boxes, image_size=(int(image.shape[1]), int(image.shape[2])))

    return draw


def _next(draw: Draw, given: list[Photograph]) -> Callable[[], object]:
    turns = itertools.cycle(given)
    return lambda: encode_rle(draw(*next(turns)))


def _all(draw: Draw, given: list[Photograph]) -> Callable[[], object]:
    return lambda: [encode_rle(draw(*one)) for one in given]


def _sameness(wanted: Draw, got: Draw, given: list[Photograph]) -> float:
    """Mean IoU of two ways' masks."""
    return float(torch.cat([iou(wanted(*one), got(*one)) for one in given]).mean())


def _rows(seconds: dict[str, float], same: dict[str, float], peers: list[str]) -> list[Row]:
    rows = [
        compared(
            f"{name}, {BOXES} boxes to RLE",
            peer,
            seconds[peer],
            spent,
            "s",
            SPEED_BAR if peer == PEER else None,
            True,
        )
        for name, spent in seconds.items()
        if name not in peers
        for peer in peers
    ]
    for name, overlap in same.items():
        bar = None if ONE_LOOK in name else IOU_BAR  # it is meant to be another mask
        base = {
            "peer": EAGER,
            "peer_value": 1.0,
            "unit": "of 1",
            "bar": bar,
            "ok": None if bar is None else overlap >= bar,
        }
        rows.append({"name": f"{name}, mean mask IoU", **base, "value": overlap, "ratio": overlap})
    return rows


def _table(seconds: dict[str, float], same: dict[str, float], photographs: int) -> str:
    lines = [
        f"| {BOXES} given boxes of a photograph to RLE | seconds of CPU | masks/s | times as "
        f"fast as {PEER} | mask IoU |",
        "|---|---|---|---|---|",
    ]
    for name, spent in seconds.items():
        overlap = f"{same[name]:.4f}" if name in same else "–"
        times = f"{seconds[PEER] / spent:.0f}" if name != PEER else "–"
        lines.append(f"| {name} | {spent:.3f} | {BOXES / spent:.1f} | {times} | {overlap} |")
    note = (
        f"{photographs} shipped photographs. SAM: transformers, random weights, 1024 × 1024, "
        f"float32. Mask IoU: mean, with {EAGER}. {ONE_LOOK.capitalize()}: without the mirror "
        "and with one context of three, a sixth of the crops."
    )
    return "\n".join([*lines, "", note])
