"""Which mask belongs to which box of Open Images: both name an image, a class and a
box, and nothing else links them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from types import TracebackType

from halfmask.formats.xml_stream import number_of

BOX = ("BoxXMin", "BoxXMax", "BoxYMin", "BoxYMax")
NEAR = 2e-3
"""Share of the image's side by which the two boxes may differ: they are rounded in
different ways.
"""


class MaskTable:
    """The rows of the CSV of masks, in a temporary file that SQLite keeps: there are
    millions of them, in any order.
    """

    def __init__(self) -> None:
        self._rows = sqlite3.connect("")
        self._rows.execute("CREATE TABLE masks (path, image, label, x0, x1, y0, y1)")
        self._rows.execute("CREATE INDEX place ON masks (image, label)")

    def put(self, row: dict[str, str]) -> bool:
        """Keeps a row; False where its box is none."""
        box = numbers_of(row, BOX)
        if box is None or not row["MaskPath"]:
            return False
        values = (row["MaskPath"], row["ImageID"], row["LabelName"], *box)
        self._rows.execute("INSERT INTO masks VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        return True

    def take(self, image: str, label: str, box: Sequence[float]) -> str | None:
        """The file name of the mask whose box is nearest, which is then used up; None
        where none is near.
        """
        query = "SELECT rowid, path, x0, x1, y0, y1 FROM masks WHERE image = ? AND label = ?"
        rows = self._rows.execute(query, (image, label))
        best = min(((_gap(row[2:], box), row[0], row[1]) for row in rows), default=None)
        if best is None or best[0] > NEAR:
            return None
        self._rows.execute("DELETE FROM masks WHERE rowid = ?", (best[1],))
        return str(best[2])

    def left(self) -> Iterator[dict[str, str]]:
        """The rows that no box has taken, by image."""
        columns = ("MaskPath", "ImageID", "LabelName", *BOX)
        for row in self._rows.execute("SELECT * FROM masks ORDER BY image, rowid"):
            yield dict(zip(columns, map(str, row), strict=True))

    def __enter__(self) -> MaskTable:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rows.close()


def _gap(first: Sequence[float], second: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def numbers_of(row: dict[str, str], columns: Sequence[str]) -> list[float] | None:
    """Some columns as finite numbers; None where one is not."""
    values = [number_of(row.get(column)) for column in columns]
    return [v for v in values if v is not None] if None not in values else None
