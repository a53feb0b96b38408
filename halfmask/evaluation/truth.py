"""The truth of a COCO file as the evaluator wants it: once for boxes, once for masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from halfmask.coco.annotations import CocoFile
from halfmask.coco.supervision import MaskState, Use, all_finite, classify, is_crowd
from halfmask.errors import InputError
from halfmask.masks import decode

Record = dict[str, Any]


@dataclass(frozen=True)
class Truth:
    """COCO records with fresh ids from 1 (an id of 0 counts as `unmatched` in COCO's evaluator, and files repeat ids).

    Attributes:
        images: the evaluated images, file order.
        boxes: annotations for box AP.
        masks: annotations for mask AP. One that has no usable mask is an ignored region, its box: what is found there is
            neither right nor wrong, exactly as COCO treats crowds.
    """

    images: list[Record]
    boxes: list[Record]
    masks: list[Record]


def read_truth(file: CocoFile, image_ids: Iterable[int], use: Use = "annotated") -> Truth:
    """The truth of some images.

    Args:
        file: a checked COCO file.
        image_ids: the images to evaluate.
        use: which of halfmask's own masks count as truth, `data.use` of a recipe.
    Raises:
        InputError: an image id that the file does not know.
    """
    wanted = set(image_ids)
    images = [image for image in file.images if image["id"] in wanted]
    if len(images) < len(wanted):
        unknown = sorted(wanted - {image["id"] for image in images})
        raise InputError(f"detections of image id {unknown[0]}, which the annotation file does not have")
    boxes: list[Record] = []
    masks: list[Record] = []
    for image in images:
        size = file.size_of(image["id"])
        for annotation in file.annotations_of(image["id"]):
            segmentation = _segmentation(annotation, size, use)
            record = _box_record(annotation, len(boxes) + 1, segmentation, size)
            boxes.append(record)
            masks.append(_mask_record(record, segmentation))
    sizes = [(image["id"], file.size_of(image["id"])) for image in images]
    return Truth([{"id": number, "height": h, "width": w} for number, (h, w) in sizes], boxes, masks)


def _segmentation(annotation: Record, size: tuple[int, int], use: Use) -> Any:
    """The annotation's mask where it can be used, a crowd's too, else None."""
    single = {key: value for key, value in annotation.items() if key != "iscrowd"}
    state = classify(single, size, use)
    usable = state is MaskState.MASK or (state is MaskState.SUSPECT and is_crowd(annotation))
    return annotation["segmentation"] if usable else None


def _box_record(annotation: Record, number: int, segmentation: Any, size: tuple[int, int]) -> Record:
    x, y, w, h = (float(v) for v in annotation["bbox"])
    area = annotation.get("area")
    if not all_finite([area]):
        area = w * h if segmentation is None else int(decode(segmentation, size)[0].sum())
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
