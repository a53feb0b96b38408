"""A training photograph turned by a few degrees, with what is known of it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from halfmask.masks.crops import MaskCrops, tight, tight_box
from halfmask.structures import Target

LEFT = 0.3
"""An object of which less than this share is left in the image is no longer there to be
learnt from (as in copy-paste).
"""


def rotate(image: Tensor, target: Target, degrees: float) -> tuple[Tensor, Target]:
    """Turns an example about the image's centre; its size stays, and objects that are
    turned out of it are gone.

    A masked object gets the tight box of its turned mask. Of a box-only object only the
    box can be turned: its new box is the one around the old one's turned corners, and
    is marked as loose (`Target.loose_box`). Where the photograph has no pixel its edge
    is repeated.

    Args:
        image: float32 [3, H, W].
        degrees: clockwise as one sees it.
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
    index = torch.tensor(kept, dtype=torch.int64)
    has_mask = target.has_mask[index]
    before = torch.zeros_like(has_mask) if target.loose_box is None else target.loose_box[index]
    return turned, replace(
        target,
        boxes=torch.stack(boxes).to(torch.float32) if boxes else target.boxes[:0],
        labels=target.labels[index],
        has_mask=has_mask,
        masks=MaskCrops.from_bitmaps(
            [c[0] for c in crops], [c[1] for c in crops], target.masks.image_size
        ),
        annotation_ids=target.annotation_ids[index]
        if len(target.annotation_ids)
        else target.annotation_ids,
        mask_weight=None if target.mask_weight is None else target.mask_weight[index],
        loose_box=before | ~has_mask,
    )


class _Turn:
    """The map from places in the turned image to places in the one before. Places are
    pixels, x right, y down, pixel i covers [i, i+1).
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
        """For grid_sample: where each pixel of `frame` (xyxy) comes from, in units of a
        map of `size` (w, h) that lies at `offset`; float32 [1, h, w, 2].
        """
        ys = torch.arange(frame[1], frame[3], dtype=torch.float32)[:, None] + 0.5 - self.height / 2
        xs = torch.arange(frame[0], frame[2], dtype=torch.float32)[None] + 0.5 - self.width / 2
        x = self._cos * xs + self._sin * ys + self.width / 2 - offset[0]
        y = self._cos * ys - self._sin * xs + self.height / 2 - offset[1]
        return torch.stack([x / size[0] * 2 - 1, y / size[1] * 2 - 1], 2)[None]

    def frame(self, box: list[float]) -> list[float] | None:
        """The box xyxy around a box's turned corners, clipped to the image; None where
        less than LEFT of it, or no pixel, is left.
        """
        x0, y0, x1, y1 = self.around(box)
        clipped = [
            max(0.0, x0),
            max(0.0, y0),
            min(float(self.width), x1),
            min(float(self.height), y1),
        ]
        width, height = clipped[2] - clipped[0], clipped[3] - clipped[1]
        gone = min(width, height) < 1 or width * height < LEFT * (x1 - x0) * (y1 - y0)
        return None if gone else clipped

    def around(self, box: list[float]) -> tuple[float, float, float, float]:
        """The box xyxy around a box's turned corners."""
        corners = [(x - self.width / 2, y - self.height / 2) for x in box[0::2] for y in box[1::2]]
        xs = [self._cos * x - self._sin * y + self.width / 2 for x, y in corners]
        ys = [self._sin * x + self._cos * y + self.height / 2 for x, y in corners]
        return min(xs), min(ys), max(xs), max(ys)

    def mask(self, bitmap: Tensor, place: tuple[int, int]) -> tuple[Tensor, tuple[int, int]] | None:
        """A turned bitmap [h, w] whose upper left pixel lies at `place`, tight, with
        its new place; None where nothing is left.
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
