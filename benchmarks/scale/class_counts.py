"""The mask branch and the box post-processing at 80 to 100 000 classes: seconds, bytes
and parameters of each, beside torchvision's.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.measuring import Step, allocations_of, alternate
from benchmarks.speed.torchvision_peer import mask_head, mask_head_loss
from halfmask.models.mask_rcnn.box_heads import BoxHeads
from halfmask.models.mask_rcnn.build import build_mask_branch
from halfmask.models.mask_rcnn.detections import DetectionRules, detections
from halfmask.models.mask_rcnn.loss import region_loss
from halfmask.models.mask_rcnn.mask_branch import MaskBranch
from halfmask.models.mask_rcnn.pooling import RegionPool
from halfmask.models.mask_rcnn.regions import MaskRegions
from halfmask.recipes.recipe import MaskHead

MOST = 2 << 30
"""Bytes of torchvision's maps and their gradients beyond which it is not run."""


@dataclass(frozen=True)
class Sizes:
    """Regions, and the widths of box head and mask head; the paper's and torchvision's
    by default.
    """

    regions: int = 32
    channels: int = 256
    box_width: int = 1024
    convs: int = 4
    side: int = 14
    proposals: int = 1000

    @property
    def head(self) -> MaskHead:
        return MaskHead(width=self.channels, convs=self.convs, roi_size=self.side)


@dataclass(frozen=True)
class BranchCost:
    """Of a step at one number of classes: medians in seconds, bytes of tensors above
    the model, parameters, and the most classes that the transfer function ran on at
    once (None: there is none).
    """

    forward: float
    step: float
    peak: int
    parameters: int
    transferred: int | None


def branch_costs(
    counts: Sequence[int], sizes: Sizes, rounds: int, device: torch.device
) -> dict[tuple[str, int], BranchCost | None]:
    """(halfmask or torchvision, classes without background) → cost; None where
    torchvision's would not fit. All on the same regions, whose labels are of the first
    classes.
    """
    regions = _regions(sizes, min(counts), device)
    built: dict[tuple[str, int], tuple[nn.Module, Callable[[], Tensor]] | None] = {}
    for count in counts:
        built["halfmask", count] = _ours(count + 1, sizes, regions, device)
        built["torchvision", count] = _theirs(count + 1, sizes, regions, device)
    there = {key: value for key, value in built.items() if value is not None}
    steps = {
        f"{name} {count}": _backward(module, loss)
        for (name, count), (module, loss) in there.items()
    }
    forwards: dict[str, Step] = {
        f"{name} {count}": loss for (name, count), (_, loss) in there.items()
    }
    step_seconds, forward_seconds = (
        alternate(steps, rounds, device),
        alternate(forwards, rounds, device),
    )
    costs: dict[tuple[str, int], BranchCost | None] = dict.fromkeys(built)
    for (name, count), (module, loss) in there.items():
        key = f"{name} {count}"
        seen = _transferred(module, loss)
        step, forward = (
            statistics.median(step_seconds[key]),
            statistics.median(forward_seconds[key]),
        )
        parameters = sum(p.numel() for p in module.parameters())
        costs[name, count] = BranchCost(
            forward, step, allocations_of(steps[key], device)[0], parameters, seen
        )
    return costs


def postprocess_costs(
    counts: Sequence[int], sizes: Sizes, rounds: int
) -> dict[tuple[str, int], tuple[float, int, bool]]:
    """(who, classes) → median seconds, bytes, and whether both give the same detections
    to the bit; some 100 of them pass the threshold.
    """
    costs = {}
    for count in counts:
        ours, theirs = _postprocessing(count + 1, sizes)
        same = all(torch.equal(a[0], b[0]) for a, b in zip(ours(), theirs(), strict=True))
        seconds = alternate({"halfmask": ours, "torchvision": theirs}, rounds)
        for name, step in (("halfmask", ours), ("torchvision", theirs)):
            costs[name, count] = (statistics.median(seconds[name]), allocations_of(step)[0], same)
    return costs


def _regions(sizes: Sizes, classes: int, device: torch.device) -> MaskRegions:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(
        sizes.regions, sizes.channels, sizes.side, sizes.side, generator=generator
    )
    labels = torch.randint(1, classes + 1, (sizes.regions,), generator=generator)
    targets = torch.rand(sizes.regions, 2 * sizes.side, 2 * sizes.side, generator=generator)
    return MaskRegions(
        features=features.to(device), labels=labels.to(device), targets=targets.to(device)
    )


def _ours(
    classes: int, sizes: Sizes, regions: MaskRegions, device: torch.device
) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The transfer head on cls+box rows of a box head, stop-gradient on."""
    torch.manual_seed(0)
    branch = build_mask_branch(sizes.head, sizes.channels, classes, box_width=sizes.box_width).to(
        device
    )
    rows = branch.rows(
        torch.randn(classes, sizes.box_width, device=device) * 0.01,
        torch.randn(4 * classes, sizes.box_width, device=device) * 0.001,
    )
    return branch, lambda: region_loss(branch, regions, rows)


def _theirs(
    classes: int, sizes: Sizes, regions: MaskRegions, device: torch.device
) -> tuple[nn.Module, Callable[[], Tensor]] | None:
    if (
        3 * 4 * sizes.regions * classes * (2 * sizes.side) ** 2 > MOST
    ):  # the maps, their gradient, the gradient of the rows chosen
        return None
    torch.manual_seed(0)
    head = mask_head(sizes.channels, sizes.channels, sizes.convs, classes).to(device)
    return head, lambda: mask_head_loss(head, regions)


def _backward(module: nn.Module, loss: Callable[[], Tensor]) -> Step:
    def step() -> None:
        loss().backward()  # type: ignore[no-untyped-call]
        module.zero_grad(set_to_none=True)  # so that the next one begins as this one did

    return step


def _transferred(module: nn.Module, loss: Callable[[], Tensor]) -> int | None:
    if not isinstance(module, MaskBranch):
        return None
    seen: list[int] = []
    transfer = module.predictor.get_submodule("transfer")
    handle = transfer.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    loss()
    handle.remove()
    return max(seen)


def _postprocessing(
    classes: int, sizes: Sizes
) -> tuple[Callable[[], tuple[list[Tensor], ...]], ...]:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(sizes.proposals, classes, generator=generator) * 0.1
    offsets = torch.randn(sizes.proposals, 4 * classes, generator=generator) * 0.1
    low = torch.rand(sizes.proposals, 2, generator=generator) * torch.tensor([1200.0, 700.0])
    proposals = torch.cat(
        [low, low + 8 + torch.rand(sizes.proposals, 2, generator=generator) * 100], 1
    )
    sure = torch.randperm(sizes.proposals, generator=generator)[
        :120
    ]  # some overlap: about 100 are left
    logits[sure, 1 + torch.randint(classes - 1, (len(sure),), generator=generator)] = 12.0
    heads = BoxHeads(RegionPool([4], 7, 2), nn.Identity(), nn.Identity())
    rules = DetectionRules(heads.score_thresh, heads.nms_thresh, heads.detections_per_img)
    size = [(800, 1333)]
    return (
        lambda: detections(
            logits, offsets, [proposals], sizes=size, coder=heads.box_coder, rules=rules
        ),
        lambda: heads.postprocess_detections(logits, offsets, [proposals], size),
    )
