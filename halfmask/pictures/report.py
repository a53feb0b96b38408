"""One self-contained HTML page of numbers, pictures, tables and bars.

It loads nothing from the network and can be read without scripts.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from PIL import Image

from halfmask.files.atomic import write_text

TEMPLATE = Path(__file__).parents[1] / "assets" / "report.html.j2"
WIDEST = 960
"""Width in pixels to which larger pictures are reduced; the run's folder has them in full."""


@dataclass(frozen=True)
class Headline:
    """A number at the top of the page."""

    value: str
    unit: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Link:
    text: str
    url: str


@dataclass(frozen=True)
class Compare:
    """Two pictures of one size, one over the other, with a divider to drag."""

    before: Image.Image
    after: Image.Image
    caption: str
    credit: Sequence[Link] = ()


@dataclass(frozen=True)
class Strip:
    """Pictures side by side, each with its own caption, below a common `caption`."""

    pictures: Sequence[tuple[Image.Image, str]]
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text, the first column their names; the rows in `strong` are bold.

    Without `columns` the table has no head.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    strong: Sequence[int] = ()


@dataclass(frozen=True)
class Bars:
    """Values in [0, 1] for each group and series; None is a dash.

    Groups have a tag (A, B). Fewer than three groups stand in a table of numbers: there
    is little to compare.
    """

    series: Sequence[str]
    groups: Sequence[tuple[str, str, Sequence[float | None]]]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A picture file, embedded byte for byte (curves.png), at most `width` pixels wide."""

    path: Path
    caption: str
    width: int = 780


@dataclass(frozen=True, kw_only=True)
class ReportSection:
    title: str
    text: Sequence[str] = ()
    _: KW_ONLY
    compares: Sequence[Compare] = ()
    table: Table | None = None
    strips: Sequence[Strip] = ()
    bars: Bars | None = None
    charts: Sequence[Chart] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything on the page, from top to bottom."""

    title: str
    lead: str
    headlines: Sequence[Headline]
    sections: Sequence[ReportSection]
    hero: Compare | None = None
    facts: Sequence[tuple[str, str]] = ()
    """Names and values in small print at the end: version, machine, date, commands."""


def write_report(page: Page, out: str | Path) -> Path:
    """Writes the page with every picture as a data URI, and returns its path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["picture"] = picture_uri
    environment.filters["file"] = file_uri
    html = environment.get_template(TEMPLATE.name).render(page=page)
    path = Path(out)
    write_text(path, html)
    return path


def picture_uri(picture: Image.Image) -> str:
    """A picture as a JPEG data URI, at most `WIDEST` pixels wide."""
    picture = picture.convert("RGB")
    if picture.width > WIDEST:
        size = (WIDEST, round(picture.height * WIDEST / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=86, optimize=True)
    return _uri("jpeg", buffer.getvalue())


def file_uri(path: Path) -> str:
    """A .png, .jpg or .svg file as a data URI, byte for byte."""
    kind = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".svg": "svg+xml"}[path.suffix.lower()]
    return _uri(kind, path.read_bytes())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
