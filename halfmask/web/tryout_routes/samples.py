"""The photographs that the try-out page offers to a visitor who has none at hand."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Response
from fastapi import Path as InPath
from PIL import Image
from pydantic import BaseModel

from halfmask.files.pictures import picture_of

FOLDER = Path(__file__).parents[2] / "assets" / "photos"
"""Photographs that may be shipped; its ATTRIBUTION.md says where they come from."""
OFFERED = (377575, 423617, 475678, 285, 165518, 2473)
"""Ids of those that the page offers.

All are CC BY: what visitors make may have any licence that names the source.
"""
THUMBNAIL = (360, 240)
"""Width and height of the small pictures, pixels: twice the size on the page."""
SampleName = Annotated[str, InPath(max_length=32)]


class SampleBox(BaseModel):
    """An object of a sample: x, y, width, height in pixels, and its class."""

    box: tuple[float, float, float, float]
    name: str


class SampleItem(BaseModel):
    """A sample photograph: its source and licence, and the boxes of its objects."""

    name: str
    caption: str
    source: str
    licence: str
    licence_url: str
    boxes: list[SampleBox]


class SampleList(BaseModel):
    """All sample photographs."""

    items: list[SampleItem]


@cache
def sample_photographs() -> dict[str, SampleItem]:
    """Returns file name → sample, in the order of the page."""
    document = json.loads((FOLDER / "photos.json").read_text(encoding="utf-8"))
    images = {image["id"]: image for image in document["images"]}
    items = [_sample(images[number], document) for number in OFFERED]
    return {item.name: item for item in items}


def _sample(image: dict[str, Any], document: dict[str, Any]) -> SampleItem:
    names = {category["id"]: category["name"] for category in document["categories"]}
    [licence] = [one for one in document["licenses"] if one["id"] == image["license"]]
    rows = [row for row in document["annotations"] if row["image_id"] == image["id"]]
    boxes = [SampleBox(box=row["bbox"], name=names[row["category_id"]]) for row in rows]
    number = re.search(r"/(\d+)_", image["flickr_url"])
    assert number is not None, image["flickr_url"]
    counts = Counter(box.name for box in boxes)
    return SampleItem(
        name=image["file_name"],
        caption=", ".join(name if n == 1 else f"{n} × {name}" for name, n in counts.items()),
        source=f"https://www.flickr.com/photo.gne?id={number[1]}",
        licence="CC BY 2.0",
        licence_url=licence["url"].replace("http:", "https:"),
        boxes=boxes,
    )


@cache
def thumbnail(name: str) -> bytes:
    """Returns a small JPEG of a sample, cut to the proportions of `THUMBNAIL`."""
    with picture_of(FOLDER / name) as picture:
        picture.draft("RGB", (2 * THUMBNAIL[0], 2 * THUMBNAIL[1]))
        small = picture.convert("RGB")
    across, down = THUMBNAIL
    share = min(small.width / across, small.height / down)
    width, height = across * share, down * share
    left, top = (small.width - width) / 2, (small.height - height) / 2
    frame = (left, top, left + width, top + height)
    small = small.resize(THUMBNAIL, Image.Resampling.LANCZOS, box=frame)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=82, optimize=True)
    return out.getvalue()


def add_samples(app: FastAPI) -> None:
    """Adds the routes of the sample photographs to an application."""

    def known(name: str) -> str:
        if name not in sample_photographs():
            raise HTTPException(404, "there is no such sample photograph")
        return name

    @app.get("/api/samples")
    def samples() -> SampleList:
        return SampleList(items=list(sample_photographs().values()))

    @app.get("/api/samples/{name}", response_class=Response)
    def photograph(name: SampleName) -> Response:
        return Response((FOLDER / known(name)).read_bytes(), media_type="image/jpeg")

    @app.get("/api/samples/{name}/small", response_class=Response)
    def small(name: SampleName) -> Response:
        return Response(thumbnail(known(name)), media_type="image/jpeg")
