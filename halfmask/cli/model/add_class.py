"""`halfmask add-class`: new classes for a trained model, from boxes alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import halfmask
from halfmask.cli.shared.reading import fail_if_unread
from halfmask.progress import Display
from halfmask.terminal import say
from halfmask.text import plural

if TYPE_CHECKING:
    from halfmask.training.add_class.add_class import AddedClasses


def run(
    run: Annotated[str, typer.Argument(help="Run directory or checkpoint of a trained model.")],
    data: Annotated[
        Path | None, typer.Argument(help="Boxes of the new classes, in any format.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the new model.")],
    images: Annotated[
        Path | None, typer.Option(help="Folder of the photographs. Default: where the data say.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Part of a data set to use: train, val, …")
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            help='Classes to add, "a, b, c". Default: all of DATA that the model does not have.'
        ),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(
            help="For a model that reads vectors of class names: a .safetensors file, a vector "
            "under each new name. DATA may then be left out: masks for given boxes."
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the result as JSON.")] = None,
) -> None:
    """Adds classes to a trained Mask R-CNN, from boxes alone.

    Only rows of the box head for the new classes learn, in minutes. Everything else
    stays bit for bit as it was, and so do the boxes, scores and masks of the earlier
    classes. Masks of the new classes come from the transfer function at once.

    Example: halfmask add-class runs/voc zebras.json --images photos --out runs/zebras
    """
    with Display(quiet=True) as progress:
        done = halfmask.add_class(
            run, data, out=out, images=images, split=split, names=names, vectors=vectors,
            json=json, progress=progress,
        )  # fmt: skip
    _show(done)
    fail_if_unread(done.reading)


def _show(done: AddedClasses) -> None:
    for one in done.classes:
        learned = f"{one['boxes']} boxes, {one['regions']} regions"
        if done.loss is None:
            learned = "masks for given boxes; it is not found without boxes to learn from"
        say(f"{one['name']} (id {one['id']}): {learned}")
    added = plural(len(done.classes), "class", "es")
    say(f"{done.checkpoint}: {added} added in {done.seconds:.0f} s")
