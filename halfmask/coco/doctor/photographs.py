"""Looks at the photographs of a COCO file: are they there, whole, of the size the file
says, gray, twins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from halfmask.coco.file import CocoFile
from halfmask.coco.images import Pixels, missing_photographs, opened, photograph_path, to_rgb
from halfmask.coco.problems import Finding, Problem, ProblemKind
from halfmask.coco.records import file_name_of
from halfmask.errors import InputError

TWIN_BITS = 8
"""Bits of 64 in which the hashes of two photographs may differ for them to be reported
as twins. On COCO-mini, halving the size and strong compression change at most 4,
different photographs differ in at least 10.
"""
_FLAT = (
    2.0  # standard deviation of the gray levels below which a picture has no hash worth comparing
)
_EXIF_ORIENTATION = 274
_BLOCK = 1024

Hash = NDArray[np.bool_]


def check_photographs(
    file: CocoFile, folder: str | Path, step: Callable[[], object] = lambda: None
) -> list[Problem]:
    """Reads every photograph of a file and reports what is wrong with it.

    Args:
        file: the annotations.
        folder: where the photographs are.
        step: called after each photograph, for a progress bar.
    Raises:
        InputError: no such folder.
    """
    absent = {image["id"] for image in missing_photographs(folder, file.images)}
    found = [
        _problem(ProblemKind.PHOTO_MISSING, i, f"no file {_name(i)}")
        for i in file.images
        if i["id"] in absent
    ]
    present = [image for image in file.images if image["id"] not in absent]
    hashes: list[tuple[int, Hash]] = []

    def look(image: dict[str, Any]) -> tuple[list[Finding], Hash | None]:
        return _look(photograph_path(folder, file_name_of(image)), file.size_of(image["id"]))

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
        for image, (findings, code) in zip(present, pool.map(look, present), strict=True):
            found += [_problem(kind, image, text) for kind, text in findings]
            if code is not None:
                hashes.append((image["id"], code))
            step()
    order = {kind: position for position, kind in enumerate(ProblemKind)}
    return sorted([*found, *_twins(hashes)], key=lambda problem: order[problem.kind])


def _look(path: Path, size: tuple[int, int]) -> tuple[list[Finding], Hash | None]:
    try:
        with opened(path) as image:
            turn = image.getexif().get(_EXIF_ORIENTATION, 1)
            pixels = to_rgb(image)
    except InputError as error:
        return [(ProblemKind.PHOTO_UNREADABLE, str(error))], None
    findings: list[Finding] = []
    height, width = pixels.shape[:2]
    if (height, width) != size:
        hint = (
            "; they fit once the photograph is turned as its EXIF says"
            if turn in (5, 6, 7, 8) and (width, height) == size
            else ""
        )
        findings.append(
            (
                ProblemKind.PHOTO_SIZE,
                f"{width} × {height} pixels, the file says {size[1]} × {size[0]}{hint}",
            )
        )
    if turn in range(2, 9):
        findings.append((ProblemKind.PHOTO_TURNED, f"EXIF orientation {turn}"))
    if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all():
        findings.append((ProblemKind.PHOTO_GRAYSCALE, "three equal channels"))
    return findings, perceptual_hash(pixels)


def perceptual_hash(pixels: Pixels) -> Hash | None:
    """64 bits, bool [64], that survive scaling and compression: the signs of a
    picture's lowest frequencies against their median.

    None for a picture of (nearly) one colour.
    """
    small = np.asarray(
        Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.BOX),
        dtype=np.float64,
    )
    if small.std() < _FLAT:
        return None
    steps = np.arange(32)
    waves = np.cos(np.pi * (steps[None] + 0.5) * steps[:8, None] / 32)
    frequencies = (waves @ small @ waves.T).reshape(-1)
    return np.asarray(frequencies > np.median(frequencies[1:]))


def _twins(hashes: list[tuple[int, Hash]]) -> Iterator[Problem]:
    if len(hashes) < 2:
        return
    ids = [image_id for image_id, _ in hashes]
    signs = np.where(np.stack([code for _, code in hashes]), 1, -1).astype(np.float32)
    for start in range(0, len(ids), _BLOCK):
        # The product of signs is 64 minus twice the bits that differ.
        alike = signs[start : start + _BLOCK] @ signs[start:].T >= 64 - 2 * TWIN_BITS
        for i, j in np.argwhere(np.triu(alike, 1)).tolist():
            pair = (ids[start + i], ids[start + j])
            yield Problem(
                ProblemKind.PHOTO_TWINS,
                pair,
                f"images {pair[0]} and {pair[1]}: their photographs look the same",
            )


def _problem(kind: ProblemKind, image: dict[str, Any], text: str) -> Problem:
    return Problem(kind, (image["id"],), f"image {image['id']}: {text}")


def _name(image: dict[str, Any]) -> str:
    return file_name_of(image) or "(the record has no file_name)"
