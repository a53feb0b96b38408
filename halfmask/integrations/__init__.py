"""halfmask inside other tools. A module may need an extra, which nothing else needs."""

from __future__ import annotations

import importlib
from typing import Any

from halfmask.errors import InputError


def optional_module(name: str, package: str, extra: str) -> Any:
    """Imports a module of an optional package.

    Args:
        name: the module.
        package: the package, for the error.
        extra: the extra of halfmask that installs it.
    Raises:
        InputError: the package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f'this needs {package}: pip install "halfmask[{extra}]"') from error
