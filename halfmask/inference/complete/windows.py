"""Parts of very large photographs: each piece of a plan is drawn from its surroundings.

A whole photograph of 100 million pixels takes gigabytes as the numbers that a network
reads. A box segmenter sees little more than the box.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from halfmask.coco.images import Pixels
from halfmask.coco.records import Box
from halfmask.inference.complete.plan import BATCH_PIXELS
from halfmask.inference.predictor import Predictor
from halfmask.models.box_segmenter.crops import MAX_LEVEL
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.structures import Detection

GRID = 2**MAX_LEVEL
"""Windows begin and end on multiples of this many pixels: a network reads large boxes
from the image halved again and again, and each halving then meets the same pixels.
"""
MARGIN, CELL = 2, 0.05
"""What interpolation reads beyond a crop: pixels, and for boxes that are read from a
halved image a share of their side.
"""


@dataclass(frozen=True)
class Window:
    """A part of a photograph.

    Attributes:
        x0, y0, x1, y1: its corners, in pixels of the photograph.
    """

    x0: int
    y0: int
    x1: int
    y1: int

    def cut(self, pixels: Pixels) -> Pixels:
        """Returns the part, a view."""
        return pixels[self.y0 : self.y1, self.x0 : self.x1]

    def boxes(self, boxes: Sequence[Box]) -> torch.Tensor:
        """Returns boxes of the photograph in pixels of the part, float32 [n, 4]."""
        found = torch.tensor(boxes, dtype=torch.float64) - torch.tensor([self.x0, self.y0] * 2)
        return found.to(torch.float32)

    def on_photograph(self, found: Detection, pixels: Pixels) -> Detection:
        """Moves the masks of the part to the photograph."""
        shift = torch.tensor([self.x0, self.y0] * 2, dtype=torch.float32)
        size = int(pixels.shape[0]), int(pixels.shape[1])
        return replace(
            found, boxes=found.boxes + shift, regions=found.regions + shift, image_size=size
        )


def window_of(predictor: Predictor, pixels: Pixels, boxes: Sequence[Box]) -> Window:
    """Returns the part of a photograph that a model needs for some boxes.

    It is the whole photograph unless that has more than `BATCH_PIXELS` pixels and the
    model sees the surroundings of boxes only.
    """
    height, width = int(pixels.shape[0]), int(pixels.shape[1])
    model = predictor.model
    if height * width <= BATCH_PIXELS or not isinstance(model, BoxSegmenter) or not boxes:
        return Window(0, 0, width, height)
    contexts = max(*model.best_looks.contexts, model.reader.context, model.reader.reach)
    low, high = [math.inf, math.inf], [0.0, 0.0]
    for x0, y0, x1, y1 in boxes:
        for axis, (a, b) in enumerate(((x0, x1), (y0, y1))):
            reach = (b - a) * (contexts + CELL) + MARGIN
            low[axis], high[axis] = min(low[axis], a - reach), max(high[axis], b + reach)
    return Window(
        max(0, math.floor(low[0] / GRID) * GRID),
        max(0, math.floor(low[1] / GRID) * GRID),
        min(width, math.ceil(high[0] / GRID) * GRID),
        min(height, math.ceil(high[1] / GRID) * GRID),
    )
