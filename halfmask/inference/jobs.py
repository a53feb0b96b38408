"""The photographs of `predict`, the boxes that they come with, and the COCO file it writes."""

from __future__ import annotations

import datetime
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfmask._version import __version__
from halfmask.coco.file import CocoFile
from halfmask.coco.records import Box, clip_box, file_name_of
from halfmask.coco.results import Results, read_results
from halfmask.coco.supervision import is_crowd
from halfmask.errors import InputError
from halfmask.inference.complete.filling import fillings
from halfmask.inference.images import images_in
from halfmask.inference.prediction import Prediction
from halfmask.inference.predictor import Predictor

logger = logging.getLogger(__name__)

MOST_DETECTIONS = 100
"""Boxes of a results file that are filled in an image, by score, as in `evaluate`."""


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
        categories: the file's.
    """

    path: Path
    image_id: int
    size: tuple[int, int] | None = None
    boxes: list[Box] | None = None
    category_ids: tuple[int, ...] = ()
    scores: list[float] | None = None
    categories: tuple[Any, ...] = ()


def photographs_below(images: Sequence[str | Path]) -> tuple[list[Path], Path]:
    """Returns the photographs, and the folder that holds all of them.

    Args:
        images: photographs, or folders of them.
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
    return [path for one in given for path in (images_in(one) if one.is_dir() else [one])], root


def jobs_of(paths: list[Path], data: str | Path | None, detections: str | Path | None) -> list[Job]:
    """Returns the photographs with their boxes: `data`'s, or those of `detections`.

    Raises:
        InputError: a file cannot be used, or `data` names none of the photographs.
    """
    if data is None:
        return [Job(path=path, image_id=k + 1) for k, path in enumerate(paths)]
    file = CocoFile.read(data)
    results = None if detections is None else read_results(detections, file, MOST_DETECTIONS)
    if results is not None and results.outside:
        logger.warning("%s: boxes left out, outside their image: %d", detections, results.outside)
    images = _records(paths, file)
    jobs = [_job(path, image["id"], file, results=results) for path, image in images]
    if not jobs:
        raise InputError(
            f"{data}: names none of the {len(paths)} photographs; images are matched by file name"
        )
    return jobs


def _records(paths: list[Path], file: CocoFile) -> list[tuple[Path, dict[str, Any]]]:
    """The photographs that the file names, with their records."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for image in file.images:
        by_name.setdefault(Path(file_name_of(image)).name, []).append(image)
    out = []
    for path in paths:
        # Where names repeat in other folders, the longer name decides.
        same = [i for i in by_name.get(path.name, []) if path.as_posix().endswith(file_name_of(i))]
        found = same if len(same) == 1 else by_name.get(path.name, [])
        if len(found) == 1:
            out.append((path, found[0]))
            continue
        why = "not in" if not found else "more than once in"
        logger.warning("%s: %s %s, left out", path, why, file.name)
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
        category_ids=tuple(a["category_id"] for a, _ in kept),
        categories=categories,
    )


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
        name = Path(os.path.relpath(job.path.absolute(), self._root)).as_posix()
        self._images[job.image_id] = {
            "id": job.image_id,
            "file_name": name,
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
        return {
            "info": {"description": "Objects that a model found", "halfmask": note},
            "images": list(self._images.values()),
            "categories": [dict(category) for category in self._categories],
            "annotations": self._rows,
        }
