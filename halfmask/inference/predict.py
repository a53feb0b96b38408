"""`predict`: a model on photographs, as COCO results and overlays."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from halfmask.coco.file import CocoFile
from halfmask.coco.images import read_photograph
from halfmask.coco.locate import name_key, nearest
from halfmask.coco.records import clip_box, file_name_of
from halfmask.coco.supervision import is_crowd
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.inference.images import check_size, images_in
from halfmask.inference.prediction import Prediction
from halfmask.inference.predictor import Predictor, as_predictor
from halfmask.pictures.save import save_picture
from halfmask.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What `predict` found.

    Attributes:
        file: the JSON file that holds the results.
        results: COCO results, each with its file_name and the model's mask_score.
        photographs: how many photographs were used.
        skipped: one line for each photograph that cannot be used.
    """

    file: Path
    results: list[dict[str, Any]]
    photographs: int
    skipped: tuple[str, ...] = ()

    def to_json(self) -> list[dict[str, Any]]:
        """Returns what OUT/results.json holds."""
        return self.results


def predict(
    model: Predictor | str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    detector: str | Path | None = None,
    boxes: str | Path | None = None,
    score: float = 0.5,
    overlays: bool = True,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Finds and outlines objects; writes OUT/results.json and OUT/overlays/.

    The EXIF orientation is not applied. Photographs that cannot be read are skipped.

    Args:
        model: a loaded model, or a name or path for `load`.
        images: photographs, or folders of them, with the folders below.
        out: the folder to write into.
        detector: a model that finds the boxes which `model` fills.
        boxes: a COCO file whose boxes are filled, matched by file name; crowds are left
            out.
        score: overlays show objects with at least this score.
        overlays: whether to draw a picture for each photograph.
        device: where to run a model that is not loaded yet.
        progress: called after each photograph.
    Raises:
        InputError: no photograph can be used, the file of boxes names none of them, or
            the model finds no boxes and got none.
    """
    given = [images] if isinstance(images, str | Path) else images
    jobs = _jobs([Path(image) for image in given], boxes, Path(out))
    predictor = as_predictor(model, detector, device)
    if boxes is None and not predictor.can_detect:
        raise InputError(
            f"{predictor.name} finds no boxes itself: add --detector MODEL, or --boxes DATA.json"
        )
    report = progress or (lambda *_: None)
    folder, results, skipped = Path(out), [], []
    for number, (job, name) in enumerate(zip(jobs, _overlay_names(jobs), strict=True)):
        report("predicting", number, len(jobs))
        try:
            found = _predict(predictor, job)
        except InputError as error:
            skipped.append(str(error))
            continue
        rows = found.to_coco(job.image_id)
        results += [{"image_id": job.image_id, "file_name": job.name} | row for row in rows]
        if overlays:
            shown = found.select(found.scores >= score) if job.annotations is None else found
            save_picture(shown.plot(), folder / "overlays" / name, quality=92)
    report("predicting", len(jobs), len(jobs))
    if len(skipped) == len(jobs):
        raise InputError(f"none of the {len(jobs)} photographs can be used; first: {skipped[0]}")
    file = folder / "results.json"
    write_json(file, results)
    return Predictions(
        file=file, results=results, photographs=len(jobs) - len(skipped), skipped=tuple(skipped)
    )


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One photograph; its name is its path below the folder that was given.

    With given boxes it also has their COCO annotations, all classes of the file, and
    the (H, W) in its record.
    """

    path: Path
    name: str
    image_id: int
    size: tuple[int, int] | None = None
    annotations: list[dict[str, Any]] | None = None
    categories: tuple[Any, ...] = ()


def _jobs(images: Sequence[Path], boxes: str | Path | None, out: Path) -> list[_Job]:
    if not images:
        raise InputError("images: expected photographs or folders of them, found none")
    paths: list[tuple[Path, str]] = []
    for one in images:
        if one.is_dir():  # an earlier run may have written its overlays below it
            paths += [(p, p.relative_to(one).as_posix()) for p in images_in(one, skip=out)]
        else:
            paths.append((one, one.name))
    if boxes is None:
        return [_Job(path=p, name=name, image_id=k + 1) for k, (p, name) in enumerate(paths)]
    jobs = _with_boxes(paths, Path(boxes))
    if not jobs:
        raise InputError(
            f"{boxes}: names none of the {len(paths)} photographs; images are matched by file name"
        )
    return jobs


def _with_boxes(paths: list[tuple[Path, str]], boxes: Path) -> list[_Job]:
    """The photographs that the file names, with its boxes; crowds are left out."""
    file = CocoFile.read(boxes)
    matched = _matched([path for path, _ in paths], file)
    jobs = []
    for position, (path, name) in enumerate(paths):
        image_id = matched[position]
        if isinstance(image_id, str):
            logger.warning("%s: %s %s, left out", path, image_id, boxes)
            continue
        jobs.append(
            _Job(
                path=path,
                name=name,
                image_id=image_id,
                size=file.size_of(image_id),
                annotations=[a for a in file.annotations_of(image_id) if not is_crowd(a)],
                categories=tuple(file.categories),
            )
        )
    return jobs


def _matched(paths: list[Path], file: CocoFile) -> list[int | str]:
    """The image id of each photograph, or why it has none.

    Names are alike if their last parts are; of several, the one decides with which most
    of the folders before it are alike.
    """
    records = {image["id"]: name_key(file_name_of(image)) for image in file.images}
    by_last: dict[str, list[int]] = {}
    for number, key in records.items():
        by_last.setdefault(key[-1] if key else "", []).append(number)
    keys = [name_key(path.as_posix()) for path in paths]
    out: list[int | str] = []
    users: dict[int, list[int]] = {}
    for position, key in enumerate(keys):
        same = by_last.get(key[-1], [])
        found = nearest(key, [records[number] for number in same])
        if len(found) == 1:
            users.setdefault(same[found[0]], []).append(position)
        out.append(
            same[found[0]] if len(found) == 1 else f"{'more than once' if found else 'not'} in"
        )
    for number, positions in users.items():
        best = nearest(records[number], [keys[position] for position in positions])
        for k, position in enumerate(positions):
            if len(best) > 1 or k not in best:
                out[position] = "another photograph has the same name in"
    return out


def _predict(predictor: Predictor, job: _Job) -> Prediction:
    """The prediction, with the classes of the file if the boxes are a file's."""
    pixels = read_photograph(job.path)
    if job.annotations is None or job.size is None:
        return predictor.detect(pixels)
    check_size(pixels, job.size, str(job.path), file="file of boxes")
    boxes = [clip_box(a["bbox"], job.size) for a in job.annotations]
    ids = [a["category_id"] for a in job.annotations]
    label_of = predictor.labels_of(job.categories)
    found = predictor.segment(pixels, boxes, [label_of[number] for number in ids])
    place = {c["id"]: k + 1 for k, c in enumerate(job.categories)}
    labels = torch.tensor([place[number] for number in ids], dtype=torch.int64)
    return replace(found, labels=labels, categories=job.categories)


def _overlay_names(jobs: list[_Job]) -> list[str]:
    """One file name for each photograph; numbered where two would share one."""
    count = Counter(job.path.stem for job in jobs)
    return [
        f"{job.path.stem}.jpg"
        if count[job.path.stem] == 1
        else f"{number + 1:04}_{job.path.stem}.jpg"
        for number, job in enumerate(jobs)
    ]
