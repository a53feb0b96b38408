"""A model's several looks at one box, before they are averaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from halfmask.inference.images import ImageLike, as_tensor
from halfmask.inference.predictor import Predictor
from halfmask.models.box_segmenter.crops import crop_regions
from halfmask.models.box_segmenter.model import BoxSegmenter

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
