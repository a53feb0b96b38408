"""`python -m benchmarks vg`: what 3000 classes cost the mask branch, and small data on
which the whole path can be run.

The paper's authors cut the 3002 rows of the detector down to 81 to train masks, and put
them back for use, since every region had K maps. Here a region has one map and the
transfer function runs on the classes that occur: K must not be seen in time or memory.
Measured is a step of stage 2 of the paper's recipe from pooled regions on: forward,
loss, backward, at the paper's sizes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from benchmarks.measuring import allocations_of, seconds_of
from benchmarks.real.visual_genome_data import write_coco, write_tiny_recipe, write_visual_genome
from benchmarks.result import Options, Result, Row
from halfmask.errors import InputError
from halfmask.formats.visual_genome.convert import convert_visual_genome
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.models.mask_rcnn.regions import MaskRegions
from halfmask.recipes.recipe import MaskRCNN, load_recipe

RECIPE = "vg3k_r101_transfer_mlp"
COCO_K, VG_K = 81, 3002
REGIONS, ROUNDS = 8, 15
OVERRIDES = [
    "model.backbone.name=small_resnet",
    "model.backbone.weights=null",
    "model.backbone.widths=[8, 8, 8, 8]",
    "model.mask_head.mlp=none",
]
BAR = 1.1
"""Time and memory at K = 3002 are at most this multiple of those at K = 81."""


@dataclass
class Cost:
    """Of one step at one K: peak of what it allocates, in bytes, and its seconds, one
    for each round.
    """

    peak: int = 0
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def run(options: Options) -> Result:
    """Writes the small data, converts it, and measures the mask branch at both K.

    Raises:
        InputError: the small data do not give the paper's number of classes.
    """
    _small_data(options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    costs = measure_mask_branch((COCO_K, VG_K), _stage_two_model, REGIONS, ROUNDS, device)
    for classes, cost in costs.items():
        options.say(
            f"K {classes}: {1000 * cost.median:.1f} ms, peak {cost.peak / 2**20:.1f} MiB above "
            "the model"
        )
    rows = _rows(costs)
    details = {
        "measures": {str(k): {"peak_bytes": c.peak, "seconds": c.seconds} for k, c in costs.items()}
    }
    return Result(rows, {"vg": _table(costs, device)}, "python -m benchmarks vg", details)


def measure_mask_branch(
    sizes: tuple[int, ...],
    build: Callable[[int], PartialMaskRCNN],
    regions: int,
    rounds: int,
    device: torch.device,
) -> dict[int, Cost]:
    """K → cost of a step of the mask branch on the same regions, whose labels are
    COCO's; the sizes take turns.

    Time is the CPU's own where there is no GPU, so that other work on a shared machine
    does not count.
    """
    steps, costs = {}, {k: Cost() for k in sizes}
    for k in sizes:
        steps[k] = _step(build(k).to(device), regions, device)
        steps[k]()  # the first one allocates what libraries keep
        costs[k].peak = allocations_of(steps[k], device)[0]
    for i in range(rounds):
        for k in sizes if i % 2 == 0 else sizes[::-1]:
            costs[k].seconds.append(seconds_of(steps[k], device))
    return costs


def _stage_two_model(classes: int) -> PartialMaskRCNN:
    """The recipe's heads on a small backbone, which the mask branch does not see;
    without the MLP, which is the same at any K.
    """
    config = load_recipe(RECIPE, OVERRIDES).model
    assert isinstance(config, MaskRCNN)
    torch.manual_seed(0)
    return build_mask_rcnn(config, classes)


def _step(model: PartialMaskRCNN, regions: int, device: torch.device) -> Callable[[], None]:
    """A step of stage 2 from pooled regions on, the detector frozen as in training."""
    learning = set(model.parts()["mask_head"].parameters())
    for parameter in model.parameters():
        parameter.requires_grad_(parameter in learning)
    model.train()
    generator = torch.Generator().manual_seed(1)
    side, channels = model.mask_pool.output_size[0], _in_channels(model.mask_branch.trunk)
    batch = MaskRegions(
        features=torch.randn(regions, channels, side, side, generator=generator).to(device),
        labels=torch.randint(1, COCO_K, (regions,), generator=generator).to(device),
        targets=torch.rand(regions, 2 * side, 2 * side, generator=generator).to(device),
    )

    def step() -> None:
        model.mask_loss(batch).backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)  # so that the next one begins as this one did

    return step


def _in_channels(trunk: nn.Module) -> int:
    first = next(m for m in trunk.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))
    return first.in_channels


def _small_data(options: Options) -> None:
    folder = options.out / "generated"  # never among data of the user's own
    genome, coco, recipe = folder / "visual_genome", folder / "coco", folder / "tiny.yaml"
    write_visual_genome(genome)
    write_coco(coco)
    done = convert_visual_genome(
        genome, genome / "vg3k.json", coco / "annotations" / "instances_val2017.json", test=5
    )
    found = len(done.classes.categories)
    if found + 1 != VG_K:
        raise InputError(
            f"bench vg: expected {VG_K - 1} classes of the generated data, found {found}"
        )
    write_tiny_recipe(recipe, genome, coco)
    options.say(
        f"{found} classes, {sum(done.boxes.values())} boxes; to train both stages: halfmask "
        f"train {recipe} --out RUN"
    )


def _rows(costs: dict[int, Cost]) -> list[Row]:
    small, large = costs[COCO_K], costs[VG_K]
    rows = []
    for name, peer, value, unit in (
        ("mask branch, step", 1000 * small.median, 1000 * large.median, "ms"),
        ("mask branch, peak memory", small.peak / 2**20, large.peak / 2**20, "MiB"),
    ):
        ratio = value / peer
        row = {
            "name": f"{name}, K = {VG_K}",
            "peer": f"K = {COCO_K}",
            "peer_value": peer,
            "value": value,
            "unit": unit,
        }
        rows.append({**row, "ratio": ratio, "bar": BAR, "ok": ratio <= BAR})
    return rows


def _table(costs: dict[int, Cost], device: torch.device) -> str:
    clock = "time" if device.type == "cuda" else "CPU time"
    lines = [
        f"| K | {clock} of a step, median of {len(costs[COCO_K].seconds)} | lowest–highest | "
        "peak memory above the model |",
        "|---|---|---|---|",
    ]
    for k, cost in costs.items():
        low, high = (1000 * f(cost.seconds) for f in (min, max))
        lines.append(
            f"| {k} | {1000 * cost.median:.1f} ms | {low:.1f}–{high:.1f} ms | "
            f"{cost.peak / 2**20:.2f} MiB |"
        )
    small, large = costs[COCO_K], costs[VG_K]
    lines.append(f"| ratio | {large.median / small.median:.3f} | | {large.peak / small.peak:.4f} |")
    return "\n".join(lines)
