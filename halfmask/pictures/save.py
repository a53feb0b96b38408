"""Writes figures and pictures so that a reader never meets half of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from halfmask.files.atomic import written_beside

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figure(figure: Figure, out: str | Path) -> Path:
    """Writes a figure (.png, .svg, …) as `written_beside` does.

    Raises:
        InputError: the place cannot be written.
    """
    path = Path(out)
    with written_beside(path) as file:
        figure.savefig(
            file, format=path.suffix.removeprefix(".") or None, dpi=150, facecolor="white"
        )
    return path


def save_picture(picture: Image.Image, out: str | Path, **options: Any) -> Path:
    """Writes a picture in the format of its name (.png where that has none) as
    `written_beside` does; options are Pillow's.

    Raises:
        InputError: the place cannot be written.
    """
    path = Path(out)
    form = Image.registered_extensions().get(path.suffix.lower(), "PNG")
    with written_beside(path) as file:
        picture.save(file, form, **options)
    return path
