"""What a COCO file gives to other formats, annotation by annotation: class, box, usable
mask; and a count of what it cannot give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfmask.coco.file import CocoFile
from halfmask.coco.records import file_name_of
from halfmask.coco.supervision import MaskState, provenance
from halfmask.formats.names import stems_of
from halfmask.formats.report import Report
from halfmask.formats.sink import Size, own_box

_KNOWN = {
    "id",
    "image_id",
    "category_id",
    "bbox",
    "area",
    "segmentation",
    "iscrowd",
    "halfmask",
    "attributes",
}
_KNOWN_OF_IMAGE = {"id", "file_name", "width", "height", "coco_url"}
_KNOWN_OF_FILE = {"images", "annotations", "categories"}

LOOSE = 1.5
"""Pixels by which a side of a box may differ from its mask's own before the box counts
as one of its own.
"""


@dataclass(frozen=True)
class Instance:
    """One annotation.

    Attributes:
        annotation: the record.
        label: position among the file's categories, from 0.
        name: of the class.
        box: x, y, width, height, clipped to the image.
        mask: a sound segmentation, or None: a box-only annotation.
        suspect: whether the mask is a polygon that repeats the box.
        crowd: whether it is a region of many objects.
        own: the mask's own box, x, y, width, height.
    """

    annotation: dict[str, Any]
    label: int
    name: str
    box: tuple[float, float, float, float]
    mask: Any
    suspect: bool
    crowd: bool
    own: list[float] | None

    @property
    def loose(self) -> bool:
        """Whether the box is not the mask's own."""
        return self.own is not None and differ(self.box, self.own)

    @property
    def polygons(self) -> list[list[float]] | None:
        """The mask as the polygons of the file; None for an RLE or no mask."""
        return self.mask if isinstance(self.mask, list) else None


@dataclass(frozen=True)
class Page:
    """An image and its instances; `stem` is its file name without ending, checked to
    lead nowhere else.
    """

    record: dict[str, Any]
    size: Size
    name: str
    stem: str
    instances: list[Instance]


@dataclass(frozen=True)
class Book:
    """A COCO file to be written in another format.

    Attributes:
        file: the file.
        tally: counts what gets lost.
        holds: what the format can express: of `crowd`, `halfmask`, `attributes`,
            `loose`.
        target: the name of the format, for the counts.
    """

    file: CocoFile
    tally: Report
    holds: frozenset[str]
    target: str

    @classmethod
    def read(
        cls, path: Path, tally: Report, target: str, holds: frozenset[str] = frozenset()
    ) -> Book:
        """Reads a file; what has no usable box, image or class is counted.

        Raises:
            InputError: no COCO file.
        """
        book = cls(CocoFile.read(path), tally, holds, target)
        for problem in book.file.structure:
            tally.fault(
                f"{problem.facts.heading}: {problem.facts.consequence.split(':')[0]}",
                problem.message,
            )
        book._count_keys("categories", book.file.categories, {"id", "name"})
        book._count_keys("images", book.file.images, _KNOWN_OF_IMAGE)
        book._count_keys("files", [book.file.document], _KNOWN_OF_FILE)
        return book

    @property
    def names(self) -> list[str]:
        """The class names, by label."""
        return [str(category["name"]) for category in self.file.categories]

    def pages(self) -> Iterator[Page]:
        """Image by image.

        Raises:
            InputError: a file name leads out of the folder, or two differ in their
                ending only.
        """
        names = [file_name_of(image) for image in self.file.images]
        stems = stems_of(names, self.file.name)
        for image, name in zip(self.file.images, names, strict=True):
            size = self.file.size_of(image["id"])
            states = self.file.states_of(image["id"], "filled")
            rows = zip(self.file.annotations_of(image["id"]), states, strict=True)
            instances = [self._instance(annotation, state, size) for annotation, state in rows]
            yield Page(image, size, name, stems[name], instances)

    def _count_keys(self, what: str, records: list[dict[str, Any]], known: set[str]) -> None:
        """Counts records with keys that the target has no place for."""
        for record in records:
            extra = ", ".join(key[:40] for key in sorted(set(record) - known))
            if extra:
                where = "" if what == "files" else f"id {record['id']}"
                self.tally.note(f"{what} with {extra}: {self.target} has no place for that", where)

    def _instance(self, annotation: dict[str, Any], state: MaskState, size: Size) -> Instance:
        crowd = state == MaskState.CROWD
        if crowd:
            state = self.file.state_of({**annotation, "iscrowd": 0}, "filled")
        mask = annotation["segmentation"] if state in (MaskState.MASK, MaskState.SUSPECT) else None
        label = self.file.label_of[annotation["category_id"]] - 1
        box = _clipped(annotation["bbox"], size)
        own = None if mask is None else own_box(mask, size)
        found = Instance(
            annotation,
            label,
            self.file.name_of(annotation["category_id"]),
            box,
            mask,
            state == MaskState.SUSPECT,
            crowd,
            own,
        )
        self._count(found, state)
        return found

    def _count(self, found: Instance, state: MaskState) -> None:
        annotation, where = found.annotation, f"annotation {found.annotation['id']}"
        note = self.tally.note
        if state == MaskState.BROKEN:
            self.tally.fault("broken masks: the box is written without one", where)
        if state == MaskState.REJECTED:
            note("masks that were rejected in review: the box is written without one", where)
        elif provenance(annotation) and "halfmask" not in self.holds:
            note(
                f"masks with halfmask's note (state, score): {self.target} has no place for "
                "the note",
                where,
            )
        if found.loose and "loose" not in self.holds:
            note(f"boxes that are not their mask's own: {self.target} takes the mask's", where)
        if any(abs(a - b) > 0.5 for a, b in zip(found.box, annotation["bbox"], strict=True)):
            note("boxes that stick out of their image: clipped", where)
        extra = set(annotation) - _KNOWN | ({"attributes"} & set(annotation) - self.holds)
        for key in sorted(extra):
            note(f"annotations with {key[:40]!r}: {self.target} has no place for it", where)


def _clipped(bbox: list[float], size: Size) -> tuple[float, float, float, float]:
    x, y, w, h = (float(v) for v in bbox)
    x0, y0 = max(x, 0.0), max(y, 0.0)
    return x0, y0, min(x + w, size[1]) - x0, min(y + h, size[0]) - y0


def differ(first: Sequence[float], second: Sequence[float], tolerance: float = LOOSE) -> bool:
    """Whether a side of one box, x, y, width, height, is more than `tolerance` pixels
    from the other's.
    """
    sides = [(a[0], a[1], a[0] + a[2], a[1] + a[3]) for a in (first, second)]
    return any(abs(a - b) > tolerance for a, b in zip(*sides, strict=True))
