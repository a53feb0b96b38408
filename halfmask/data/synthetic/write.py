"""Writes the procedural world as a COCO data set: pictures, exact masks, a sheet."""

from __future__ import annotations

import json
import os
import signal
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from halfmask.data.synthetic.classes import (
    DEFAULT_CLASSES,
    MOST_CLASSES,
    world_categories,
    world_classes,
)
from halfmask.data.synthetic.render import Array, WorldInstance, WorldSpec, render
from halfmask.errors import InputError
from halfmask.files.atomic import write_json, write_text
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import ANY_FOLDER, COCO, OWN_NAME, PICTURE
from halfmask.files.pictures import save_marked
from halfmask.masks.crops import MaskCrops, encode_rle
from halfmask.progress import Progress

COLUMNS, ZOOM, GAP = 6, 2, 6
COLOURS = (
    (230, 60, 60),
    (60, 130, 235),
    (250, 190, 40),
    (60, 185, 90),
    (160, 80, 210),
    (40, 200, 210),
    (245, 130, 190),
    (150, 110, 70),
)

OWN_DESCRIPTIONS = ("halfmask procedural world", "halfmask composites")
"""Files that halfmask makes have descriptions that begin like this."""
BEGUN = ".halfmask-world"
"""Marks a folder as this function's own until instances.json is there."""
CHUNK = 50
"""Pictures that a worker draws before it returns their annotations."""
SHEET_PICTURES = 24


@dataclass(frozen=True, kw_only=True)
class WrittenWorld:
    """A world that `synth` wrote.

    Attributes:
        path: the annotation file, instances.json.
        sheet: the contact sheet.
        images, classes, seed: its numbers.
        seconds: time it took.
    """

    path: Path
    sheet: Path
    images: int
    classes: int
    seed: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Returns the attributes, paths as text."""
        return vars(self) | {"path": str(self.path), "sheet": str(self.sheet)}


def synth(
    folder: str | Path,
    *,
    image_count: int,
    seed: int = 0,
    class_count: int = DEFAULT_CLASSES,
    size: int = 112,
    workers: int = 0,
    progress: Progress | None = None,
) -> WrittenWorld:
    """Writes pictures of the procedural world, with exact masks, in COCO format.

    The same arguments give the same bytes, for any number of workers. Picture i of a
    seed does not depend on the number of pictures. `folder` receives images/,
    contact_sheet.png and, once all pictures are there, instances.json.

    Args:
        folder: created if needed; an earlier world in it is replaced.
        image_count: number of pictures, ids 1…image_count.
        seed: of the world, 0 or more.
        class_count: number of classes, ids 1…class_count.
        size: side of the square pictures, pixels.
        workers: processes that draw; 0: this process.
        progress: receives ("drawing", pictures written, pictures).
    Raises:
        InputError: a number out of range, or the folder holds an instances.json that
            halfmask did not write, or pictures of others.
    """
    start = time.perf_counter()
    if image_count < 1 or seed < 0:
        raise InputError(
            "a world needs at least one picture and a seed of 0 or more, got "
            f"--image-count {image_count} --seed {seed}"
        )
    spec = world_spec(class_count, size)
    folder = Path(folder)
    sheet, path = folder / "contact_sheet.png", folder / "instances.json"
    _check_folder(folder, sheet, path)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    write_text(folder / BEGUN, "")
    annotations: list[dict[str, Any]] = []
    for number, part in enumerate(
        _draw(folder / "images", image_count, seed, spec=spec, workers=workers), 1
    ):
        annotations.extend(part)
        if progress is not None:
            progress("drawing", min(number * CHUNK, image_count), image_count)
    save_marked(_world_sheet(spec, seed, min(image_count, SHEET_PICTURES)), sheet)
    write_json(path, _document(spec, seed, image_count, annotations=annotations))
    (folder / BEGUN).unlink()
    seconds = time.perf_counter() - start
    return WrittenWorld(
        path=path, sheet=sheet, images=image_count, classes=class_count, seed=seed, seconds=seconds
    )


def world_spec(classes: int = DEFAULT_CLASSES, size: int = 112) -> WorldSpec:
    """Returns the world with this many classes and this picture size, groups to scale.

    Raises:
        InputError: a number of classes or a size out of range.
    """
    if not 1 <= classes <= MOST_CLASSES:
        raise InputError(f"--class-count: the world has 1 to {MOST_CLASSES} classes, got {classes}")
    if not 32 <= size <= 2048:
        raise InputError(
            f"--size: pictures of the world have sides of 32 to 2048 pixels, got {size}"
        )
    low, high = WorldSpec.group_size
    scale = size / WorldSpec.size if not 96 <= size <= 128 else 1.0
    group_size = round(low * scale), round(high * scale)
    return WorldSpec(size=size, classes=tuple(world_classes(classes)), group_size=group_size)


def _check_folder(folder: Path, sheet: Path, path: Path) -> None:
    """Raises InputError if the world would be written over something else."""
    images, begun = folder / "images", folder / BEGUN
    kinds = {folder: ANY_FOLDER, images: ANY_FOLDER, sheet: PICTURE, path: COCO, begun: OWN_NAME}
    guard((Output(one, "FOLDER", kind) for one, kind in kinds.items()), inputs=[])
    refuse_foreign(folder)
    own, found = path.is_file() or begun.is_file(), images.iterdir() if images.is_dir() else ()
    odd = next((one for one in found if not own or one.is_symlink() or not one.is_file()), None)
    if odd is not None:
        raise InputError(f"{odd}: not made by `halfmask synth`; name another folder")


def refuse_foreign(folder: Path) -> None:
    """Raises InputError if the folder's instances.json was not made by halfmask."""
    path = folder / "instances.json"
    if not path.is_file():
        return
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # JSON, or its encoding
        document = None
    info = document.get("info") if isinstance(document, dict) else None
    description = str(info.get("description", "")) if isinstance(info, dict) else ""
    if not description.startswith(OWN_DESCRIPTIONS):
        raise InputError(
            f"{path}: was not made by `halfmask synth` and would be written over; name another "
            "folder"
        )


def file_name(index: int) -> str:
    """Returns the name of picture `index` (from 0) in images/."""
    return f"{index + 1:06d}.png"


def annotations_of(
    instances: list[WorldInstance], image_id: int, size: int
) -> list[dict[str, Any]]:
    """Returns the COCO annotations of one picture, without `id`.

    Masks are exact RLE. Objects that share a box have the same `group`.
    """
    crops = MaskCrops.from_bitmaps(
        [torch.from_numpy(i.bitmap) for i in instances], [i.offset for i in instances], (size, size)
    )
    rows = zip(instances, encode_rle(crops), crops.areas().tolist(), strict=True)
    return [
        {
            "image_id": image_id,
            "category_id": instance.label,
            "bbox": [*instance.offset, *instance.bitmap.shape[::-1]],
            "area": area,
            "iscrowd": 0,
            "segmentation": rle,
            "group": instance.group,
        }
        for instance, rle, area in rows
    ]


def _document(
    spec: WorldSpec, seed: int, images: int, *, annotations: list[dict[str, Any]]
) -> dict[str, Any]:
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    size = {"width": spec.size, "height": spec.size}
    description = f"halfmask procedural world, seed {seed}, {len(spec.classes)} classes"
    return {
        "info": {"description": description, "version": "1"},
        "licenses": [],
        "images": [
            {"id": i + 1, "file_name": file_name(i), **size, "license": 0} for i in range(images)
        ],
        "annotations": annotations,
        "categories": world_categories(list(spec.classes)),
    }


def _draw(
    folder: Path, images: int, seed: int, *, spec: WorldSpec, workers: int
) -> Iterator[list[dict[str, Any]]]:
    starts = range(0, images, CHUNK)
    jobs = [(folder, range(start, min(images, start + CHUNK)), seed, spec) for start in starts]
    if workers == 0:
        yield from map(_draw_chunk, jobs)
        return
    processes = min(workers, os.cpu_count() or 1)
    spawn = get_context("spawn")
    # Ctrl-C reaches every process of the terminal; the first one ends the others.
    quiet = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(processes, spawn, signal.signal, quiet) as pool:
        yield from pool.map(_draw_chunk, jobs)


def _draw_chunk(job: tuple[Path, range, int, WorldSpec]) -> list[dict[str, Any]]:
    """Draws and writes some pictures; returns their annotations without ids."""
    folder, indices, seed, spec = job
    out: list[dict[str, Any]] = []
    for index in indices:
        picture, instances = render(spec, seed, index)
        # Huffman only: noise has no repetitions, and the search for them would cost
        # more than the drawing.
        Image.fromarray(picture).save(
            folder / file_name(index), compress_level=1, compress_type=zlib.Z_HUFFMAN_ONLY
        )
        out.extend(annotations_of(instances, index + 1, spec.size))
    return out


def _world_sheet(spec: WorldSpec, seed: int, count: int) -> Image.Image:
    """Draws the first `count` pictures; below each, its masks in different colours."""
    rows = -(-count // COLUMNS)
    cell = spec.size * ZOOM
    size = (GAP + COLUMNS * (cell + GAP), GAP + rows * (2 * cell + 3 * GAP))
    sheet = Image.new("RGB", size, "white")
    for index in range(count):
        picture, instances = render(spec, seed, index)
        x = GAP + (index % COLUMNS) * (cell + GAP)
        y = GAP + (index // COLUMNS) * (2 * cell + 3 * GAP)
        masks = _enlarged(_coloured(picture, instances), cell)
        _draw_boxes(masks, instances)
        sheet.paste(_enlarged(picture, cell), (x, y))
        sheet.paste(masks, (x, y + cell + GAP // 2))
    return sheet


def _enlarged(picture: Array, side: int) -> Image.Image:
    return Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)


def _coloured(picture: Array, instances: list[WorldInstance]) -> Array:
    shown: Array = (0.25 * picture + 0.75 * 245).astype(np.uint8)
    for k, instance in enumerate(instances):
        (x, y), (h, w) = instance.offset, instance.bitmap.shape
        window = shown[y : y + h, x : x + w]
        window[instance.bitmap > 0] = COLOURS[k % len(COLOURS)]
    return shown


def _draw_boxes(image: Image.Image, instances: list[WorldInstance]) -> None:
    draw = ImageDraw.Draw(image)
    for k, instance in enumerate(instances):
        (x, y), (h, w) = instance.offset, instance.bitmap.shape
        colour = tuple(v // 2 for v in COLOURS[k % len(COLOURS)])
        draw.rectangle((x * ZOOM, y * ZOOM, (x + w) * ZOOM - 1, (y + h) * ZOOM - 1), outline=colour)
