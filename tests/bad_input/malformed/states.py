"""Every malformed state of a COCO data set that the table of docs/malformed.md shows."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from tests.bad_input.malformed.base import (
    HEIGHT,
    OUTLINE,
    UNDER_TEST,
    WIDTH,
    Document,
    State,
    Teaches,
    annotation,
    pixels,
)

SIZE = [HEIGHT, WIDTH]
WHOLE = HEIGHT * WIDTH
HUGE = 20_000
"""Side of the photograph that would take 1.2 GB of memory."""

READ: Teaches = "box and mask"
Spoil = Callable[[Document, Path], object]


def _mask(
    title: str, value: object, teaches: Teaches = "box", found: str | None = "broken_mask"
) -> State:
    return State(title, lambda d, _: annotation(d).update(segmentation=value), teaches, found)


def _box(title: str, value: object, found: str, teaches: Teaches = "nothing") -> State:
    return State(title, lambda d, _: annotation(d).update(bbox=value), teaches, found)


def _row(title: str, change: dict[str, Any], teaches: Teaches, found: str | None) -> State:
    return State(title, lambda d, _: annotation(d).update(change), teaches, found)


def _image(title: str, change: dict[str, Any], teaches: Teaches, found: str | None) -> State:
    return State(title, lambda d, _: d["images"][0].update(change), teaches, found)


def _polygon(x: object) -> list[Any]:
    return [[4, 5, x, 5, 14, 35]]


def _rle(counts: object, size: object = SIZE) -> dict[str, object]:
    return {"size": size, "counts": counts}


def _pairs(outline: list[int]) -> list[list[int]]:
    return [[x, y] for x, y in zip(outline[0::2], outline[1::2], strict=True)]


def _points(outline: list[int]) -> list[dict[str, int]]:
    return [{"x": x, "y": y} for x, y in _pairs(outline)]


RUNS = [4 * HEIGHT + 5, *[30, HEIGHT - 30] * 19, 30, WHOLE - 23 * HEIGHT - 35]
"""Uncompressed counts of the pixels of the box."""


def _compressed() -> dict[str, object]:
    from hotcoco import mask

    counts = mask.frPyObjects(_rle(RUNS), HEIGHT, WIDTH)["counts"]
    return _rle(counts.decode() if isinstance(counts, bytes) else counts)


MASKS = [
    State("no `segmentation`", lambda d, _: annotation(d).pop("segmentation"), "box"),
    _mask("`null`", None, found=None),
    _mask("`[]`", [], found=None),
    _mask("`[[]]`", [[]], found=None),
    _mask("polygon with an odd count", [[*OUTLINE, 7]]),
    _mask("polygon of two points", [OUTLINE[:4]]),
    _mask("two points beside a polygon", [OUTLINE, OUTLINE[:4]], READ, "unreadable_part_of_mask"),
    _mask("text beside a polygon", [OUTLINE, "polygon"], READ, "unreadable_part_of_mask"),
    _mask("polygon without the outer list", OUTLINE, READ, "masks_in_another_form"),
    _mask("points [x, y]", [_pairs(OUTLINE)], READ, "masks_in_another_form"),
    _mask("points [x, y] without the outer list", _pairs(OUTLINE), READ, "masks_in_another_form"),
    _mask("points {x, y}", _points(OUTLINE), READ, "masks_in_another_form"),
    _mask("contour of OpenCV", [[p] for p in _pairs(OUTLINE)], READ, "masks_in_another_form"),
    _mask("NaN in a polygon", _polygon(float("nan"))),
    _mask("infinity in a polygon", _polygon(float("inf"))),
    _mask("a number beyond any float", _polygon(10**400)),
    _mask("text in a polygon", _polygon("24")),
    _row(
        "a point a little outside the image",
        {"segmentation": [[-2, 5, 24, 5, 14, 35]], "bbox": [0, 5, 24, 30]},
        READ,
        None,
    ),
    _mask("polygon wholly outside the image", [[WIDTH + 1, 1, WIDTH + 20, 1, WIDTH + 20, 20]]),
    _mask("polygon traced twice (even-odd leaves no pixel)", [OUTLINE * 2]),
    _mask("polygon far beyond the image", [[1e9, 5, 24, 5, 14, 35]]),
    _mask("polygon that repeats the box", [[4, 5, 24, 5, 24, 35, 4, 35]], "box", "suspect_mask"),
    _mask("RLE, uncompressed", _rle(RUNS), READ, None),
    _mask("RLE, compressed", _compressed(), READ, "compressed_rle_mask"),
    _mask("a list of RLE", [_rle(RUNS), _compressed()], READ, "masks_in_another_form"),
    _mask("RLE of another size", _rle(RUNS, [WIDTH, HEIGHT])),
    _mask("RLE, counts of no pixel", _rle([WHOLE])),
    _mask("RLE, counts cut short", _rle(RUNS[:3])),
    _mask("RLE, a negative count", _rle([WHOLE + 9, -9])),
    _mask("RLE, corrupt text", _rle("~not counts~")),
    _mask("RLE of 2³¹ × 2³¹", _rle([2**62], [2**31, 2**31])),
    _mask("text instead of a mask", "polygon"),
    _row("crowd", {"iscrowd": 1, "segmentation": _rle(RUNS)}, "nothing", None),
    _row("`iscrowd` is 2", {"iscrowd": 2}, "nothing", "odd_iscrowd"),
]


def _all_corners(document: Document, _: Path) -> None:
    for row in document["annotations"]:
        x, y, w, h = row["bbox"]
        row["bbox"] = [x + 20, y + 12, min(x + w + 14, WIDTH), min(y + h + 6, HEIGHT)]


def _all_centres(document: Document, _: Path) -> None:
    for row in document["annotations"]:
        x, y, w, h = row["bbox"]
        row["bbox"] = [x + w / 2, y + h / 2, w, h]


def _all_shares(document: Document, _: Path) -> None:
    for row in document["annotations"]:
        x, y, w, h = row["bbox"]
        row["bbox"] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]


def _turned_box(document: Document, _: Path) -> None:
    annotation(document).pop("segmentation")
    annotation(document)["attributes"] = {"rotation": 90.0}


BOXES = [
    State("no `bbox`", lambda d, _: annotation(d).pop("bbox"), "nothing", "box_malformed"),
    _box("three numbers", [4, 5, 20], "box_malformed"),
    _box("NaN", [4, 5, float("nan"), 30], "box_malformed"),
    _box("numbers as text", ["4", "5", "20", "30"], "box_malformed"),
    _box("no width", [4, 5, 0, 30], "box_without_area"),
    _box("negative width", [24, 5, -20, 30], "box_without_area"),
    _box("wholly outside the image", [WIDTH + 5, 5, 20, 30], "box_outside_image"),
    _box("sticks out of the image", [4, 5, 20, 300], "box_sticks_out", READ),
    State(
        "x1, y1, x2, y2 in the whole file (suspected)", _all_corners, READ, "boxes_look_like_xyxy"
    ),
    State(
        "centre and size in the whole file (suspected)",
        _all_centres,
        READ,
        "boxes_look_like_centre_and_size",
    ),
    State("0 to 1 in the whole file (suspected)", _all_shares, READ, "boxes_from_0_to_1"),
    State("turned by `attributes.rotation`", _turned_box, "box", "boxes_turned_by_rotation"),
]


def _twice(key: str) -> Spoil:
    return lambda d, _: d[key].append(dict(d[key][0]))


def _again(key: str) -> Spoil:
    return lambda d, _: d[key].append(d[key][0] | {"more": 1})


def _named(document: Document, _: Path) -> None:
    for record in document["images"]:
        record["id"] = f"photo {record['id']}"
    for record in document["annotations"]:
        record["image_id"] = f"photo {record['image_id']}"


def _by_file_name(document: Document, _: Path) -> None:
    for record in document["annotations"]:
        record["image_id"] = f"{record['image_id']}.png"


def _other_id(value: object) -> Spoil:
    return lambda d, _: (annotation(d).update(image_id=value), d["images"][0].update(id=value))


def _class_id(value: object) -> Spoil:
    return lambda d, _: (
        annotation(d).update(category_id=value),
        d["categories"][0].update(id=value),
    )


def _rename(name: str) -> Spoil:
    def rename(document: Document, photographs: Path) -> None:
        (photographs / "1.png").rename(photographs / name)
        document["images"][0]["file_name"] = name

    return rename


def _absolute(document: Document, photographs: Path) -> None:
    document["images"][0]["file_name"] = str((photographs / "1.png").absolute())


def _outside(document: Document, photographs: Path) -> None:
    (photographs / "1.png").rename(photographs.parent / "1.png")
    document["images"][0]["file_name"] = "../1.png"


def _no_object(document: Document, _: Path) -> None:
    document["annotations"][0] = "annotation"


RECORDS = [
    State(
        "an annotation id twice",
        lambda d, _: d["annotations"][4].update(id=UNDER_TEST),
        READ,
        "duplicate_annotation_id",
    ),
    State("an image twice", _twice("images"), READ, "repeated_records"),
    State("a category twice", _twice("categories"), READ, "repeated_records"),
    State("an annotation twice", _twice("annotations"), READ, "repeated_records"),
    State("an image id twice", _again("images"), "unread"),
    State("a category id twice", _again("categories"), "unread"),
    _row("its image is not there", {"image_id": 99}, "nothing", "orphan_annotation"),
    _row("its category is not there", {"category_id": 99}, "nothing", "orphan_annotation"),
    State("no list of categories", lambda d, _: d.pop("categories"), "unread"),
    State(
        "an empty list of categories",
        lambda d, _: d.update(categories=[]),
        "unread",
        "orphan_annotation",
    ),
    State("no list of annotations", lambda d, _: d.pop("annotations"), "unread"),
    State("no list of images", lambda d, _: d.pop("images"), "unread"),
    State("a category without a name", lambda d, _: d["categories"][0].pop("name"), "unread"),
    State(
        "category names that differ only in case",
        lambda d, _: d["categories"].append({"id": 3, "name": "Cat"}),
        READ,
        "category_names_alike",
    ),
    _row("annotation id as text", {"id": "7"}, READ, "ids_as_text"),
    _row("annotation id 7.5", {"id": 7.5}, "nothing", "annotation_record"),
    _row("annotation id 7.0", {"id": 7.0}, READ, "ids_as_text"),
    _row("annotation id 2⁶²", {"id": 2**62}, READ, None),
    _row("annotation id 2⁷⁰", {"id": 2**70}, "nothing", "annotation_record"),
    State("image id as text", _other_id("1"), READ, "ids_as_text"),
    State("image id 1.0", _other_id(1.0), READ, "ids_as_text"),
    State("image ids that are names", _named, READ, "ids_are_names"),
    State("file names as image ids of annotations", _by_file_name, READ, "ids_are_names"),
    State("a name as image id beside numbers", _other_id("first"), "unread"),
    State("image id 2⁷⁰", _other_id(2**70), "unread"),
    State("category id as text", _class_id("1"), READ, "ids_as_text"),
    _row("class name as category id", {"category_id": "cat"}, READ, "ids_are_names"),
    State("an annotation that is not an object", _no_object, "nothing", "annotation_record"),
    _image("an image without a height", {"height": None}, "nothing", "image_record"),
    _image("an image of 0 × 48", {"width": 0}, "nothing", "image_record"),
    _image("an image of 64.0 × 48.0", {"width": 64.0, "height": 48.0}, READ, None),
]
NAMES = [
    State(
        "no file name", lambda d, _: d["images"][0].pop("file_name"), "unread", "photograph_missing"
    ),
    _image("a name without a file", {"file_name": "absent.png"}, "unread", "photograph_missing"),
    State("`..` that leads out of the folder", _outside, "unread", "photograph_missing"),
    State("an absolute name in the folder", _absolute),
    _image(
        "an absolute name elsewhere", {"file_name": "/etc/hostname"}, "unread", "photograph_missing"
    ),
    State("ünïcödé, 日本語 and blanks", _rename("ünï 日本語.png")),
    _image(
        "half a character (`\\ud800`)", {"file_name": "\ud800.png"}, "unread", "photograph_missing"
    ),
    _image("a name with a NUL", {"file_name": "1.png\x00"}, "unread", "photograph_missing"),
]


def _photograph(
    title: str, save: Callable[[Path], object], found: str | None, lost: bool = False
) -> State:
    return State(
        title,
        lambda _, photographs: save(photographs / "1.png"),
        "nothing" if lost else READ,
        found,
    )


def _mode(mode: str, form: str) -> Callable[[Path], object]:
    return lambda path: Image.fromarray(pixels()).convert(mode).save(path, form)


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels()).save(path, "JPEG", exif=exif)


def _sixteen_bit(path: Path) -> None:
    Image.fromarray(pixels()[..., 0].astype("uint16") * 257).save(path)


def _cut(path: Path) -> None:
    Image.fromarray(pixels()).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-200])


def _bomb(path: Path) -> None:
    """A PNG whose header promises 400 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", HUGE, HUGE, 8, 2, 0, 0, 0)
    body = (
        chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


PHOTOGRAPHS = [
    _photograph("turned by EXIF", _turned, "photograph_turned_by_exif"),
    _photograph("16 bits", _sixteen_bit, "photograph_grayscale"),
    _photograph("CMYK", _mode("CMYK", "JPEG"), None),
    _photograph("palette", _mode("P", "PNG"), None),
    _photograph("gray", _mode("L", "PNG"), "photograph_grayscale"),
    _photograph("with alpha", _mode("RGBA", "PNG"), None),
    _photograph("of another size than the file says", lambda p: Image.new("RGB", (9, 9)).save(p), "photograph_size_differs", True),
    _photograph("cut short", _cut, "photograph_unreadable", True),
    _photograph("no byte", lambda p: p.write_bytes(b""), "photograph_unreadable", True),
    _photograph("text", lambda p: p.write_bytes(b"no photograph"), "photograph_unreadable", True),
    _photograph("decompression bomb, 20,000 × 20,000", _bomb, "photograph_unreadable", True),
]  # fmt: skip


def _insert(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda text: text.replace(old, new, 1)


def _head(extra: bytes) -> Callable[[bytes], bytes]:
    """More keys at the beginning of the document."""
    return lambda text: b"{" + extra + b", " + text[1:]


def _json(
    title: str,
    text: Callable[[bytes], bytes],
    teaches: Teaches = "unread",
    found: str | None = None,
) -> State:
    return State(title, teaches=teaches, found=found, text=text)


JSON = [
    _json("byte order mark", lambda text: b"\xef\xbb\xbf" + text, READ),
    _json("trailing comma", lambda text: text[:-1] + b",}"),
    _json("NaN literal", _head(b'"info": {"version": NaN}'), READ, "not_strict_json"),
    _json(
        "a key twice in an annotation",
        _insert(b'"id": 7', b'"id": 9, "id": 7'),
        READ,
        "duplicate_key",
    ),
    _json("`images` twice", _head(b'"images": []'), READ, "duplicate_key"),
    _json("10-deep nesting", _head(b'"info": ' + b"[" * 10 + b"]" * 10), READ),
    _json("100,000-deep nesting", _head(b'"info": ' + b"[" * 100_000 + b"]" * 100_000)),
    _json("file cut short", lambda text: text[: len(text) // 2]),
    _json("Latin-1, not UTF-8", _insert(b'"cat"', b'"c\xe9t"')),
    _json("UTF-16", lambda text: text.decode().encode("utf-16")),
    _json("empty file", lambda _: b""),
    _json(
        "a list of detections (results)",
        lambda text: json.dumps(json.loads(text)["annotations"]).encode(),
    ),
    _json("two documents", lambda text: text + text),
]

GROUPS = {
    "Masks": MASKS,
    "Boxes": BOXES,
    "Records and ids": RECORDS,
    "File names": NAMES,
    "Photographs": PHOTOGRAPHS,
    "JSON": JSON,
}
