"""`halfmask demo`: the whole story on what ships with the package, told in one page."""

from __future__ import annotations

import importlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from halfmask._version import __version__
from halfmask.errors import InputError

MARKER = ".halfmask-demo.json"
"""Says that a folder is a demo's, with which settings, and how long each of its steps took."""
OWN = ("photographs", "world", "runs", "results", "report.html")
"""What the demo writes in its folder, and all that it ever removes."""


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
        write_json(self.folder / MARKER, {"version": __version__, "settings": _plain(self.settings), **times}, indent=1)

    def recall(self, note: dict[str, Any]) -> None:
        """Takes the times over from an earlier marker."""
        for name in ("seconds", "unfinished"):
            getattr(self, name).update(note.get(name, {}))

    def _now(self) -> str:
        minutes, seconds = divmod(int(time.perf_counter() - self.begin), 60)
        return f"{minutes}:{seconds:02d}"


def run(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("demo"),
) -> None:
    """The whole story in about seven minutes on two CPU cores: completes twelve photographs, then makes a world in which half of the
    classes have masks, trains on it, measures, fills in the other half, and puts all of it on one page.

    Example: halfmask demo --out demo

    Interrupted, the same command goes on where it stopped; finished, it keeps what is there and writes the page again.
    """
    try:
        report = tell(out, Settings())
    except KeyboardInterrupt:
        typer.echo(f"\ninterrupted; `halfmask demo --out {out}` goes on from here", err=True)
        raise typer.Exit(130) from None
    print(f"\nThe report: {report.resolve()}\n            {report.resolve().as_uri()}")


def tell(out: Path, settings: Settings) -> Path:
    """Makes the demo in a folder, and returns the page.

    Raises:
        InputError: the folder holds something that no demo made.
        typer.Exit: a signal stopped a training, which goes on in the next call.
    """
    clock = open_folder(out, settings)
    with clock.step("starting"):  # torch takes some seconds to load
        from halfmask.commands.demo_page import demo_page
        from halfmask.commands.demo_photographs import complete_photographs
        from halfmask.commands.demo_world import tell_world
        from halfmask.visualize.report import write_report

        importlib.import_module("halfmask.inference.complete")

    photographs = complete_photographs(out / "photographs", settings.model, clock)
    world = tell_world(out, settings, clock)
    with clock.step("the report"):
        page = demo_page(photographs, world, clock)
        return write_report(page, out / "report.html")


def open_folder(out: Path, settings: Settings) -> Clock:
    """The demo's folder: new, its own from before, or made anew where an older version or other settings made it.

    Raises:
        InputError: a file, or a folder with something in it that no demo made.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for the demo, found a file")
    marker = out / MARKER
    clock = Clock(out, settings)
    if out.exists() and any(out.iterdir()):
        if not marker.is_file():
            raise InputError(f"{out}: this folder holds files that no demo made; name another one with --out")
        note = _read(marker)
        if note.get("version") == __version__ and note.get("settings") == _plain(settings):
            print(f"{out}: an earlier demo; what it finished is kept (remove the folder to start over)")
            clock.recall(note)
        else:
            print(f"{out}: a demo of another version or size; made anew")
            _clear(out)
    out.mkdir(parents=True, exist_ok=True)
    clock.save()
    return clock


def _clear(out: Path) -> None:
    for name in OWN:
        path = out / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _read(marker: Path) -> dict[str, Any]:
    try:
        note = json.loads(marker.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}


def _plain(settings: Settings) -> dict[str, Any]:
    """As JSON gives it back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return plain
