"""The demo's settings, and the clock that prints its steps."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from halfmask._version import __version__
from halfmask.files.atomic import write_json
from halfmask.terminal import say

MARKER = ".halfmask-demo.json"
"""File that marks a demo's folder; has the settings and the time of each step."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The size of the demo. The defaults take about seven minutes on two CPU cores."""

    model: str = "box-segmenter"
    train_images: int = 1200
    test_images: int = 150
    classes: int = 32
    masked: int = 16
    size: int = 112
    seed: int = 0
    detector_steps: int | None = 700
    head_steps: int | None = None
    overrides: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Clock:
    """Prints the steps with their times, and keeps the times from run to run.

    Attributes:
        folder: of the demo; its marker has the times.
        settings: of the demo.
        seconds: finished step → its seconds, with interrupted attempts.
        unfinished: interrupted step → its seconds so far.
    """

    folder: Path
    settings: Settings
    seconds: dict[str, float] = field(default_factory=dict)
    unfinished: dict[str, float] = field(default_factory=dict)
    begin: float = field(default_factory=time.perf_counter)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measures the block as a step."""
        say(f"\n[{self._now()}] {name}")
        begin = time.perf_counter()
        spent = self.unfinished
        try:
            yield
            spent = self.seconds
        finally:
            spent[name] = self.unfinished.pop(name, 0.0) + time.perf_counter() - begin
            self.save()

    def reuse(self, name: str) -> None:
        """Prints a step whose result exists already."""
        say(f"\n[{self._now()}] {name}: keeps the earlier result")

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def save(self) -> None:
        """Writes the marker."""
        times = {"seconds": self.seconds, "unfinished": self.unfinished}
        write_json(
            self.folder / MARKER,
            {"version": __version__, "settings": plain(self.settings), **times},
            indent=1,
        )

    def recall(self, note: dict[str, Any]) -> None:
        """Adopts the times of an earlier marker."""
        for name in ("seconds", "unfinished"):
            getattr(self, name).update(note.get(name, {}))

    def _now(self) -> str:
        minutes, seconds = divmod(int(time.perf_counter() - self.begin), 60)
        return f"{minutes}:{seconds:02d}"


def plain(settings: Settings) -> dict[str, Any]:
    """Returns the settings as JSON reads them back."""
    document: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return document
