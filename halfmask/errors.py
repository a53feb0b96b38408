"""The error that users see, and texts made harmless for a terminal."""

from __future__ import annotations

import unicodedata

_KEPT = "\n\t\u200c\u200d"  # the joiners are part of words and of emoji


class InputError(Exception):
    """An input that cannot be used.

    The message is one line: what was expected, what was found, where (file, image id,
    annotation id) and how to fix it. The command line prints it without a traceback and
    exits with code 2. Control characters are escaped: a file name from a stranger could
    hold some that a terminal obeys.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Returns a text in which a terminal obeys no character.

    Control characters, lone surrogates, and marks that turn the direction of writing
    become escapes such as \\x1b. Line ends, tabs and spaces of any width stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or _is_kept(c) else _escaped(c) for c in text)


def _is_kept(character: str) -> bool:
    return character in _KEPT or unicodedata.category(character) == "Zs"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class ProcessFailed(Exception):  # noqa: N818 - the error itself is the process's
    """Another process of the same training failed, and has printed its own message.

    Attributes:
        code: exit code for this process.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
