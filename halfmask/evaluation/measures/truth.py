"""The truth of a COCO file as the evaluator wants it: once for boxes, once for masks."""

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
    """What a COCO file knows of one image, as COCO records with fresh ids (an id of 0
    counts as `unmatched` in COCO's evaluator, and files repeat ids).

    Attributes:
        image: id, height, width.
        boxes: annotations for box AP.
        masks: annotations for mask AP. One that has no usable mask is an ignored
            region, its box: what is found there is neither right nor wrong, exactly as
            COCO treats crowds.
    """

    image: Record
    boxes: list[Record]
    masks: list[Record]


def read_truth(file: Annotations, image_id: int, use: Use = "annotated", first: int = 1) -> Truth:
    """The truth of an image.

    Args:
        file: a checked COCO file.
        image_id: the image.
        use: which of halfmask's own masks count as truth, `data.use` of a recipe.
        first: id of the first record; the rest count on from it.
    Raises:
        InputError: an image id that the file does not know.
    """
    if image_id not in file:
        raise InputError(
            f"detections of image id {image_id}, which the annotation file does not have"
        )
    size = file.size_of(image_id)
    boxes: list[Record] = []
    masks: list[Record] = []
    for number, annotation in enumerate(file.annotations_of(image_id), first):
        segmentation = _segmentation(annotation, size, use)
        boxes.append(_box_record(annotation, number, segmentation, size))
        masks.append(_mask_record(boxes[-1], segmentation))
    return Truth({"id": image_id, "height": size[0], "width": size[1]}, boxes, masks)


def _segmentation(annotation: Record, size: tuple[int, int], use: Use) -> Any:
    """The annotation's mask where it can be used, a crowd's too, else None."""
    single = {key: value for key, value in annotation.items() if key != "iscrowd"}
    state = classify(single, size, use)
    usable = state is MaskState.MASK or (state is MaskState.SUSPECT and is_crowd(annotation))
    return annotation["segmentation"] if usable else None


def _box_record(
    annotation: Record, number: int, segmentation: Any, size: tuple[int, int]
) -> Record:
    x, y, w, h = (float(v) for v in annotation["bbox"])
    area = annotation.get("area")
    if not all_finite([area]):
        area = w * h if segmentation is None else area_of(segmentation, size)
    return {
        "id": number,
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
