"""Visual Genome's files to three COCO files with classes by synset (paper.md, 5.1)."""

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
from halfmask.formats.json_stream import CountBytes, stream_items
from halfmask.formats.sink import tidy
from halfmask.formats.visual_genome.classes import Classes, choose_classes
from halfmask.text import plural

OBJECTS, IMAGES = "objects.json", "image_data.json"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class VisualGenomeSplits:
    """The three files that `convert_visual_genome` writes.

    Attributes:
        files: split → file.
        images, boxes: split → count.
        skipped: reason for leaving out objects → count.
        classes: see `choose_classes`.
    """

    files: dict[str, Path]
    images: Counter[str]
    classes: Classes
    boxes: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, int]:
        """Returns the numbers of images and boxes of each split, and of classes."""
        images = {f"{split}_images": self.images[split] for split in SPLITS}
        boxes = {f"{split}_boxes": self.boxes[split] for split in SPLITS}
        return {**images, **boxes, "classes": len(self.classes.categories)}

    def lines(self) -> list[str]:
        """Returns a line for each file, for the classes, and for each reason in `skipped`."""
        found, added = len(self.classes.categories), self.classes.added
        lines = [
            f"{file}: {self.images[split]} images, {self.boxes[split]} boxes"
            for split, file in self.files.items()
        ]
        lines.append(
            f"{found} classes (K = {found + 1} with background), {found - len(added)} of them "
            f"frequent; added for COCO: {', '.join(added) or 'none'}"
        )
        if self.classes.unmatched:
            names = ", ".join(self.classes.unmatched)
            lines.append(f"COCO's classes without a synset here: {names}")
        skipped = self.skipped.most_common()
        return lines + [
            f"left out: {plural(count, 'object')} {reason}" for reason, count in skipped
        ]


@dataclass(frozen=True)
class _Image:
    record: dict[str, Any]
    split: str


def genome_files(out: Path) -> dict[str, Path]:
    """Returns the file of each split of OUT, which may end in `.json`."""
    base = str(out).removesuffix(".json")
    return {split: Path(f"{base}_{split}.json") for split in SPLITS}


def convert_visual_genome(
    source: Path,
    out: Path,
    coco_val: Path,
    *,
    classes: int = 3000,
    test: int = 5000,
    progress: CountBytes | None = None,
) -> VisualGenomeSplits:
    """Writes OUT_train.json, OUT_val.json and OUT_test.json, COCO files of boxes only.

    An object counts if it has exactly one synset and that is a class; `area` is its
    box's. Both files are streamed, objects.json twice. In memory are the counts, the
    image records, and the objects of one image.

    Args:
        source: folder with Visual Genome 1.4's objects.json and image_data.json.
        out: OUT, with or without `.json`. Image file names are the last two parts of
            the image's url (`VG_100K_2/1.jpg`).
        coco_val: COCO's instances file of val2017 (minival). Images that it shares, by
            coco_id, become `val`.
        classes: as for `choose_classes`.
        test: number of the last images outside COCO; all others are `train`.
        progress: receives the bytes read.
    Raises:
        InputError: a file is missing, not JSON or not of Visual Genome, no synset is
            mentioned, or no image is left for training.
    """
    files = genome_files(out)
    images = _read_images(source / IMAGES, coco_val, test, progress=progress)
    counts = _count_synsets(source / OBJECTS, progress)
    if not counts:
        raise InputError(
            f"{source / OBJECTS}: no object has a synset: expected Visual Genome's "
            "objects.json, version 1.4"
        )
    chosen = choose_classes(counts, classes)
    result = VisualGenomeSplits(
        files=files, images=Counter(i.split for i in images.values()), classes=chosen
    )
    with ExitStack() as stack:
        streams = {}
        for split, file in files.items():
            records = [i.record for i in images.values() if i.split == split]
            stream = CocoStream(file, _head(split, classes, chosen), records)
            streams[split] = stack.enter_context(stream)
        _write_objects(source / OBJECTS, images, streams, result=result, progress=progress)
        for stream in streams.values():
            stream.seal()
    return result


def _head(split: str, classes: int, chosen: Classes) -> dict[str, Any]:
    boxes = f"boxes of the {classes} most frequent synsets and of COCO's classes"
    info = {"description": f"Visual Genome, {boxes}, {split}"}
    return {"info": info, "categories": chosen.categories}


def _write_objects(
    path: Path,
    images: dict[int, _Image],
    streams: dict[str, CocoStream],
    *,
    result: VisualGenomeSplits,
    progress: CountBytes | None,
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
    """The category id of an object, or the reason why it has none."""
    synsets = _synsets(thing)
    if len(synsets) != 1:
        return "with several synsets" if synsets else "without a synset"
    return id_of.get(synsets[0], "of a rarer synset")


def _bbox(thing: dict[str, Any], image: dict[str, Any]) -> list[float] | None:
    """x, y, width, height of an object's box, clipped to the image."""
    box = clip_box([thing.get(key) for key in "xywh"], (image["height"], image["width"]))
    if box is None:
        return None
    x0, y0, x1, y1 = box
    sides = [tidy(v) for v in (x0, y0, x1 - x0, y1 - y0)]
    return sides if min(sides[2:]) > 0 else None


def _count_synsets(path: Path, progress: CountBytes | None) -> Counter[str]:
    """Synset → mentions. An object with several synsets mentions each of them."""
    counts: Counter[str] = Counter()
    for _, objects in _objects_of_images(path, progress):
        for thing in objects:
            counts.update(_synsets(thing))
    return counts


def _synsets(thing: dict[str, Any]) -> list[str]:
    synsets = thing.get("synsets")
    return [s for s in synsets if isinstance(s, str)] if isinstance(synsets, list) else []


def _objects_of_images(
    path: Path, progress: CountBytes | None
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yields image_id and objects of each entry of objects.json."""
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
    path: Path, coco_val: Path, test: int, *, progress: CountBytes | None
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
            f"{path}: none of its {len(images)} images is left to learn from: lower --test-count "
            f"({test})"
        )
    return images


def _image_record(entry: Any, where: str) -> dict[str, Any]:
    fields = entry if isinstance(entry, dict) else {}
    number, url, coco_id = fields.get("image_id"), fields.get("url"), fields.get("coco_id")
    sides = fields.get("width"), fields.get("height")
    sized = all(type(side) is int and side > 0 for side in sides)
    if type(number) is not int or not isinstance(url, str) or not sized:
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
    size = {"width": sides[0], "height": sides[1]}
    return {"id": number, "file_name": name, **size, "coco_id": coco_id}
