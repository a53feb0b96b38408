"""What the demo's chapters share: settings and the clock that prints."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from halfmask._version import __version__

MARKER = ".halfmask-demo.json"
"""Says that a folder is a demo's, with which settings, and how long each of its steps took."""


@dataclass(frozen=True)
class Settings:
    """The size of the story. The defaults take about seven minutes on two CPU cores."""

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


@dataclass
class Clock:
    """Prints the steps with their time, and remembers it from run to run.

    Attributes:
        folder: of the demo; its marker holds the times.
        settings: of the demo.
        seconds: step → seconds it took, interruptions and all.
        unfinished: the same of a step that was interrupted.
    """

    folder: Path
    settings: Settings
    seconds: dict[str, float] = field(default_factory=dict)
    unfinished: dict[str, float] = field(default_factory=dict)
    begin: float = field(default_factory=time.perf_counter)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Around a step's work."""
        print(f"\n[{self._now()}] {name}", flush=True)
        begin = time.perf_counter()
        spent = self.unfinished
        try:
            yield
            spent = self.seconds
        finally:
            spent[name] = self.unfinished.pop(name, 0.0) + time.perf_counter() - begin
            self.save()

    def reuse(self, name: str) -> None:
        """Instead of a step whose result is there already."""
        print(f"\n[{self._now()}] {name}: done before, kept", flush=True)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    def save(self) -> None:
        """Writes the marker."""
        from halfmask.files.atomic import write_json

        times = {"seconds": self.seconds, "unfinished": self.unfinished}
        write_json(
            self.folder / MARKER,
            {"version": __version__, "settings": plain(self.settings), **times},
            indent=1,
        )

    def recall(self, note: dict[str, Any]) -> None:
        """Takes the times over from an earlier marker."""
        for name in ("seconds", "unfinished"):
            getattr(self, name).update(note.get(name, {}))

    def _now(self) -> str:
        minutes, seconds = divmod(int(time.perf_counter() - self.begin), 60)
        return f"{minutes}:{seconds:02d}"


def plain(settings: Settings) -> dict[str, Any]:
    """As JSON gives it back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return plain
