"""`halfmask demo`: the whole story on what ships with the package, told in one page."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from halfmask._version import __version__
from halfmask.cli.demo.clock import MARKER, Clock, Settings, plain
from halfmask.errors import InputError

OWN = ("photographs", "world", "runs", "results", "report.html")
"""What the demo writes in its folder, and all that it ever removes."""


def run(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path(
        "demo"
    ),
) -> None:
    """The whole story in about seven minutes on two CPU cores: completes twelve
    photographs, then makes a world in which half of the classes have masks, trains on
    it, measures, fills in the other half, and puts all of it on one page.

    Example: halfmask demo --out demo

    Interrupted, the same command goes on where it stopped; finished, it keeps what is
    there and writes the page again.
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
        from halfmask.cli.demo.page import demo_page
        from halfmask.cli.demo.photographs import complete_photographs
        from halfmask.cli.demo.world import tell_world
        from halfmask.pictures.report import write_report

        importlib.import_module("halfmask.inference.complete.complete")

    photographs = complete_photographs(out / "photographs", settings.model, clock)
    world = tell_world(out, settings, clock)
    with clock.step("the report"):
        page = demo_page(photographs, world, clock)
        return write_report(page, out / "report.html")


def open_folder(out: Path, settings: Settings) -> Clock:
    """The demo's folder: new, its own from before, or made anew where an older version
    or other settings made it.

    Raises:
        InputError: a file, or a folder with something in it that no demo made.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for the demo, found a file")
    marker = out / MARKER
    clock = Clock(out, settings)
    if out.exists() and any(out.iterdir()):
        if not marker.is_file():
            raise InputError(
                f"{out}: this folder holds files that no demo made; name another one with --out"
            )
        note = _read(marker)
        if note.get("version") == __version__ and note.get("settings") == plain(settings):
            print(
                f"{out}: an earlier demo; what it finished is kept (remove the folder to start "
                "over)"
            )
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
