"""A Label Studio export (JSON) to COCO: rectangles, polygons, brushes, ellipses."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from halfmask.coco.supervision import MaskState, all_finite, judge
from halfmask.errors import InputError
from halfmask.formats.export_source import differ
from halfmask.formats.json_stream import stream_items
from halfmask.formats.label_studio.brush import unpack_brush
from halfmask.formats.report import Options
from halfmask.formats.shapes import ellipse, extent, flat, pixels_of, rectangle, rotated
from halfmask.formats.sink import CocoSink, Size, own_box, usable_size
from halfmask.formats.source_files import leads_out, size_of_photograph
from halfmask.formats.xml_stream import root_of
from halfmask.masks.rle import rle_of

_LABELS = ("rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels", "labels")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio's prefix of the name of an uploaded file."""


def read_label_studio(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds an export in the format JSON (not JSON-MIN) to a sink, task by task.

    Of a task's annotations the ground truth is used, else the first that was not
    cancelled. A file name is the end of the image's address; with `options.images`, the
    name that is found there, with or without the prefix of uploads. Classes have the
    order of a `label_config.xml` beside the export, else of first use.

    Raises:
        InputError: not a JSON list of tasks.
    """
    source = source / "tasks.json" if source.is_dir() else source
    for name in _class_names(source.parent / "label_config.xml"):
        sink.category(name)
    tasks = stream_items(source, progress=options.advance_bytes(source))
    for position, task in enumerate(tasks):
        where = f"task {task.get('id', position)}" if isinstance(task, dict) else f"item {position}"
        address = _address(task)
        if address is None:
            hint = (
                "no image in its data; expected an address of one"
                if position
                else "expected an object with data and annotations: export as JSON, not JSON-MIN"
            )
            raise InputError(f"{source}: {where}: {hint}")
        name = _file_name(address, options.images)
        more = {"address": address} if options.whole else {}
        _add_task(task, name, where, sink=sink, images=options.images, more=more)


def _add_task(
    task: dict[str, Any],
    name: str,
    where: str,
    *,
    sink: CocoSink,
    images: Path | None,
    more: dict[str, str],
) -> None:
    results = _results(task, where, sink)
    regions = [r for r in results if isinstance(r, dict) and isinstance(r.get("value"), dict)]
    sizes = (s for s in map(_size, regions) if s is not None)
    size = next(sizes, None) or size_of_photograph(images, name)
    if size is None:
        sink.report.fault(
            "tasks without a region, so without a size: left out; name the photographs with "
            "--images",
            where,
        )
        return
    number = sink.add_image(name, size, where, **more)
    if number is not None:
        for region in regions:
            _add_region(
                region, number, size, where=f"{where} region {region.get('id', '?')}", sink=sink
            )


def _results(task: dict[str, Any], where: str, sink: CocoSink) -> list[Any]:
    """The regions of the annotation that counts."""
    rows = task.get("annotations")
    rows = rows if isinstance(rows, list) else []
    done = [a for a in rows if isinstance(a, dict) and not a.get("was_cancelled")]
    done.sort(key=lambda a: not a.get("ground_truth"))
    if len(done) > 1:
        sink.report.note(
            "further annotations of a task: left out, the ground truth or the first is used",
            where,
            len(done) - 1,
        )
    if not done and task.get("predictions"):
        sink.report.note("tasks with predictions only: read as images without annotations", where)
    found = done[0].get("result") if done else []
    return found if isinstance(found, list) else []


def _add_region(
    region: dict[str, Any], image: int, size: Size, *, where: str, sink: CocoSink
) -> None:
    value = region["value"]
    lists = (value[key] for key in _LABELS if isinstance(value.get(key), list))
    labels = next((labels for labels in lists if labels), None)
    if labels is None:
        shaped = set(value) & {"points", "rle", "width", "radiusX"}
        what = "regions without a label" if shaped else "results that are not regions"
        sink.report.note(f"{what} ({str(region.get('type'))[:30]}): left out", where)
        return
    if len(labels) > 1:
        sink.report.note("regions of several labels: the first is used", where)
    if _size(region) != size or region.get("image_rotation"):
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
    sink.add(image, label, where, bbox=bbox, segmentation=segmentation, **more)


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


def _meta(region: dict[str, Any]) -> dict[str, Any]:
    meta = region.get("meta")
    return meta if isinstance(meta, dict) else {}


def _more(region: dict[str, Any]) -> dict[str, Any]:
    """The keys that `write_label_studio` keeps in `meta`, and an accepted prediction's score."""
    meta = _meta(region)
    keys = ("halfmask", "attributes")
    more: dict[str, Any] = {key: meta[key] for key in keys if isinstance(meta.get(key), dict)}
    if meta.get("iscrowd") == 1:
        more["iscrowd"] = 1
    if all_finite([region.get("score")]):
        more["score"] = region["score"]
    return more


def _kept_box(region: dict[str, Any], segmentation: Any, size: Size) -> list[float] | None:
    """The box that `write_label_studio` keeps beside a mask; None if the mask has changed."""
    box, mask_box = (_meta(region).get(key) for key in ("bbox", "mask_box"))
    if not all(isinstance(b, list) and len(b) == 4 and all_finite(b) for b in (box, mask_box)):
        return None
    sound = judge({"segmentation": segmentation}, size).state == MaskState.MASK
    own = own_box(segmentation, size) if sound else None
    return None if own is None or differ(own, mask_box or []) else box


def _size(region: dict[str, Any]) -> Size | None:
    return usable_size(region.get("original_height"), region.get("original_width"))


def _class_names(config: Path) -> list[str]:
    if not config.is_file():
        return []
    lists = (e for e in root_of(config, "View").iter() if e.tag.endswith("Labels"))
    found = (label.get("value", "") for each in lists for label in each.findall("Label"))
    return list(dict.fromkeys(found))


def _address(task: Any) -> str | None:
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict):
        return None
    keys = ["image", *data]
    return next((data[key] for key in keys if isinstance(data.get(key), str) and data[key]), None)


def _file_name(address: str, images: Path | None) -> str:
    """`a/b.jpg` of `/data/local-files/?d=a/b.jpg`, else the last part of the address."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    name = local[0] if local else PurePosixPath(unquote(parts.path)).name
    if images is None or leads_out(name) or (images / name).is_file():
        return name
    tries = [_UPLOAD.sub("", name), PurePosixPath(name).name]
    return next((t for t in tries if not leads_out(t) and (images / t).is_file()), name)
