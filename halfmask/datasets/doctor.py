"""`halfmask.doctor`: examines a COCO file and writes the HTML page of its findings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from halfmask.coco.doctor.checks import check, duplicate_keys
from halfmask.coco.doctor.diagnosis import Diagnosis, diagnose
from halfmask.coco.doctor.photographs import check_photographs
from halfmask.coco.file import CocoFile
from halfmask.files.atomic import write_text
from halfmask.progress import Progress

if TYPE_CHECKING:
    from jinja2 import Template

ASSETS = Path(__file__).parents[1] / "assets"


def doctor(
    data: str | Path,
    *,
    images: str | Path | None = None,
    html: str | Path | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Examines a COCO file: its masks, boxes and problems, and what training will use.

    Changes nothing.

    Args:
        data: COCO file.
        images: folder of the photographs; None: they are not examined.
        html: writes a page with all findings to this file.
        progress: called after each image.
    Raises:
        InputError: `data` is no COCO file, there is no folder `images`, or `html`
            cannot be written.
    """
    path = Path(data)
    file = CocoFile.read(path)
    problems = [*duplicate_keys(path), *check(file, progress)]
    if images is not None:
        problems += check_photographs(file, images, progress)
    diagnosis = diagnose(file, problems)
    if html is not None:
        write_page(diagnosis, html)
    return diagnosis


def write_page(diagnosis: Diagnosis, path: str | Path) -> None:
    """Writes a diagnosis as a self-contained HTML page.

    Raises:
        InputError: the file cannot be written.
    """
    headings = diagnosis.headings()
    page = _template().render(
        result=diagnosis, states=list(headings), headings=headings, groups=diagnosis.by_kind()
    )
    write_text(path, page)


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader(ASSETS), autoescape=True).get_template("doctor.html")
