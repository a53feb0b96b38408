"""Chooses what computes a Mask R-CNN's parts, after comparing it with PyTorch.

8 bits need a calibration on the user's photographs. `export --precision int8` makes it
and keeps it in the cache folder, where every command finds it by the model's digest.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from halfmask.errors import InputError
from halfmask.inference.export.int8 import CHOICES, same_boxes
from halfmask.inference.export.samples import Sample
from halfmask.inference.images import as_tensor
from halfmask.inference.runtime.cache import Made, found_graph, keep_graph, kept_graph
from halfmask.inference.runtime.graph import shipped_boxes
from halfmask.inference.runtime.names import (
    PACKAGES,
    TITLES,
    Precision,
    Runtime,
    candidates,
    missing,
    version_of,
)
from halfmask.inference.runtime.parts import (
    PARTS_LAYOUT,
    Graphs,
    attach,
    engines_of,
    ranges_of,
    small_parts,
    write_parts,
)
from halfmask.masks.crops import iou
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.structures import Detection

logger = logging.getLogger(__name__)

LEAST_FOUND: dict[Precision, float] = {"float32": 0.99, "int8": 0.9}
"""Least share of PyTorch's detections that a runtime has to find again.

Rounding alone moves a detection over the threshold of NMS now and then.
"""
LEAST_IOU: dict[Precision, float] = {"float32": 0.995, "int8": 0.95}
"""Least mean IoU of masks with PyTorch's. In 8 bits it is lower than a box segmenter's,
since a mask also moves with its box.
"""
COUNTED = 0.3
"""Score from which a detection counts; weaker ones come and go with the last bit."""
CALIBRATED, COMPARED, SHIPPED = 16, 8, 2
"""Photographs for the ranges of 8 bits, to compare 8 bits, and to compare float32."""
KEPT = "mask-rcnn"
"""Names the files of calibrations: a model's name does not matter, its digest does."""


def use_parts(
    model: PartialMaskRCNN,
    runtime: Runtime,
    precision: Precision | None,
    *,
    name: str,
    digest: str,
    path: str,
) -> str:
    """Lets a runtime compute a Mask R-CNN's parts; see `use_runtime`.

    With `auto` and no precision, 8 bits are taken where the model is calibrated and its
    answers stay almost equal.
    """
    command = f"halfmask export {path} --out DIR --precision int8 --calibrate PHOTOS"
    wants_small = precision == "int8" or (precision is None and runtime == "auto")
    small = found_graph(KEPT, digest, "int8", more=_more()) if wants_small else None
    if precision == "int8" and small is None:
        raise InputError(
            f"--precision int8: {name} is not calibrated here, or for other versions of the "
            f"packages; PHOTOS is a folder of photographs like yours: {command}"
        )
    if small is not None:
        chosen = _chosen(small, runtime, "int8", must=precision == "int8")
        if chosen != "torch":
            return _used(model, small, chosen, precision="int8")
        fits = any(_fits(one, "int8") for one in small.facts["runtimes"].values())
        why = "PyTorch is faster" if fits else _difference(small, "int8")
        logger.info("runtime: 8 bits are left out: %s", why)
    if not candidates(runtime, "float32"):
        logger.info("runtime: PyTorch; pip install onnx openvino makes %s faster", name)
        return "torch"
    making = functools.partial(_made_in_float32, model, name)
    try:
        made = kept_graph(name, digest, "float32", make=making, more=_more())
    except InputError as error:
        if runtime != "auto":
            raise
        logger.info("runtime: PyTorch; %s", error)
        return "torch"
    if wants_small and small is None:
        logger.info("runtime: 8 bits are faster; they need a calibration: %s", command)
    chosen = _chosen(made, runtime, "float32", must=runtime != "auto")
    return _used(model, made, chosen, precision="float32")


def calibrate_parts(model: PartialMaskRCNN, samples: Sequence[Sample], digest: str) -> str:
    """Makes a Mask R-CNN's parts in 8 bits, compares and keeps them.

    Args:
        model: in PyTorch on the CPU.
        samples: photographs like those to come: every other one for the ranges, the
            rest to compare on.
        digest: of the model.
    Returns:
        Whether 8 bits are used, and how they compare with PyTorch.
    Raises:
        InputError: the mask branch read no region on the photographs.
    """
    with tempfile.TemporaryDirectory(prefix="halfmask-parts-") as folder:
        paths = write_parts(model, Path(folder))
        ranges = ranges_of(model, paths, samples[::2][:CALIBRATED])
        others = _spread(samples[1::2] or samples, COMPARED)
        best: tuple[float, Made] | None = None
        for kept in CHOICES:
            graphs = small_parts(paths, ranges, kept)
            known = _compare(model, graphs, others, precision="int8")
            worth = max(one["iou"] * one["found"] for one in known.values() if "iou" in one)
            used = any(_fits(one, "int8") for one in known.values())
            if best is None or used or worth > best[0]:
                best = worth, _packed(graphs, known)
            if used:
                break
    assert best is not None
    kept_one = keep_graph(KEPT, digest, "int8", made=best[1], more=_more())
    return f"{'used' if used else 'not used'}; {_difference(kept_one, 'int8')}"


def _spread(samples: Sequence[Sample], most: int) -> Sequence[Sample]:
    return samples[:: max(1, len(samples) // most)][:most]


def _more() -> dict[str, Any]:
    return {"layout": PARTS_LAYOUT, "machine": platform.processor() or platform.machine()}


def _made_in_float32(model: PartialMaskRCNN, name: str) -> Made:
    logger.info("runtime: making the graphs of %s, once", name)
    given = [
        Sample(as_tensor(path), boxes, torch.zeros(len(boxes), dtype=torch.int64))
        for path, boxes in shipped_boxes()[:SHIPPED]
    ]
    with tempfile.TemporaryDirectory(prefix="halfmask-parts-") as folder:
        graphs = {part: p.read_bytes() for part, p in write_parts(model, Path(folder)).items()}
    return _packed(graphs, _compare(model, graphs, given, precision="float32"))


def _packed(graphs: Graphs, known: dict[str, Any]) -> Made:
    lengths = {part: len(graph) for part, graph in graphs.items()}
    return Made(graph=b"".join(graphs.values()), facts={"parts": lengths, "runtimes": known})


def _unpacked(made: Made) -> Graphs:
    graphs, start = {}, 0
    for part, length in made.facts["parts"].items():
        graphs[part] = made.graph[start : start + length]
        start += length
    return graphs


def _compare(
    model: PartialMaskRCNN, graphs: Graphs, samples: Sequence[Sample], *, precision: Precision
) -> dict[str, Any]:
    """Measures the installed runtimes and PyTorch on the same photographs."""
    wanted, speed = _answers(model, samples)
    labels = [drawn.labels for _, drawn in wanted]
    known: dict[str, Any] = {"torch": {"speed": speed}}
    for runtime in PACKAGES:
        if missing(runtime, precision):
            continue
        undo = attach(model, engines_of(runtime, graphs))
        try:
            found, speed = _answers(model, samples, labels)
        finally:
            undo()
        known[runtime] = _agreement(wanted, found) | {"speed": speed}
    return known


Answer = tuple[Detection, Detection]  # found, and drawn into given boxes


@torch.no_grad()
def _answers(
    model: PartialMaskRCNN, samples: Sequence[Sample], labels: list[torch.Tensor] | None = None
) -> tuple[list[Answer], float]:
    """Returns the answers, and photographs in a second of processor time."""
    model.detect([samples[0].image])  # the first run prepares
    out, seconds = [], 0.0
    for k, sample in enumerate(samples):
        begin = time.process_time()
        [found] = model.detect([sample.image])
        seconds += time.process_time() - begin
        classes = sample.labels if labels is None else labels[k]
        [drawn] = model.segment([sample.image], [sample.boxes], [classes])
        out.append((found, drawn))
    return out, len(samples) / max(seconds, 1e-6)


def _agreement(wanted: list[Answer], got: list[Answer]) -> dict[str, float]:
    """Returns `found`, see `LEAST_FOUND`, and `iou`, of masks of the same detections.

    Where none is the same, it is of masks in given boxes, which may hold no object.
    """
    ious, given, count = [], [], 0
    for (mine, drawn), (theirs, other) in zip(wanted, got, strict=True):
        sure = mine.select(mine.scores >= COUNTED)
        sure = sure if len(sure) else mine
        columns = [one.numpy() for one in (sure.boxes, sure.labels, theirs.boxes, theirs.labels)]
        rows = same_boxes(*columns[:3], other_labels=columns[3])
        one, same = (torch.tensor(index, dtype=torch.int64) for index in rows)
        ious += [iou(sure.select(one).crops(), theirs.select(same).crops())]
        given += [iou(drawn.crops(), other.crops())]
        count += len(sure)
    pairs = torch.cat(ious)
    same_iou = float((pairs if len(pairs) else torch.cat(given)).mean())
    return {"found": len(pairs) / count if count else 1.0, "iou": same_iou}


def _fits(one: dict[str, float], precision: Precision) -> bool:
    least = LEAST_FOUND[precision], LEAST_IOU[precision]
    return "iou" in one and one["found"] >= least[0] and one["iou"] >= least[1]


def _difference(made: Made, precision: Precision) -> str:
    known = made.facts["runtimes"]
    rows = [(known[one]["found"], known[one]["iou"]) for one in PACKAGES if one in known]
    found, same = max(rows, default=(0.0, 0.0))
    return (
        f"{100 * found:.1f} % of PyTorch's detections are found again "
        f"({100 * LEAST_FOUND[precision]:g} are needed), with a mean mask IoU of {same:.3f} "
        f"({LEAST_IOU[precision]} is needed)"
    )


def _chosen(made: Made, asked: Runtime, precision: Precision, *, must: bool) -> Runtime:
    """Returns the fastest runtime that answers alike; PyTorch if none is faster.

    Args:
        must: whether PyTorch is left out.
    Raises:
        InputError: none answers alike, and PyTorch is left out.
    """
    known = made.facts["runtimes"]
    tried = [one for one in candidates(asked, precision) if one in known]
    same = [one for one in tried if _fits(known[one], precision)]
    if must and not same:
        other = "--precision float32" if precision == "int8" else "--runtime torch"
        why = _difference(made, precision)
        raise InputError(f"--runtime {asked} --precision {precision}: {why}: use {other}")
    return max(same if must else [*same, "torch"], key=lambda one: float(known[one]["speed"]))


def _used(model: PartialMaskRCNN, made: Made, chosen: Runtime, *, precision: Precision) -> str:
    """Attaches a runtime, says so in one line, and returns its name for results."""
    known = made.facts["runtimes"]
    speeds = ", ".join(f"{TITLES[one]} {known[one]['speed']:.2f}" for one in known if one != chosen)
    speed = f"{known[chosen]['speed']:.2f} photographs a second and core ({speeds})"
    if chosen == "torch":
        logger.info("runtime: PyTorch, the fastest: %s", speed)
        return "torch"
    attach(model, engines_of(chosen, _unpacked(made)))
    one, version = known[chosen], version_of(PACKAGES[chosen])
    same = f"{100 * one['found']:.1f} % of PyTorch's detections, mean mask IoU {one['iou']:.4f}"
    where = "" if made.path is None else f"; graphs in {made.path}"
    logger.info(
        "runtime: %s %s, %s: %s, %s%s", TITLES[chosen], version, precision, speed, same, where
    )
    mark = f" {hashlib.sha256(made.graph).hexdigest()[:8]}" if precision == "int8" else ""
    return f"{chosen} {version} {precision}{mark}"
