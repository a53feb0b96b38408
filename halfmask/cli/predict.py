"""`halfmask predict`: a model on photographs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from halfmask.coco.images import Pixels
    from halfmask.inference.predictor import Predictor
    from halfmask.structures import Detection

SHOWN = 10
"""How many skipped photographs a report names before it counts the rest."""


def run(
    model: Annotated[
        str, typer.Argument(help="Checkpoint, run directory or shipped name (box-segmenter).")
    ],
    images: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for results.json and overlays/.")],
    detector: Annotated[
        str | None, typer.Option(help="A model that finds the boxes which MODEL fills.")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(help="A COCO file whose boxes are filled, its images matched by file name."),
    ] = None,
    score: Annotated[
        float, typer.Option(min=0, max=1, help="Overlays show what scores at least this.")
    ] = 0.5,
    overlays: Annotated[
        bool, typer.Option(help="Also write a picture for each photograph.")
    ] = True,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, … Default: a GPU where there is one.")
    ] = None,
) -> None:
    """Finds and outlines objects: OUT/results.json (COCO results, each with its
    file_name and the model's mask_score) and a picture each.

    Pixels are taken as stored, without EXIF turns. Photographs that cannot be read are
    skipped and counted (exit code 1).

    Example: halfmask predict runs/voc photo.jpg more_photos --out found
    """
    from halfmask.errors import InputError
    from halfmask.files.atomic import write_json
    from halfmask.inference.predictor import load
    from halfmask.progress import tracked

    jobs = _jobs(images, boxes)
    predictor = load(model, detector, device)
    if boxes is None and not predictor.can_detect:
        raise InputError(
            f"{model} finds no boxes itself: add --detector MODEL, or --boxes DATA.json"
        )
    results: list[dict[str, Any]] = []
    skipped: list[str] = []
    names = _overlay_names(jobs)
    for number, job in enumerate(tracked(jobs, "predicting", len(jobs), "photograph")):
        try:
            pixels, found = _predict(predictor, job)
        except InputError as error:
            skipped.append(str(error))
            continue
        results += _results(predictor, job, found)
        if overlays:
            _draw(predictor, job, pixels, found, score, out / "overlays" / names[number])
    if skipped and len(skipped) == len(jobs):
        raise InputError(f"none of the {len(jobs)} photographs can be used; first: {skipped[0]}")
    write_json(out / "results.json", results)
    print(
        f"{out / 'results.json'}: {len(results)} objects in {len(jobs) - len(skipped)} photographs"
    )
    if skipped:
        _report_skipped(skipped)
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Job:
    """One photograph; with given boxes also their COCO annotations, all of the file's
    classes and the (H, W) it says.
    """

    path: Path
    image_id: int
    size: tuple[int, int] | None = None
    annotations: list[dict[str, Any]] | None = None
    categories: tuple[dict[str, Any], ...] = ()


def _jobs(images: list[Path], boxes: Path | None) -> list[_Job]:
    from halfmask.errors import InputError
    from halfmask.inference.images import images_in

    paths = [path for given in images for path in (images_in(given) if given.is_dir() else [given])]
    if boxes is None:
        return [_Job(path, number + 1) for number, path in enumerate(paths)]
    jobs = _with_boxes(paths, boxes)
    if not jobs:
        raise InputError(
            f"{boxes}: names none of the {len(paths)} photographs; images are matched by file name"
        )
    return jobs


def _with_boxes(paths: list[Path], boxes: Path) -> list[_Job]:
    """The photographs that the file names, with its boxes; crowds are left out."""
    from halfmask.coco.file import CocoFile
    from halfmask.coco.records import file_name_of
    from halfmask.coco.supervision import is_crowd

    file = CocoFile.read(boxes)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for image in file.images:
        by_name.setdefault(Path(file_name_of(image)).name, []).append(image)
    jobs = []
    for path in paths:
        # Where names repeat in other folders, the longer name decides.
        same = [i for i in by_name.get(path.name, []) if path.as_posix().endswith(file_name_of(i))]
        found = same if len(same) == 1 else by_name.get(path.name, [])
        if len(found) == 1:
            image_id = found[0]["id"]
            rows = [a for a in file.annotations_of(image_id) if not is_crowd(a)]
            jobs.append(_Job(path, image_id, file.size_of(image_id), rows, tuple(file.categories)))
        else:
            why = "not in" if not found else "more than once in"
            typer.echo(f"{path}: {why} {boxes}, left out", err=True)
    return jobs


def _predict(predictor: Predictor, job: _Job) -> tuple[Pixels, Detection]:
    from halfmask.coco.images import read_photograph
    from halfmask.coco.records import clip_box
    from halfmask.errors import InputError

    pixels = read_photograph(job.path)
    if job.annotations is None:
        return pixels, predictor.detect(pixels)
    assert job.size is not None
    if pixels.shape[:2] != job.size:
        found, said = f"{pixels.shape[1]} × {pixels.shape[0]}", f"{job.size[1]} × {job.size[0]}"
        raise InputError(
            f"{job.path}: the photograph is {found} pixels, the file of boxes says {said}; "
            "mend the record"
        )
    boxes = [clip_box(a["bbox"], job.size) for a in job.annotations]
    labels = predictor.labels_of(job.categories)
    return pixels, predictor.segment(
        pixels, boxes, [labels[a["category_id"]] for a in job.annotations]
    )


def _results(predictor: Predictor, job: _Job, found: Detection) -> list[dict[str, Any]]:
    ids = [0, *(c["id"] for c in predictor.categories)]
    category_ids = (
        [ids[label] for label in found.labels.tolist()]
        if job.annotations is None
        else [a["category_id"] for a in job.annotations]
    )
    columns = zip(
        found.boxes.tolist(),
        category_ids,
        found.scores.tolist(),
        found.quality.tolist(),
        found.rle(),
        strict=True,
    )
    return [
        {
            "image_id": job.image_id,
            "file_name": job.path.name,
            "category_id": category_id,
            "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
            "score": round(score, 4),
            "mask_score": round(quality, 4),
            "segmentation": rle,
        }
        for (x0, y0, x1, y1), category_id, score, quality, rle in columns
    ]


def _draw(
    predictor: Predictor, job: _Job, pixels: Pixels, found: Detection, score: float, path: Path
) -> None:
    import torch

    from halfmask.pictures import overlay
    from halfmask.pictures.save import save_picture

    if job.annotations is None:
        names = {i + 1: c["name"] for i, c in enumerate(predictor.categories)}
        shown, scores = found.select(found.scores >= score), found.scores[found.scores >= score]
        labels = shown.labels
    else:
        names = {i + 1: c["name"] for i, c in enumerate(job.categories)}
        label_of = {c["id"]: i + 1 for i, c in enumerate(job.categories)}
        shown, scores = found, None
        labels = torch.tensor(
            [label_of[a["category_id"]] for a in job.annotations], dtype=torch.int64
        )
    save_picture(
        overlay(pixels, shown.boxes, shown.crops(), labels, names, scores), path, quality=92
    )


def _overlay_names(jobs: list[_Job]) -> list[str]:
    """One file name for each photograph; numbered where two would share one."""
    count = Counter(job.path.stem for job in jobs)
    return [
        f"{job.path.stem}.jpg"
        if count[job.path.stem] == 1
        else f"{number + 1:04}_{job.path.stem}.jpg"
        for number, job in enumerate(jobs)
    ]


def _report_skipped(lines: list[str]) -> None:
    typer.echo(f"{len(lines)} photographs skipped:", err=True)
    for line in lines[:SHOWN]:
        typer.echo(f"  {line}", err=True)
    if len(lines) > SHOWN:
        typer.echo(f"  … and {len(lines) - SHOWN} more", err=True)
