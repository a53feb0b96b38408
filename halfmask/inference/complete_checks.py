"""What `complete` refuses before it loads a model."""

from __future__ import annotations

from pathlib import Path

from halfmask.coco.file import CocoFile
from halfmask.coco.images import missing_photographs
from halfmask.coco.records import file_name_of
from halfmask.errors import InputError
from halfmask.inference.plan import Plan


def check_places(source: Path, folder: Path, out: Path) -> None:
    """Refuses places that cannot be meant.

    Raises:
        InputError: `out` is the input or a folder, or `folder` is none.
    """
    if out.is_dir():
        raise InputError(f"{out}: --out names the file to write, found a folder")
    if out.exists() and source.exists() and out.samefile(source):
        raise InputError(f"{out}: --out is the input itself, which is never written to; name another file")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")


def check_work(file: CocoFile, work: Plan, folder: Path) -> None:
    """Refuses a file without boxes, and a folder that has none of the photographs that are needed.

    Raises:
        InputError: as said.
    """
    if not any(file.annotations_of(image["id"]) for image in file.images):
        found = (
            f"{len(work.unusable)} annotations, none usable (halfmask doctor says why)"
            if work.unusable
            else "no annotation"
        )
        raise InputError(f"{file.name}: no box to fill a mask into: {found}")
    needed = {piece.image["id"]: piece.image for batch in work.batches for piece in batch}
    if needed and len(missing_photographs(folder, needed.values())) == len(needed):
        name = file_name_of(next(iter(needed.values()))) or "(no file_name)"
        raise InputError(
            f"{folder}: none of the {len(needed)} photographs that {file.name} needs is here, such as {name}"
        )
