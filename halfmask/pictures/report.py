"""One self-contained HTML page: headline numbers, pictures, tables, bars. No network,
no script that is needed to read it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from halfmask.files.atomic import write_text

TEMPLATE = Path(__file__).parents[1] / "assets" / "report.html.j2"
WIDEST = 960
"""Pictures wider than this are made smaller for the page; the full size stays in the
run's folder.
"""


@dataclass(frozen=True)
class Headline:
    """A number that the page opens with."""

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
    """Pictures side by side, each with a caption of its own; `caption` stands above them."""

    pictures: Sequence[tuple[Image.Image, str]]
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column names the row. `strong` rows are printed bold."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    strong: Sequence[int] = ()


@dataclass(frozen=True)
class Bars:
    """Values in [0, 1] for each group and series; None is shown as a dash. Groups carry
    a tag such as A or B.
    """

    series: Sequence[str]
    groups: Sequence[tuple[str, str, Sequence[float | None]]]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A picture file as it is (curves.png)."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Section:
    title: str
    text: Sequence[str] = ()
    compares: Sequence[Compare] = ()
    table: Table | None = None
    strips: Sequence[Strip] = ()
    bars: Bars | None = None
    charts: Sequence[Chart] = ()


@dataclass(frozen=True)
class Page:
    """What `write_report` prints, top to bottom."""

    title: str
    lead: str
    headlines: Sequence[Headline]
    sections: Sequence[Section]
    hero: Compare | None = None
    facts: Sequence[tuple[str, str]] = ()
    """Name and value each, in small print at the end: version, machine, date, commands."""


def write_report(page: Page, out: str | Path) -> Path:
    """Writes the page; every picture inside it as a data URI.

    Returns:
        The path written.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["picture"] = picture_uri
    environment.filters["file"] = file_uri
    html = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page=page)
    path = Path(out)
    write_text(path, html)
    return path


def picture_uri(picture: Image.Image) -> str:
    """A picture as a JPEG data URI, at most 960 pixels wide."""
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
