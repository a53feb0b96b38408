"""The page of `halfmask audit --html`: the most doubtful masks, beside the model's."""

from __future__ import annotations

import base64
import io
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from halfmask.coco.records import clip_box
from halfmask.errors import InputError
from halfmask.files.atomic import write_text
from halfmask.labelling.audit.look import Looker
from halfmask.labelling.audit.result import WRONG, Audit, DoubtfulMask
from halfmask.masks.crops import MaskCrops, decode
from halfmask.pictures.mask_sheet import mask_cell

if TYPE_CHECKING:
    from jinja2 import Template

ASSETS = Path(__file__).parents[2] / "assets"
MOST = 100
"""Masks on the page; each has a picture in it."""


def write_audit_page(result: Audit, looker: Looker, path: str | Path) -> None:
    """Writes the first masks of an audit as a self-contained HTML page.

    Raises:
        InputError: the file cannot be written.
    """
    first = result.masks[:MOST]
    pictures = _pictures(first, looker)
    page = _template().render(
        result=result,
        wrong=WRONG,
        shown=[(mask, pictures.get(mask.rank)) for mask in first],
        problems=[*result.unread, *result.reading.lines(result.reading.faults)],
    )
    write_text(path, page)


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader

    return Environment(loader=FileSystemLoader(ASSETS), autoescape=True).get_template("audit.html")


def _pictures(masks: list[DoubtfulMask], looker: Looker) -> dict[int, str]:
    """Rank → data address of the picture; without the masks that cannot be read."""
    by_image: dict[int, list[DoubtfulMask]] = defaultdict(list)
    for mask in masks:
        if mask.iou is not None:
            by_image[mask.image_id].append(mask)
    records = {image["id"]: image for image in looker.file.images}
    found: dict[int, str] = {}
    for image_id, some in by_image.items():
        size = looker.file.size_of(image_id)
        try:
            pixels = looker.reader.read(records[image_id], size)
        except InputError:  # it went away since it was looked at; the page says so
            continue
        boxes = [clip_box(mask.box, size) for mask in some]
        drawn = looker.predictor.segment_batch([pixels], [torch.tensor(boxes)])[0]
        own = _own_masks(looker, image_id)
        for mask, row, box in zip(some, range(len(some)), drawn.boxes, strict=True):
            picture = mask_cell(
                pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, 2),
                box,
                mask=own[mask.annotation_id],
                truth=drawn.crops().select([row]),
            )
            found[mask.rank] = _address(picture)
    return found


def _own_masks(looker: Looker, image_id: int) -> dict[int, MaskCrops]:
    size = looker.file.size_of(image_id)
    rows = zip(looker.file.annotations_of(image_id), looker.file.states_of(image_id), strict=True)
    found = {}
    for annotation, state in rows:
        if state in ("mask", "suspect"):
            bitmap, place = decode(annotation["segmentation"], size)
            found[annotation["id"]] = MaskCrops.from_bitmaps([bitmap], [place], size)
    return found


def _address(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.convert("RGB").save(out, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
