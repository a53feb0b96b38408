"""A YOLO data set as Roboflow exports it, made from the shipped photographs: polygons for some
classes, boxes for the others.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

import halfmask

PHOTOS = Path(halfmask.__file__).parent / "assets" / "photos"
PARTS = {
    "train": (285, 2473, 2592, 3501, 7281, 126107, 165518),
    "valid": (229997, 377575, 416256),
    "test": (423617, 475678),
}
"""Folder → ids of its photographs."""
FEW = {"train": (285, 165518), "valid": (377575,), "test": (416256,)}
"""The same with eight objects."""


def roboflow(
    folder: Path,
    drawn: Collection[str],
    *,
    parts: Mapping[str, Collection[int]] = PARTS,
    mirrored: bool = False,
) -> Path:
    """Writes the data set; returns its folder.

    Args:
        folder: to write.
        drawn: classes whose outer polygons are kept; a mask of COCO that is no polygon
            stays a box.
        parts: folder → ids of its photographs.
        mirrored: also writes each photograph from right to left.
    """
    document = json.loads((PHOTOS / "photos.json").read_text())
    names = [c["name"] for c in document["categories"]]
    numbers = {c["id"]: k for k, c in enumerate(document["categories"])}
    masked = {c["id"] for c in document["categories"] if c["name"] in drawn}
    images = {image["id"]: image for image in document["images"]}
    for part, image in [(part, images[i]) for part, ids in parts.items() for i in ids]:
        for kind in ("images", "labels"):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
        rows = [a for a in document["annotations"] if a["image_id"] == image["id"]]
        with Image.open(PHOTOS / image["file_name"]) as photo:
            turns = {"": photo, "-mirrored": ImageOps.mirror(photo)} if mirrored else {"": photo}
            for turn, picture in turns.items():
                stem = Path(image["file_name"]).stem + turn
                picture.save(folder / part / "images" / f"{stem}.jpg", quality=90)
                size = (image["width"], image["height"])
                lines = [
                    _line(
                        numbers[a["category_id"]],
                        _points(a, size, a["category_id"] in masked, bool(turn)),
                    )
                    for a in rows
                ]
                (folder / part / "labels" / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    listed = ", ".join(f"'{name}'" for name in names)
    (folder / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\n"
        f"nc: {len(names)}\nnames: [{listed}]\n\nroboflow:\n  workspace: mine\n  version: 1\n"
    )
    return folder


def _points(
    row: dict[str, Any], size: tuple[int, int], drawn: bool, turned: bool
) -> list[tuple[float, float]]:
    """Returns a polygon's corners, or two corners of a box, relative to the photograph."""
    (width, height), (x, y, w, h) = size, row["bbox"]
    points = [(x, y), (x + w, y + h)]
    if drawn and isinstance(row["segmentation"], list):
        flat = max(row["segmentation"], key=len)
        points = list(zip(flat[::2], flat[1::2], strict=True))
    return [((width - px if turned else px) / width, py / height) for px, py in points]


def _line(number: int, points: list[tuple[float, float]]) -> str:
    if len(points) == 2:
        (x0, y0), (x1, y1) = points
        points = [((x0 + x1) / 2, (y0 + y1) / 2), (abs(x1 - x0), y1 - y0)]
    return f"{number} " + " ".join(f"{value:.6f}" for point in points for value in point)


def labels(folder: Path) -> dict[str, list[list[float]]]:
    """Label file → its rows, of a whole data set."""
    return {
        path.relative_to(folder).as_posix(): list(_rows(path))
        for path in sorted(folder.rglob("*.txt"))
        if path.parent.name == "labels"
    }


def _rows(path: Path) -> Iterator[list[float]]:
    return ([float(word) for word in line.split()] for line in path.read_text().splitlines())
