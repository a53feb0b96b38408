"""`halfmask.index`: writes the index of a large COCO file."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from halfmask.coco.index.place import index_path, open_index
from halfmask.coco.reading.read_as import ReadAs
from halfmask.datasets.opening import open_guarded
from halfmask.files.guard import Output
from halfmask.files.kinds import ANY_FOLDER, OWN_NAME
from halfmask.formats.report import ConversionReport
from halfmask.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """The index of a COCO file, as `index` left it.

    Attributes:
        path: the index file.
        images: usable images.
        boxes: annotations whose box is learnt from.
        masks: usable masks.
        left_out: unusable images and annotations, by kind of fault.
        bytes: size of the index file.
        seconds: time that `index` took.
        data: the indexed COCO file: the data set, or its copy if it has another format.
        reading: what could not be read of a data set that is no COCO file.
    """

    path: str
    images: int
    boxes: int
    masks: int
    left_out: dict[str, int]
    bytes: int
    seconds: float
    data: str
    reading: ConversionReport = field(default_factory=ConversionReport)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "reading": self.reading.to_json()}


def index(
    data: str | Path,
    *,
    folder: str | Path | None = None,
    anew: bool = False,
    images: str | Path | None = None,
    crowd_masks: bool = False,
    read_as: str | None = None,
    progress: Progress | None = None,
) -> Indexed:
    """Writes the index of a COCO file, unless a current one exists.

    `train` and `evaluate` read a file that has an index through it.

    Args:
        data: a COCO instances file of any size, or a data set in another format that
            `convert` reads; its COCO copy gets the index.
        folder: where the index goes; None: the folder that the environment variable
            HALFMASK_INDEX_FOLDER names, else beside the file. `train` and `evaluate`
            look there too.
        anew: whether to write it even if a current one exists.
        images: folder of the photographs, for formats without image sizes.
        crowd_masks: of a COCO file: masks with iscrowd 1 are masks of single objects.
        read_as: how a COCO file writes boxes or polygons; see `ReadAs.of`.
        progress: reports MiB read.
    Raises:
        InputError: `data` is no data set, or the index cannot be written or would
            be an input (see `guard`).
    """
    start = time.perf_counter()
    named = [Output(folder, "--folder", ANY_FOLDER)]
    as_ = ReadAs.of(crowd_masks, read_as)
    opened = open_guarded(data, named, images=images, read_as=as_, progress=progress)
    path = opened.annotations
    opened.guard([Output(index_path(path, folder), "the index", OWN_NAME)])
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    made = open_index(path, progress, anew=anew, folder=folder)
    opened.note_findings(made)
    target = index_path(path, folder)
    return Indexed(
        path=str(target),
        images=len(made.images),
        boxes=made.objects,
        masks=sum(made.mask_counts().values()),
        left_out=dict(made.facts["left_out"]),
        bytes=target.stat().st_size,
        seconds=time.perf_counter() - start,
        data=str(path),
        reading=opened.report,
    )
