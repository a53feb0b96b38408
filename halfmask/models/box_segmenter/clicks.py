"""Clicks and an earlier mask as input: a person corrects a mask.

Three more channels of a crop show them: clicks on the object, clicks beside it, and the
earlier mask (1 in the mask, −1 out of it). Without any, the channels are 0, and then
their weights do not count.

Shape letters: R regions (one a box), S side of a crop, M side of a mask, k clicks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops
from halfmask.masks.sample import sample

CHANNELS = 3
RADIUS = 0.04
"""Radius of a click's disc, share of the crop's side."""
MOST_CLICKS = 3
"""Clicks on a crop in training, at most."""
CLICKED = 0.5
"""Share of the training crops that have clicks, or an earlier mask."""
MASK_SHOWN = 0.8
"""Share of those that show the earlier mask: a first click may come before any mask."""


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What a person says of the boxes of one image.

    Attributes:
        clicks: float32 [k, 4]: the box's row, x and y in pixels of the image, and 1 for
            a point of the object, 0 for one that is not.
        masks: an earlier mask of each box, without pixels for a box that has none; None
            if no box has one.
    """

    clicks: Tensor
    masks: MaskCrops | None = None


def hints_of(
    sizes: Sequence[int],
    clicks: Sequence[Tensor] | None,
    masks: Sequence[MaskCrops | None] | None,
    *,
    taken: bool,
) -> list[Hints | None]:
    """Checks the clicks and earlier masks of several images.

    Args:
        sizes: boxes of each image.
        clicks, masks: of each image; None: no image has any.
        taken: whether the model has channels for them.
    Raises:
        InputError: the model takes none, or they do not fit the boxes.
    """
    if not taken and not (clicks is None and masks is None):
        raise InputError(
            "this model takes no clicks and no earlier masks: it was trained without model.clicks"
        )
    count = len(sizes)
    given = [torch.zeros((0, 4))] * count if clicks is None else list(clicks)
    earlier = [None] * count if masks is None else list(masks)
    if len(given) != count or len(earlier) != count:
        raise InputError(
            f"clicks and masks: expected those of {count} images, found "
            f"{len(given)} and {len(earlier)}"
        )
    for n, points, crops in zip(sizes, given, earlier, strict=True):
        if points.dim() != 2 or points.shape[1] != 4 or not bool(torch.isfinite(points).all()):
            raise InputError(
                "clicks: expected numbers [k, 4] (box, x, y, 1 or 0), found the shape "
                f"{list(points.shape)} or numbers that are not finite"
            )
        if len(points) and not 0 <= int(points[:, 0].min()) <= int(points[:, 0].max()) < n:
            raise InputError(f"clicks: a click is for a box that is not there; there are {n}")
        if crops is not None and len(crops) != n:
            raise InputError(f"mask: expected a mask for each of {n} boxes, found {len(crops)}")
    return [
        Hints(clicks=points, masks=crops) if len(points) or crops is not None else None
        for points, crops in zip(given, earlier, strict=True)
    ]


def hint_maps(hints: Hints | None, rows: Tensor, regions: Tensor, *, size: int) -> Tensor:
    """Returns the channels of clicks and mask, float32 [R, 3, S, S].

    Args:
        hints: of the image; None: zeros.
        rows: int64 [R], the box of each region.
        regions: float32 [R, 4] xyxy, pixels.
        size: S.
    """
    out = regions.new_zeros((len(regions), CHANNELS, size, size))
    if hints is None:
        return out
    for box, x, y, wanted in hints.clicks.tolist():
        for k in torch.where(rows == int(box))[0].tolist():
            spot = (regions.new_tensor([x, y]) - regions[k, :2]) * size
            draw_click(out[k, 0 if wanted > 0.5 else 1], spot / (regions[k, 2:] - regions[k, :2]))
    if hints.masks is not None:
        given = (hints.masks.areas() > 0).to(rows.device)[rows]
        places = regions[given] - 0.5  # as `CropSampler` samples masks
        out[given, 2] = sample(hints.masks, rows[given], places, size=size) * 2 - 1
    return out


def draw_click(plane: Tensor, spot: Tensor) -> None:
    """Draws a disc into a plane [S, S], about x and y (float [2]) in its cells."""
    size = plane.shape[-1]
    cells = torch.arange(size, device=plane.device) + 0.5
    squared = (cells - spot[0]).square() + (cells - spot[1]).square()[:, None]
    plane[squared <= (RADIUS * size) ** 2] = 1


def depth(maps: Tensor) -> Tensor:
    """Returns each cell's distance to the nearest cell outside, float32 [R, h, w].

    Args:
        maps: bool [R, h, w]. Beyond the edge is outside. Steps may be diagonal.
    """
    left, total = maps.float(), torch.zeros_like(maps, dtype=torch.float32)
    while bool(left.any()):
        total += left
        left = -F.max_pool2d(-F.pad(left, (1, 1, 1, 1)), 3, stride=1)
    return total


def next_click(found: Tensor, truth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the click that a person would make: in the middle of the widest error.

    Args:
        found, truth: bool [R, h, w], masks.
    Returns:
        int64 [R, 2], column and row; bool [R], whether the cell belongs to the object;
            bool [R], whether there is an error at all.
    """
    missing, extra = depth(truth & ~found), depth(found & ~truth)
    wanted = missing.amax((1, 2)) >= extra.amax((1, 2))
    error = torch.where(wanted[:, None, None], missing, extra)
    # Of cells of one depth, the one among the deepest neighbours.
    middle = error + 1e-3 * F.avg_pool2d(error[:, None], 7, 1, 3)[:, 0] * (error > 0)
    best = middle.flatten(1).argmax(1)
    width = found.shape[-1]
    place = torch.stack([best % width, torch.div(best, width, rounding_mode="floor")], 1)
    return place, wanted, error.amax((1, 2)) > 0


def drawn_clicks(count: int) -> tuple[Tensor, Tensor]:
    """Draws how many clicks each of `count` training crops has.

    Returns:
        int64 [count], −1 for a crop without hints, 0 for one with a mask alone; and
            bool [count], whether the earlier mask is shown.
    """
    # One in seven shows the mask alone; two in seven have one click, two, three.
    clicks = (torch.randint(0, 2 * MOST_CLICKS + 1, (count,)) + 1).div(2, rounding_mode="floor")
    hinted = torch.rand(count) < CLICKED
    shown = (torch.rand(count) < MASK_SHOWN) | (clicks == 0)
    return torch.where(hinted, clicks, -1), shown & hinted


@torch.no_grad()
def simulate_clicks(
    crops: Tensor,
    truth: Tensor,
    *,
    clicks: Tensor,
    shown: Tensor,
    predict: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Returns crops with the clicks that a person would make on the model's errors.

    Each click follows from the errors after the one before it (the iterative sampling
    of Sofiiuk et al., "Reviving iterative training with mask guidance", 2021).

    Args:
        crops: float32 [R, C, S, S], the last CHANNELS of them zeros.
        truth: bool [R, M, M].
        clicks, shown: see `drawn_clicks`.
        predict: crops [r, C, S, S], rows int64 [r] → masks bool [r, M, M].
    """
    crops = crops.clone()
    scale = crops.shape[-1] // truth.shape[-1]
    for step in range(int(clicks.max()) + 1 if len(clicks) else 0):
        # Step 0 shows a mask to crops without clicks, step n makes the nth click.
        rows = torch.where(clicks >= step if step else clicks == 0)[0]
        if len(rows) == 0:
            continue
        found = predict(crops[rows], rows)
        signed = (found.float() * 2 - 1)[:, None]
        earlier = F.interpolate(signed, scale_factor=scale, mode="nearest")[:, 0]
        seen = shown[rows]
        crops[rows[seen], -1] = earlier[seen].to(crops.dtype)
        if step == 0:
            continue
        place, wanted, wrong = next_click(found, truth[rows])
        for k in torch.where(wrong)[0].tolist():
            plane = crops[rows[k], -3 if bool(wanted[k]) else -2]
            draw_click(plane, (place[k] + 0.5) * scale)
    return crops


@contextmanager
def in_inference(model: nn.Module) -> Iterator[None]:
    """Puts every module into eval mode for a while, so that no statistic moves."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
