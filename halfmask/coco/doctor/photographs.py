"""Finds missing, damaged, wrong-sized and duplicate photographs of a COCO file."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from halfmask.coco.annotations import Annotations
from halfmask.coco.images import (
    Pixels,
    missing_photographs,
    opened,
    photograph_path,
    rgb_and_range,
    why_missing,
)
from halfmask.coco.photographs.depth import ValueRange, is_dark
from halfmask.coco.photographs.orientation import Frame, Orientation, Ruling, fault_of_frame
from halfmask.coco.photographs.reader import evidence_of, sampled_rows
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
_BLOCK = 1024

Hash = NDArray[np.bool_]


def check_photographs(
    file: Annotations, folder: str | Path, progress: Progress | None = None
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
    seen: list[tuple[Record, SeenPhotograph]] = []

    def look(image: Record) -> SeenPhotograph | str:
        return _look(photograph_path(folder, file_name_of(image)))

    with ThreadPoolExecutor() as pool:  # Pillow decodes outside the interpreter's lock
        both = zip(present, pool.map(look, present), strict=True)
        for done, (image, photograph) in enumerate(both, 1):
            if isinstance(photograph, str):
                found.append(_problem(ProblemKind.PHOTO_UNREADABLE, image, photograph))
            else:
                seen.append((image, photograph))
            if progress is not None:
                progress("checking photographs", done, len(present))
    ruling = evidence_of(sampled_rows(file, folder)).ruling()
    for image, photograph in seen:
        size = file.size_of(image["id"])
        said = [*_of_frame(photograph.orientation, size, ruling), *_of_values(photograph)]
        found += [_problem(kind, image, text) for kind, text in said]
    hashes = [(image["id"], p.hash) for image, p in seen if p.hash is not None]
    return in_order([*found, *_twins(hashes)])


@dataclass(frozen=True, kw_only=True)
class SeenPhotograph:
    """What the findings about a photograph need.

    Attributes:
        orientation: its EXIF orientation and size.
        range: of its values, if it has more than 8 bits.
        dark: whether such a photograph is dark although it is scaled.
        gray: whether its three channels are equal.
        hash: see `perceptual_hash`.
    """

    orientation: Orientation
    range: ValueRange | None
    dark: bool
    gray: bool
    hash: Hash | None


def _look(path: Path) -> SeenPhotograph | str:
    """Reads a photograph; returns why it cannot be read instead."""
    try:
        with opened(path) as image:
            orientation = Orientation.of(image)
            pixels, scale = rgb_and_range(image)
    except InputError as error:
        return str(error)
    equal = (pixels[..., :1] == pixels).all()
    dark = scale is not None and is_dark(pixels)
    return SeenPhotograph(
        orientation=orientation,
        range=scale,
        dark=dark,
        gray=bool(equal),
        hash=perceptual_hash(pixels),
    )


def _of_frame(found: Orientation, size: tuple[int, int], ruling: Ruling) -> Iterator[Finding]:
    frame = ruling.frame(found, size)
    if frame is None:
        fits = size in (found.stored, found.turned)
        kind = ProblemKind.PHOTO_EXCHANGED if fits else ProblemKind.PHOTO_SIZE
        yield kind, fault_of_frame(found, size)
    elif found.turn != 1:
        undecided = found.stored == found.turned
        why = "its size fits both frames, as most others" if undecided else "as its size says"
        if undecided and not ruling.decided:
            why = "its size fits both frames, as a viewer shows it"
        remedy = "save it turned" if frame == Frame.TURNED else "keep its pixels"
        text = f"EXIF orientation {found.turn}: read {frame}, {why}"
        yield ProblemKind.PHOTO_TURNED, f"{text}; to end the doubt, {remedy} and remove the tag"


def _of_values(photograph: SeenPhotograph) -> Iterator[Finding]:
    if photograph.range is not None:
        clear = photograph.range.plain and not photograph.dark
        kind = ProblemKind.PHOTO_DEEP if clear else ProblemKind.PHOTO_RANGE
        text = f"read by the range {photograph.range.name}"
        dark = ", hardly a value in its upper three quarters" if photograph.dark else ""
        yield kind, text + (dark if clear or dark else ", which not all values fit")
    if photograph.gray:
        yield ProblemKind.PHOTO_GRAYSCALE, "three equal channels"


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
