"""`python -m benchmarks.composites`: pictures made of a data set's own cut-outs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfmask.errors import InputError

if TYPE_CHECKING:
    from halfmask.coco.file import CocoFile

COMPOSITE_SIZE = 128
NAMED = 8
"""How many classes a line names before it counts the rest."""


def _write_composites(
    folder: Path,
    source: Path,
    photographs: Path | None,
    wanted: tuple[int, int, int | None, str | None],
    workers: int,
) -> None:
    from benchmarks.composites.parts import parse_part
    from benchmarks.composites.write import Plan, write_composites
    from halfmask.coco.file import CocoFile
    from halfmask.progress import Display

    images, seed, size, part = wanted
    shares = (0, 1) if part is None else parse_part(part)
    plan = Plan(images, seed, COMPOSITE_SIZE if size is None else size, shares)
    start, file = time.perf_counter(), CocoFile.read(source)
    photographs = _photographs_of(file, source) if photographs is None else photographs
    display, started = Display(quiet=True), dict[str, float]()

    def tell(what: str, done: int, total: int) -> None:
        if what not in started:
            display.start(what, total, "image")
            started[what] = time.perf_counter()
        display.update(done)

    try:
        written = write_composites(folder, file, photographs, plan, workers, tell)
    finally:
        display.stop()
    found, drawn = started["drawing"] - start, time.perf_counter() - started["drawing"]
    print(
        f"{written.path}: {images} pictures, seed {seed}, {drawn:.1f} s ({images / drawn:.0f} "
        "images/s)"
    )
    given = [count for count in written.cutouts.values() if count]
    print(
        f"{sum(given)} cut-outs of {len(given)} classes, {written.backgrounds} backgrounds, "
        f"found in {found:.1f} s"
    )
    empty = [str(c["name"]) for c in file.categories if not written.cutouts[c["id"]]]
    if empty:
        more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
        print(f"no usable cut-out, so no object, of: {', '.join(empty[:NAMED])}{more}")
    print(f"{written.path.parent / 'contact_sheet.png'}: the first of them with their masks")


def _photographs_of(file: CocoFile, source: Path) -> Path:
    """The folder of a file's photographs in the usual layouts: images/, train/ beside
    instances_train.json, or one folder up.
    """
    from halfmask.coco.records import file_name_of

    first = file_name_of(file.images[0]) if file.images else ""
    name = source.stem.removeprefix("instances_")
    places = [
        source.parent / "images",
        source.parent / name,
        source.parent,
        source.parent.parent / name,
    ]
    for place in places:
        if first and (place / first).is_file():
            return place
    looked = ", ".join(str(p) for p in places)
    raise InputError(
        f"{source}: expected its photographs nearby, {first or 'a first photograph'} is in "
        f"none of {looked}; name the folder "
        "with --photographs DIR"
    )


def run(
    folder: Annotated[
        Path, typer.Argument(help="Folder to write: images/, instances.json, contact_sheet.png.")
    ],
    images: Annotated[int, typer.Option(help="Number of pictures.")],
    source: Annotated[
        Path,
        typer.Option(
            "--from", help="COCO file whose masked objects are cut out.", metavar="DATA.json"
        ),
    ],
    seed: Annotated[int, typer.Option(help="Picture i of a seed is always the same.")] = 0,
    size: Annotated[
        int | None,
        typer.Option(help=f"Side of the square pictures. Default: {COMPOSITE_SIZE} pixels."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that draw; 0: this one.")] = 0,
    photographs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the photographs. Default: looked for beside DATA.json.", metavar="DIR"
        ),
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="Use part K of N of the photographs only, from 0: 0/2 and 1/2.", metavar="K/N"
        ),
    ] = None,
) -> None:
    """Writes pictures with exact masks: masked objects of a data set, pasted where its
    photographs hold no object.

    The photographs' licences hold for the composites too.

    Example: python -m benchmarks.composites composites/train --images 3000 --from
    instances_train.json --photographs train2017
    """
    _write_composites(folder, source, photographs, (images, seed, size, part), workers)


def main() -> None:
    """Runs the command. Exit code 2: bad input."""
    try:
        typer.run(run)
    except InputError as error:
        typer.echo(f"composites: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
