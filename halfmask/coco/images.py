"""Reads photographs: RGB, 8 bits, in the frame of their record.

The size in the record decides whether the EXIF orientation is applied
(`halfmask.coco.photographs.orientation`). Without a record it is, as in a viewer.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from halfmask.coco.locate import tree_of
from halfmask.coco.photographs.depth import ValueRange, deep_values, is_deep, range_of
from halfmask.coco.photographs.orientation import Frame, Orientation, Ruling, Size, fault_of_frame
from halfmask.coco.records import file_name_of
from halfmask.errors import InputError
from halfmask.files.pictures import picture_of
from halfmask.text import plural

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]


def photograph_path(folder: str | Path, name: str, where: str = "") -> Path:
    """Returns the path of a record's photograph; no other code turns names into paths.

    Where the folder has no such file, it is the one below the folder with the same last
    part, if there is only one (`halfmask.coco.locate`). Its size must be checked.

    COCO files come from strangers, so a name may not lead out of the folder. Links
    inside the folder are the user's own and are followed.

    Args:
        folder: of the photographs.
        name: `file_name_of` the record. An absolute name, or one with `..`, is accepted
            if it leads into the folder.
        where: added to the error, for example "image id 9".
    Returns:
        A path below the folder, which need not exist.
    Raises:
        InputError: the record has no name, the name leads out of the folder, or several
            photographs have its last part.
    """
    of = f"{where}: " if where else ""
    if not name:
        raise InputError(f"{of}the record has no file_name")
    leads_out, path = _leads_out(folder, name), Path(folder) / name
    if not leads_out and _is_no_folder(path):
        return path
    if found := by_last_part(folder, name):
        return Path(folder) / found
    if why := why_missing(folder, name):
        raise InputError(
            f"{of}no photograph {name!r} in {folder}: {why}; correct file_name, or name the "
            "folder of the right one"
        )
    if leads_out:
        raise InputError(
            f"{of}file_name {name!r} leads out of {folder}; name the folder that holds all "
            "photographs"
        )
    return path


def relative_name(folder: str | Path, name: str) -> str:
    """Returns the path of a record's photograph relative to the folder, with "/" in it.

    Raises:
        InputError: as `photograph_path`.
    """
    return Path(os.path.relpath(photograph_path(folder, name), folder)).as_posix()


def by_last_part(folder: str | Path, name: str) -> str | None:
    """Returns the only file below a folder with a name's last part, as a relative path.

    The first of a folder is logged. None if there is no such file, or several.
    """
    tree = tree_of(folder)
    found = tree.find(name)
    if len(found) != 1:
        return None
    if not tree.said:
        tree.said = True
        logger.warning(
            "%s: photographs are found by their last part, such as %s → %s", folder, name, found[0]
        )
    return found[0]


def read_photograph(
    path: str | Path | IO[bytes],
    where: str = "",
    *,
    size: Size | None = None,
    ruling: Ruling | None = None,
    file: str = "the file",
) -> Pixels:
    """Reads the pixels of an image file of any mode, uint8 [H, W, 3] RGB.

    Args:
        path: the file, or a file object open for reading bytes.
        where: added to the error, for example "image id 9".
        size: (H, W) in the record, which decides the frame; None: as a viewer shows it.
        ruling: of the data set, for sizes that do not decide.
        file: what has the record, for the error.
    Raises:
        InputError: the file is missing, truncated, not an image, has too many pixels
            (twice Pillow's limit), or has the size in neither frame.
    """
    with opened(path, where) as image:
        found = Orientation.of(image)
        frame = Frame.TURNED if size is None else (ruling or Ruling()).frame(found, size)
        pixels = None if frame is None else found.pixels_in(frame, to_rgb(image))
    if pixels is None:
        assert size is not None
        name = f"{path} ({where})" if where else str(path)
        raise InputError(f"{name}: {fault_of_frame(found, size, file)}")
    return pixels


@contextmanager
def opened(path: str | Path | IO[bytes], where: str = "") -> Iterator[Image.Image]:
    """Opens a Pillow image; arguments and errors are those of `read_photograph`.

    Every exception of the block becomes an InputError, so it must only read the image.
    """
    name = str(path) if isinstance(path, str | Path) else "the image data"
    name = f"{name} ({where})" if where else name
    try:
        with picture_of(path) as image:
            yield image
    except FileNotFoundError as error:
        raise InputError(f"{name}: expected a photograph, there is no such file") from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise InputError(
            f"{name}: a photograph of more than {most} million pixels, or an attack; "
            "cut it into tiles (boxes and masks too) or make it smaller"
        ) from error
    except Exception as error:
        # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error,
        # DecompressionBombError, …
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        reason = reason or type(error).__name__
        raise InputError(
            f"{name}: expected a photograph, cannot read it ({reason}); replace the file"
        ) from error


def to_rgb(image: Image.Image) -> Pixels:
    """Returns the pixels of a Pillow image, uint8 [H, W, 3] RGB, as Pillow loads them.

    More than 8 bits are scaled by `range_of`, transparency is dropped.
    """
    return rgb_and_range(image)[0]


def rgb_and_range(image: Image.Image) -> tuple[Pixels, ValueRange | None]:
    """Returns the pixels as `to_rgb`, and the range of an image of more than 8 bits."""
    deep = is_deep(image)
    values = deep_values(image) if deep else None
    if values is None:
        pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))
        return pixels, ValueRange(0, 65535, "16 bits") if deep else None
    span = range_of(values, image)
    pixels = span.to_bytes(values)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2), span


def check_folder(folder: str | Path, photographs: Iterable[tuple[int, str]], name: str) -> None:
    """Checks that photographs exist, and logs how many are found by their last part.

    Lists each folder only once.

    Args:
        folder: of the photographs.
        photographs: image id and file name of each.
        name: of the COCO file, for the message.
    Raises:
        InputError: there is no such folder, or photographs are missing; the message has
            their number and the first.
    """
    root = _folder(folder)
    total, missing = _missing(root, photographs)
    if not missing:
        return
    number, first = missing[0]
    said = first or "one without file_name"
    if why := why_missing(root, first):
        said = f"{first} ({why})"
    elif _leads_out(root, first):
        said = f"{first!r}, which leads out of it"
    share, verb = f"{len(missing)} of the {total}", "are not"
    if len(missing) == total:
        share, verb = f"none of the {total}", "is"
    raise InputError(
        f"{folder}: {share} photographs that {name} names {verb} in this folder, "
        f"first {said} (image id {number}); check the images folder"
    )


def missing_photographs(
    folder: str | Path, images: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the image records whose photograph is not in a folder.

    It logs how many are found by their last part.

    Raises:
        InputError: there is no such folder.
    """
    records = list(images)
    named = ((number, file_name_of(image)) for number, image in enumerate(records))
    _, missing = _missing(_folder(folder), named)
    return [records[number] for number, _ in missing]


def why_missing(folder: str | Path, name: str) -> str:
    """Says why a photograph is missing although others have its last part; else ""."""
    return tree_of(folder).why_not(name) if name else ""


def _missing(
    root: Path, photographs: Iterable[tuple[int, str]]
) -> tuple[int, list[tuple[int, str]]]:
    """Returns how many photographs there are, and those that are not found, in order."""
    there: set[str] = set()
    odd: list[tuple[int, str]] = []
    total, listed = 0, dict[Path, set[str]]()
    for total, (number, name) in enumerate(photographs, 1):  # noqa: B007
        if _is_there(root, name, listed):
            there.add(name)
        else:
            odd.append((number, name))
    if not odd:
        return total, []
    tree = tree_of(root, fresh=True)
    found = tree.settle({name for _, name in odd if name}, there)
    if found:
        tree.said = True
        few = next((f"{name} → {found[name]}" for _, name in odd if name in found), "")
        what = plural(sum(name in found for _, name in odd), "photograph")
        logger.warning("%s: %s found by their last part, such as %s", root, what, few)
    return total, [(number, name) for number, name in odd if name not in found]


def _is_no_folder(path: Path) -> bool:
    """Whether there is a file, or a pipe or device, whose reader names it."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def _folder(folder: str | Path) -> Path:
    root = Path(folder)
    if not root.is_dir():
        raise InputError(
            f"{folder}: expected the folder of the photographs, there is no such folder"
        )
    return root


def _leads_out(folder: str | Path, name: str) -> bool:
    if ".." not in name and not Path(name).is_absolute():
        return False  # nearly all names
    # By the names alone, not `resolve`: links are the user's own.
    root = os.path.normpath(Path(folder).absolute())
    return not Path(os.path.normpath(Path(root) / name)).is_relative_to(root)


def _is_there(root: Path, name: str, listed: dict[Path, set[str]]) -> bool:
    path = root / name
    try:
        if _leads_out(root, name):
            return False
        if path.parent not in listed:
            listed[path.parent] = (
                {p.name for p in path.parent.iterdir()} if path.parent.is_dir() else set()
            )
        # `is_file` is for file systems that ignore case.
        return bool(name) and (path.name in listed[path.parent] or path.is_file())
    except (OSError, ValueError):  # no file can have this name
        return False
