"""Docstrings here begin a section (`Returns:`, `Raises:`) right below the one before;
Griffe wants an empty line between.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

HEADING = re.compile(r"(?<!\n)\n(?=(?:Args|Attributes|Returns|Raises):\n)")


def separate_sections(text: str) -> str:
    """The docstring with an empty line before each section that lacks one."""
    return HEADING.sub("\n\n", text)


class SeparateSections(griffe.Extension):
    """Does so with all docstrings."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Griffe calls this for each object that it has read."""
        if obj.docstring is not None:
            obj.docstring.value = separate_sections(obj.docstring.value)
