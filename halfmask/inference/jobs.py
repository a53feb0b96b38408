"""The photographs of `predict`, the boxes that they come with, and the COCO file it writes."""

from __future__ import annotations

import datetime
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfmask._version import __version__
from halfmask.coco.file import CocoFile
from halfmask.coco.locate import name_key, nearest
from halfmask.coco.photographs.reader import LOOKED_AT, Row
from halfmask.coco.records import Box, clip_box, file_name_of
from halfmask.coco.results import Results, read_results
from halfmask.coco.supervision import is_crowd
from halfmask.errors import InputError
from halfmask.formats.detect import detect_format
from halfmask.formats.source import DataSource, open_source
from halfmask.inference.complete.filling import fillings
from halfmask.inference.images import images_in
from halfmask.inference.prediction import Prediction
from halfmask.inference.predictor import Predictor
from halfmask.inference.runtime.use import unusual

logger = logging.getLogger(__name__)

MOST_DETECTIONS = 100
"""Boxes of a results file that are filled in an image, by score, as in `evaluate`."""
_WITHOUT_SIZES = ("open-images", "label-studio", "voc", "labelme", "via", "supervisely", "datumaro")
"""Formats whose files may lack the sizes of photographs."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One photograph.

    Attributes:
        path: the photograph.
        image_id: the file's, or the number of the photograph.
        size: (H, W) in the file's record; None without a file.
        boxes: xyxy, given by a file; None: the model finds them.
        category_ids: of the boxes.
        scores: of the boxes, if they are a detector's.
        as_drawn: the boxes of a file, x, y, width, height, not clipped.
        categories: the file's.
    """

    path: Path
    image_id: int
    size: tuple[int, int] | None = None
    boxes: list[Box] | None = None
    category_ids: tuple[int, ...] = ()
    scores: list[float] | None = None
    as_drawn: tuple[list[float], ...] = ()
    categories: tuple[Any, ...] = ()


def photographs_below(
    images: Sequence[str | Path], skip: Path | None = None
) -> tuple[list[Path], Path]:
    """Returns the photographs, and the folder that holds all of them.

    Args:
        images: photographs, or folders of them, with the folders below.
        skip: a folder to leave out: an earlier run may have written its overlays there.
    Raises:
        InputError: there are none.
    """
    if not images:
        raise InputError("images: expected photographs or folders of them, found none")
    given = [Path(image) for image in images]
    folders = {str((one if one.is_dir() else one.parent).absolute()) for one in given}
    root = Path(os.path.commonpath(folders))
    if len(given) == 1:  # as the user wrote it
        root = given[0] if given[0].is_dir() else given[0].parent
    paths = [path for one in given for path in (images_in(one, skip) if one.is_dir() else [one])]
    return paths, root


def name_below(root: Path, path: Path) -> str:
    """Returns a photograph's path below the folder that holds all of them."""
    return Path(os.path.relpath(path.absolute(), root.absolute())).as_posix()


def open_boxes(data: Path, folder: Path | None) -> DataSource:
    """Opens a data set of boxes; sizes that it lacks come from a folder of photographs.

    Raises:
        InputError: as `open_source`.
    """
    needs_sizes = detect_format(data) in _WITHOUT_SIZES
    return open_source(data, images=folder if needs_sizes else None)


def jobs_of(paths: list[Path], data: DataSource | None, detections: str | Path | None) -> list[Job]:
    """Returns the photographs with their boxes: `data`'s, or those of `detections`.

    Raises:
        InputError: a file cannot be used, or `data` names none of the photographs.
    """
    if data is None:
        return [Job(path=path, image_id=k + 1) for k, path in enumerate(paths)]
    file = data.read()
    results = None if detections is None else read_results(detections, file, MOST_DETECTIONS)
    if results is not None and results.outside:
        logger.warning("%s: boxes left out, outside their image: %d", detections, results.outside)
    images = _records(paths, file)
    jobs = [_job(path, image["id"], file, results=results) for path, image in images]
    if not jobs:
        raise InputError(
            f"{file.name}: names none of the {len(paths)} photographs; images are matched by "
            "file name"
        )
    return jobs


def _records(paths: list[Path], file: CocoFile) -> list[tuple[Path, dict[str, Any]]]:
    """Returns the photographs that the file names, with their records.

    Names are alike if their last parts are. Of several, the one decides with which most
    of the folders before it are alike.
    """
    keys = [name_key(file_name_of(image)) for image in file.images]
    by_last: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        by_last.setdefault(key[-1] if key else "", []).append(position)
    own = [name_key(path.as_posix()) for path in paths]
    found: dict[int, int | str] = {}
    users: dict[int, list[int]] = {}
    for k, key in enumerate(own):
        same = by_last.get(key[-1], [])
        near = nearest(key, [keys[position] for position in same])
        if len(near) == 1:
            users.setdefault(same[near[0]], []).append(k)
        found[k] = same[near[0]] if len(near) == 1 else "more than once in" if near else "not in"
    for position, rivals in users.items():
        best = nearest(keys[position], [own[k] for k in rivals])
        for place, k in enumerate(rivals):
            if len(best) > 1 or place not in best:
                found[k] = "another photograph has the same name in"
    out = []
    for k, path in enumerate(paths):
        match = found[k]
        if isinstance(match, str):
            logger.warning("%s: %s %s, left out", path, match, file.name)
        else:
            out.append((path, file.images[match]))
    return out


def _job(path: Path, image_id: int, file: CocoFile, *, results: Results | None) -> Job:
    size, categories = file.size_of(image_id), tuple(file.categories)
    if results is not None:
        found = results.of_image(image_id)
        return Job(
            path=path,
            image_id=image_id,
            size=size,
            boxes=found.boxes,
            category_ids=tuple(found.category_ids),
            scores=found.scores,
            categories=categories,
        )
    rows = [(a, clip_box(a["bbox"], size)) for a in file.annotations_of(image_id)]
    kept = [(a, box) for a, box in rows if box is not None and not is_crowd(a)]
    return Job(
        path=path,
        image_id=image_id,
        size=size,
        boxes=[box for _, box in kept],
        as_drawn=tuple(a["bbox"] for a, _ in kept),
        category_ids=tuple(a["category_id"] for a, _ in kept),
        categories=categories,
    )


def photographs_and_boxes(jobs: Sequence[Job]) -> Iterator[Row]:
    """Yields the photographs with a size in a file, for a ruling; some of many."""
    step = max(1, len(jobs) // LOOKED_AT)
    for job in jobs[::step]:
        if job.size is not None:
            yield job.path, job.size, job.as_drawn


def overlay_names(jobs: list[Job]) -> list[str]:
    """One file name for each photograph; numbered where two would share one."""
    count = Counter(job.path.stem for job in jobs)
    return [
        f"{job.path.stem}.jpg"
        if count[job.path.stem] == 1
        else f"{number + 1:04}_{job.path.stem}.jpg"
        for number, job in enumerate(jobs)
    ]


class InstancesFile:
    """The COCO file of predicted objects, for `review`, `complete` and `convert`.

    Args:
        predictor: finds the objects.
        root: the folder that holds the photographs.
    """

    def __init__(self, predictor: Predictor, root: Path) -> None:
        self._predictor, self._root = predictor, root.absolute()
        self._images: dict[int, dict[str, Any]] = {}
        self._rows: list[dict[str, Any]] = []
        self._categories: tuple[Any, ...] = tuple(predictor.categories)

    def add(self, job: Job, found: Prediction) -> None:
        """Adds a photograph and its objects."""
        height, width = found.image_size
        self._images[job.image_id] = {
            "id": job.image_id,
            "file_name": name_below(self._root, job.path),
            "width": width,
            "height": height,
        }
        self._categories = found.categories or self._categories
        rows = zip(found.to_coco(job.image_id), fillings(found), strict=True)
        for row, filling in rows:
            note = {"model": self._predictor.identity, "score": filling["score"], "state": "filled"}
            if not found.given and self._predictor.detector is not None:
                note["detector"] = self._predictor.detector.identity
            self._rows.append(
                {
                    "id": len(self._rows) + 1,
                    "image_id": job.image_id,
                    "category_id": row["category_id"],
                    "bbox": row["bbox"],
                    "area": filling["area"],
                    "iscrowd": 0,
                    "segmentation": filling["segmentation"],
                    **({} if found.given else {"score": row["score"]}),
                    "halfmask": note,
                }
            )

    def document(self) -> dict[str, Any]:
        """Returns the document."""
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        note = {"model": self._predictor.identity, "version": __version__, "date": date}
        note |= unusual(self._predictor)
        return {
            "info": {"description": "Objects that a model found", "halfmask": note},
            "images": list(self._images.values()),
            "categories": [dict(category) for category in self._categories],
            "annotations": self._rows,
        }
