"""`halfmask demo`: boxes in, masks out, on data of the package; one page shows it all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from halfmask._version import __version__
from halfmask.cli.demo.clock import MARKER, Clock, Settings, plain
from halfmask.files.guard import Output, guard
from halfmask.files.kinds import DEMO
from halfmask.terminal import say

OWN = ("photographs", "world", "runs", "results", "report.html")
"""Everything that the demo writes in its folder, and everything that it ever removes."""


def run(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path(
        "demo"
    ),
) -> None:
    """Shows halfmask in about seven minutes on two CPU cores.

    The demo completes twelve photographs. It draws a world in which half of the classes
    have masks, trains on it, evaluates, and fills in the other half. One page shows all
    of it.

    Example: halfmask demo --out demo

    If it is interrupted, the same command resumes it. Once finished, it keeps all
    results and writes the page again.
    """
    try:
        report = make_demo(out, Settings())
    except KeyboardInterrupt:
        say(f"\ninterrupted; to resume: halfmask demo --out {out}", err=True)
        raise typer.Exit(130) from None
    say(f"\nThe report: {report.resolve()}\n            {report.resolve().as_uri()}")


def make_demo(out: Path, settings: Settings) -> Path:
    """Makes the demo in a folder; prints its chapters. Returns the page.

    Raises:
        InputError: the folder holds files of others.
        typer.Exit: a signal stopped a training, which the next call resumes.
    """
    clock = open_folder(out, settings)
    with clock.step("starting"):  # torch takes some seconds to load
        from halfmask.cli.demo import page, photographs, world

    completed = photographs.complete_photographs(out / "photographs", settings.model, clock)
    trained = world.make_world(out, settings, clock)
    with clock.step("the report"):
        return page.write_demo_page(out / "report.html", completed, trained, clock)


def open_folder(out: Path, settings: Settings) -> Clock:
    """Opens a folder for the demo, and keeps the results of an earlier one in it.

    Results of another version or of other settings are removed.

    Raises:
        InputError: it is a file, or a folder with files of others.
    """
    guard([Output(out, "--out", DEMO)], inputs=[])
    marker = out / MARKER
    clock = Clock(folder=out, settings=settings)
    if out.exists() and any(out.iterdir()):
        note = _read(marker)
        if note.get("version") == __version__ and note.get("settings") == plain(settings):
            say(f"{out}: an earlier demo; keeps its results (remove the folder to start over)")
            clock.recall(note)
        else:
            say(f"{out}: a demo of another version or size; starts over")
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
