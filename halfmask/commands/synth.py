"""`halfmask synth`: writes the procedural world, or composites of a data set's own cut-outs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfmask.errors import InputError

if TYPE_CHECKING:
    from halfmask.coco.annotations import CocoFile

CLASSES = 32
WORLD_SIZE = 112
COMPOSITE_SIZE = 128
NAMED = 8
"""How many classes a line names before it counts the rest."""


def run(
    folder: Annotated[Path, typer.Argument(help="Folder to write: images/, instances.json, contact_sheet.png.")],
    images: Annotated[int, typer.Option(help="Number of pictures.")],
    seed: Annotated[int, typer.Option(help="Picture i of a seed is always the same.")] = 0,
    classes: Annotated[
        int | None, typer.Option(help=f"The world's number of classes, 1 to 6144. Default: {CLASSES}.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help=f"Side of the square pictures. Default: {WORLD_SIZE} pixels, composites {COMPOSITE_SIZE}."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that draw; 0: this one.")] = 0,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="COCO file: composites of its masked objects, not the world.", metavar="DATA.json"),
    ] = None,
    photographs: Annotated[
        Path | None,
        typer.Option(help="Folder of its photographs. Default: looked for beside DATA.json.", metavar="DIR"),
    ] = None,
    part: Annotated[
        str | None, typer.Option(help="Use part K of N of its photographs only, from 0: 0/2 and 1/2.", metavar="K/N")
    ] = None,
) -> None:
    """Writes pictures with exact masks in COCO format, in which a box does not tell which of its pixels are its object's.

    Without --from, the procedural world. With it, composites: the masked objects of a data set, cut out and pasted on parts of its
    photographs that hold no object. The photographs' licences hold for the composites too.

    Example: halfmask synth world/train --images 3000 --seed 0

    Example: halfmask synth composites/train --images 3000 --from instances_train.json --photographs train2017
    """
    if source is not None:
        if classes is not None:
            raise InputError(
                "--classes is for the procedural world; composites have the classes of --from, leave it out"
            )
        _write_composites(folder, source, photographs, (images, seed, size, part), workers)
        return
    for option, value in (("--photographs", photographs), ("--part", part)):
        if value is not None:
            raise InputError(f"{option} is for composites: name the data set with --from DATA.json, or leave it out")
    _write_world(folder, images, seed, classes, size, workers)


def _write_world(folder: Path, images: int, seed: int, classes: int | None, size: int | None, workers: int) -> None:
    from halfmask.data.synthetic import write_world
    from halfmask.engine.display import displayed

    start, classes = time.perf_counter(), CLASSES if classes is None else classes
    side = WORLD_SIZE if size is None else size
    with displayed("drawing", images, "image") as display:
        path = write_world(folder, images, seed, classes, side, workers, display.advance)
    seconds = time.perf_counter() - start
    print(
        f"{path}: {images} pictures, {classes} classes, seed {seed}, {seconds:.1f} s ({images / seconds:.0f} images/s)"
    )
    print(f"{path.parent / 'contact_sheet.png'}: the first of them with their masks")


def _write_composites(
    folder: Path,
    source: Path,
    photographs: Path | None,
    wanted: tuple[int, int, int | None, str | None],
    workers: int,
) -> None:
    from halfmask.coco.annotations import CocoFile
    from halfmask.data.composites import Plan, write_composites
    from halfmask.data.composites_parts import parse_part
    from halfmask.engine.display import Display

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
    print(f"{written.path}: {images} pictures, seed {seed}, {drawn:.1f} s ({images / drawn:.0f} images/s)")
    given = [count for count in written.cutouts.values() if count]
    print(f"{sum(given)} cut-outs of {len(given)} classes, {written.backgrounds} backgrounds, found in {found:.1f} s")
    empty = [str(c["name"]) for c in file.categories if not written.cutouts[c["id"]]]
    if empty:
        more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
        print(f"no usable cut-out, so no object, of: {', '.join(empty[:NAMED])}{more}")
    print(f"{written.path.parent / 'contact_sheet.png'}: the first of them with their masks")


def _photographs_of(file: CocoFile, source: Path) -> Path:
    """The folder of a file's photographs in the usual layouts: images/, train/ beside instances_train.json, or one folder up."""
    from halfmask.coco.records import file_name_of

    first = file_name_of(file.images[0]) if file.images else ""
    name = source.stem.removeprefix("instances_")
    places = [source.parent / "images", source.parent / name, source.parent, source.parent.parent / name]
    for place in places:
        if first and (place / first).is_file():
            return place
    looked = ", ".join(str(p) for p in places)
    raise InputError(
        f"{source}: expected its photographs nearby, {first or 'a first photograph'} is in none of {looked}; name the folder "
        "with --photographs DIR"
    )
