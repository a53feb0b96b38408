"""`predict`: a model on photographs, as COCO results and overlays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from halfmask.coco.images import read_photograph
from halfmask.coco.photographs.orientation import Ruling
from halfmask.coco.photographs.reader import ruling_of
from halfmask.errors import InputError
from halfmask.files.atomic import write_json
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import ANY_FOLDER, COCO, PICTURE, RESULTS
from halfmask.formats.report import ConversionReport
from halfmask.inference.jobs import (
    InstancesFile,
    Job,
    jobs_of,
    name_below,
    open_boxes,
    overlay_names,
    photographs_and_boxes,
    photographs_below,
)
from halfmask.inference.prediction import Prediction
from halfmask.inference.predictor import Predictor, as_predictor
from halfmask.inference.runtime.names import Computing, Precision, Runtime
from halfmask.models.box_segmenter.looks import Effort
from halfmask.models.detectors.base import BoxDetector
from halfmask.models.detectors.build import EXAMPLES
from halfmask.pictures.legend import COLOUR_BY, ColourBy, side_by_side, supervision_colours
from halfmask.pictures.save import save_picture
from halfmask.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What `predict` found.

    Attributes:
        file: the JSON file that holds the results.
        results: COCO results, each with its file_name and the model's mask_score.
        photographs: how many photographs were used.
        skipped: one line for each photograph that cannot be used.
        instances: the COCO file of the objects, for `review`, `complete`, `convert`.
        folder: holds the photographs, as `instances` names them.
        reading: what could not be read of a data set of boxes that is no COCO file.
    """

    file: Path
    results: list[dict[str, Any]]
    photographs: int
    skipped: tuple[str, ...] = ()
    instances: Path
    folder: Path
    reading: ConversionReport = field(default_factory=ConversionReport)

    def to_json(self) -> list[dict[str, Any]]:
        """Returns what OUT/results.json holds."""
        return self.results


def predict(
    model: Predictor | str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    detector: str | Path | BoxDetector | None = None,
    classes: str | Sequence[str] | None = None,
    data: str | Path | None = None,
    detections: str | Path | None = None,
    score: float = 0.5,
    overlays: bool = True,
    colour_by: ColourBy = "class",
    beside: Predictor | str | Path | None = None,
    device: str | torch.device | None = None,
    effort: Effort | None = None,
    runtime: Runtime = "torch",
    precision: Precision | None = None,
    max_size: int | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Finds and outlines objects; writes results, instances and overlays into OUT.

    Photographs are turned as their EXIF orientation says, like a viewer shows them;
    those of `data` as their size in it says. Those that cannot be read are skipped.

    Args:
        model: a loaded model, or a name or path for `load`.
        images: photographs, or folders of them, with the folders below.
        out: the folder to write into.
        detector: what finds the boxes that `model` fills; see `load`.
        classes: names for a detector of open vocabulary; see `load`.
        data: a data set in any format that `convert` reads, whose boxes are filled;
            matched by file name; crowds are left out.
        detections: a COCO results file whose boxes are filled instead; it uses the
            image and category ids of `data`.
        score: overlays and instances.json hold objects with at least this score; of
            `data`, all.
        overlays: whether to draw a picture for each photograph.
        colour_by: `class`, or `supervision`: green where the class had masks in the
            model's training, red where it had boxes only; see `Prediction.plot`.
        beside: another model. Each picture shows its masks for the same boxes at the
            right of those of `model`; the files hold only those of `model`.
        device: where to run a model that is not loaded yet.
        effort: how often the model looks at each box: `fast` once, `balanced` twice,
            `best` as its recipe says; None: as the model is set.
        runtime: what computes the model; see `load`.
        precision: of its numbers; see `load`.
        max_size: of the photographs that a Mask R-CNN sees; see `load`.
        progress: called after each photograph.
    Raises:
        InputError: no photograph can be used, the file of boxes names none of them,
            the model finds no boxes and got none, or a model does not know which
            classes had masks in its training.
    """
    _check_sources(detector, data, detections)
    _check_pictures(overlays, colour_by, beside)
    report, folder = progress or (lambda *_: None), Path(out)
    given = [images] if isinstance(images, str | Path) else images
    read = (model, *given, detector, data, detections, beside)
    guard(_outputs(folder, ()), inputs=read, photographs=given)
    opened = None if data is None else open_boxes(Path(data), _only_folder(given))
    paths, root = photographs_below(given, skip=Path(out))
    jobs = jobs_of(paths, opened, detections)
    names = overlay_names(jobs)
    guard(_outputs(folder, names if overlays else ()), inputs=(*read, *paths), photographs=given)
    computing = Computing(runtime, precision, max_size)
    predictor = as_predictor(model, detector, device, classes=classes, computing=computing)
    _check_model(predictor, data, effort)
    draw = _drawer(predictor, beside, device, colour_by=colour_by)
    ruling = ruling_of(photographs_and_boxes(jobs), str(data))
    results, skipped, instances = [], [], InstancesFile(predictor, root)
    for number, (job, name) in enumerate(zip(jobs, names, strict=True)):
        report("predicting", number, len(jobs))
        try:
            found = _predict(predictor, job, ruling, effort=effort)
        except InputError as error:
            skipped.append(str(error))
            continue
        results += _rows(found, job, root)
        shown = found if found.given else found.select(found.scores >= score)
        instances.add(job, shown)
        if overlays:
            save_picture(draw(shown), folder / "overlays" / name, quality=92)
    report("predicting", len(jobs), len(jobs))
    _refuse_all_skipped(jobs, skipped)
    return Predictions(
        file=_written(folder, results, instances),
        results=results,
        photographs=len(jobs) - len(skipped),
        skipped=tuple(skipped),
        instances=folder / "instances.json",
        folder=root,
        reading=ConversionReport() if opened is None else opened.report,
    )


def _refuse_all_skipped(jobs: Sequence[Job], skipped: Sequence[str]) -> None:
    if len(skipped) == len(jobs):
        raise InputError(f"none of the {len(jobs)} photographs can be used; first: {skipped[0]}")


def _only_folder(given: Sequence[str | Path]) -> Path | None:
    return Path(given[0]) if len(given) == 1 and Path(given[0]).is_dir() else None


def _written(folder: Path, results: list[dict[str, Any]], instances: InstancesFile) -> Path:
    """Writes both JSON files; returns the one with the results."""
    write_json(folder / "instances.json", instances.document())
    write_json(folder / "results.json", results)
    return folder / "results.json"


def _outputs(folder: Path, pictures: Sequence[str]) -> list[Output]:
    """The folder and what is written into it."""
    return [
        Output(folder, "--out", ANY_FOLDER),
        Output(folder / "results.json", "--out", RESULTS),
        Output(folder / "instances.json", "--out", COCO),
        Output(folder / "overlays", "--out", ANY_FOLDER),
        *(Output(folder / "overlays" / name, "--out", PICTURE) for name in pictures),
    ]


def _rows(found: Prediction, job: Job, root: Path) -> list[dict[str, Any]]:
    """Returns COCO results of a photograph, each with its file name."""
    image = {"image_id": job.image_id, "file_name": name_below(root, job.path)}
    return [image | row for row in found.to_coco(job.image_id)]


def _check_model(predictor: Predictor, data: object, effort: Effort | None) -> None:
    predictor.effort.checked(effort)
    if data is None and not predictor.can_detect:
        raise InputError(
            f"{predictor.name} finds no boxes itself: add --detector DETECTOR (such as "
            f"{EXAMPLES}), or --data DATA.json"
        )


def _check_sources(detector: object, data: object, detections: object) -> None:
    if detector is not None and (data is not None or detections is not None):
        other = "--detections" if detections is not None else "--data"
        raise InputError(f"--detector and {other} both name the boxes to fill: give only one")
    if detections is not None and data is None:
        raise InputError(
            "--detections has image and category ids only: add --data DATA.json, the COCO file "
            "that says which photographs and classes they are"
        )


def _check_pictures(overlays: bool, colour_by: object, beside: object) -> None:
    if colour_by not in COLOUR_BY:
        raise InputError(f"--colour-by: expected {' or '.join(COLOUR_BY)}, found {colour_by!r}")
    if not overlays and (colour_by != "class" or beside is not None):
        flag = "--beside" if beside is not None else f"--colour-by {colour_by}"
        raise InputError(f"{flag} is about the pictures: leave out --no-overlays")


def _drawer(
    model: Predictor,
    beside: Predictor | str | Path | None,
    device: str | torch.device | None,
    *,
    colour_by: ColourBy,
) -> Callable[[Prediction], Image.Image]:
    """What draws a prediction of `model`, with the other model's masks at the right."""
    other = None if beside is None else as_predictor(beside, None, device)
    models = [model] if other is None else [model, other]
    for one in models if colour_by == "supervision" else ():
        supervision_colours((), one.masks_given, one.masked_names, name=one.name)
    names = [one.name for one in models]
    if len(set(names)) < len(names):
        names = [one.identity for one in models]

    def draw(found: Prediction) -> Image.Image:
        if other is None:
            return found.plot(colour_by=colour_by)
        both = (found, _same_boxes(found, other))
        pictures = [one.plot(colour_by=colour_by) for one in both]
        return side_by_side(list(zip(names, pictures, strict=True)))

    return draw


def _same_boxes(found: Prediction, other: Predictor) -> Prediction:
    """Another model's masks for the boxes and classes of a prediction."""
    label_of = other.labels_of(found.categories)
    own = torch.tensor([0, *(label_of[c["id"]] for c in found.categories)])
    drawn = other.segment_batch([found.image], [found.boxes], [own[found.labels]])[0]
    return replace(
        found,
        mask_probs=drawn.mask_probs,
        regions=drawn.regions,
        quality=drawn.quality,
        reach=drawn.reach,
        masks_given=other.masks_given,
        masked_names=frozenset(other.masked_names),
    )


def _predict(
    predictor: Predictor, job: Job, ruling: Ruling, *, effort: Effort | None
) -> Prediction:
    """The prediction, with the classes of the file if the boxes are a file's."""
    if job.boxes is None or job.size is None:
        with predictor.effort.temporarily(effort):
            return predictor.detect(read_photograph(job.path))
    pixels = read_photograph(job.path, size=job.size, ruling=ruling, file="the file of boxes")
    label_of = predictor.labels_of(job.categories)
    labels = [label_of[number] for number in job.category_ids]
    found = predictor.segment(pixels, job.boxes, labels, effort=effort)
    place = {c["id"]: k + 1 for k, c in enumerate(job.categories)}
    own = torch.tensor([place[number] for number in job.category_ids], dtype=torch.int64)
    found = replace(found, labels=own, categories=job.categories)
    if job.scores is None:
        return found
    return replace(found, scores=torch.tensor(job.scores, dtype=torch.float32), given=False)
