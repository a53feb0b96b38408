"""Finds the mask of each box of Open Images: they share an image, a class and a similar box."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from halfmask.formats.xml_stream import numbers_of

BOX = ("BoxXMin", "BoxXMax", "BoxYMin", "BoxYMax")
NEAR = 2e-3
"""Fraction of the image's side by which the two boxes may differ by rounding."""


class MaskTable:
    """The millions of rows of the CSV of masks, in a temporary SQLite file."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("")
        self._rows.execute("CREATE TABLE masks (path, image, label, x0, x1, y0, y1)")
        self._rows.execute("CREATE INDEX place ON masks (image, label)")

    def put(self, row: dict[str, str]) -> bool:
        """Adds a row; returns False if it has no box of four numbers."""
        box = numbers_of(row.get(column) for column in BOX)
        if box is None or not row["MaskPath"]:
            return False
        values = (row["MaskPath"], row["ImageID"], row["LabelName"], *box)
        self._rows.execute("INSERT INTO masks VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        return True

    def take(self, image: str, label: str, box: Sequence[float]) -> str | None:
        """Removes the mask with the nearest box and returns its file name; None if none is near."""
        query = "SELECT rowid, path, x0, x1, y0, y1 FROM masks WHERE image = ? AND label = ?"
        rows = self._rows.execute(query, (image, label))
        best = min(((_gap(row[2:], box), row[0], row[1]) for row in rows), default=None)
        if best is None or best[0] > NEAR:
            return None
        self._rows.execute("DELETE FROM masks WHERE rowid = ?", (best[1],))
        return str(best[2])

    def left(self) -> Iterator[dict[str, str]]:
        """Yields the rows that no box has taken, by image."""
        columns = ("MaskPath", "ImageID", "LabelName", *BOX)
        for row in self._rows.execute("SELECT * FROM masks ORDER BY image, rowid"):
            yield dict(zip(columns, map(str, row), strict=True))

    def __enter__(self) -> MaskTable:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()


def _gap(first: Sequence[float], second: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))
