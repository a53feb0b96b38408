"""logs/metrics.csv and metrics.json: what a run leaves to read, kept whole over interruptions."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from halfmask.files.atomic import new_file, write_text


class MetricsCsv:
    """A table with one row a logged step; new columns (the losses of a later stage) widen it.

    Lightning's CSV logger deletes the file of a run that is resumed; here rows up to the resumed step stay, later ones go.
    """

    def __init__(self, path: Path, resumed_step: int = 0) -> None:
        self._path = path
        self._columns: list[str] = []
        self._rows: list[dict[str, Any]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and resumed_step > 0:
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self._columns = list(reader.fieldnames or [])
                # A line that was cut off while it was written lacks columns.
                self._rows = [row for row in reader if None not in row.values() and int(row["step"]) <= resumed_step]
        self._rewrite()

    def log(self, row: dict[str, Any]) -> None:
        """Adds a row; it has a `step`."""
        self._rows.append(row)
        if any(name not in self._columns for name in row):
            self._rewrite()
            return
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def _rewrite(self) -> None:
        for row in self._rows:
            self._columns += [name for name in row if name not in self._columns]
        with new_file(self._path) as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)


class Evaluations:
    """metrics.json: one object an evaluation, in the order of their steps."""

    def __init__(self, path: Path, resumed_step: int = 0) -> None:
        self._path = path
        self._entries: list[dict[str, Any]] = []
        if path.is_file() and resumed_step > 0:
            entries = json.loads(path.read_text(encoding="utf-8"))
            self._entries = [entry for entry in entries if entry["step"] <= resumed_step]
        self._write()

    def has(self, step: int) -> bool:
        return any(entry["step"] == step for entry in self._entries)

    def add(self, entry: dict[str, Any]) -> None:
        """Adds an object with `step`, `epoch`, `seconds` and the evaluation's blocks."""
        self._entries.append(entry)
        self._write()

    def _write(self) -> None:
        write_text(self._path, json.dumps(self._entries, indent=1, allow_nan=False) + "\n")
