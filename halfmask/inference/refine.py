"""What a page asks of a model about one box: its several looks, or a mask after clicks.

A model with `clicks` reads them and the earlier mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halfmask.errors import InputError
from halfmask.inference.arguments import checked_boxes
from halfmask.inference.images import ImageLike, as_tensor
from halfmask.inference.predictor import Predictor
from halfmask.masks.crops import MaskCrops
from halfmask.models.box_segmenter.crops import crop_regions
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.structures import Detection

Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Look:
    """Probabilities that the cells of a rectangle belong to the object.

    Attributes:
        probs: float32 [M, M].
        region: x0, y0, x1, y1 of the rectangle, in pixels of the image.
        quality: the model's estimate of the IoU of the mask that it answers.
    """

    probs: NDArray[np.float32]
    region: Rectangle
    quality: float


def looks(predictor: Predictor, image: ImageLike, box: Any, *, label: int = 0) -> list[Look]:
    """Returns the model's answer for a box first, then the looks that it averages.

    A box segmenter reads each box in several contexts, plain and mirrored; other models
    look once.

    Args:
        predictor: with the model.
        image: as in `Predictor.detect`.
        box: [4] xyxy in pixels.
        label: of the class, 0 for none.
    Raises:
        InputError: the box is malformed, or lies outside the image.
    """
    known = [label] if predictor.categories else None
    answer = predictor.segment(image, [box], known)
    quality = float(answer.quality[0])
    found = [look_of(answer.mask_probs[0], answer.regions[0], quality)]
    model = predictor.model
    if not isinstance(model, BoxSegmenter):
        return found
    with torch.inference_mode():
        pyramid = model.reader.pyramid(as_tensor(image).to(predictor.device))
        boxes = answer.boxes.to(predictor.device)
        labels = torch.zeros(1, dtype=torch.int64, device=predictor.device)
        for context in model.reader.contexts:
            regions = crop_regions(boxes, context)
            maps = model.readings(model.reader.read(pyramid, boxes, regions), labels)
            found += [look_of(probs[0], regions[0], quality) for probs in maps]
    return found


def look_of(probs: torch.Tensor, region: torch.Tensor, quality: float) -> Look:
    """Returns a look from a model's map [M, M] and its rectangle [4]."""
    x0, y0, x1, y1 = region.float().cpu().tolist()
    cells: NDArray[np.float32] = probs.float().cpu().nan_to_num(0.0).numpy()
    return Look(probs=cells, region=(x0, y0, x1, y1), quality=quality)


def takes_clicks(predictor: Predictor) -> bool:
    """Whether `refine` works: the model was trained with `model.clicks`."""
    return isinstance(predictor.model, BoxSegmenter) and predictor.model.takes_clicks


def refine(
    predictor: Predictor, image: ImageLike, boxes: Any, *, clicks: Any, mask: MaskCrops | None
) -> Detection:
    """Draws the masks of boxes again, with clicks and the masks of before.

    A mask need not hold its clicks: the model weighs them.

    Args:
        predictor: with a model that `takes_clicks`.
        image: as in `Predictor.detect`.
        boxes: [n, 4] xyxy in pixels.
        clicks: numbers [k, 4]: the row of a box, x and y in pixels, and 1 for a point
            of its object, 0 for one that is not; k may be 0.
        mask: an earlier mask of each box, without pixels for a box that has none. None:
            no box has one.
    Returns:
        Rows in the order of the boxes, on the CPU; labels are 0.
    Raises:
        InputError: the model takes no clicks, the image cannot be read, or boxes,
            clicks and masks do not fit each other.
    """
    model = predictor.model
    if not (isinstance(model, BoxSegmenter) and model.takes_clicks):
        raise InputError(
            f"{predictor.name} takes no clicks and no earlier masks: it was trained without "
            "model.clicks"
        )
    pixels = as_tensor(image)
    size = int(pixels.shape[1]), int(pixels.shape[2])
    if mask is not None and mask.image_size != size:
        raise InputError(
            f"mask: belongs to an image of {mask.image_size[1]} × {mask.image_size[0]} pixels, "
            f"this one has {size[1]} × {size[0]}"
        )
    rows, points = checked_boxes(boxes, size), _checked_clicks(clicks)
    model.expect_loose_boxes(False)
    with torch.inference_mode():
        [found] = model.segment(
            [pixels.to(predictor.device)],
            [rows.to(predictor.device)],
            clicks=[points],
            mask=[None if mask is None else mask.to(predictor.device)],
        )
    return found.on_cpu()


def _checked_clicks(clicks: Any) -> Tensor:
    """Returns clicks as float32 [k, 4] on the CPU."""
    try:
        found = torch.from_numpy(np.array(clicks, dtype=np.float32))
    except (TypeError, ValueError) as error:
        raise InputError(f"clicks: expected numbers [k, 4] (box, x, y, 1 or 0): {error}") from error
    return found.reshape(0, 4) if found.numel() == 0 else found
