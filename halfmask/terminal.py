"""The one place that writes to a terminal; names from a file are text, never more.

They come from strangers. None of them is markup of rich, moves the cursor, or fails
because the terminal has another encoding.
"""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from halfmask.errors import printable


def say(text: object = "", *, err: bool = False) -> None:
    """Writes a line to stdout, or to stderr; control characters are escaped."""
    stream = sys.stderr if err else sys.stdout
    stream.write(encodable(printable(str(text)), stream.encoding) + "\n")
    stream.flush()


def encodable(text: str, encoding: str | None) -> str:
    """Returns a text with what an encoding lacks as escapes, such as \\xe4 or \\u2026."""
    name = encoding or "utf-8"
    try:
        return text.encode(name, "backslashreplace").decode(name)
    except LookupError:  # an encoding that Python does not know
        return text.encode("ascii", "backslashreplace").decode("ascii")


def escape_unencodable() -> None:
    """Makes stdout and stderr escape what their encoding lacks, whoever writes to them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def styled(text: object, style: str = "") -> Text:
    """Returns a text of rich that shows these characters, whatever they are."""
    return Text(printable(str(text)), style)


class PlainTable(Table):
    """A table whose texts are shown as they are, not read as markup."""

    def __init__(self, *headers: str, **options: Any) -> None:
        for key in ("title", "caption"):
            if isinstance(options.get(key), str):
                options[key] = styled(options[key])
        super().__init__(**options)
        for header in headers:
            self.add_column(header)

    def add_column(self, header: Any = "", *args: Any, **options: Any) -> None:
        super().add_column(_as_text(header), *args, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*map(_as_text, cells), **options)


class PlainConsole(Console):
    """A console of rich that prints texts as they are; they are not read as markup."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*map(_as_text, objects), **{"highlight": False, **options})


def _as_text(value: Any) -> Any:
    return styled(value) if isinstance(value, str) else value
