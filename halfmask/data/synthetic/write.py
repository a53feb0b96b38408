"""The procedural world as a COCO data set on disk: pictures, exact masks, and a contact
sheet.

from halfmask.data.synthetic.write import write_world
write_world("world/train", images=3000, seed=0)
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from halfmask.data.synthetic.classes import (
    DEFAULT_CLASSES,
    MOST_CLASSES,
    attribute_split,
    world_categories,
    world_classes,
)
from halfmask.data.synthetic.render import WorldInstance, WorldSpec, render
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.masks.crops import MaskCrops, encode_rle

__all__ = [
    "WorldInstance",
    "WorldSpec",
    "attribute_split",
    "contact_sheet",
    "refuse_foreign",
    "render",
    "world_spec",
    "write_world",
]

_CHUNK = 50
"""Pictures that a worker draws before it hands their annotations back."""


def world_spec(classes: int = DEFAULT_CLASSES, size: int = 112) -> WorldSpec:
    """The world with this many classes and pictures of this side, groups scaled with
    the side.

    Raises:
        InputError: a number of classes or a size that the world does not have.
    """
    if not 1 <= classes <= MOST_CLASSES:
        raise InputError(f"--classes: the world has 1 to {MOST_CLASSES} classes, got {classes}")
    if not 32 <= size <= 2048:
        raise InputError(
            f"--size: pictures of the world have sides of 32 to 2048 pixels, got {size}"
        )
    low, high = WorldSpec.group_size
    scale = size / WorldSpec.size if not 96 <= size <= 128 else 1.0
    return WorldSpec(
        size, tuple(world_classes(classes)), group_size=(round(low * scale), round(high * scale))
    )


OWN_WORDS = ("halfmask procedural world", "halfmask composites")
"""How the descriptions of files that `synth` writes begin."""


def refuse_foreign(folder: Path) -> None:
    """Made pictures may be made anew; a file that `synth` did not write is somebody's
    work.

    Raises:
        InputError: the folder's instances.json was not written by `synth`.
    """
    path = folder / "instances.json"
    if not path.is_file():
        return
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # JSON, or its encoding
        document = None
    info = document.get("info") if isinstance(document, dict) else None
    if not (isinstance(info, dict) and str(info.get("description", "")).startswith(OWN_WORDS)):
        raise InputError(
            f"{path}: was not made by `halfmask synth` and would be written over; name another "
            "folder"
        )


def write_world(
    folder: str | Path,
    images: int,
    seed: int,
    classes: int = DEFAULT_CLASSES,
    size: int = 112,
    workers: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Writes a world and returns its annotation file. The same arguments give the same
    bytes, whatever the number of workers.

    Picture i of a seed does not depend on how many are written. `folder` gets images/,
    contact_sheet.png and, when all pictures are there, instances.json.

    Args:
        folder: is made if needed; files of an earlier world in it are written over.
        images: number of pictures, ids 1…images.
        seed: of the world.
        classes: number of classes, ids 1…classes.
        size: side of the pictures in pixels.
        workers: processes that draw; 0: this one.
        progress: is told the number of pictures that were written since it was last
            told.
    Raises:
        InputError: a number out of range, or the folder holds somebody's own data.
    """
    if images < 1 or seed < 0:
        raise InputError(
            "a world needs at least one picture and a seed of 0 or more, got --images "
            f"{images} --seed {seed}"
        )
    spec = world_spec(classes, size)
    folder = Path(folder)
    refuse_foreign(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    annotations: list[dict[str, Any]] = []
    for part in _draw(folder, images, seed, spec, workers):
        annotations.extend(part)
        if progress is not None:
            progress(min(_CHUNK, images))
    for number, annotation in enumerate(annotations, 1):
        annotation["id"] = number
    document = {
        "info": {
            "description": f"halfmask procedural world, seed {seed}, {classes} classes",
            "version": "1",
        },
        "licenses": [],
        "images": [
            {"id": i + 1, "file_name": file_name(i), "width": size, "height": size, "license": 0}
            for i in range(images)
        ],
        "annotations": annotations,
        "categories": world_categories(list(spec.classes)),
    }
    contact_sheet(spec, seed, min(images, 24)).save(folder / "contact_sheet.png")
    write_json(folder / "instances.json", document)
    return folder / "instances.json"


def file_name(index: int) -> str:
    """Name of picture `index` (from 0) in images/."""
    return f"{index + 1:06d}.png"


def _draw(
    folder: Path, images: int, seed: int, spec: WorldSpec, workers: int
) -> Iterator[list[dict[str, Any]]]:
    starts = range(0, images, _CHUNK)
    jobs = [
        (folder / "images", range(start, min(images, start + _CHUNK)), seed, spec)
        for start in starts
    ]
    if workers == 0:
        yield from map(_draw_chunk, jobs)
        return
    with ProcessPoolExecutor(
        min(workers, os.cpu_count() or 1), mp_context=get_context("spawn")
    ) as pool:
        yield from pool.map(_draw_chunk, jobs)


def _draw_chunk(job: tuple[Path, range, int, WorldSpec]) -> list[dict[str, Any]]:
    """Draws and writes some pictures; returns their annotations without ids."""
    folder, indices, seed, spec = job
    out: list[dict[str, Any]] = []
    for index in indices:
        picture, instances = render(spec, seed, index)
        # Huffman only: noise has no repetitions to look for, and the search would cost
        # more than the drawing.
        Image.fromarray(picture).save(
            folder / file_name(index), compress_level=1, compress_type=zlib.Z_HUFFMAN_ONLY
        )
        out.extend(annotations_of(instances, index + 1, spec.size))
    return out


def annotations_of(
    instances: list[WorldInstance], image_id: int, size: int
) -> list[dict[str, Any]]:
    """COCO annotations of one picture's objects, without `id`; masks as RLE, exact;
    `group` tells which share a box.
    """
    crops = MaskCrops.from_bitmaps(
        [torch.from_numpy(i.bitmap) for i in instances], [i.offset for i in instances], (size, size)
    )
    out = []
    for instance, rle, area in zip(
        instances, encode_rle(crops), crops.areas().tolist(), strict=True
    ):
        h, w = instance.bitmap.shape
        out.append(
            {
                "image_id": image_id,
                "category_id": instance.label,
                "bbox": [*instance.offset, w, h],
                "area": area,
                "iscrowd": 0,
                "segmentation": rle,
                "group": instance.group,
            }
        )
    return out


def contact_sheet(
    spec: WorldSpec, seed: int, count: int, columns: int = 6, zoom: int = 2
) -> Image.Image:
    """The first pictures of a world; under each the same picture with every object's
    mask in a colour of its own.
    """
    rows = -(-count // columns)
    cell, gap = spec.size * zoom, 6
    sheet = Image.new(
        "RGB", (gap + columns * (cell + gap), gap + rows * (2 * cell + 3 * gap)), "white"
    )
    for index in range(count):
        picture, instances = render(spec, seed, index)
        x = gap + (index % columns) * (cell + gap)
        y = gap + (index // columns) * (2 * cell + 3 * gap)
        for k, array in enumerate((picture, _masks_shown(picture, instances))):
            shown = Image.fromarray(array).resize((cell, cell), Image.Resampling.NEAREST)
            if k == 1:
                _draw_boxes(shown, instances, zoom)
            sheet.paste(shown, (x, y + k * (cell + gap // 2)))
    return sheet


_COLOURS = (
    (230, 60, 60),
    (60, 130, 235),
    (250, 190, 40),
    (60, 185, 90),
    (160, 80, 210),
    (40, 200, 210),
    (245, 130, 190),
    (150, 110, 70),
)


def _masks_shown(
    picture: np.ndarray[Any, Any], instances: list[WorldInstance]
) -> np.ndarray[Any, Any]:
    shown = (0.25 * picture + 0.75 * 245).astype(np.uint8)
    for k, instance in enumerate(instances):
        (x, y), (h, w) = instance.offset, instance.bitmap.shape
        window = shown[y : y + h, x : x + w]
        window[instance.bitmap > 0] = _COLOURS[k % len(_COLOURS)]
    return shown


def _draw_boxes(image: Image.Image, instances: list[WorldInstance], zoom: int) -> None:
    draw = ImageDraw.Draw(image)
    for k, instance in enumerate(instances):
        (x, y), (h, w) = instance.offset, instance.bitmap.shape
        colour = tuple(v // 2 for v in _COLOURS[k % len(_COLOURS)])
        draw.rectangle((x * zoom, y * zoom, (x + w) * zoom - 1, (y + h) * zoom - 1), outline=colour)
