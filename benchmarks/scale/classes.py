"""`python -m benchmarks classes`: what the number of classes costs, from 80 to 100 000,
beside torchvision's Mask R-CNN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import MIB
from benchmarks.result import Options, Result, Row, compared, held
from benchmarks.scale.class_counts import BranchCost, Sizes, branch_costs, postprocess_costs
from benchmarks.scale.class_pipeline import PipelineCost, pipeline_cost

OURS, PEER = "halfmask", "torchvision"
GROWTH_BAR, PEER_BAR = 1.1, 1.0
FASTER_BAR, LESS_BAR, IOU_BAR = 2.0, 3.0, 0.99
PIPELINE = {
    "kind": "mask_rcnn",
    "backbone": {"name": "resnet50", "norm": "frozen", "trainable_stages": 3},
    "images": {"min_size": [800], "max_size": 1333},
}
Branch = dict[tuple[str, int], BranchCost | None]
Boxes = dict[tuple[str, int], tuple[float, int, bool]]


@dataclass(frozen=True)
class Setting:
    """Classes (without background) of the mask branch and of the post-processing, those
    of the whole, and how much is measured.
    """

    counts: Sequence[int] = (80, 365, 1203, 3000, 10_000, 100_000)
    box_counts: Sequence[int] = (80, 1203, 3000, 10_000)
    whole: int = 3000
    sizes: Sizes = field(default_factory=Sizes)
    config: Any = None
    image: tuple[int, int] = (800, 1333)
    rounds: int = 5
    whole_rounds: int = 3


def run(options: Options, setting: Setting = Setting()) -> Result:
    """Measures mask branch, box post-processing, and the whole from the FPN's maps on."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    branch = branch_costs(setting.counts, setting.sizes, setting.rounds, device)
    options.say(f"mask branch measured at {', '.join(map(str, setting.counts))} classes")
    boxes = postprocess_costs(setting.box_counts, setting.sizes, setting.rounds)
    options.say("box post-processing measured")
    whole = pipeline_cost(
        setting.whole, setting.config or PIPELINE, setting.image, setting.whole_rounds
    )
    rows = [*_branch_rows(branch, setting), *_box_rows(boxes), *_whole_rows(whole, setting.whole)]
    tables = {
        "classes": _branch_table(branch, setting),
        "classes:boxes": _box_table(boxes),
        "classes:whole": _whole_table(whole, setting),
    }
    if options.docs is not None:
        tables["classes:plot"] = _plot(branch, options.docs.parent / "figures" / "classes.png")
    return Result(rows, tables, "python -m benchmarks classes --threads 1")


def _branch_rows(costs: Branch, setting: Setting) -> list[Row]:
    few, many = setting.counts[0], setting.counts[-1]
    small, large, peer = costs[OURS, few], costs[OURS, many], costs[PEER, few]
    assert small is not None
    assert large is not None
    assert peer is not None
    labels = f"mask branch, {many} classes"
    rows = []
    for who, base, bar in (
        (f"{few} classes", small, GROWTH_BAR),
        (f"{PEER}, {few} classes", peer, PEER_BAR),
    ):
        rows += [
            compared(f"{labels}, step", who, 1000 * base.step, 1000 * large.step, "ms", bar),
            compared(
                f"{labels}, forward", who, 1000 * base.forward, 1000 * large.forward, "ms", bar
            ),
            compared(f"{labels}, peak memory", who, base.peak / MIB, large.peak / MIB, "MiB", bar),
            compared(f"{labels}, parameters", who, base.parameters, large.parameters, "", None),
        ]
    assert large.transferred is not None
    return [
        *rows,
        held(
            f"{labels}, T evaluated for",
            large.transferred,
            "classes",
            min(few, setting.sizes.regions),
        ),
    ]


def _box_rows(costs: Boxes) -> list[Row]:
    rows = []
    for count in dict.fromkeys(count for _, count in costs):
        ours, peer = costs[OURS, count], costs[PEER, count]
        name = f"box post-processing, {count} classes"
        rows.append(compared(f"{name}, time", PEER, 1000 * peer[0], 1000 * ours[0], "ms", None))
        rows.append(
            compared(f"{name}, peak memory", PEER, peer[1] / MIB, ours[1] / MIB, "MiB", None)
        )
        rows.append(held(f"{name}, results that differ", 0 if ours[2] else 1, "", 0))
    return rows


def _whole_rows(cost: PipelineCost, classes: int) -> list[Row]:
    name = f"from FPN maps on, {classes} classes, {cost.detections} detections"
    seconds, peaks = cost.seconds, {who: value / MIB for who, value in cost.peaks.items()}
    worst = {
        "name": f"{name}, worst mask IoU",
        "peer": PEER,
        "peer_value": None,
        "value": cost.worst_iou,
        "unit": "",
    }
    return [
        compared(
            f"{name}, time", PEER, seconds[PEER], seconds[OURS], "s", FASTER_BAR, at_least=True
        ),
        compared(
            f"{name}, peak memory", PEER, peaks[PEER], peaks[OURS], "MiB", LESS_BAR, at_least=True
        ),
        held(f"{name}, boxes that differ", 0 if cost.same_boxes else 1, "", 0),
        {**worst, "ratio": None, "bar": IOU_BAR, "ok": cost.worst_iou >= IOU_BAR},
    ]


def _branch_table(costs: Branch, setting: Setting) -> str:
    columns = ["step, ms", "forward, ms", "peak, MiB", "parameters"]
    lines = [
        f"| classes | halfmask: {' | '.join(columns)} | torchvision: {' | '.join(columns)} |",
        "|" + "---|" * (1 + 2 * len(columns)),
    ]
    for count in setting.counts:
        cells = [_cells(costs[who, count]) for who in (OURS, PEER)]
        lines.append(f"| {count:,} | {' | '.join(cells)} |")
    seen = costs[OURS, setting.counts[-1]]
    assert seen is not None
    ran = f"T ran on {seen.transferred} classes at {setting.counts[-1]:,}."
    note = f"{setting.sizes.regions} regions; – : would need more memory than 2 GiB, not run. {ran}"
    return "\n".join([*lines, "", note])


def _cells(cost: BranchCost | None) -> str:
    if cost is None:
        return "– | – | – | –"
    return f"{1000 * cost.step:.0f} | {1000 * cost.forward:.0f} | {cost.peak / MIB:.1f} | {cost.parameters:,}"


def _box_table(costs: Boxes) -> str:
    lines = [
        "| classes | halfmask, ms | MiB | torchvision, ms | MiB | same results |",
        "|" + "---|" * 6,
    ]
    for count in dict.fromkeys(count for _, count in costs):
        (time, peak, same), (their_time, their_peak, _) = costs[OURS, count], costs[PEER, count]
        cells = [
            f"{1000 * t:.1f} | {p / MIB:.1f}" for t, p in ((time, peak), (their_time, their_peak))
        ]
        lines.append(f"| {count:,} | {' | '.join(cells)} | {'yes' if same else 'NO'} |")
    return "\n".join(lines)


def _whole_table(cost: PipelineCost, setting: Setting) -> str:
    lines = ["| | seconds | peak memory above the model |", "|---|---|---|"]
    lines += [
        f"| {who} | {cost.seconds[who]:.2f} | {cost.peaks[who] / MIB:.0f} MiB |"
        for who in (OURS, PEER)
    ]
    faster, less = cost.seconds[PEER] / cost.seconds[OURS], cost.peaks[PEER] / cost.peaks[OURS]
    lines.append(f"| torchvision / halfmask | {faster:.2f} | {less:.2f} |")
    height, width = setting.image
    same = "the same boxes" if cost.same_boxes else "OTHER boxes"
    note = f"{setting.whole} classes, {cost.detections} detections on {height} × {width}; {same}, worst mask IoU {cost.worst_iou:.4f}."
    return "\n".join([*lines, "", note])


def _plot(costs: Branch, path: Path) -> str:
    from benchmarks.plots.curve_plot import curve_plot

    time: dict[str, dict[int, float]] = {}
    memory: dict[str, dict[int, float]] = {}
    for (who, count), cost in costs.items():
        if cost is not None:
            time.setdefault(who, {})[count] = 1000 * cost.step
            memory.setdefault(who, {})[count] = cost.peak / MIB
    panels = {"Mask branch: step, ms": time, "Mask branch: peak memory, MiB": memory}
    curve_plot(panels, "classes", path)
    return (
        f"![Time and memory of the mask branch against the number of classes](figures/{path.name})"
    )
