"""Simulates partial supervision: only some classes of a data set keep their masks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from halfmask.coco.categories import resolve_masked
from halfmask.coco.edit import strip_annotation, strip_masks
from halfmask.coco.file import CocoFile
from halfmask.coco.large import LargeFile, open_large
from halfmask.coco.reading.read_as import ReadAs
from halfmask.datasets.opening import open_guarded
from halfmask.files.atomic import write_json
from halfmask.files.guard import Output
from halfmask.files.kinds import COCO
from halfmask.formats.report import ConversionReport
from halfmask.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Split:
    """What `split` wrote.

    Attributes:
        out: the written file.
        classes: number of classes.
        masked: number of classes that keep their masks.
        kept: usable masks in the written file.
        removed: usable masks that were removed.
        reading: what could not be read of a data set that is no COCO file.
    """

    out: str
    classes: int
    masked: int
    kept: int
    removed: int
    reading: ConversionReport = field(default_factory=ConversionReport)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "reading": self.reading.to_json()}


def split(
    data: str | Path,
    *,
    masked: str,
    out: str | Path,
    images: str | Path | None = None,
    crowd_masks: bool = False,
    read_as: str | None = None,
    progress: Progress | None = None,
) -> Split:
    """Keeps the masks of the named classes and removes all others, with their `area`.

    Crowds stay.

    Args:
        data: a data set in any format that `convert` reads.
        masked: classes whose masks stay: `voc`, `nonvoc`, `random:TRIAL:COUNT` or names
            `a,b,c`.
        out: COCO file to write; never the input.
        images: folder of the photographs, for formats without image sizes.
        crowd_masks: of a COCO file: masks with iscrowd 1 are masks of single objects.
        read_as: how a COCO file writes boxes or polygons; see `ReadAs.of`.
        progress: called while a data set in another format is read.
    Raises:
        InputError: `data` is no data set, `masked` names no class of it, or `out` is
            the input, something else, or cannot be written (see `guard`).
    """
    target = Path(out)
    outputs = [Output(target, "--out", COCO)]
    as_ = ReadAs.of(crowd_masks, read_as)
    opened = open_guarded(data, outputs, images=images, read_as=as_, progress=progress)
    large = open_large(opened.annotations, str(opened.original), progress)
    if large is not None:
        opened.note_findings(large)
        categories, name = large.index.categories, large.index.name
        keep = resolve_masked(masked, categories, name)
        before, after = _write_large(large, keep, target, progress=progress)
    else:
        file = opened.read()
        categories = file.categories
        keep = resolve_masked(masked, categories, file.name)
        stripped = CocoFile.from_document(strip_masks(file.document, keep), str(out))
        before, after = sum(file.mask_counts().values()), sum(stripped.mask_counts().values())
        write_json(target, stripped.document)
    return Split(
        out=str(out),
        classes=len(categories),
        masked=len(keep),
        kept=after,
        removed=before - after,
        reading=opened.report,
    )


def _write_large(
    large: LargeFile, keep: set[int], target: Path, *, progress: Progress | None
) -> tuple[int, int]:
    """Writes a file that does not fit into memory; returns its masks before and after."""
    index = large.index
    before = sum(index.mask_counts().values())
    after = sum(index.part(index.image_ids, keep).mask_counts().values())
    large.write(target, lambda annotation: strip_annotation(annotation, keep), progress)
    return before, after
