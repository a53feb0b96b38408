"""The regions of a Label Studio task: rectangles, polygons, brushes, bitmasks, ellipses."""

from __future__ import annotations

from typing import Any

from halfmask.coco.supervision import MaskState, all_finite, judge
from halfmask.formats.export_parts import differ
from halfmask.formats.label_studio.brush import unpack_bitmask, unpack_brush
from halfmask.formats.shapes import ellipse, extent, flat, pixels_of, rectangle, rotated
from halfmask.formats.sink import CocoSink, Size, own_box, usable_size
from halfmask.masks.rle import rle_of

Region = dict[str, Any]

_LABELS = (
    *("rectanglelabels", "polygonlabels", "brushlabels", "bitmasklabels", "ellipselabels"),
    "labels",
)
_SHAPES = {"points", "rle", "imageDataURL", "width", "radiusX", "vertices", "sequence"}
_UNREAD = ("keypoint", "vector", "video", "cube", "custom")
"""Beginnings of the types of regions that COCO's boxes and masks cannot hold."""


def regions_of(results: list[Any], where: str, sink: CocoSink) -> list[Region]:
    """Returns the results that are regions of an image, and counts the others.

    A shape whose label is a second result with the same id and shape is one region.
    """
    found = []
    for result in results:
        if isinstance(result, dict) and isinstance(result.get("value"), dict):
            found.append(result)
        else:
            kind = result.get("type") if isinstance(result, dict) else type(result).__name__
            sink.report.note(f"results that are not regions ({str(kind)[:30]}): left out", where)
    twins = [(r.get("id"), r.get("item_index"), _bare(r)) for r in found if _labels(r)]
    return [
        r for r in found if _labels(r) or (r.get("id"), r.get("item_index"), _bare(r)) not in twins
    ]


def size_of_region(region: Region) -> Size | None:
    """Returns (H, W) of the region's image; None without one that is usable."""
    return usable_size(region.get("original_height"), region.get("original_width"))


def add_region(
    region: Region, image: int, size: Size, *, where: str, sink: CocoSink, model: str | None = None
) -> None:
    """Adds a region to a sink, or counts why it cannot be read.

    Args:
        region: with `value`.
        image: the sink's id of its image.
        size: (H, W) of the image.
        where: task and region, for the report.
        sink: receives it.
        model: the model that drew it, if no person did.
    """
    value, kind = region["value"], str(region.get("type"))[:30]
    labels = _labels(region)
    if not labels:
        _count_unlabelled(kind, value, where, sink=sink)
        return
    if len(labels) > 1:
        sink.report.note("regions of several labels: the first is used", where)
    if size_of_region(region) != size or region.get("image_rotation"):
        sink.report.fault(
            "regions on a rotated image, or of another size than the first: left out", where
        )
        return
    try:
        bbox, segmentation = _shape(value, size, where, sink=sink)
    except ValueError as error:
        sink.report.fault("regions that cannot be read: left out", f"{where}: {error}")
        return
    bbox = _kept_box(region, segmentation, size) or bbox
    label, more = str(labels[0]), _more(region)
    if model is not None and segmentation is not None:
        note = {"model": model, "state": "filled"}
        more["halfmask"] = note | ({"score": more["score"]} if "score" in more else {})
    sink.add(image, label, where, bbox=bbox, segmentation=segmentation, **more)


def _labels(region: Region) -> list[Any]:
    lists = (region["value"].get(key) for key in _LABELS)
    return next((labels for labels in lists if isinstance(labels, list) and labels), [])


def _bare(region: Region) -> dict[str, Any]:
    """The shape of a region without its labels."""
    return {key: value for key, value in region["value"].items() if key not in _LABELS}


def _count_unlabelled(kind: str, value: dict[str, Any], where: str, *, sink: CocoSink) -> None:
    if kind.startswith(_UNREAD):
        sink.report.fault(f"regions of a type that COCO cannot hold ({kind}): left out", where)
    elif kind in ("choices", "taxonomy", "textarea", "rating", "number") or not _SHAPES & set(
        value
    ):
        sink.report.note(f"results that are not regions ({kind}): left out", where)
    else:
        sink.report.fault(f"regions without a label ({kind}): left out", where)


def _shape(
    value: dict[str, Any], size: Size, where: str, *, sink: CocoSink
) -> tuple[list[float] | None, Any]:
    """Box and segmentation of a region, whose numbers are percent of the image's sides.

    Raises:
        ValueError: the region is malformed.
    """
    height, width = size
    if "rle" in value:
        return None, rle_of(unpack_brush(value["rle"], size), (0, 0), size)
    if "imageDataURL" in value:
        return None, rle_of(unpack_bitmask(value["imageDataURL"], size), (0, 0), size)
    if "points" in value:
        corners = value["points"]
        if not isinstance(corners, list) or not all(
            isinstance(p, list) and len(p) == 2 and all_finite(p) for p in corners
        ):
            raise ValueError("expected points as pairs of numbers")
        points = [(pixels_of(x / 100, width), pixels_of(y / 100, height)) for x, y in corners]
        return (extent(points) if points else None), [[v for point in points for v in point]]
    sides = [value.get(key) for key in ("width", "height", "radiusX", "radiusY")]
    numbers = [value.get("x"), value.get("y"), *(side for side in sides if side is not None)]
    degrees = value.get("rotation") or 0
    if len(numbers) != 4 or not all_finite([*numbers, degrees]):
        raise ValueError("expected x, y, and width, height or radiusX, radiusY in numbers")
    x, y, w, h = (n * (width, height)[i % 2] / 100 for i, n in enumerate(numbers))
    if "radiusX" in value:
        sink.report.note("ellipses: drawn as polygons", where)
        return None, [flat(ellipse((x, y), (w, h), degrees))]
    if not degrees:
        return [x, y, w, h], None
    sink.report.note("rotated boxes: the upright box around them is used", where)
    return extent(rotated(rectangle((x, y, w, h)), (x, y), degrees)), None


def _meta(region: Region) -> dict[str, Any]:
    meta = region.get("meta")
    return meta if isinstance(meta, dict) else {}


def _more(region: Region) -> dict[str, Any]:
    """The keys that `write_label_studio` keeps in `meta`, and an accepted prediction's score."""
    meta = _meta(region)
    keys = ("halfmask", "attributes")
    more: dict[str, Any] = {key: meta[key] for key in keys if isinstance(meta.get(key), dict)}
    if meta.get("iscrowd") == 1:
        more["iscrowd"] = 1
    if all_finite([region.get("score")]):
        more["score"] = region["score"]
    return more


def _kept_box(region: Region, segmentation: Any, size: Size) -> list[float] | None:
    """The box that `write_label_studio` keeps beside a mask; None if the mask has changed."""
    box, mask_box = (_meta(region).get(key) for key in ("bbox", "mask_box"))
    if not all(isinstance(b, list) and len(b) == 4 and all_finite(b) for b in (box, mask_box)):
        return None
    sound = judge({"segmentation": segmentation}, size).state == MaskState.MASK
    own = own_box(segmentation, size) if sound else None
    return None if own is None or differ(own, mask_box or []) else box
