"""Millions of findings in little memory: a Problem is made when it is asked for."""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, overload

from numpy.typing import NDArray

from halfmask.coco.problems import Problem, ProblemKind

ORDER = {
    kind: k
    for k, kind in enumerate(
        sorted(ProblemKind, key=lambda kind: kind is not ProblemKind.DUPLICATE_KEY)
    )
}
"""Place of each kind among the findings of a file: those about its text are first."""
_MOST_TEXTS = 4096

Row = tuple[tuple[int, ...], str]
"""The ids and the message of a finding."""


class Block(Protocol):
    """Consecutive findings of a kind."""

    def __len__(self) -> int: ...
    def rows(self) -> list[Row]: ...


class ColumnBlock:
    """Findings with one id each, whose messages are made of numbers.

    Args:
        text: the message, with a place for the id and each of the numbers.
        columns: the ids, and the numbers.
    """

    def __init__(self, text: str, *columns: NDArray[Any]) -> None:
        self._text, self._columns = text.format, columns

    def __len__(self) -> int:
        return len(self._columns[0])

    def rows(self) -> list[Row]:
        """Returns the findings."""
        columns = (column.tolist() for column in self._columns)
        return [((row[0],), self._text(*row)) for row in zip(*columns, strict=True)]


class TextBlock:
    """Findings whose messages are kept, compressed."""

    def __init__(self, rows: list[Row]) -> None:
        self._count = len(rows)
        self._text = zlib.compress(json.dumps(rows).encode(), 1)

    def __len__(self) -> int:
        return self._count

    def rows(self) -> list[Row]:
        """Returns the findings."""
        # JSON has no tuples.
        return [(tuple(ids), said) for ids, said in json.loads(zlib.decompress(self._text))]


class KindFindings(Sequence[Problem]):
    """The findings of one kind, in order."""

    def __init__(self, kind: ProblemKind) -> None:
        self.kind = kind
        self._blocks: list[Block] = []
        self._starts: list[int] = []
        self._count = 0
        self._opened: tuple[int, list[Row]] = (-1, [])

    def add(self, block: Block) -> None:
        """Appends findings."""
        if len(block):
            self._starts.append(self._count)
            self._blocks.append(block)
            self._count += len(block)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> list[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | list[Problem]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        at = range(self._count)[index]
        number = bisect_right(self._starts, at) - 1
        if self._opened[0] != number:
            self._opened = number, self._blocks[number].rows()
        return Problem(self.kind, *self._opened[1][at - self._starts[number]])

    def __iter__(self) -> Iterator[Problem]:
        for block in self._blocks:
            for ids, message in block.rows():
                yield Problem(self.kind, ids, message)


class Findings(Sequence[Problem]):
    """The findings of a file by kind, in the order of a report."""

    def __init__(self) -> None:
        self._kinds: dict[ProblemKind, KindFindings] = {}

    def of_kind(self, kind: ProblemKind) -> KindFindings:
        """Returns the findings of a kind."""
        return self._kinds.get(kind) or KindFindings(kind)

    def add(self, kind: ProblemKind, block: Block) -> None:
        """Appends findings of a kind."""
        self._kinds.setdefault(kind, KindFindings(kind)).add(block)

    def add_all(self, problems: Iterable[Problem]) -> None:
        """Appends findings of any kinds, each to those of its kind."""
        rows: dict[ProblemKind, list[Row]] = {}
        for problem in problems:
            own = rows.setdefault(problem.kind, [])
            own.append((problem.ids, problem.message))
            if len(own) == _MOST_TEXTS:
                self.add(problem.kind, TextBlock(rows.pop(problem.kind)))
        for kind, own in rows.items():
            self.add(kind, TextBlock(own))

    @property
    def counts(self) -> Counter[ProblemKind]:
        """Number of findings of each kind."""
        return Counter({kind: len(found) for kind, found in self._kinds.items()})

    def __len__(self) -> int:
        return sum(map(len, self._kinds.values()))

    @overload
    def __getitem__(self, index: int) -> Problem: ...
    @overload
    def __getitem__(self, index: slice) -> list[Problem]: ...
    def __getitem__(self, index: int | slice) -> Problem | list[Problem]:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        for found in self._ordered():
            if at < len(found):
                return found[at]
            at -= len(found)
        raise IndexError(index)

    def __iter__(self) -> Iterator[Problem]:
        for found in self._ordered():
            yield from found

    def _ordered(self) -> list[KindFindings]:
        return [self._kinds[kind] for kind in sorted(self._kinds, key=ORDER.__getitem__)]


def kind_counts(problems: Sequence[Problem]) -> Counter[ProblemKind]:
    """Returns the number of findings of each kind."""
    if isinstance(problems, Findings):
        return problems.counts
    return Counter(problem.kind for problem in problems)
