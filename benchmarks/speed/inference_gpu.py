"""`bench inference` where a GPU is at hand: torchvision under its own autocast, and
halfmask in bfloat16, channels_last, compiled.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import alternate
from benchmarks.result import Result, Row, compared
from benchmarks.speed.inference_ways import Answer, Way, torch_way, torchvision_way
from benchmarks.speed.torchvision_peer import torchvision_twin
from halfmask.models.backbones.norm import fold_for_inference
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import MaskRCNN

PEER, EAGER = "torchvision, bf16 autocast", "torchvision, float32"
OURS, OURS_EAGER = "halfmask, bf16 autocast, channels_last, torch.compile", "halfmask, float32"
SPEED_BAR, ROUNDS = 2.0, 20


def measured(
    ours: PartialMaskRCNN,
    config: MaskRCNN,
    classes: int,
    image: Tensor,
    device: torch.device,
    rounds: int = ROUNDS,
) -> Result:
    """Times both on a device, in turns; time is the clock's. `ours` stays as it is."""
    ways = device_ways(copy.deepcopy(ours), config, classes, device)
    steps = {name: _step(way, image) for name, way in ways.items()}
    seconds = {name: statistics.median(s) for name, s in alternate(steps, rounds, device).items()}
    rows = [_row(name, seconds) for name in seconds if name != PEER]
    lines = ["| photograph to RLE, GPU | seconds | images/s | times as fast |", "|---|---|---|---|"]
    for name, spent in seconds.items():
        lines.append(f"| {name} | {spent:.4f} | {1 / spent:.1f} | {seconds[PEER] / spent:.2f} |")
    size = f"{image.shape[1]} × {image.shape[2]}, random weights."
    return Result(
        rows, {"inference-gpu": "\n".join([*lines, "", size])}, "", {"seconds_gpu": seconds}
    )


def device_ways(
    ours: PartialMaskRCNN,
    config: MaskRCNN,
    classes: int,
    device: torch.device,
    compiler: Callable[..., Any] = torch.compile,
) -> dict[str, Way]:
    """The ways to run both on a device; changes `ours`."""
    theirs = torchvision_twin(ours, config, classes).eval().to(device)
    fold_for_inference(ours.to(device))
    fast: Any = copy.deepcopy(ours).to(memory_format=torch.channels_last)
    # What has the image's size is compiled; the heads behind the proposals have another
    # number of regions in each image.
    fast.features = compiler(fast.features)
    fast.rpn.head = compiler(fast.rpn.head)
    return {
        EAGER: torchvision_way(theirs, device),
        PEER: _under_autocast(torchvision_way(theirs, device), device),
        OURS_EAGER: torch_way(ours, device),
        OURS: _under_autocast(torch_way(fast, device), device),
    }


def _under_autocast(way: Way, device: torch.device) -> Way:
    def run(image: Tensor) -> Answer:
        with torch.autocast(device.type, torch.bfloat16):
            return way(image)

    return run


def _step(way: Way, image: Tensor) -> Callable[[], Answer]:
    return lambda: way(image)


def _row(name: str, seconds: dict[str, float]) -> Row:
    bar = SPEED_BAR if name == OURS else None
    return compared(
        f"GPU: {name}, photograph to RLE",
        PEER,
        seconds[PEER],
        seconds[name],
        "s",
        bar,
        at_least=True,
    )
