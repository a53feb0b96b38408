"""`halfmask.doctor`: examines a data set and writes the HTML page of its findings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from halfmask.coco.doctor.diagnosis import Diagnosis, diagnose
from halfmask.coco.doctor.large.examine import Examined, examine, examine_in_memory
from halfmask.coco.doctor.photographs import check_photographs
from halfmask.coco.doctor.published import compare_found, published_counts
from halfmask.coco.index.place import INDEX_ABOVE
from halfmask.coco.reading.read_as import ReadAs
from halfmask.datasets.opening import open_guarded
from halfmask.errors import InputError
from halfmask.files.atomic import new_file
from halfmask.files.guard import Output
from halfmask.files.kinds import PAGE, report
from halfmask.progress import Progress
from halfmask.text import plural

if TYPE_CHECKING:
    from jinja2 import Template

EXAMINED_ABOVE = 1 << 20
"""Bytes above which a file is examined in one pass: faster, and in less memory.

Below, loading Arrow takes longer than the pass saves.
"""
ASSETS = Path(__file__).parents[1] / "assets"
MEANINGS = {
    "many": "A: the model learns their masks from examples.",
    "few": "A: the model learns from their masks, and from those of other classes.",
    "no_masks": "B: boxes only. The model draws their masks as other classes taught it.",
}
REPORT = report("doctor", "training", "advice", "problems")


def doctor(
    data: str | Path,
    *,
    images: str | Path | None = None,
    json: str | Path | None = None,
    html: str | Path | None = None,
    crowd_masks: bool = False,
    read_as: str | None = None,
    expect: str | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Examines a data set: its masks, boxes and problems, and what training will use.

    Changes nothing.

    Args:
        data: a data set in any format that `convert` reads.
        images: folder of the photographs. Without it those of a COCO file are not
            examined; those of another data set are, if it says where they are.
        json: writes all findings to this JSON file.
        html: writes a page with all findings to this file.
        crowd_masks: of a COCO file: masks with iscrowd 1 are masks of single objects.
        read_as: how a COCO file writes boxes or polygons; see `ReadAs.of`.
        expect: the data set with whose published counts those of `data` are compared:
            coco2017; see `compare_counts`.
        progress: called after each image.
    Raises:
        InputError: `data` is no data set, there is no folder `images`, or an output
            cannot be written, is an input or something else (see `guard`); nothing is
            known of `expect`, or it is unclear which part of it `data` is.
    """
    outputs = [Output(json, "--json", REPORT), Output(html, "--html", PAGE)]
    as_ = ReadAs.of(crowd_masks, read_as)
    if expect is not None:
        published_counts(expect)
    opened = open_guarded(data, outputs, images=images, read_as=as_, progress=progress)
    found = _examined(opened.annotations, str(data), progress)
    counted = None
    if expect is not None:
        counted = compare_found(found.counts, data_set=expect, name=Path(data).name)
    folder = opened.images if opened.format != "coco" else images
    if folder is not None:
        found.findings.add_all(check_photographs(found.file(), folder, progress))
    diagnosis = diagnose(found.numbers, found.findings, unread=opened.unread, counted=counted)
    if html is not None:
        write_page(diagnosis, html)
    if json is not None:
        with new_file(json) as report:
            report.writelines(diagnosis.json_texts())
    return diagnosis


def _examined(path: Path, name: str, progress: Progress | None) -> Examined:
    """Examines a file, in one pass if it is large, else in memory.

    A file in memory that cannot be used has the better error message.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size > EXAMINED_ABOVE:
        try:
            return examine(path, name, progress)
        except InputError:
            if size > INDEX_ABOVE:
                raise
    return examine_in_memory(path, name, progress)


def write_page(diagnosis: Diagnosis, path: str | Path) -> None:
    """Writes a diagnosis as a self-contained HTML page.

    Raises:
        InputError: the file cannot be written.
    """
    headings, file = diagnosis.headings(), Path(diagnosis.file)
    pieces = _template().generate(
        result=diagnosis,
        name=file.name,
        folder="" if file.parent == Path() else str(file.parent),
        states=list(headings),
        headings=headings,
        groups=diagnosis.by_kind(),
        kinds=_kinds(diagnosis),
        classes=sorted(diagnosis.used(), key=lambda c: (-c["annotations"], c["name"])),
    )
    with new_file(path) as page:
        page.writelines(pieces)


def _kinds(diagnosis: Diagnosis) -> list[tuple[str, str, str, str]]:
    """Group, title, number of classes and meaning of each group, those with masks first."""
    masks = diagnosis.groups()
    return [
        (group, masks.title(group), plural(len(ids), "class", "es"), MEANINGS[group])
        for group, ids in reversed(masks.members().items())
    ]


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader(ASSETS), autoescape=True).get_template("doctor.html")
