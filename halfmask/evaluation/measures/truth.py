"""The truth of a COCO file as COCO's evaluator needs it, for boxes and for masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from halfmask.coco.annotations import Annotations
from halfmask.coco.supervision import MaskState, Use, all_finite, classify, is_crowd
from halfmask.errors import InputError
from halfmask.masks.rle import area_of

Record = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """The truth of one image as COCO records without ids, which `PrecisionStream` adds.

    Attributes:
        image: id, height, width.
        boxes: Annotations for box AP.
        masks: Annotations for mask AP. The box of one without a usable mask is an
            ignored region: detections there are neither right nor wrong, as COCO treats
            crowds.
    """

    image: Record
    boxes: list[Record]
    masks: list[Record]


def read_truth(file: Annotations, image_id: int, use: Use = "annotated") -> Truth:
    """Reads the truth of an image.

    Args:
        file: The annotations.
        image_id: The image.
        use: Which masks of halfmask's own count as truth, as `data.use` of a recipe.
    Raises:
        InputError: The image id is not in the file.
    """
    if image_id not in file:
        raise InputError(f"image id {image_id} has detections, but {file.name} has no such image")
    size = file.size_of(image_id)
    truth = Truth({"id": image_id, "height": size[0], "width": size[1]}, [], [])
    for annotation in file.annotations_of(image_id):
        segmentation = _segmentation(annotation, size, use)
        record = _box_record(annotation, segmentation, size)
        truth.boxes.append(record)
        truth.masks.append(_mask_record(record, segmentation))
    return truth


def _segmentation(annotation: Record, size: tuple[int, int], use: Use) -> Any:
    """The annotation's mask, a crowd's too; None where it is not usable."""
    single = {key: value for key, value in annotation.items() if key != "iscrowd"}
    state = classify(single, size, use)
    usable = state is MaskState.MASK or (state is MaskState.SUSPECT and is_crowd(annotation))
    return annotation["segmentation"] if usable else None


def _box_record(annotation: Record, segmentation: Any, size: tuple[int, int]) -> Record:
    x, y, w, h = (float(v) for v in annotation["bbox"])
    area = annotation.get("area")
    if not all_finite([area]):
        area = w * h if segmentation is None else area_of(segmentation, size)
    return {
        "image_id": annotation["image_id"],
        "category_id": annotation["category_id"],
        "bbox": [x, y, w, h],
        "area": float(area or 0.0),
        "iscrowd": int(is_crowd(annotation)),
    }


def _mask_record(record: Record, segmentation: Any) -> Record:
    if segmentation is not None:
        return record | {"segmentation": segmentation}
    x, y, w, h = record["bbox"]
    return record | {"segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]], "iscrowd": 1}
