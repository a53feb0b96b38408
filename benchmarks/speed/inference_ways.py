"""The ways to run a detector from a photograph to run lengths, on the CPU: torchvision
eager, and halfmask in each runtime.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.speed.torchvision_peer import torchvision_twin
from halfmask.errors import InputError
from halfmask.inference.export.export import graphs_of, write_graph
from halfmask.inference.export.int8 import answer, save_ranges, session_of, write_quantized
from halfmask.inference.predictor import Predictor
from halfmask.inference.runtime.engines import kept_signal_stack
from halfmask.masks.crops import MaskCrops, encode_rle
from halfmask.masks.paste import paste
from halfmask.models.backbones.norm import fold_for_inference
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.models.mask_rcnn.regions import HALF_PIXEL
from halfmask.recipes.recipe import MaskRCNN

PEER, EAGER = "torchvision", "halfmask, PyTorch"
PACKAGES = {
    "onnxruntime": "export",
    "openvino": "openvino",
    "pycocotools": "dev",
    "transformers": "sam",
}
"""What the benchmark compares with or runs in → the extra that brings it."""


@dataclass(frozen=True)
class Answer:
    """What one way finds in a photograph.

    Attributes:
        boxes: float32 [n, 4] xyxy.
        labels: int64 [n].
        scores: float32 [n], best first.
        probs: float32 [n, M, M], mask probabilities.
        regions: float32 [n, 4] xyxy, where halfmask spreads them.
        rles: compressed RLE of each mask, as this way delivers it.
        size: (H, W).
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    probs: Tensor
    regions: Tensor
    rles: list[dict[str, Any]]
    size: tuple[int, int]

    def alike(self) -> MaskCrops:
        """The masks that halfmask pastes from these probabilities: two ways' masks then
        differ by their networks alone.
        """
        return paste(self.probs, self.regions, self.boxes, image_size=self.size)


Way = Callable[[Tensor], Answer]
"""float32 [3, H, W] in [0, 1] → what is found there."""


def require(packages: Sequence[str] = tuple(PACKAGES)) -> None:
    """Says which package is absent and how to get it, before anything is measured.

    Raises:
        InputError: one is.
    """
    for package in packages:
        if find_spec(package) is None:
            raise InputError(
                f"bench inference needs {package}, which is not installed: pip install "
                f"'halfmask[{PACKAGES[package]}]'"
            )


INT8 = "INT8"
"""Stands in the name of a way in 8 bits."""


def cpu_ways(
    ours: PartialMaskRCNN,
    config: MaskRCNN,
    classes: int,
    folder: Path,
    calibration: Sequence[Tensor],
) -> dict[str, Way]:
    """All ways, with the weights of `ours`, whose norms are folded as `load` does.

    Args:
        folder: graphs go there.
        calibration: images that the 8-bit graph's ranges are taken from.
    """
    theirs = torchvision_twin(ours, config, classes).eval()
    fold_for_inference(ours)
    last = copy.deepcopy(ours).to(memory_format=torch.channels_last)
    path = folder / "detect.onnx"
    write_graph(
        graphs_of(Predictor(ours, None, "bench", digest="", device=torch.device("cpu")))[-1], path
    )
    ranges, small = folder / "ranges.json", folder / "detect.int8.onnx"
    save_ranges(path, [{"image": one.numpy()} for one in calibration], ranges)
    write_quantized(path, small, ranges)
    return {
        PEER: torchvision_way(theirs),
        EAGER: torch_way(ours),
        f"{EAGER} channels_last": torch_way(last),
        "halfmask, ONNX Runtime": onnx_way(path),
        "halfmask, OpenVINO": openvino_way(path),
        f"halfmask, ONNX Runtime, {INT8}": onnx_way(small),
        f"halfmask, OpenVINO, {INT8}": openvino_way(small),
    }


def has_int8() -> bool | None:
    """Whether the processor multiplies 8-bit numbers faster than float32 (VNNI or AMX);
    None where that is not known.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    return any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))


def onnx_way(path: Path) -> Way:
    """A `detect` graph in ONNX Runtime."""
    session = session_of(path, torch.get_num_threads())
    return lambda image: _drawn(answer(session, (image,)), image)


def openvino_way(path: Path) -> Way:
    """A `detect` graph in OpenVINO."""
    compiled = openvino_of(path)
    return lambda image: _drawn(list(compiled([image.numpy()]).to_tuple()), image)


def openvino_of(path: Path) -> Any:
    """A graph in OpenVINO on the CPU. In float32: left to itself it takes bfloat16
    where the processor has it.
    """
    import openvino

    hints = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    with kept_signal_stack():
        return openvino.Core().compile_model(str(path), "CPU", hints)


def torchvision_way(model: nn.Module, device: torch.device | None = None) -> Way:
    """torchvision's own path: masks pasted on canvases, encoded by pycocotools."""
    from pycocotools import mask

    maps: list[Tensor] = []
    heads: Any = model.roi_heads
    heads.register_forward_hook(lambda _m, _i, out: maps.append(out[0][0]["masks"][:, 0]))

    @torch.no_grad()
    def detect(image: Tensor) -> Answer:
        maps.clear()
        found = model([image.to(device)])[0]
        canvases = (found["masks"][:, 0] >= 0.5).to("cpu", torch.uint8).numpy()
        rles = mask.encode(np.asfortranarray(canvases.transpose(1, 2, 0)))
        boxes, scores, probs = (
            rows.to("cpu", torch.float32) for rows in (found["boxes"], found["scores"], maps[0])
        )
        return Answer(
            boxes, found["labels"].cpu(), scores, probs, boxes + HALF_PIXEL, rles, _size(image)
        )

    return detect


def torch_way(model: PartialMaskRCNN, device: torch.device | None = None) -> Way:
    """halfmask in PyTorch."""

    @torch.inference_mode()
    def detect(image: Tensor) -> Answer:
        found = model.detect([image.to(device)])[0].on_cpu()
        rles = encode_rle(found.crops())
        return Answer(
            found.boxes,
            found.labels,
            found.scores,
            found.mask_probs,
            found.regions,
            rles,
            found.image_size,
        )

    return detect


def _drawn(found: list[Any], image: Tensor) -> Answer:
    """The outputs of a `detect` graph."""
    boxes, labels, scores, probs, regions, _ = (torch.from_numpy(rows) for rows in found)
    size = _size(image)
    return Answer(
        boxes,
        labels,
        scores,
        probs,
        regions,
        encode_rle(paste(probs, regions, boxes, image_size=size)),
        size,
    )


def _size(image: Tensor) -> tuple[int, int]:
    return int(image.shape[1]), int(image.shape[2])
