"""What every writer shares: its classes, and links to the photographs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from halfmask.coco.images import photograph_path
from halfmask.coco.supervision import provenance
from halfmask.errors import InputError
from halfmask.formats.report import ConversionReport
from halfmask.formats.sink import Size

_BREAKS = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]+")
"""Control characters and ends of lines, which XML and lists of names cannot hold."""
DRAWN = ("filled", "accepted")
"""States of masks that a model drew and no person changed."""
LOOSE = 1.5
"""Pixels between a side of a box and the mask's own box from which the box is its own."""


@dataclass(frozen=True, kw_only=True)
class ExportInstance:
    """One annotation.

    Attributes:
        annotation: the record.
        label: index in `ExportSource.classes`, from 0.
        name: name of the class.
        box: x, y, width, height, clipped to the image.
        mask: a valid segmentation, or None for a box-only annotation.
        suspect: whether the mask is a polygon that repeats the box.
        crowd: whether it is a region of many objects.
        own: the mask's own box, x, y, width, height.
        size: (H, W) of the image.
        report: counts what is lost.
    """

    annotation: dict[str, Any]
    label: int
    name: str
    box: tuple[float, float, float, float]
    mask: Any
    suspect: bool
    crowd: bool
    own: list[float] | None
    size: Size
    report: ConversionReport

    def note(self, what: str) -> None:
        """Counts content of the annotation that the format cannot hold."""
        self.report.note(what, f"annotation {self.annotation['id']}")

    @property
    def by_model(self) -> bool:
        """Whether a model drew the mask, and no person changed it."""
        return provenance(self.annotation) in DRAWN

    @property
    def loose(self) -> bool:
        """Whether the box differs from the mask's own."""
        return self.own is not None and differ(self.box, self.own)

    @property
    def polygons(self) -> list[list[float]] | None:
        """The polygons of the mask, or None for an RLE or no mask."""
        return self.mask if isinstance(self.mask, list) else None

    @property
    def attributes(self) -> dict[str, Any]:
        """The object `attributes` of the record, empty if it has none."""
        found = self.annotation.get("attributes")
        return found if isinstance(found, dict) else {}

    def flag(self, name: str) -> int:
        """Returns 1 if an attribute is set to a true value, else 0."""
        return int(self.attributes.get(name) in (1, True, "1", "true"))


@dataclass(frozen=True, kw_only=True)
class ExportImage:
    """An image and its instances; `stem` is its checked file name without the ending."""

    record: dict[str, Any]
    size: Size
    name: str
    stem: str
    instances: list[ExportInstance]


@dataclass(frozen=True, kw_only=True)
class ExportClasses:
    """The classes to write.

    Attributes:
        names: each name once, in the order of the category ids.
        ids: the category id of each name.
        index_of: category id → its position in `names`, of every category.
    """

    names: list[str]
    ids: list[int]
    index_of: dict[int, int]

    @classmethod
    def of(
        cls, categories: Sequence[dict[str, Any]], used: set[int], report: ConversionReport
    ) -> ExportClasses:
        """Returns the classes of a file.

        Categories of one name are one class. Roboflow writes a root category without
        annotations that may have the name of a real one.

        Args:
            categories: the records, by id.
            used: ids of categories that have annotations.
            report: counts names that change, and categories that share a name.
        """
        named: dict[str, list[int]] = {}
        for category in categories:
            named.setdefault(_tidy_name(category, report), []).append(category["id"])
        kept = {name: _kept(name, ids, used, report=report) for name, ids in named.items()}
        names = sorted(kept, key=kept.__getitem__)
        return cls(
            names=names,
            ids=[kept[name] for name in names],
            index_of={i: names.index(name) for name, ids in named.items() for i in ids},
        )


def _tidy_name(category: dict[str, Any], report: ConversionReport) -> str:
    name = str(category["name"])
    tidy = _BREAKS.sub(" ", name).strip() or f"class {category['id']}"
    if tidy != name:
        what = "class names with line breaks, control characters or spaces at their ends: "
        report.note(f"{what}written without them", f"{name!r} → {tidy!r}")
    return tidy


def _kept(name: str, ids: list[int], used: set[int], *, report: ConversionReport) -> int:
    """The first category of a name that has annotations, else the first."""
    real = [i for i in ids if i in used] or ids[:1]
    if len(real) > 1:
        what = "classes with the name of another: written as one class"
        report.note(what, f"{name!r}, ids {', '.join(map(str, real))}", times=len(real) - 1)
    empty = [i for i in ids if i not in real]
    what = "classes without annotations that have the name of another: left out"
    report.note(what, f"{name!r}, id {', '.join(map(str, empty))}", times=len(empty))
    return real[0]


class PhotographLinks:
    """Links photographs into a folder that is being written, or copies them.

    Every photograph has its own link: a reader that follows a linked folder would look
    for the labels beside the folder's target.

    Args:
        photographs: the folder that they are in; None: nothing is linked.
        folder: the folder that is being written.
        report: counts photographs that are not there.
        copy: whether photographs are copied.
    """

    def __init__(
        self, photographs: Path | None, folder: Path, report: ConversionReport, *, copy: bool
    ) -> None:
        self._from, self._folder, self._report = photographs, folder, report
        self._can_link = not copy

    def put(self, name: str, place: PurePosixPath) -> None:
        """Links or copies a photograph.

        Args:
            name: its name below the folder of the photographs.
            place: of the link, below the folder that is being written.
        """
        if self._from is None:
            return
        try:
            found = photograph_path(self._from, name)
        except InputError as error:
            self._report.fault("photographs that are not there: left out", error)
            return
        if not found.is_file():
            self._report.fault("photographs that are not there: left out", found)
            return
        target = self._folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if self._can_link:
            try:
                target.symlink_to(found.absolute())
            except OSError:  # a file system, or a Windows account, without links
                self._can_link = False
        if not self._can_link:
            shutil.copyfile(found, target)


def differ(first: Sequence[float], second: Sequence[float], tolerance: float = LOOSE) -> bool:
    """Returns whether a side of two boxes differs by more than a number of pixels.

    Args:
        first, second: x, y, width, height.
        tolerance: pixels.
    """
    sides = [(a[0], a[1], a[0] + a[2], a[1] + a[3]) for a in (first, second)]
    return any(abs(a - b) > tolerance for a, b in zip(*sides, strict=True))
