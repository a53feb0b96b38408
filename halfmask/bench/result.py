"""What every benchmark takes and gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""name, peer, peer_value, value, unit, ratio, bar, ok: a row of the contract of `bench --json`."""


@dataclass(frozen=True)
class Options:
    """The command line's.

    Attributes:
        out: run folder.
        seeds, first_seed, splits: see `halfmask bench --help`.
        data: where the pictures come from.
        root: folder of COCO, for `data` coco.
        overrides: `key=value` for the recipes of `data` coco.
        docs: page to write into; figures go beside it.
        say: told what is done, line by line.
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


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        rows: for the terminal and JSON.
        details: further top keys of the JSON.
        tables: marker in the docs page → Markdown.
        command: the command that measures this anew.
    """

    rows: list[Row]
    tables: dict[str, str]
    command: str
    details: dict[str, Any] = field(default_factory=dict)
