"""Masks without learning: the box, an ellipse in it, GrabCut. They answer `segment` as
models do, so that the same evaluation sees them.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from halfmask.errors import InputError
from halfmask.masks.paste import expected_iou
from halfmask.models.base import FixedSegmenter
from halfmask.structures import Detection

SIZE = 128
"""Side of the masks: truth drawn on so many cells loses less than half a point of IoU."""


class Baseline(FixedSegmenter):
    """A rule that makes a mask of an image and a box."""

    def parts(self) -> dict[str, nn.Module]:
        return {}

    @abstractmethod
    def draw(self, image: Tensor, boxes: Tensor) -> Tensor:
        """float32 [n, SIZE, SIZE] in [0, 1], spread over each box, of an image [3, H,
        W] and boxes [n, 4] with n ≥ 1.
        """

    @torch.no_grad()
    def segment(
        self, images: list[Tensor], boxes: list[Tensor], labels: list[Tensor] | None = None
    ) -> list[Detection]:
        """See `SegmentationModel.segment`."""
        out = []
        for i, (image, places) in enumerate(zip(images, boxes, strict=True)):
            n = len(places)
            probs = self.draw(image, places) if n else places.new_zeros((0, SIZE, SIZE))
            known = places.new_zeros(n, dtype=torch.int64) if labels is None else labels[i]
            size = (int(image.shape[-2]), int(image.shape[-1]))
            out.append(
                Detection(
                    places, known, places.new_ones(n), probs, places, expected_iou(probs), size
                )
            )
        return out


class BoxBaseline(Baseline):
    """The box is the mask: every pixel whose centre lies in it."""

    def draw(self, image: Tensor, boxes: Tensor) -> Tensor:
        return boxes.new_ones((len(boxes), SIZE, SIZE))


class EllipseBaseline(Baseline):
    """The ellipse that touches the box's four sides."""

    def draw(self, image: Tensor, boxes: Tensor) -> Tensor:
        centres = (torch.arange(SIZE, dtype=boxes.dtype, device=boxes.device) + 0.5) / SIZE * 2 - 1
        inside = (centres[:, None] ** 2 + centres**2 <= 1).to(boxes.dtype)
        return inside.repeat(len(boxes), 1, 1)


class GrabCutBaseline(Baseline):
    """OpenCV's GrabCut, started with the box as rectangle, on the box and its context.

    Args:
        iterations: of GrabCut.
        context: share of the box's side added on each side: the background's colours
            are learnt there.
    Raises:
        InputError: OpenCV is not installed (extra `baselines`).
    """

    def __init__(self, iterations: int = 5, context: float = 0.2) -> None:
        super().__init__()
        _opencv()
        self.iterations = iterations
        self.context = context

    def draw(self, image: Tensor, boxes: Tensor) -> Tensor:
        pixels = (image.permute(1, 2, 0).cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        masks = [self._one(pixels, *box) for box in boxes.tolist()]
        x, y = (c.floor().long().cpu() for c in _centres(boxes))
        height, width = pixels.shape[:2]
        seen = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
        rows = [
            m[r.clamp(0, height - 1)][:, c.clamp(0, width - 1)]
            for m, r, c in zip(masks, y, x, strict=True)
        ]
        out: Tensor = (torch.stack(rows) & seen).to(boxes)
        return out

    def _one(
        self, pixels: np.ndarray[Any, Any], x0: float, y0: float, x1: float, y1: float
    ) -> Tensor:
        """bool [H, W]: the mask of one box."""
        height, width = pixels.shape[:2]
        out = torch.zeros((height, width), dtype=torch.bool)
        margin_x, margin_y = (x1 - x0) * self.context, (y1 - y0) * self.context
        inside = _whole_pixels(x0, y0, x1, y1, width, height)
        around = _whole_pixels(
            x0 - margin_x, y0 - margin_y, x1 + margin_x, y1 + margin_y, width, height
        )
        if inside is not None and around is not None:
            left, top, right, bottom = around
            rectangle = (inside[0] - left, inside[1] - top, inside[2] - left, inside[3] - top)
            out[top:bottom, left:right] = torch.from_numpy(
                self._cut(pixels[top:bottom, left:right], rectangle) > 0
            )
        return out

    def _cut(
        self, crop: np.ndarray[Any, Any], rectangle: tuple[int, int, int, int]
    ) -> np.ndarray[Any, Any]:
        """uint8 [h, w]: what GrabCut takes for the object; all of the rectangle where
        it has nothing to work with.
        """
        cv2 = _opencv()
        x0, y0, x1, y1 = rectangle
        mask = np.full(crop.shape[:2], cv2.GC_BGD, dtype=np.uint8)
        mask[y0:y1, x0:x1] = cv2.GC_PR_FGD
        whole = np.zeros(crop.shape[:2], dtype=np.uint8)
        whole[y0:y1, x0:x1] = 1
        if whole.all():
            return whole  # the box is the image: no background to learn from
        # GrabCut starts its colour models with k-means from OpenCV's own generator.
        cv2.setRNGSeed(0)
        try:
            cv2.grabCut(
                np.ascontiguousarray(crop[:, :, ::-1]),
                mask,
                None,
                np.zeros((1, 65)),
                np.zeros((1, 65)),
                self.iterations,
                cv2.GC_INIT_WITH_MASK,
            )
        except cv2.error:
            return whole  # fewer pixels than colours in the models
        found: np.ndarray[Any, Any] = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
        return (
            found if found.any() else whole
        )  # it gives up on most small boxes; the box is the better guess


def _whole_pixels(
    x0: float, y0: float, x1: float, y1: float, width: int, height: int
) -> tuple[int, int, int, int] | None:
    """The pixels that a rectangle touches, inside the image; None where there is none."""
    left, top = max(0, int(np.floor(x0))), max(0, int(np.floor(y0)))
    right, bottom = min(width, int(np.ceil(x1))), min(height, int(np.ceil(y1)))
    return (left, top, right, bottom) if right > left and bottom > top else None


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """x and y [n, SIZE] of the centres of the columns and rows of each box's cells, in
    pixels of the image.
    """
    steps = (torch.arange(SIZE, dtype=boxes.dtype, device=boxes.device) + 0.5) / SIZE
    at = boxes[:, :2, None] + steps * (boxes[:, 2:] - boxes[:, :2])[:, :, None]
    return at[:, 0], at[:, 1]


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise InputError('GrabCut needs OpenCV: pip install "halfmask[baselines]"') from error
    return cv2


BASELINES: dict[str, type[Baseline]] = {
    "box": BoxBaseline,
    "ellipse": EllipseBaseline,
    "grabcut": GrabCutBaseline,
}
"""Name → rule."""
PREFIX = "baseline:"
"""What sets a rule's name apart where a model is named."""


def build_baseline(name: str) -> Baseline:
    """The rule of a name such as `baseline:box`.

    Raises:
        InputError: no such rule, or it needs a library that is not installed.
    """
    known = name.removeprefix(PREFIX)
    if known not in BASELINES:
        raise InputError(
            f"{name}: no such baseline; there are {', '.join(PREFIX + rule for rule in BASELINES)}"
        )
    return BASELINES[known]()
