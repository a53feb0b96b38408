"""Writes figures and pictures whole: a reader never sees half a file."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from halfmask.errors import InputError
from halfmask.files.atomic import written_beside
from halfmask.files.kinds import MARK
from halfmask.files.pictures import save_marked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".jpg", ".jpeg")


def check_sheet(path: str | Path) -> None:
    """Refuses a name for `--sheet` that names no picture format, before any other work.

    Raises:
        InputError: The ending is not one of `SUFFIXES`.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(
            f"--sheet: {path} does not end like a picture; expected {', '.join(SUFFIXES)}"
        )


def new_figure(**options: Any) -> Figure:
    """Returns an empty matplotlib figure.

    Args:
        options: matplotlib's.
    """
    keep_fonts_out_of_home()
    from matplotlib.figure import Figure  # no pyplot: no window system, no global state

    return Figure(**options)


def keep_fonts_out_of_home() -> None:
    """Gives matplotlib a temporary folder of this user for its list of fonts.

    It acts before matplotlib's first import, unless MPLCONFIGDIR names a folder.
    """
    os.environ.setdefault("MPLCONFIGDIR", str(_own_folder()))


def _own_folder() -> Path:
    """A temporary folder that keeps its name, unless another user has taken it."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    path = Path(tempfile.gettempdir()) / f"halfmask-matplotlib-{user}"
    with suppress(OSError):
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == user and not found.st_mode & 0o022:
            return path
    return Path(tempfile.mkdtemp(prefix="halfmask-matplotlib-"))


def save_figure(figure: Figure, out: str | Path) -> Path:
    """Writes a matplotlib figure (.png, .svg, …) and returns its path.

    Raises:
        InputError: The file cannot be written.
    """
    path = Path(out)
    with written_beside(path) as file:
        form = path.suffix.removeprefix(".") or None
        figure.savefig(file, format=form, dpi=150, facecolor="white", **_marked(form))
    return path


def _marked(form: str | None) -> dict[str, Any]:
    """Options of matplotlib that mark a file as halfmask's."""
    match (form or "png").lower():
        case "png":
            return {"metadata": {"Software": MARK}}
        case "jpg" | "jpeg":
            return {"pil_kwargs": {"comment": MARK.encode()}}
        case "svg" | "pdf" | "ps" | "eps":
            return {"metadata": {"Creator": MARK}}
    return {}


def save_picture(picture: Image.Image, out: str | Path, **options: Any) -> Path:
    """Writes a picture in the format of its name, else PNG, and returns its path.

    Args:
        options: Pillow's, for the format.
    Raises:
        InputError: The file cannot be written.
    """
    path = Path(out)
    save_marked(picture, path, **options)
    return path
