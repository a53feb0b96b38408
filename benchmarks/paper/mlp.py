"""`python -m benchmarks mlp`: what the MLP branches of the mask head cost, at the paper's sizes."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.result import Options, Result, Row
from halfmask.models.mask_rcnn.build import build_mask_branch
from halfmask.recipes.recipe import MaskHead

CLASSES, CHANNELS, BOX_WIDTH = 81, 256, 1024
REGIONS, ROUNDS = 16, 7
MIB = 2**20
Kind = Literal["none", "light", "full"]
KINDS: tuple[Kind, ...] = ("none", "light", "full")


@dataclass
class Cost:
    """Of the whole mask head with one of the branches: parameters of the branch alone,
    and seconds of a forward pass and of a step.
    """

    parameters: int
    forward: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)


def run(options: Options) -> Result:
    """Measures the transfer head without a branch, with the light one and with the paper's."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    costs = measure(REGIONS, ROUNDS, device)
    for kind, cost in costs.items():
        options.say(
            f"mlp {kind}: {cost.parameters:,} parameters, "
            f"{1000 * statistics.median(cost.forward):.0f} ms forward"
        )
    return Result(_rows(costs), {"mlp": _table(costs, device)}, "python -m benchmarks mlp")


def measure(regions: int, rounds: int, device: torch.device, **sizes: Any) -> dict[Kind, Cost]:
    """Rounds alternate between the branches, so that a machine that slows down slows
    all of them.

    Args:
        regions: pooled regions that go through the head at once.
        sizes: settings of the mask head that are not the paper's.
    """
    heads = {kind: _head(kind, sizes).to(device) for kind in KINDS}
    costs = {
        kind: Cost(0 if head.mlp is None else _count(head.mlp)) for kind, head in heads.items()
    }
    side = MaskHead(**sizes).roi_size
    features = torch.randn(regions, CHANNELS, side, side, device=device)
    labels = torch.arange(regions, device=device) % (CLASSES - 1) + 1
    table = torch.randn(CLASSES, 5 * BOX_WIDTH, device=device)
    for number in range(rounds + 1):
        for kind, head in heads.items():
            forward, step = _time(head, (features, labels, table), device)
            if number:  # the first one warms up
                costs[kind].forward.append(forward)
                costs[kind].step.append(step)
    return costs


def _head(kind: Kind, sizes: dict[str, Any]) -> Any:
    return build_mask_branch(MaskHead(mlp=kind, **sizes), CHANNELS, CLASSES, box_width=BOX_WIDTH)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _time(
    head: nn.Module, inputs: tuple[torch.Tensor, ...], device: torch.device
) -> tuple[float, float]:
    """Seconds of a forward pass alone, and of one with the backward pass."""
    with torch.no_grad():
        start = _now(device)
        head(*inputs)
        forward = _now(device) - start
    start = _now(device)
    head(*inputs).square().mean().backward()
    step = _now(device) - start
    head.zero_grad()
    return forward, step


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _rows(costs: dict[Kind, Cost]) -> list[Row]:
    plain = statistics.median(costs["none"].forward)
    rows: list[Row] = []
    for kind, cost in costs.items():
        value = statistics.median(cost.forward)
        peer = {"peer": "no branch", "peer_value": 1000 * plain, "ratio": value / plain}
        rows.append(
            {
                "name": f"mlp {kind}, forward",
                "value": 1000 * value,
                "unit": "ms",
                **peer,
                "bar": None,
                "ok": None,
            }
        )
    return rows


def _table(costs: dict[Kind, Cost], device: torch.device) -> str:
    columns = [
        "`mask_head.mlp`",
        "parameters of the branch",
        "weights, MiB",
        "in training (SGD with momentum), MiB",
    ]
    columns += ["head forward, ms", "forward and backward, ms"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for kind, cost in costs.items():
        size = 4 * cost.parameters / MIB
        times = f"{1000 * statistics.median(cost.forward):.0f} | {1000 * statistics.median(cost.step):.0f}"
        lines.append(f"| {kind} | {cost.parameters:,} | {size:.1f} | {3 * size:.1f} | {times} |")
    where = f"{REGIONS} regions, K {CLASSES}, float32, {device.type}"
    note = f"Transfer head of the paper's sizes, {where}; median of {ROUNDS} rounds that alternate."
    return "\n".join([*lines, "", note])
