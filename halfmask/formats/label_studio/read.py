"""A Label Studio export (JSON) to COCO: rectangles, polygons, brushes, ellipses."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from halfmask.coco.images import opened
from halfmask.coco.supervision import MaskState, all_finite, judge
from halfmask.errors import InputError
from halfmask.formats.book import differ
from halfmask.formats.json_stream import stream_items
from halfmask.formats.label_studio.brush import unpack_brush
from halfmask.formats.names import leads_out
from halfmask.formats.options import Options
from halfmask.formats.shapes import ellipse, extent, flat, rectangle, turned
from halfmask.formats.sink import MOST_PIXELS, CocoSink, Size, own_box
from halfmask.formats.xml_stream import elements
from halfmask.masks.rle import rle_of

_LABELS = ("rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels", "labels")
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""


def read_label_studio(source: Path, sink: CocoSink, options: Options) -> None:
    """Adds an export in the format JSON (not JSON-MIN) to a sink, task by task.

    Of a task's annotations the ground truth is taken, else the first that was not
    cancelled. A file name is the end of the image's address; with `options.images`, the
    name that is found there, with or without the prefix of uploads. Classes are in the
    order of a `label_config.xml` beside the export, else of first use.

    Raises:
        InputError: no JSON list of tasks.
    """
    for name in _class_names(source.parent / "label_config.xml"):
        sink.category(name)
    total = source.stat().st_size if source.is_file() else 0
    for position, task in enumerate(
        stream_items(source, progress=lambda n: options.progress(n, total))
    ):
        where = f"task {task.get('id', position)}" if isinstance(task, dict) else f"item {position}"
        address = _address(task)
        if address is None:
            hint = "expected an object with data and annotations: export as JSON, not JSON-MIN"
            raise (
                InputError(f"{source}: {where}: {hint}")
                if position == 0
                else InputError(
                    f"{source}: {where}: no image in its data; expected an address of one"
                )
            )
        _add_task(task, _file_name(address, options.images), where, sink, options.images)


def _add_task(
    task: dict[str, Any], name: str, where: str, sink: CocoSink, images: Path | None
) -> None:
    results = _results(task, where, sink)
    regions = [r for r in results if isinstance(r, dict) and isinstance(r.get("value"), dict)]
    size = next((s for s in map(_size, regions) if s is not None), None) or _size_of_file(
        images, name
    )
    if size is None:
        sink.tally.fault(
            "tasks without a region, so without a size: left out; name the photographs with "
            "--images",
            where,
        )
        return
    number = sink.add_image(name, size, where)
    if number is None:
        return
    for region in regions:
        _add_region(region, number, size, f"{where} region {region.get('id', '?')}", sink)


def _results(task: dict[str, Any], where: str, sink: CocoSink) -> list[Any]:
    """The regions of the annotation that counts."""
    rows = task.get("annotations")
    done = (
        [a for a in rows if isinstance(a, dict) and not a.get("was_cancelled")]
        if isinstance(rows, list)
        else []
    )
    done.sort(key=lambda a: not a.get("ground_truth"))
    if len(done) > 1:
        sink.tally.note(
            "further annotations of a task: left out, the ground truth or the first is taken",
            where,
            len(done) - 1,
        )
    if not done and task.get("predictions"):
        sink.tally.note("tasks with predictions only: taken as images without annotations", where)
    found = done[0].get("result") if done else []
    return found if isinstance(found, list) else []


def _add_region(region: dict[str, Any], image: int, size: Size, where: str, sink: CocoSink) -> None:
    value = region["value"]
    labels = next(
        (value[key] for key in _LABELS if isinstance(value.get(key), list) and value[key]), None
    )
    if labels is None:
        what = (
            "regions without a label"
            if set(value) & {"points", "rle", "width", "radiusX"}
            else "results that are no region"
        )
        sink.tally.note(f"{what} ({str(region.get('type'))[:30]}): left out", where)
        return
    if len(labels) > 1:
        sink.tally.note("regions of several labels: the first is taken", where)
    if _size(region) != size or region.get("image_rotation"):
        sink.tally.fault(
            "regions on a turned image, or of another size than the first: left out", where
        )
        return
    try:
        bbox, segmentation = _shape(value, size, where, sink)
    except ValueError as error:
        sink.tally.fault("regions that cannot be read: left out", f"{where}: {error}")
        return
    more = _more(region)
    bbox = _kept_box(region, segmentation, size) or bbox
    sink.add(image, str(labels[0]), where, bbox, segmentation, **more)


def _shape(
    value: dict[str, Any], size: Size, where: str, sink: CocoSink
) -> tuple[list[float] | None, Any]:
    """Box and segmentation of a region; numbers are percent of the image's sides.

    Raises:
        ValueError: it is malformed.
    """
    height, width = size
    if "rle" in value:
        return None, rle_of(unpack_brush(value["rle"], size), (0, 0), size)
    if "points" in value:
        pairs = value["points"]
        if not isinstance(pairs, list) or not all(
            isinstance(p, list) and len(p) == 2 and all_finite(p) for p in pairs
        ):
            raise ValueError("expected points as pairs of numbers")
        points = [(x * width / 100, y * height / 100) for x, y in pairs]
        return (extent(points) if points else None), [flat(points)]
    x, y, *sides = (value.get(key) for key in ("x", "y", "width", "height", "radiusX", "radiusY"))
    chosen = [side for side in sides if side is not None]
    turn = value.get("rotation") or 0
    if len(chosen) != 2 or not all_finite([x, y, *chosen, turn]):
        raise ValueError("expected x, y, and width, height or radiusX, radiusY in numbers")
    assert isinstance(x, int | float)
    assert isinstance(y, int | float)
    corner, lengths = (
        (x * width / 100, y * height / 100),
        (chosen[0] * width / 100, chosen[1] * height / 100),
    )
    if "radiusX" in value:
        sink.tally.note("ellipses: drawn as polygons", where)
        return None, [flat(ellipse(corner, lengths, turn))]
    if not turn:
        return [*corner, *lengths], None
    sink.tally.note("turned boxes: the upright box around them is taken", where)
    return extent(turned(rectangle(*corner, *lengths), corner, turn)), None


def _more(region: dict[str, Any]) -> dict[str, Any]:
    """What `write_label_studio` put into `meta`, and the score of a prediction that was
    accepted.
    """
    meta = region.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    more: dict[str, Any] = {
        key: meta[key] for key in ("halfmask", "attributes") if isinstance(meta.get(key), dict)
    }
    if meta.get("iscrowd") == 1:
        more["iscrowd"] = 1
    if all_finite([region.get("score")]):
        more["score"] = region["score"]
    return more


def _kept_box(region: dict[str, Any], segmentation: Any, size: Size) -> list[float] | None:
    """The box that `write_label_studio` kept beside a mask, unless the mask was changed since."""
    meta = region.get("meta")
    boxes = [meta.get(key) for key in ("bbox", "mask_box")] if isinstance(meta, dict) else []
    if not boxes or not all(
        isinstance(box, list) and len(box) == 4 and all_finite(box) for box in boxes
    ):
        return None
    sound = judge({"segmentation": segmentation}, size).state == MaskState.MASK
    own = own_box(segmentation, size) if sound else None
    return None if own is None or differ(own, boxes[1] or []) else boxes[0]


def _size(region: dict[str, Any]) -> Size | None:
    height, width = region.get("original_height"), region.get("original_width")
    if (
        type(height) is int
        and type(width) is int
        and height > 0
        and width > 0
        and height * width < MOST_PIXELS
    ):
        return height, width
    return None


def _size_of_file(images: Path | None, name: str) -> Size | None:
    if images is None or leads_out(name) or not (images / name).is_file():
        return None
    with opened(images / name) as image:
        return image.height, image.width


def _class_names(config: Path) -> list[str]:
    if not config.is_file():
        return []
    return list(dict.fromkeys(element.get("value", "") for element in elements(config, {"Label"})))


def _address(task: Any) -> str | None:
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict):
        return None
    keys = ["image", *data]
    return next((data[key] for key in keys if isinstance(data.get(key), str) and data[key]), None)


def _file_name(address: str, images: Path | None) -> str:
    """`a/b.jpg` of `/data/local-files/?d=a/b.jpg`; otherwise the last part of the address."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    name = local[0] if local else PurePosixPath(unquote(parts.path)).name
    if images is None or leads_out(name) or (images / name).is_file():
        return name
    tries = [_UPLOAD.sub("", name), PurePosixPath(name).name]
    return next((t for t in tries if not leads_out(t) and (images / t).is_file()), name)
