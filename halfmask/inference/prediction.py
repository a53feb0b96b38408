"""What a model finds in one image, ready to draw, save and convert."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from halfmask.coco.images import Pixels
from halfmask.errors import InputError
from halfmask.inference.images import as_tensor
from halfmask.masks.outline import outlines
from halfmask.models.checkpoint import Category
from halfmask.pictures.overlay import overlay
from halfmask.pictures.save import save_picture
from halfmask.structures import Detection


@dataclass(frozen=True, kw_only=True)
class Prediction(Detection):
    """The objects in one image, with the image and the names of the classes.

    Attributes:
        image: uint8 [H, W, 3] RGB or [H, W]; or a tensor [3, H, W] as it was given.
        categories: label i + 1 is categories[i]; empty if the model knows no classes.
        given: whether the boxes were given, so that scores say nothing.
    """

    image: Pixels | Tensor
    categories: tuple[Category, ...] = ()
    given: bool = False

    @property
    def names(self) -> list[str]:
        """The class name of each object; empty text where the class is unknown."""
        names = ["", *(category["name"] for category in self.categories)]
        return [names[label] for label in self.labels.tolist()]

    def plot(self) -> Image.Image:
        """Draws masks, boxes, class names and scores on the image.

        A small image is enlarged by a whole factor, so that names are legible. Scores
        are left out where the boxes were given.
        """
        pixels = self.image
        if isinstance(pixels, Tensor):
            unit = as_tensor(pixels).cpu().clamp(0, 1)
            pixels = (unit * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        names = {k + 1: category["name"] for k, category in enumerate(self.categories)}
        scores = None if self.given else self.scores
        return overlay(
            pixels, self.boxes, self.crops(), labels=self.labels, names=names, scores=scores
        )

    def save(self, path: str | Path) -> Path:
        """Writes `plot()` as an image file (.png, .jpg, …) and returns its path.

        Raises:
            InputError: the name does not end like an image file, or the file cannot be
                written.
        """
        out = _picture_path(path)
        options = {"quality": 92} if out.suffix.lower() in (".jpg", ".jpeg") else {}
        return save_picture(self.plot(), out, **options)

    def polygons(self, tolerance: float = 1.0) -> list[list[list[int]]]:
        """Returns the outlines of each mask, x0, y0, x1, y1, … in pixels.

        Args:
            tolerance: how far the outline may be from the mask's border, in pixels; 0
                follows every pixel. A mask with holes is cut into parts without holes.
        Raises:
            InputError: the tolerance is not a number of at least 0.
        """
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float):
            raise InputError(f"tolerance: expected pixels, found {tolerance!r}")
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise InputError(f"tolerance: expected pixels of at least 0, found {tolerance}")
        crops = self.crops()
        pairs = zip(crops.bitmaps(), crops.offsets.tolist(), strict=True)
        exact = [outlines(bitmap.numpy(), (x, y)) for bitmap, (x, y) in pairs]
        return [[_simplified(ring, tolerance) for ring in rings] for rings in exact]

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Returns the objects as COCO results.

        Each has image_id, category_id (0 for an unknown class), bbox [x, y, w, h],
        score, mask_score (the model's estimate of the mask's IoU) and segmentation
        (RLE).
        """
        ids = [0, *(category["id"] for category in self.categories)]
        columns = zip(
            self.labels.tolist(),
            self.boxes.tolist(),
            self.scores.tolist(),
            self.quality.tolist(),
            self.rle(),
            strict=True,
        )
        return [
            {
                "image_id": image_id,
                "category_id": ids[label],
                "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
                "score": round(score, 4),
                "mask_score": round(quality, 4),
                "segmentation": rle,
            }
            for label, (x0, y0, x1, y1), score, quality, rle in columns
        ]


def _picture_path(path: str | Path) -> Path:
    if not isinstance(path, str | Path):
        raise InputError(f"save: expected a path, found {type(path).__name__}")
    Image.init()
    if Image.registered_extensions().get(Path(path).suffix.lower()) not in Image.SAVE:
        raise InputError(f"save: {path} does not end like a picture; expected .png or .jpg")
    return Path(path)


def _simplified(ring: list[int], tolerance: float) -> list[int]:
    """Drops corners of a closed outline within `tolerance` of the rest (Douglas-Peucker)."""
    corners = np.array(ring, dtype=np.float64).reshape(-1, 2)
    if tolerance == 0 or len(corners) <= 4:
        return ring
    closed = np.concatenate([corners, corners[:1]])
    far = int(((corners - corners[0]) ** 2).sum(1).argmax())
    kept, pending = {0, far}, [(0, far), (far, len(corners))]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        (ax, ay), (bx, by) = closed[first], closed[last]
        inner = closed[first + 1 : last]
        off = np.abs((bx - ax) * (inner[:, 1] - ay) - (by - ay) * (inner[:, 0] - ax))
        off /= math.hypot(bx - ax, by - ay)
        middle = first + 1 + int(off.argmax())
        if off.max() > tolerance:
            kept.add(middle)
            pending += [(first, middle), (middle, last)]
    if len(kept) < 3:
        return ring
    return [int(v) for corner in corners[sorted(kept)] for v in corner]
