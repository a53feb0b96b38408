"""Reads the photographs of a COCO file, all by one ruling about their frame."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from halfmask.coco.annotations import Annotations
from halfmask.coco.images import Pixels, opened, photograph_path, read_photograph
from halfmask.coco.photographs.orientation import Frame, Orientation, Ruling, Size
from halfmask.coco.records import Record, file_name_of
from halfmask.coco.supervision import is_box
from halfmask.errors import InputError

logger = logging.getLogger(__name__)

LOOKED_AT = 256
"""Photographs of a file whose headers are read for a ruling, evenly chosen."""
_OVER = 0.02
"""Share of a side by which a box reaches beyond the image without being drawn roughly."""

Box = Sequence[float]
"""x, y, width, height as the file has them."""
Row = tuple[Path, Size, Sequence[Box]]
"""A photograph, (H, W) in its record, and the boxes on it."""


@dataclass
class Evidence:
    """What the photographs of a file say about its frame.

    Attributes:
        fitting: photographs with a rotation, by the only frame that their size fits.
        undecided: photographs with a rotation whose size fits both frames.
        exchanged: photographs by the frame that their size fits and their boxes do not.
        straight: photographs by the frame that both fit, and no other does.
    """

    fitting: Counter[Frame] = field(default_factory=Counter)
    undecided: int = 0
    exchanged: Counter[Frame] = field(default_factory=Counter)
    straight: Counter[Frame] = field(default_factory=Counter)

    def add(self, found: Orientation, size: Size, boxes: Iterable[Box]) -> None:
        """Counts a photograph."""
        fits = [frame for frame in Frame if found.size_in(frame) == size]
        if found.turn == 1 or not fits:
            return
        if len(fits) > 1:
            self.undecided += 1
            return
        self.fitting[fits[0]] += 1
        rows = [box for box in boxes if is_box(box)]
        here, there = _fit(rows, size), _fit(rows, size[::-1])
        self.exchanged[fits[0]] += there and not here
        self.straight[fits[0]] += here and not there

    def ruling(self) -> Ruling:
        """Returns the ruling that most photographs ask for."""
        stored = self.fitting[Frame.STORED] > self.fitting[Frame.TURNED]
        contradicted = [f for f in Frame if self.exchanged[f] > self.straight[f]]
        otherwise = Frame.STORED if stored else Frame.TURNED
        return Ruling(otherwise, frozenset(contradicted), bool(self.fitting))


def evidence_of(rows: Iterable[Row]) -> Evidence:
    """Returns what photographs say; those that cannot be read say nothing."""
    out = Evidence()
    for path, size, boxes in rows:
        try:
            with opened(path) as image:
                found = Orientation.of(image)
        except InputError:
            continue
        out.add(found, size, boxes)
    return out


def ruling_of(rows: Iterable[Row], name: str) -> Ruling:
    """Returns the ruling for photographs, and logs what it decides without evidence.

    Args:
        rows: photographs of a data set.
        name: of the data set, for the log.
    """
    found = evidence_of(rows)
    ruling = found.ruling()
    if found.undecided:
        by = "as most others" if ruling.decided else "as a viewer shows them"
        logger.warning(
            "%s: width and height do not say in which frame photographs with an EXIF rotation "
            "are (%d of those looked at): read %s, %s; `halfmask doctor` lists them",
            name,
            found.undecided,
            ruling.otherwise,
            by,
        )
    return ruling


@dataclass(frozen=True)
class PhotographReader:
    """Reads the photographs of a file; it can be sent to another process.

    Attributes:
        folder: of the photographs.
        ruling: about their frame.
        name: of the file, for errors.
    """

    folder: Path
    ruling: Ruling
    name: str

    def resolved(self) -> PhotographReader:
        """Returns the reader with the folder's absolute path."""
        return replace(self, folder=self.folder.resolve())

    def read(self, image: Record, size: Size) -> Pixels:
        """Reads the photograph of an image record.

        Args:
            image: the record.
            size: its (H, W).
        Returns:
            uint8 [H, W, 3], RGB, in the frame of the record.
        Raises:
            InputError: the record has no name or one that leads out of the folder; the
                file is missing, cut short or no image, or has the size in no frame.
        """
        where = f"image id {image['id']}"
        path = self.path_of(image)
        return read_photograph(path, where, size=size, ruling=self.ruling, file=self.name)

    def path_of(self, image: Record) -> Path:
        """Returns where the photograph of an image record is.

        Raises:
            InputError: the record has no name or one that leads out of the folder.
        """
        return photograph_path(self.folder, file_name_of(image), f"image id {image['id']}")


def reader_of(
    file: Annotations, folder: str | Path, image_ids: Sequence[int] | None = None
) -> PhotographReader:
    """Returns the reader of a file's photographs, after a look at some of them.

    Args:
        file: the annotations.
        folder: of the photographs.
        image_ids: the images that are needed; None: all.
    """
    ruling = ruling_of(sampled_rows(file, folder, image_ids), file.name)
    return PhotographReader(Path(folder), ruling, file.name)


def sampled_rows(
    file: Annotations, folder: str | Path, image_ids: Sequence[int] | None = None
) -> Iterator[Row]:
    """Yields the photographs of a file that a ruling is made from.

    Args:
        file, folder, image_ids: as in `reader_of`.
    """
    ids = file.image_ids if image_ids is None else image_ids
    step = max(1, len(ids) // LOOKED_AT)
    for image_id in ids[::step]:
        row = row_of(file, Path(folder), image_id)
        if row is not None:
            yield row


def row_of(file: Annotations, folder: Path, image_id: int) -> Row | None:
    """Returns an image's photograph, size and boxes; None without a path."""
    try:
        path = photograph_path(folder, file.file_name_of(image_id))
    except InputError:
        return None
    boxes = [annotation["bbox"] for annotation in file.annotations_of(image_id)]
    return path, file.size_of(image_id), boxes


def _fit(boxes: Sequence[Box], size: Size) -> bool:
    """Whether no box reaches far beyond an image of (H, W)."""
    height, width = size
    return all(
        x + w <= width * (1 + _OVER) and y + h <= height * (1 + _OVER) for x, y, w, h in boxes
    )
