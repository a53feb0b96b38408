"""The comments about annotations. They change no decision, and are undone as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from halfmask.web.review.log.journal import Record, ReviewJournal, Span
from halfmask.web.review.table import AnnotationTable

LONGEST_COMMENT = 2000


@dataclass(frozen=True, kw_only=True)
class Remark:
    """A comment about an annotation.

    Attributes:
        position: of the annotation.
        number: of the comment, from 1.
        by, when: who wrote it, and when.
        text: what it says.
        open: whether nobody has closed it.
        gone: whether its writer has undone it.
    """

    position: int
    number: int
    by: str
    when: str
    text: str
    open: bool = True
    gone: bool = False


class Comments:
    """The last line of every comment; the texts stay in the journal."""

    def __init__(self, journal: ReviewJournal) -> None:
        self._journal = journal
        self._spans: dict[int, list[Span]] = {}
        self._open: dict[int, set[int]] = {}

    def span(self, position: int, number: int) -> Span | None:
        """Returns the bytes of a comment's last line; None if there is none."""
        spans = self._spans.get(position, [])
        return spans[number - 1] if 0 < number <= len(spans) and spans[number - 1][1] else None

    def count(self, position: int) -> int:
        """Returns how many comments an annotation has had."""
        return len(self._spans.get(position, ()))

    def open_at(self, position: int) -> int:
        """Returns how many open comments an annotation has."""
        return len(self._open.get(position, ()))

    def positions(self, *, only_open: bool = False) -> list[int]:
        """Returns the positions of annotations with comments, in order."""
        return sorted(p for p in self._spans if not only_open or self._open.get(p))

    def of(self, position: int) -> Iterator[Remark]:
        """Yields the comments about an annotation, oldest first.

        Raises:
            InputError: a line is damaged.
        """
        for span in self._spans.get(position, ()):
            if span[1]:
                found = remark_of(self._journal.read(span))
                if not found.gone:
                    yield found

    def note(self, line: Record, span: Span) -> None:
        """Notes a line about a comment."""
        found = remark_of(line)
        spans = self._spans.setdefault(found.position, [])
        spans += [(0, 0)] * (found.number - len(spans))  # of damaged lines
        spans[found.number - 1] = span
        numbers = self._open.setdefault(found.position, set())
        if found.open and not found.gone:
            numbers.add(found.number)
        else:
            numbers.discard(found.number)


def line_of_comment(
    remark: Remark, table: AnnotationTable, *, by: str, when: str, of: str, before: Span | None
) -> Record:
    """Returns the journal's line of a comment.

    Args:
        remark: the comment as it is now.
        table: of the review.
        by, when: who changed it to that, and when.
        of: the beginning of the file's digest.
        before: bytes of the comment's line that this one replaces.
    """
    return {
        "at": remark.position,
        "id": table.id_of(remark.position),
        "of": of,
        "by": by,
        "when": when,
        "what": "comment",
        "comment": {
            "number": remark.number,
            "by": remark.by,
            "when": remark.when,
            "text": remark.text,
            "open": remark.open,
            "gone": remark.gone,
        },
        "before": None if before is None else list(before),
    }


def remark_of(line: Record) -> Remark:
    """Returns the comment of a line."""
    said = line["comment"]
    return Remark(
        position=line["at"],
        number=said["number"],
        by=said["by"],
        when=said["when"],
        text=said["text"],
        open=said["open"],
        gone=said["gone"],
    )


def is_comment(line: Record, table: AnnotationTable, of: str) -> bool:
    """Whether a line about a comment fits the file."""
    said, at = line.get("comment"), line.get("at")
    return (
        type(at) is int
        and 0 <= at < len(table)
        and line.get("id") == table.id_of(at)
        and line.get("of") == of
        and isinstance(line.get("by"), str)
        and "when" in line
        and isinstance(said, dict)
        and type(said.get("number")) is int
        and 0 < said["number"] < 1 << 20
        and all(isinstance(said.get(key), str) for key in ("text", "by", "when"))
        and type(said.get("open")) is bool
        and type(said.get("gone")) is bool
    )
