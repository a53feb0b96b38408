"""What the shell offers when a user presses Tab; nothing here loads torch or NumPy.

Where nothing fits, the shell offers files.
"""

from __future__ import annotations

from collections.abc import Iterable

from halfmask.formats import FORMATS
from halfmask.recipes import shipped_recipes


def complete_recipe(incomplete: str) -> list[str]:
    """Offers the names of the shipped recipes."""
    return _begins(incomplete, shipped_recipes())


def complete_format(incomplete: str) -> list[str]:
    """Offers the formats of `convert`."""
    return _begins(incomplete, FORMATS)


def _begins(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
