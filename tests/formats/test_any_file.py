"""Any COCO file → each format → COCO: each object is equal, or counted by what is reported.

What a format can hold, in the terms of this test:

- box: pixels by which a side may differ where nothing is reported;
- mask: the same pixels (IoU 1) in every format, where nothing is reported.
"""

import json
import os
import shutil
import tempfile
from collections import Counter
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image
from pycocotools import mask as library

from halfmask.coco.records import clip_box
from halfmask.coco.supervision import MaskState, classify, fault_of_polygon, provenance
from halfmask.formats.convert import convert
from halfmask.formats.export_parts import LOOSE, differ
from halfmask.formats.registry import WRITERS
from halfmask.formats.sink import own_box
from halfmask.masks.outline import outlines
from halfmask.masks.rle import area_of, crop_of, overlap, rle_of

from .any_file import coco_files

MANY = int(os.environ.get("HALFMASK_EXAMPLES", "100"))
"""Files of the slow test; 1000 take about ten minutes a format."""
FORMATS = ("yolo", "voc", "cvat", "label-studio")
ENTRY = {"label-studio": "tasks.json"}
BOX = {"yolo": 0.002, "voc": 0.501, "cvat": 0.002, "label-studio": 0.03}
"""Pixels by which a side of a box may differ without a mask beside it."""
BESIDE_MASK = {"yolo": LOOSE, "voc": 0.501, "cvat": LOOSE, "label-studio": 0.03}
"""The same with a mask."""
HIDDEN = (
    "masks completely under others, as a pixel holds one object: the box is written without one"
)
COVERED = "masks with pixels under another's, as a pixel holds one object"
NOTHING = "images and not one annotation: looked for "
OUTSIDE = "masks that lie outside their object's box: the box is kept without one"


@cache
def picture(width: int, height: int) -> bytes:
    file = BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def put_photographs(document: dict[str, Any], folder: Path) -> Path:
    for image in document["images"]:
        place = folder / image["file_name"]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(picture(image["width"], image["height"]))
    return folder


def readable(row: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """The object with the readable parts of its mask, if there are some that draw a pixel."""
    parts = row.get("segmentation")
    if not isinstance(parts, list):
        return row
    kept = [part for part in parts if fault_of_polygon(part, size) is None]
    return {**row, "segmentation": kept} if kept and area_of(kept, size) else row


class Trip:
    """A document, what returns of it, and both reports."""

    def __init__(self, form: str, document: dict[str, Any], folder: Path) -> None:
        self.form, self.loose = form, 0
        self.sizes = {i["id"]: (i["height"], i["width"]) for i in document["images"]}
        source, out = folder / "given.json", folder / "out"
        source.write_text(json.dumps(document), encoding="utf-8")
        photos = put_photographs(document, folder / "photos")
        outward = photos if "--images" in WRITERS[f"to-{form}"].options else None
        self.out = convert(f"to-{form}", source, out, images=outward).report
        entry = out / ENTRY[form] if form in ENTRY else out
        inward = photos if form in ("voc", "label-studio") else None
        split = "all" if form == "yolo" else None
        self.back = convert(form, entry, folder / "back.json", images=inward, split=split).report
        self.found = json.loads((folder / "back.json").read_text(encoding="utf-8"))
        rows = [readable(a, self.sizes[a["image_id"]]) for a in document["annotations"]]
        pairs = zip(rows, document["annotations"], strict=True)
        self.dropped = {
            a["id"]: len(given["segmentation"]) - len(a["segmentation"])
            for a, given in pairs
            if a != given
        }
        self.document = document | {"annotations": rows}

    def usable(self) -> list[dict[str, Any]]:
        rows = self.document["annotations"]
        return [a for a in rows if clip_box(a["bbox"], self.sizes[a["image_id"]]) is not None]

    def state(self, row: dict[str, Any]) -> MaskState:
        return classify({**row, "iscrowd": 0}, self.sizes[row["image_id"]], "filled")

    def written(self, row: dict[str, Any]) -> Any:
        """The mask of an object as the format holds it; None without one."""
        state = self.state(row)
        if state == MaskState.SUSPECT and self.form == "voc":
            return None
        if row["iscrowd"] and self.form == "voc":
            return None
        return row["segmentation"] if state in (MaskState.MASK, MaskState.SUSPECT) else None

    def name_of(self, image: dict[str, Any]) -> str:
        """The name that an image has on the way back."""
        name, split = str(image["file_name"]), image.get("split")
        if self.form != "yolo":
            return name
        records = self.document["images"]
        if all(i["file_name"].startswith("images/") for i in records):
            name = name.removeprefix("images/")
        if split is None:
            return f"images/{name}"
        inside = [i["file_name"].removeprefix("images/") for i in records if i["split"] == split]
        if all(n.startswith(f"{split}/") for n in inside) and name in inside:
            name = name.removeprefix(f"{split}/")
        return f"images/{split}/{name}"


def check_names(trip: Trip) -> None:
    records = sorted(trip.document["categories"], key=lambda c: c["id"])
    assert [c["name"] for c in trip.found["categories"]] == [c["name"] for c in records]
    found = {i["file_name"]: (i["height"], i["width"]) for i in trip.found["images"]}
    wanted = {trip.name_of(i): trip.sizes[i["id"]] for i in trip.document["images"]}
    assert found == wanted
    splits = {i["file_name"]: i.get("split") for i in trip.found["images"]}
    assert splits == {trip.name_of(i): i.get("split") for i in trip.document["images"]}


def check_objects(trip: Trip) -> None:
    """Every object returns once, in its order, or is of a kind that is left out."""
    names = {c["id"]: c["name"] for c in trip.document["categories"]}
    returned = {c["id"]: c["name"] for c in trip.found["categories"]}
    image_of = {i["file_name"]: i["id"] for i in trip.found["images"]}
    counted: Counter[str] = Counter({HIDDEN: 0, COVERED: 0, OUTSIDE: 0})
    for image in trip.document["images"]:
        rows = [a for a in trip.usable() if a["image_id"] == image["id"]]
        rows = [a for a in rows if not (trip.form == "yolo" and a["iscrowd"])]
        number = image_of[trip.name_of(image)]
        found = [a for a in trip.found["annotations"] if a["image_id"] == number]
        assert len(found) == len(rows)
        masks = [trip.written(a) for a in rows]
        if trip.form == "voc":
            masks = painted(masks, [b["bbox"] for b in found], trip.sizes[image["id"]], counted)
        for a, b, mask in zip(rows, found, masks, strict=True):
            assert names[a["category_id"]] == returned[b["category_id"]]
            check_object(trip, a, b, mask)
    for what, times in counted.items():
        assert {**trip.out.notes, **trip.back.faults}.get(what, 0) == times, what
    nothing = 0 if trip.found["annotations"] else len(trip.document["images"])
    looked = {k: n for k, n in trip.back.faults.items() if k.startswith(NOTHING)}
    assert list(looked.values()) == [nothing] * bool(nothing)
    assert sum(trip.back.faults.values()) == counted[OUTSIDE] + nothing


def check_object(trip: Trip, a: dict[str, Any], b: dict[str, Any], mask: Any) -> None:
    size = trip.sizes[a["image_id"]]
    assert ("segmentation" in b) == (mask is not None), a
    if mask is not None:
        holds = [mask, *smoothed(trip, a, mask)]
        assert 1.0 in [overlap(one, b["segmentation"], size) for one in holds], (a, b)
    if trip.form in ("cvat", "label-studio"):
        assert b["iscrowd"] == a["iscrowd"]
    box = clip_box(a["bbox"], size)
    assert box is not None
    (x0, y0, x1, y1), (x, y, w, h) = box, b["bbox"]
    error = max(abs(x - x0), abs(y - y0), abs(x + w - x1), abs(y + h - y1))
    if trip.form == "voc" and min(x1 - x0, y1 - y0) < 1:
        assert error < 1.001, (a, b)  # at least a pixel wide
    elif mask is None:
        assert error <= BOX[trip.form], (a, b)
    elif trip.form == "yolo":
        trip.loose += loose(a, b["bbox"], size)
    else:
        assert error <= BESIDE_MASK[trip.form], (a, b)


def smoothed(trip: Trip, row: dict[str, Any], mask: Any) -> list[Any]:
    """The outline within a pixel that YOLO gets of a mask that a model drew, where it draws one."""
    if trip.form != "yolo" or provenance(row) not in ("filled", "accepted"):
        return []
    crop = crop_of(mask, trip.sizes[row["image_id"]])
    assert crop is not None
    return [outlines(*crop, 1.0)]


def loose(row: dict[str, Any], returned: list[float], size: tuple[int, int]) -> bool:
    """Whether a box is neither that of its mask nor that of the polygon in YOLO."""
    own, box = own_box(row["segmentation"], size), clip_box(row["bbox"], size)
    assert own is not None
    assert box is not None
    given = (box[0], box[1], box[2] - box[0], box[3] - box[1])
    return differ(given, own) or differ(given, returned)


def painted(
    masks: list[Any], boxes: list[list[float]], size: tuple[int, int], counted: Counter[str]
) -> list[Any]:
    """What VOC's PNG leaves of each mask: small ones lie over large ones."""
    areas = {i: area_of(mask, size) for i, mask in enumerate(masks) if mask is not None}
    canvas = np.full(size, -1)
    for i in sorted(areas, key=lambda i: -areas[i]):
        canvas[bits(masks[i], size)] = i
    left = [canvas == i for i in range(len(masks))]
    for i, area in areas.items():
        counted[HIDDEN] += not left[i].any()
        counted[COVERED] += 0 < left[i].sum() < area
    found = []
    for bitmap, (x, y, w, h) in zip(left, boxes, strict=True):
        there = np.argwhere(bitmap)
        if len(there) == 0:
            found.append(None)
            continue
        (y0, x0), (y1, x1) = there.min(0), there.max(0) + 1
        shared = max(min(x1, x + w) - max(x0, x), 0) * max(min(y1, y + h) - max(y0, y), 0)
        outside = 2 * shared < (x1 - x0) * (y1 - y0)
        counted[OUTSIDE] += outside
        found.append(None if outside else rle_of(bitmap, (0, 0), size))
    return found


def bits(mask: Any, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """The pixels by pycocotools."""
    height, width = size
    rle = mask
    if isinstance(mask, list):
        rle = library.merge(library.frPyObjects(mask, height, width))
    elif not isinstance(mask["counts"], str):
        rle = library.frPyObjects(mask, height, width)
    return np.asarray(library.decode(rle)) > 0


def check_counts(trip: Trip) -> None:
    """The report counts each object that is changed or left out, and no other."""
    usable = trip.usable()
    unusable = len(trip.document["annotations"]) - len(usable)
    states = [trip.state(a) for a in usable]
    broken = sum(s == MaskState.BROKEN for s in states)
    parts = sum(trip.dropped.get(a["id"], 0) for a in usable)
    # Chance makes files that look as if all boxes were written in another way.
    suspected = sum(n for what, n in trip.out.faults.items() if what.startswith("files "))
    assert sum(trip.out.faults.values()) == unusable + broken + parts + suspected
    counted: dict[str, int] = {
        "masks that were rejected in review": sum(s == MaskState.REJECTED for s in states),
        "crowds": sum(a["iscrowd"] for a in usable) if trip.form in ("yolo", "voc") else 0,
    }
    if trip.form == "yolo":
        counted["boxes that are not their mask's own"] = trip.loose
    for what, times in counted.items():
        found = sum(n for text, n in trip.out.notes.items() if text.startswith(what))
        assert found == times, what


def travel(form: str, document: dict[str, Any]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        trip = Trip(form, document, folder)
        check_names(trip)
        check_objects(trip)
        check_counts(trip)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("examples", [20, pytest.param(MANY, marks=pytest.mark.slow)])
def test_each_object_returns(form: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=[*HealthCheck])
    @given(document=coco_files())
    def check(document: dict[str, Any]) -> None:
        travel(form, document)

    check()
