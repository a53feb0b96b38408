"""Names of image files: relative to their folder, and never out of it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

from halfmask.errors import InputError


def leads_out(name: str) -> bool:
    """Whether a file name is none below a folder: empty, absolute, with `..`, or with
    characters that no name has.
    """
    parts = PurePosixPath(name.replace("\\", "/")).parts
    absolute = PurePosixPath(name).is_absolute() or bool(
        PureWindowsPath(name).drive or PureWindowsPath(name).root
    )
    return (
        not parts or absolute or ".." in parts or bool(re.search("[\x00-\x1f\ud800-\udfff]", name))
    )


def stems_of(names: list[str], source: str) -> dict[str, str]:
    """File name → the same without its ending, for the files that go with it.

    Raises:
        InputError: a name leads out of the folder, or two differ in their ending only.
    """
    seen: dict[str, str] = {}
    stems = {}
    for name in names:
        if leads_out(name):
            raise InputError(
                f"{source}: file_name {name!r} leads out of the images folder; expected a name "
                "below it"
            )
        path = PurePosixPath(name.replace("\\", "/"))
        stem = str(path.with_suffix(""))
        if stem in seen:
            raise InputError(
                f"{source}: {seen[stem]!r} and {name!r} would share one label file {stem}; "
                "rename one of them"
            )
        seen[stem] = name
        stems[name] = stem
    return stems
