"""Converts detections to and from `supervision.Detections`, and gives them masks.

supervision holds one array of masks for all rows or none. It cannot mark a single mask
as unknown: here an unknown mask has no pixels, in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from halfmask.errors import InputError
from halfmask.inference.images import ImageLike, as_tensor
from halfmask.inference.predictor import Predictor
from halfmask.integrations import optional_module
from halfmask.structures import Detection

CLASS_NAME = "class_name"
"""supervision's key of the class names."""
MASK_SCORE = "mask_score"
"""Key of the model's estimate of each mask's IoU; `confidence` is the detector's."""
UNKNOWN = ""
"""The name of a row of label 0."""


def to_supervision(
    found: Detection, classes: Predictor | Sequence[str], threshold: float = 0.5
) -> Any:
    """Returns detections of a model as `supervision.Detections`.

    Args:
        found: n detections.
        classes: the model, or the names of its labels 1, 2, ….
        threshold: probability from which a pixel belongs to a mask.
    Returns:
        xyxy float32 [n, 4] in pixels; mask bool [n, H, W]; confidence float32 [n];
        class_id int64 [n], halfmask's labels (0: class unknown); data: class_name and
        mask_score.
    Raises:
        InputError: supervision is not installed (extra `supervision`).
    """
    names = np.array([UNKNOWN, *_names(classes)], dtype=object)
    labels = found.labels.numpy().astype(np.int64)
    return _supervision().Detections(
        xyxy=found.boxes.numpy().astype(np.float32),
        mask=found.masks(threshold).numpy(),
        confidence=found.scores.numpy().astype(np.float32),
        class_id=labels,
        data={
            CLASS_NAME: np.array([str(n) for n in names[labels]], dtype=str),
            MASK_SCORE: found.quality.numpy().astype(np.float32),
        },
    )


def from_supervision(
    detections: Any, model: Predictor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Returns boxes float32 [n, 4] (xyxy) and labels int64 [n] for `model.segment`.

    The meaning of a class id depends on the detector, so labels follow the names in
    `data["class_name"]`. A label is 0 if the model has no such class. All are None if
    the detections have no names or no model is given.

    Raises:
        InputError: not supervision's Detections.
    """
    if not isinstance(detections, _supervision().Detections):
        raise InputError(f"expected supervision.Detections, found {type(detections).__name__}")
    boxes = torch.from_numpy(np.array(detections.xyxy, dtype=np.float32).reshape(-1, 4))
    names = detections.data.get(CLASS_NAME)
    if model is None or names is None:
        return boxes, None
    label_of = {name: i + 1 for i, name in enumerate(_names(model))}
    return boxes, torch.tensor([label_of.get(str(name), 0) for name in names], dtype=torch.int64)


def fill_detections(model: Predictor, image: ImageLike, detections: Any) -> Any:
    """Returns the detections with a mask of the model in each row without mask pixels.

    Args:
        model: draws the masks.
        image: the image of the detections, as in `model.segment`; in RGB, not OpenCV's
            BGR.
        detections: n rows. Boxes, confidence, ids, data and existing masks stay.
    Returns:
        A copy. `data["mask_score"]` float32 [n] is the model's estimate of each new
        mask's IoU, and nan for existing masks.
    Raises:
        InputError: not supervision's Detections, a box outside the image, or masks of
            another size than the image.
    """
    boxes, labels = from_supervision(detections, model)
    pixels = as_tensor(image)
    size = (len(boxes), *pixels.shape[1:])
    masks: NDArray[np.bool_] = np.zeros(size, dtype=bool)
    if detections.mask is not None:
        masks = np.array(detections.mask, dtype=bool)
        if masks.shape != size:
            raise InputError(
                f"masks of {list(masks.shape)} on {len(boxes)} boxes and an image of "
                f"{list(size[1:])} (H, W)"
            )
    empty = np.flatnonzero(~masks.any((1, 2)))
    scores = np.full(len(boxes), np.nan, dtype=np.float32)
    if len(empty):
        rows = torch.from_numpy(empty)
        drawn = model.segment(pixels, boxes[rows], None if labels is None else labels[rows])
        masks[empty], scores[empty] = drawn.masks().numpy(), drawn.quality.numpy()
    return replace(detections, mask=masks, data={**detections.data, MASK_SCORE: scores})


def _names(classes: Predictor | Sequence[str]) -> list[str]:
    return (
        [c["name"] for c in classes.categories] if isinstance(classes, Predictor) else list(classes)
    )


def _supervision() -> Any:
    return optional_module("supervision", "supervision", "supervision")
