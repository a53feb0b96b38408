"""Finds missing, damaged, wrong-sized and duplicate photographs of a COCO file."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from halfmask.coco.file import CocoFile
from halfmask.coco.images import (
    Pixels,
    missing_photographs,
    opened,
    photograph_path,
    to_rgb,
    why_missing,
)
from halfmask.coco.problems import Finding, Problem, ProblemKind, in_order
from halfmask.coco.records import Record, file_name_of
from halfmask.errors import InputError
from halfmask.progress import Progress

TWIN_BITS = 8
"""Most bits of 64 in which the hashes of near-duplicate photographs differ.

On COCO-mini, halving the size and strong compression change at most 4 bits; different
photographs differ in at least 10.
"""
_FLAT = 2.0  # smallest standard deviation of gray levels for which a hash is meaningful
_EXIF_ORIENTATION = 274
_BLOCK = 1024

Hash = NDArray[np.bool_]


def check_photographs(
    file: CocoFile, folder: str | Path, progress: Progress | None = None
) -> list[Problem]:
    """Reads every photograph of a file and returns the findings.

    Args:
        file: the annotations.
        folder: folder of the photographs.
        progress: called after each photograph.
    Raises:
        InputError: there is no such folder.
    """
    absent = {image["id"] for image in missing_photographs(folder, file.images)}
    found = [
        _problem(ProblemKind.PHOTO_MISSING, i, _absent(folder, i))
        for i in file.images
        if i["id"] in absent
    ]
    present = [image for image in file.images if image["id"] not in absent]
    hashes: list[tuple[int, Hash]] = []

    def look(image: Record) -> tuple[list[Finding], Hash | None]:
        return _look(photograph_path(folder, file_name_of(image)), file.size_of(image["id"]))

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
        both = zip(present, pool.map(look, present), strict=True)
        for done, (image, (findings, code)) in enumerate(both, 1):
            found += [_problem(kind, image, text) for kind, text in findings]
            if code is not None:
                hashes.append((image["id"], code))
            if progress is not None:
                progress("checking photographs", done, len(present))
    return in_order([*found, *_twins(hashes)])


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
        text = f"{width} × {height} pixels, the file says {size[1]} × {size[0]}"
        if turn in (5, 6, 7, 8) and (width, height) == size:
            text += "; they match once the photograph is rotated as its EXIF data say"
        findings.append((ProblemKind.PHOTO_SIZE, text))
    if turn in range(2, 9):
        findings.append((ProblemKind.PHOTO_TURNED, f"EXIF orientation {turn}"))
    if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all():
        findings.append((ProblemKind.PHOTO_GRAYSCALE, "three equal channels"))
    return findings, perceptual_hash(pixels)


def perceptual_hash(pixels: Pixels) -> Hash | None:
    """Returns 64 bits, bool [64], that survive scaling and compression.

    Each bit says whether one of the picture's lowest frequencies exceeds their median.
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


def _problem(kind: ProblemKind, image: Record, text: str) -> Problem:
    return Problem(kind, (image["id"],), f"image {image['id']}: {text}")


def _absent(folder: str | Path, image: Record) -> str:
    name = file_name_of(image)
    why = why_missing(folder, name)
    return f"no file {name or '(the record has no file_name)'}" + (f"; {why}" if why else "")
