"""What computes a model, and on what size of photographs.

A box segmenter's network is computed by the fastest runtime that draws PyTorch's masks.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.inference.runtime.cache import Made, kept_graph
from halfmask.inference.runtime.detector import use_parts
from halfmask.inference.runtime.engines import Engine
from halfmask.inference.runtime.graph import LAYOUT, build_graph, mean_iou, shipped_crops
from halfmask.inference.runtime.names import (
    PACKAGES,
    TITLES,
    Precision,
    Runtime,
    candidates,
    missing,
    version_of,
)
from halfmask.models.box_segmenter.inference import CPU_CROPS
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.models.mask_rcnn.detector import RegionDetector
from halfmask.models.mask_rcnn.images import lower_max_size
from halfmask.models.mask_rcnn.model import PartialMaskRCNN

logger = logging.getLogger(__name__)

SAME: dict[Precision, float] = {"float32": 0.995, "int8": 0.98}
"""Least mean IoU with PyTorch's masks, for a runtime to be used."""
COMPARED = 48
"""Crops of the shipped photographs on which runtimes are compared and timed."""
ROUNDS = 3


def use_runtime(
    model: Any, runtime: Runtime, precision: Precision | None, *, name: str, digest: str, path: str
) -> str:
    """Lets a runtime compute a model's network from now on.

    Args:
        model: in evaluation mode, on its device.
        runtime, precision: see `halfmask.load`; a pair that `Computing` has checked.
        name, digest: of the model.
        path: as the user named the model, for messages.
    Returns:
        What computes now, as results name it: `torch`, or runtime, version, precision.
    Raises:
        InputError: no such runtime or precision, one that is not installed, draws other
            masks, or does not fit the model or the device.
    """
    if runtime == "torch":
        return runtime
    why = _unfit(model)
    if why and (runtime != "auto" or precision == "int8"):
        raise InputError(f"--runtime {runtime}: {name} {why}: leave --runtime and --precision out")
    if isinstance(model, PartialMaskRCNN) and not why:
        return use_parts(model, runtime, precision, name=name, digest=digest, path=path)
    precision = precision or "float32"
    tried = candidates(runtime, precision)
    if why or not tried:
        why = why or "is computed by PyTorch: pip install onnx openvino makes it faster"
        logger.info("runtime: PyTorch; %s %s", name, why)
        return "torch"
    made = _made(model, precision, name=name, digest=digest)
    chosen = _chosen(made, tried, precision, asked=runtime)
    logger.info("runtime: %s", _reason(made, chosen, precision))
    if chosen == "torch":
        return chosen
    model.engine = _engine(model, chosen, made.graph, precision=precision)
    return f"{chosen} {version_of(PACKAGES[chosen])} {precision}"


def limit_size(predictors: Sequence[Any], max_size: int | None) -> int | None:
    """Lets Mask R-CNNs see photographs of at most this many pixels on the longer side.

    A recipe that allows fewer stays.

    Args:
        predictors: the one that draws masks, then other models beside it.
        max_size: see `halfmask.load`; None: as the recipes say.
    Returns:
        The limit, where it is lower than a recipe's; else None.
    Raises:
        InputError: no model among them resizes photographs as a recipe says.
    """
    if max_size is None:
        return None
    models = [getattr(one, "model", None) for one in predictors]
    fit = [model for model in models if isinstance(model, RegionDetector)]
    if not fit:
        what = "reads crops of a fixed size" if isinstance(models[0], BoxSegmenter) else "does not"
        raise InputError(
            f"--max-size is for a Mask R-CNN, which resizes photographs; {predictors[0].name} "
            f"{what}: leave --max-size out"
        )
    before = max(model.transform.max_size for model in fit)
    lowered = [lower_max_size(model.transform, max_size) for model in fit]
    now = f"the longer side of a photograph has at most {min(before, max_size)} pixels"
    logger.info("max-size: %s; the recipe allows %d", now, before)
    return max_size if any(lowered) else None


def unusual(predictor: Any) -> dict[str, Any]:
    """Returns a predictor's runtime and max_size, as files note them, where not as usual."""
    found = {"runtime": predictor.runtime, "max_size": predictor.max_size}
    return {key: value for key, value in found.items() if value not in ("torch", None)}


def _unfit(model: Any) -> str:
    """Says why a model's network runs in PyTorch alone; empty if it does not."""
    if not isinstance(model, BoxSegmenter | PartialMaskRCNN):
        return "is no box segmenter or Mask R-CNN, and runs in PyTorch alone"
    if isinstance(model, BoxSegmenter) and model.border is not None:
        return "looks at borders twice, by maps that only PyTorch keeps"
    device = next(model.parameters()).device
    return f"is on {device}, where PyTorch is used" if device.type != "cpu" else ""


def _made(model: BoxSegmenter, precision: Precision, *, name: str, digest: str) -> Made:
    threads = torch.get_num_threads()
    more = {"layout": LAYOUT, "machine": platform.processor() or platform.machine()}

    def make() -> Made:
        logger.info("runtime: making the graph of %s, once", name)
        graph, facts = build_graph(model, precision)
        return Made(graph=graph, facts=facts | {"runtimes": _compare(model, graph, precision)})

    return kept_graph(name, digest, precision, make=make, more=more | {"threads": threads})


@torch.no_grad()
def _compare(model: BoxSegmenter, graph: bytes, precision: Precision) -> dict[str, Any]:
    """Measures the installed runtimes and PyTorch on the same crops."""
    crops = shipped_crops(model)[:COMPARED]
    labels = torch.zeros(len(crops), dtype=torch.int64)

    def in_torch(crops: Tensor, labels: Tensor) -> Tensor:
        parts = torch.split(crops, CPU_CROPS), torch.split(labels, CPU_CROPS)
        return torch.cat([model.look(*some) for some in zip(*parts, strict=True)])

    wanted = in_torch(crops, labels)
    found: dict[str, Any] = {"torch": {"speed": _speed(in_torch, crops, labels)}}
    for runtime in PACKAGES:
        if not missing(runtime, precision):
            engine = _engine(model, runtime, graph, precision=precision)
            same = mean_iou(wanted, engine(crops, labels), crops)
            found[runtime] = {"iou": same, "speed": _speed(engine, crops, labels)}
    return found


def _speed(run: Callable[[Tensor, Tensor], Tensor], crops: Tensor, labels: Tensor) -> float:
    """Crops in a second of processor time, in the best of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        run(crops, labels)
        seconds.append(time.process_time() - begin)
    return len(crops) / max(min(seconds), 1e-6)


def _engine(model: BoxSegmenter, runtime: Runtime, graph: bytes, *, precision: Precision) -> Engine:
    return Engine(
        runtime,
        graph,
        precision=precision,
        threads=torch.get_num_threads(),
        size=model.reader.size,
        side=model.mask_size,
    )


def _chosen(made: Made, tried: list[Runtime], precision: Precision, *, asked: Runtime) -> Runtime:
    """Returns the fastest runtime that draws the same masks.

    With `auto` that is PyTorch if none is faster.

    Raises:
        InputError: none draws the same masks, and PyTorch was not left open.
    """
    known = made.facts["runtimes"]
    same = [one for one in tried if known[one]["iou"] >= SAME[precision]]
    if not same and (asked != "auto" or precision == "int8"):
        best = max(known[one]["iou"] for one in tried)
        raise InputError(
            f"--runtime {asked} --precision {precision}: its masks differ from PyTorch's (mean "
            f"IoU {best:.3f} on the shipped photographs, {SAME[precision]} is needed): "
            + ("use --precision float32" if precision == "int8" else "use --runtime torch")
        )
    if asked == "auto" and precision == "float32":
        same.append("torch")
    return max(same, key=lambda one: float(known[one]["speed"]))


def _reason(made: Made, chosen: Runtime, precision: Precision) -> str:
    """Says in one line what was chosen, and why."""
    known, title = made.facts["runtimes"], TITLES[chosen]
    others = [
        f"{TITLES[one]} {known[one]['speed']:.0f}"
        for one in TITLES
        if one != chosen and one in known
    ]
    speed = f"{known[chosen]['speed']:.0f} crops a second and core ({', '.join(others)})"
    if chosen == "torch":
        return f"{title}, the fastest: {speed}"
    version = version_of(PACKAGES[chosen])
    kept = "" if made.path is None else f"; graph in {made.path}"
    same = f"mean mask IoU with PyTorch's {known[chosen]['iou']:.4f}"
    return f"{title} {version}, {precision}: {speed}, {same}{kept}"
