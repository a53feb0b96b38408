"""What every benchmark takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""name, peer, peer_value, value, unit, ratio, bar, ok: a row of the contract of `bench --json`."""


def compared(
    name: str,
    peer: str | None,
    peer_value: float | None,
    value: float,
    unit: str,
    bar: float | None,
    at_least: bool = False,
) -> Row:
    """A row whose ratio is value / peer, at most `bar`; `at_least`: peer / value, how
    much better, `bar` or more. Unknown peer: nulls.
    """
    ratio = None
    if peer_value is not None:
        above, below = (peer_value, value) if at_least else (value, peer_value)
        ratio = above / below if below else None
    ok = None if bar is None or ratio is None else (ratio >= bar if at_least else ratio <= bar)
    row = {"name": name, "peer": peer, "peer_value": peer_value, "value": value, "unit": unit}
    return {**row, "ratio": ratio, "bar": bar, "ok": ok}


def held(name: str, value: float, unit: str, bar: float) -> Row:
    """A row of a value that must not exceed `bar`."""
    return {
        "name": name, "peer": None, "peer_value": None, "value": value, "unit": unit, "ratio": None, "bar": bar, "ok": value <= bar,
    }  # fmt: skip


@dataclass(frozen=True)
class Options:
    """The command line's.

    Attributes:
        out: run folder.
        seeds, first_seed, splits: see `python -m benchmarks --help`.
        data: where the pictures come from.
        root: folder of COCO, for `data` coco.
        overrides: `key=value` for the recipes of `data` coco.
        docs: page to write into; figures go beside it.
        say: called with each line of progress.
        measured: run nothing; report what was measured before.
        stage: of `reproduce`.
    """

    out: Path
    seeds: int
    first_seed: int
    splits: int
    data: str = "world"
    root: Path | None = None
    overrides: tuple[str, ...] = ()
    docs: Path | None = None
    say: Callable[[str], None] = print
    measured: bool = False
    stage: str = "import"


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        rows: for the terminal and JSON.
        details: further top keys of the JSON.
        tables: marker in the docs page → Markdown.
        command: repeats the measurement.
    """

    rows: list[Row]
    tables: dict[str, str]
    command: str
    details: dict[str, Any] = field(default_factory=dict)
