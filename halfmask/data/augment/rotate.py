"""Rotation of a training photograph by a few degrees, with its boxes and masks."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from halfmask.masks.crops import MaskCrops, tight, tight_box
from halfmask.structures import Target

LEFT = 0.3
"""An object of which less than this share stays in the image is dropped."""

Crop = tuple[Tensor, tuple[int, int]]
"""A bitmap [h, w] and the (x, y) of its upper left pixel."""


def rotate(image: Tensor, target: Target, degrees: float) -> tuple[Tensor, Target]:
    """Turns an example about the image's centre; the image keeps its size.

    Objects that leave the image are dropped. A masked object gets the tight box of its
    turned mask. A box-only object gets the box around the turned corners of its box,
    marked as loose (`Target.loose_box`). Where the photograph has no pixel, its edge is
    repeated.

    Args:
        image: float32 [3, H, W].
        target: its objects.
        degrees: clockwise as seen.
    """
    turn = _Turn(image.shape[1], image.shape[2], math.radians(degrees))
    grid = turn.sources((0, 0, turn.width, turn.height), (0, 0), (turn.width, turn.height))
    turned = F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]
    kept, boxes, crops = [], [], []
    places = iter(zip(target.masks.bitmaps(), target.masks.offsets.tolist(), strict=True))
    for row, has_mask in enumerate(target.has_mask.tolist()):
        if has_mask:
            bitmap, (x, y) = next(places)
            crop = turn.mask(bitmap, (x, y))
            if crop is None or int(crop[0].sum()) < LEFT * int(bitmap.sum()):
                continue
            crops.append(crop)
            boxes.append(tight_box(*crop))
        else:
            box = turn.frame(target.boxes[row].tolist())
            if box is None:
                continue
            boxes.append(torch.tensor(box))
        kept.append(row)
    out = kept_rows(target, kept, boxes, crops=crops)
    loose = ~out.has_mask if out.loose_box is None else out.loose_box | ~out.has_mask
    return turned, replace(out, loose_box=loose)


def kept_rows(target: Target, kept: list[int], boxes: list[Tensor], *, crops: list[Crop]) -> Target:
    """Returns the objects `kept` of a target, with other boxes and masks.

    Args:
        boxes: [4] each, of the kept objects.
        crops: masks of those that have one, in their order.
    """
    index = torch.tensor(kept, dtype=torch.int64)
    ids, weight, loose = target.annotation_ids, target.mask_weight, target.loose_box
    bitmaps, offsets = [c[0] for c in crops], [c[1] for c in crops]
    return replace(
        target,
        boxes=torch.stack(boxes).to(torch.float32) if boxes else target.boxes[:0],
        labels=target.labels[index],
        has_mask=target.has_mask[index],
        masks=MaskCrops.from_bitmaps(bitmaps, offsets, target.masks.image_size),
        annotation_ids=ids[index] if len(ids) else ids,
        mask_weight=None if weight is None else weight[index],
        loose_box=None if loose is None else loose[index],
    )


class _Turn:
    """Maps places in the turned image to places in the image before.

    Places are in pixels, x right, y down; pixel i covers [i, i+1).
    """

    def __init__(self, height: int, width: int, angle: float) -> None:
        self.height, self.width = height, width
        self._cos, self._sin = math.cos(angle), math.sin(angle)

    def sources(
        self,
        frame: tuple[int, int, int, int],
        offset: tuple[float, float],
        size: tuple[float, float],
    ) -> Tensor:
        """Returns the source of each pixel of `frame` (xyxy), for grid_sample.

        Args:
            offset, size: where the map to read lies in the image before, (x, y) and
                (w, h).
        Returns:
            float32 [1, h, w, 2], in units of that map.
        """
        ys = torch.arange(frame[1], frame[3], dtype=torch.float32)[:, None] + 0.5 - self.height / 2
        xs = torch.arange(frame[0], frame[2], dtype=torch.float32)[None] + 0.5 - self.width / 2
        x = self._cos * xs + self._sin * ys + self.width / 2 - offset[0]
        y = self._cos * ys - self._sin * xs + self.height / 2 - offset[1]
        return torch.stack([x / size[0] * 2 - 1, y / size[1] * 2 - 1], 2)[None]

    def frame(self, box: list[float]) -> list[float] | None:
        """Returns the box xyxy around a box's turned corners, clipped to the image.

        None if less than LEFT of it, or no pixel, stays.
        """
        x0, y0, x1, y1 = self.around(box)
        low, high = (
            (max(0.0, x0), max(0.0, y0)),
            (min(float(self.width), x1), min(float(self.height), y1)),
        )
        width, height = high[0] - low[0], high[1] - low[1]
        gone = min(width, height) < 1 or width * height < LEFT * (x1 - x0) * (y1 - y0)
        return None if gone else [*low, *high]

    def around(self, box: list[float]) -> tuple[float, float, float, float]:
        """Returns the box xyxy around a box's turned corners."""
        corners = [(x - self.width / 2, y - self.height / 2) for x in box[0::2] for y in box[1::2]]
        xs = [self._cos * x - self._sin * y + self.width / 2 for x, y in corners]
        ys = [self._sin * x + self._cos * y + self.height / 2 for x, y in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def mask(self, bitmap: Tensor, place: tuple[int, int]) -> Crop | None:
        """Returns the turned bitmap, tight; None if nothing is left.

        Args:
            bitmap: [h, w].
            place: (x, y) of its upper left pixel.
        """
        height, width = bitmap.shape
        if height == 0 or width == 0:
            return None
        x0, y0, x1, y1 = self.around([place[0], place[1], place[0] + width, place[1] + height])
        low = [max(0, math.floor(x0)), max(0, math.floor(y0))]
        high = [min(self.width, math.ceil(x1)), min(self.height, math.ceil(y1))]
        if high[0] <= low[0] or high[1] <= low[1]:
            return None
        grid = self.sources((low[0], low[1], high[0], high[1]), place, (width, height))
        found = F.grid_sample(bitmap[None, None].float(), grid, align_corners=False)[0, 0] >= 0.5
        return tight(found.to(torch.uint8), (low[0], low[1]))
