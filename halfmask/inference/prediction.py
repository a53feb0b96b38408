"""What a model finds in one image, ready to draw, save and convert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from halfmask.coco.doctor.groups import MasksGiven
from halfmask.coco.images import Pixels
from halfmask.errors import InputError
from halfmask.inference.images import as_tensor
from halfmask.masks.outline import check_tolerance, outlines
from halfmask.models.checkpoint import Category
from halfmask.pictures.legend import (
    COLOUR_BY,
    GREY,
    NO_CLASS,
    ColourBy,
    Entry,
    supervision_colours,
    with_legend,
)
from halfmask.pictures.overlay import overlay
from halfmask.pictures.save import save_picture
from halfmask.pictures.style import Colour
from halfmask.structures import Detection


@dataclass(frozen=True, kw_only=True)
class Prediction(Detection):
    """The objects in one image, with the image and the names of the classes.

    Attributes:
        image: uint8 [H, W, 3] RGB or [H, W]; or a tensor [3, H, W] as it was given.
        categories: label i + 1 is categories[i]; empty if the model knows no classes.
        given: whether the boxes were given, so that scores say nothing.
        masks_given: masks in the model's training by class; None without a checkpoint.
        masked_names: the classes that had masks in the model's training (set A).
    """

    image: Pixels | Tensor
    categories: tuple[Category, ...] = ()
    given: bool = False
    masks_given: MasksGiven | None = None
    masked_names: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        """The class name of each object; empty text where the class is unknown."""
        names = ["", *(category["name"] for category in self.categories)]
        return [names[label] for label in self.labels.tolist()]

    def plot(self, *, colour_by: ColourBy = "class") -> Image.Image:
        """Draws masks, boxes, class names and scores on the image.

        A small image is enlarged by a whole factor, so that names are legible. Where
        the boxes were given, the score is `quality`, the estimate of the mask's IoU.

        Args:
            colour_by: `class`, or `supervision`: classes with masks in the model's
                training (set A) are green, those with boxes only (B) red, those with
                few masks yellow, and a legend stands below.
        Raises:
            InputError: another word, or the model does not know its set A.
        """
        if colour_by not in COLOUR_BY:
            raise InputError(f"colour_by: expected {' or '.join(COLOUR_BY)}, found {colour_by!r}")
        pixels = self.image
        if isinstance(pixels, Tensor):
            unit = as_tensor(pixels).cpu().clamp(0, 1)
            pixels = (unit * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        names = {k + 1: category["name"] for k, category in enumerate(self.categories)}
        colours: Mapping[int, Colour] | None = None
        entries: tuple[Entry, ...] = ()
        if colour_by == "supervision":
            found = supervision_colours(self.categories, self.masks_given, self.masked_names)
            colours, entries = found.of_label, found.entries
            entries += ((GREY, NO_CLASS),) if bool((self.labels == 0).any()) else ()
        picture = overlay(
            pixels,
            self.boxes,
            self.crops(),
            labels=self.labels,
            names=names,
            scores=self.quality if self.given else self.scores,
            colours=colours,
        )
        return with_legend(picture, entries) if entries else picture

    def save(self, path: str | Path, *, colour_by: ColourBy = "class") -> Path:
        """Writes `plot()` as an image file (.png, .jpg, …) and returns its path.

        Args:
            path: the file to write.
            colour_by: as for `plot`.
        Raises:
            InputError: the name does not end like an image file, the file cannot be
                written, or as `plot`.
        """
        out = _picture_path(path)
        options = {"quality": 92} if out.suffix.lower() in (".jpg", ".jpeg") else {}
        return save_picture(self.plot(colour_by=colour_by), out, **options)

    def polygons(self, tolerance: float = 1.0) -> list[list[list[float]]]:
        """Returns the outlines of each mask, x0, y0, x1, y1, … in pixels.

        Args:
            tolerance: how far the outline may be from the mask's border, in pixels; 0
                follows every pixel. A finer one is used where the outline's IoU with
                the mask would be below 0.97. A mask with holes is cut into parts
                without holes.
        Raises:
            InputError: the tolerance is not a number of at least 0.
        """
        pixels, crops = check_tolerance(tolerance), self.crops()
        pairs = zip(crops.bitmaps(), crops.offsets.tolist(), strict=True)
        return [outlines(bitmap.numpy(), (x, y), pixels) for bitmap, (x, y) in pairs]

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
