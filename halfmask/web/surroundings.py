"""Which part of a photograph a model sees, and how large; and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from halfmask.coco.images import Pixels
from halfmask.masks.crops import MaskCrops
from halfmask.masks.rle import Place
from halfmask.structures import Detection
from halfmask.web.photographs import Window

WHOLE_PIXELS = 4_000_000
"""Pixels of a photograph beyond which a box segmenter sees the box's surroundings only."""
SURROUNDINGS = 1.0
"""Margin around the box, in its longer sides; models look less than half as far."""
WINDOW_PIXELS = WHOLE_PIXELS
"""Pixels of the surroundings; of larger ones the model sees a smaller copy, in which a
box of surroundings on all sides has 660 pixels across. Models crop it to 64 to 128.
"""
DETECTED_SIDE = 2_667
"""Longest side of what a detector sees; those that halfmask trains look at 1,333."""
SMALLEST_REACH = 64

Box = tuple[float, float, float, float]


class Readable(Protocol):
    """A photograph that is read part by part, as `decoding.photo.Photo` is."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""

    def pixels(self, window: Window, size: tuple[int, int]) -> Pixels:
        """Returns a window at a size (H, W), uint8 [H, W, 3]."""


@dataclass(frozen=True)
class Whole:
    """A photograph in memory, uint8 [H, W, 3], as a `Readable`."""

    array: Pixels

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.array.shape[:2]
        return height, width

    def pixels(self, window: Window, size: tuple[int, int]) -> Pixels:
        x0, y0, x1, y1 = window
        part = self.array[y0:y1, x0:x1]
        if part.shape[:2] == size:
            return part
        return np.asarray(Image.fromarray(part).resize(size[::-1], reducing_gap=2.0))


@dataclass(frozen=True, kw_only=True)
class View:
    """What a model sees of a photograph.

    Attributes:
        photo: (H, W) of the photograph.
        window: the part of it.
        size: (H, W) of the part as the model sees it.
    """

    photo: tuple[int, int]
    window: Window
    size: tuple[int, int]

    def inside(self, box: Box) -> Box:
        """Returns a box of the photograph in pixels of the view."""
        (x, y), (across, down) = self.window[:2], self._scale
        x0, y0, x1, y1 = box
        return (x0 - x) / across, (y0 - y) / down, (x1 - x) / across, (y1 - y) / down

    def outside(self, box: Box) -> Box:
        """Returns a box of the view in pixels of the photograph."""
        (x, y), (across, down) = self.window[:2], self._scale
        x0, y0, x1, y1 = box
        return x0 * across + x, y0 * down + y, x1 * across + x, y1 * down + y

    def on_photograph(self, found: Detection) -> Detection:
        """Moves masks from the view to the photograph.

        They still are probabilities on rectangles, so only the rectangles change.
        """
        (x, y), (across, down) = self.window[:2], self._scale
        shift, factor = torch.tensor([x, y, x, y]), torch.tensor([across, down, across, down])
        boxes, regions = found.boxes * factor + shift, found.regions * factor + shift
        return replace(found, boxes=boxes, regions=regions, image_size=self.photo)

    def mask_inside(self, bitmap: NDArray[np.bool_], place: Place) -> MaskCrops:
        """Returns a mask of the photograph as the view shows it, of one object.

        Args:
            bitmap: bool [h, w].
            place: x and y of its upper left pixel in the photograph.
        """
        x, y = place
        ends = self.inside((x, y, x + bitmap.shape[1], y + bitmap.shape[0]))
        x0, y0, x1, y1 = (round(end) for end in ends)
        shape = max(1, y1 - y0), max(1, x1 - x0)
        if bitmap.shape != shape:
            bitmap = np.asarray(Image.fromarray(bitmap).resize(shape[::-1]))
        cut = bitmap[max(0, -y0) : self.size[0] - y0, max(0, -x0) : self.size[1] - x0]
        drawn = torch.from_numpy(cut.astype(np.uint8))
        return MaskCrops.from_bitmaps([drawn], [(max(0, x0), max(0, y0))], self.size)

    @property
    def _scale(self) -> tuple[float, float]:
        x0, y0, x1, y1 = self.window
        return (x1 - x0) / self.size[1], (y1 - y0) / self.size[0]


def view_of(box: Box, photo: tuple[int, int]) -> View:
    """Returns what a box segmenter sees of a photograph of a size (H, W).

    The rest of a large photograph would cost seconds. The predictor refuses a malformed
    box.
    """
    height, width = photo
    window = (0, 0, width, height)
    if all(map(math.isfinite, box)) and height * width > WHOLE_PIXELS:
        reach = SURROUNDINGS * max(box[2] - box[0], box[3] - box[1], SMALLEST_REACH)
        x0, y0 = max(0, math.floor(box[0] - reach)), max(0, math.floor(box[1] - reach))
        x1, y1 = min(width, math.ceil(box[2] + reach)), min(height, math.ceil(box[3] + reach))
        window = (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else window
    pixels = (window[2] - window[0]) * (window[3] - window[1])
    return _scaled(window, photo, math.sqrt(WINDOW_PIXELS / pixels))


def whole_view(photo: tuple[int, int]) -> View:
    """Returns what a detector sees of a photograph of a size (H, W)."""
    return _scaled((0, 0, photo[1], photo[0]), photo, DETECTED_SIDE / max(photo))


def _scaled(window: Window, photo: tuple[int, int], scale: float) -> View:
    height, width = window[3] - window[1], window[2] - window[0]
    if scale < 1:
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
    return View(photo=photo, window=window, size=(height, width))
