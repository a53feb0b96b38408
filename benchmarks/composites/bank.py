"""The bank that composites are made from: cut-outs by class, and pieces of photographs
without objects.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.composites.cutouts import (
    Array,
    Candidate,
    Cutout,
    Limits,
    candidates,
    cut_out,
    free_square,
)
from benchmarks.composites.parts import photographs_of_part
from halfmask.coco.file import CocoFile
from halfmask.coco.images import check_folder, photograph_path, read_photograph
from halfmask.coco.records import file_name_of
from halfmask.errors import InputError
from halfmask.files.atomic import write_json

MOST_CUTOUTS = 100
"""Cut-outs of a class that are kept; a file with more gives the first in an order of
its photographs drawn once and for all.
"""
MOST_BACKGROUNDS = 600
FEW = 4
"""A class with fewer good cut-outs gets poor ones too."""
# cells along the side of a background that stands in where a photograph has no square
# without objects
_CLOUD = 5


@dataclass(frozen=True)
class Background:
    """A square of a photograph, uint8 [s, s, 3] RGB, and the photograph's id."""

    pixels: Array
    image_id: int


@dataclass(frozen=True)
class Bank:
    """What a set of composites is made from; read-only."""

    cutouts: list[Cutout]
    backgrounds: list[Background]

    @cached_property
    def by_class(self) -> dict[int, list[Cutout]]:
        """The cut-outs of each category id that has some, by id."""
        out: dict[int, list[Cutout]] = {}
        for cutout in sorted(self.cutouts, key=lambda c: (c.category_id, c.annotation_id)):
            out.setdefault(cutout.category_id, []).append(cutout)
        return out

    def save(self, folder: Path) -> None:
        """Writes the bank so that many processes can share it: all pixels in one file
        that `load` maps.
        """
        pieces = [c.pixels for c in self.cutouts] + [b.pixels for b in self.backgrounds]
        np.save(folder / "pixels.npy", np.concatenate([p.reshape(-1) for p in pieces]))
        cutouts = [
            (*c.pixels.shape, c.native, c.category_id, c.annotation_id, c.image_id)
            for c in self.cutouts
        ]
        backgrounds = [(*b.pixels.shape, b.image_id) for b in self.backgrounds]
        write_json(folder / "bank.json", {"cutouts": cutouts, "backgrounds": backgrounds})

    @classmethod
    def load(cls, folder: Path) -> Bank:
        """Reads what `save` wrote; the pixels stay on disk until they are looked at."""
        table = json.loads((folder / "bank.json").read_text(encoding="utf-8"))
        flat, start = np.load(folder / "pixels.npy", mmap_mode="r"), 0
        cutouts, backgrounds = [], []
        for h, w, c, *facts in table["cutouts"]:
            cutouts.append(Cutout(flat[start : start + h * w * c].reshape(h, w, c), *facts))
            start += h * w * c
        for h, w, c, image_id in table["backgrounds"]:
            backgrounds.append(
                Background(flat[start : start + h * w * c].reshape(h, w, c), image_id)
            )
            start += h * w * c
        return cls(cutouts, backgrounds)


def build_bank(
    file: CocoFile,
    photographs: Path,
    part: tuple[int, int],
    limits: Limits,
    size: int,
    progress: Callable[[int, int], object] | None = None,
) -> Bank:
    """Looks through the photographs of a part. The same arguments give the same bank.

    Args:
        photographs: their folder.
        part: (k, n), see `photographs_of_part`.
        limits: which objects are good enough.
        size: side of the composites; backgrounds are kept at up to one and a half times
            that.
        progress: called with the photographs looked at, and their number.
    Raises:
        InputError: photographs are missing or not of the file's size; nothing to cut
            out.
    """
    records = photographs_of_part(file, part)
    check_folder(photographs, ((image["id"], file_name_of(image)) for image in records), file.name)
    builder = _Builder(file, photographs, limits, size)
    for seen, place in enumerate(np.random.default_rng(0).permutation(len(records)).tolist(), 1):
        if builder.full:
            break
        builder.look_at(records[place])
        if progress is not None:
            progress(seen, len(records))
    bank = builder.bank()
    if not bank.cutouts:
        masks = sum(file.mask_counts().values())
        where = f"part {part[0]}/{part[1]} of {file.name}" if part[1] > 1 else file.name
        raise InputError(
            f"{where}: expected objects with usable masks to cut out, found none that is large "
            "and whole enough "
            f"({masks} usable masks in {len(file.images)} images); give a file with masks, see "
            "`halfmask doctor`"
        )
    return bank


class _Builder:
    def __init__(self, file: CocoFile, photographs: Path, limits: Limits, size: int) -> None:
        self.file, self.photographs, self.limits, self.size = file, photographs, limits, size
        self.good: dict[int, list[Cutout]] = {c: [] for c in file.label_of}
        self.poor: dict[int, list[Cutout]] = {c: [] for c in file.label_of}
        self.free: list[Background] = []
        self.clouds: list[Background] = []

    @property
    def full(self) -> bool:
        return not self._wanted() and len(self.free) >= MOST_BACKGROUNDS

    def look_at(self, image: dict[str, Any]) -> None:
        """Takes from a photograph what is still wanted."""
        found = [
            c
            for c in candidates(self.file, image["id"], self._wanted(), self.limits)
            if self._has_room(c)
        ]
        ground = len(self.free) < MOST_BACKGROUNDS
        if not found and not ground:
            return
        pixels = _read(self.file, image, self.photographs)
        for candidate in found:
            if self._has_room(candidate):
                self._shelf(candidate).append(cut_out(pixels, candidate, self.limits.keep))
        if ground:
            self._take_background(pixels, image["id"])

    def bank(self) -> Bank:
        """What was found: good cut-outs, poor ones where a class has few; clouds only
        where no photograph has a free square.
        """
        cutouts = []
        for category, good in self.good.items():
            cutouts += good if len(good) >= FEW else [*good, *self.poor[category]][:FEW]
        return Bank(cutouts, self.free or self.clouds)

    def _wanted(self) -> set[int]:
        return {category for category, good in self.good.items() if len(good) < MOST_CUTOUTS}

    def _shelf(self, candidate: Candidate) -> list[Cutout]:
        return (self.good if candidate.good else self.poor)[candidate.annotation["category_id"]]

    def _has_room(self, candidate: Candidate) -> bool:
        return len(self._shelf(candidate)) < (MOST_CUTOUTS if candidate.good else FEW)

    def _take_background(self, pixels: Array, image_id: int) -> None:
        square = free_square(self.file, image_id, least=(3 * self.size) // 4)
        if square is not None:
            x, y, side = square
            piece = Image.fromarray(pixels[y : y + side, x : x + side])
            keep = min(side, (3 * self.size) // 2)
            shown = np.array(piece.resize((keep, keep), Image.Resampling.HAMMING))
            self.free.append(Background(shown, image_id))
        elif not self.free and len(self.clouds) < MOST_BACKGROUNDS:
            whole = Image.fromarray(pixels).resize((_CLOUD, _CLOUD), Image.Resampling.BOX)
            self.clouds.append(
                Background(
                    np.array(whole.resize((self.size, self.size), Image.Resampling.BICUBIC)),
                    image_id,
                )
            )


def _read(file: CocoFile, image: dict[str, Any], photographs: Path) -> Array:
    where = f"image id {image['id']}"
    path = photograph_path(photographs, file_name_of(image), where)
    pixels = read_photograph(path, where)
    height, width = file.size_of(image["id"])
    if pixels.shape[:2] != (height, width):
        raise InputError(
            f"{path} (image id {image['id']}): expected {width} × {height} pixels as "
            f"{file.name} says, "
            f"found {pixels.shape[1]} × {pixels.shape[0]}; correct the file's width and height "
            "or the photograph"
        )
    return pixels
