"""Visual Genome's own files to COCO files: classes by synset, three splits (paper.md, 5.1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from halfmask.coco.records import clip_box
from halfmask.coco.stream import CocoStream
from halfmask.errors import InputError
from halfmask.formats.json_stream import Progress, stream_items
from halfmask.formats.visual_genome.classes import Classes, choose_classes

OBJECTS, IMAGES = "objects.json", "image_data.json"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        files: split → file.
        images, boxes: split → how many.
        skipped: why objects were left out → how many.
        classes: see `choose_classes`.
    """

    files: dict[str, Path]
    images: dict[str, int]
    classes: Classes
    boxes: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Image:
    record: dict[str, Any]
    split: str


def convert_visual_genome(
    source: Path,
    out: Path,
    coco_val: Path,
    classes: int = 3000,
    test: int = 5000,
    progress: Progress | None = None,
) -> Converted:
    """Writes OUT_train.json, OUT_val.json and OUT_test.json (OUT without its `.json`):
    COCO files of boxes, without masks.

    An object counts if it has exactly one synset and that is a class; `area` is its
    box's. Both files are streamed, objects.json twice: in memory are the counts, the
    image records, and the objects of one image at a time.

    Args:
        source: folder with Visual Genome 1.4's objects.json and image_data.json.
        out: as above. Image file names are the last two parts of the image's url
            (`VG_100K_2/1.jpg`).
        coco_val: COCO's instances file of val2017 (minival). `val` is the images that
            it has too, by coco_id.
        classes: as for `choose_classes`.
        test: that many of the last images that are not COCO's; `train` is all others.
        progress: told how many more bytes of the two files were read.
    Raises:
        InputError: a file is missing, no JSON or no Visual Genome file, no synset is
            mentioned, or no image is left for training.
    """
    base = str(out).removesuffix(".json")
    files = {split: Path(f"{base}_{split}.json") for split in SPLITS}
    for file in files.values():
        if file.exists() and file.samefile(coco_val):
            raise InputError(f"{file}: would be written over, it is --coco-val; name another OUT")
    images = _read_images(source / IMAGES, coco_val, test, progress)
    counts = _count_synsets(source / OBJECTS, progress)
    if not counts:
        raise InputError(
            f"{source / OBJECTS}: no object has a synset: expected Visual Genome's "
            "objects.json, version 1.4"
        )
    chosen = choose_classes(counts, classes)
    records = {split: [i.record for i in images.values() if i.split == split] for split in SPLITS}
    result = Converted(files, {split: len(rows) for split, rows in records.items()}, chosen)
    with ExitStack() as stack:
        streams = {
            split: stack.enter_context(
                CocoStream(files[split], _head(split, classes, chosen), records[split])
            )
            for split in SPLITS
        }
        _write_objects(source / OBJECTS, images, streams, result, progress)
        for stream in streams.values():
            stream.seal()
    return result


def _head(split: str, classes: int, chosen: Classes) -> dict[str, Any]:
    text = f"Visual Genome, boxes of the {classes} most frequent synsets and of COCO's classes, {split}"
    return {"info": {"description": text}, "categories": chosen.categories}


def _write_objects(
    path: Path,
    images: dict[int, _Image],
    streams: dict[str, CocoStream],
    result: Converted,
    progress: Progress | None,
) -> None:
    id_of = result.classes.id_of
    number = 0
    for image_id, objects in _objects_of_images(path, progress):
        image = images.get(image_id)
        if image is None:
            result.skipped["on an image that image_data.json does not have"] += len(objects)
            continue
        for thing in objects:
            category, bbox = _category(thing, id_of), _bbox(thing, image.record)
            if not isinstance(category, int):
                result.skipped[category] += 1
            elif bbox is None:
                result.skipped["with a box that cannot be used"] += 1
            else:
                number += 1
                row = {"id": number, "image_id": image_id, "category_id": category, "bbox": bbox}
                streams[image.split].add({**row, "area": bbox[2] * bbox[3], "iscrowd": 0})
                result.boxes[image.split] += 1


def _category(thing: dict[str, Any], id_of: dict[str, int]) -> int | str:
    """The category id of an object, or why it has none."""
    synsets = _synsets(thing)
    if len(synsets) != 1:
        return "with several synsets" if synsets else "without a synset"
    return id_of.get(synsets[0], "of a rarer synset")


def _bbox(thing: dict[str, Any], image: dict[str, Any]) -> list[float] | None:
    """x, y, width, height of the part of an object's box that lies on the image."""
    box = clip_box([thing.get(key) for key in "xywh"], (image["height"], image["width"]))
    if box is None:
        return None
    x0, y0, x1, y1 = box
    sides = [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)]
    return [int(v) if v.is_integer() else v for v in sides] if min(sides[2:]) > 0 else None


def _count_synsets(path: Path, progress: Progress | None) -> Counter[str]:
    """Synset → mentions. An object with several mentions each of them."""
    counts: Counter[str] = Counter()
    for _, objects in _objects_of_images(path, progress):
        for thing in objects:
            counts.update(_synsets(thing))
    return counts


def _synsets(thing: dict[str, Any]) -> list[str]:
    synsets = thing.get("synsets")
    return [s for s in synsets if isinstance(s, str)] if isinstance(synsets, list) else []


def _objects_of_images(
    path: Path, progress: Progress | None
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """image_id and objects of each entry of objects.json."""
    for position, entry in enumerate(stream_items(path, progress=progress)):
        image_id = entry.get("image_id") if isinstance(entry, dict) else None
        objects = entry.get("objects") if isinstance(entry, dict) else None
        if type(image_id) is not int or not isinstance(objects, list):
            raise InputError(
                f"{path}: entry {position}: expected an object with image_id and objects, as "
                "in Visual Genome 1.4"
            )
        yield image_id, [thing for thing in objects if isinstance(thing, dict)]


def _read_images(
    path: Path, coco_val: Path, test: int, progress: Progress | None
) -> dict[int, _Image]:
    """image_id → COCO image record and split, in the order of image_data.json."""
    val = {i for i in stream_items(coco_val, "images.item.id") if type(i) is int}
    if not val:
        raise InputError(
            f"{coco_val}: expected COCO's instances file of val2017, found no image in it"
        )
    records: dict[int, dict[str, Any]] = {}
    for position, entry in enumerate(stream_items(path, progress=progress)):
        record = _image_record(entry, f"{path}: entry {position}")
        if record["id"] in records:
            raise InputError(f"{path}: entry {position}: image_id {record['id']} is used twice")
        records[record["id"]] = record
    own = [i for i, record in records.items() if record["coco_id"] is None]
    held = set(own[-test:]) if test else set()
    images = {}
    for i, record in records.items():
        split = "val" if record["coco_id"] in val else "test" if i in held else "train"
        images[i] = _Image(record, split)
    if all(image.split != "train" for image in images.values()):
        raise InputError(
            f"{path}: none of its {len(images)} images is left to learn from: lower --test ({test})"
        )
    return images


def _image_record(entry: Any, where: str) -> dict[str, Any]:
    fields = entry if isinstance(entry, dict) else {}
    number, url, coco_id = fields.get("image_id"), fields.get("url"), fields.get("coco_id")
    sides = fields.get("width"), fields.get("height")
    if (
        type(number) is not int
        or not isinstance(url, str)
        or not all(type(s) is int and s > 0 for s in sides)
    ):
        raise InputError(
            f"{where}: expected image_id, url, width and height, as in Visual Genome 1.4; "
            f"found {', '.join(map(str, fields)) or 'none'}"
        )
    if coco_id is not None and type(coco_id) is not int:
        raise InputError(
            f"{where} (image_id {number}): expected a whole number or null as coco_id, found "
            f"{coco_id!r}"
        )
    name = "/".join(PurePosixPath(url).parts[-2:])
    return {
        "id": number,
        "file_name": name,
        "width": sides[0],
        "height": sides[1],
        "coco_id": coco_id,
    }
