"""`halfmask train`: trains a model by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import halfmask
from halfmask.errors import ProcessFailed
from halfmask.progress import Display


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings that override the recipe: key=value …, for example stages.0.steps=100"
        ),
    ] = None,
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out from its last saved state.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything and measure two steps; write nothing."),
    ] = False,
) -> None:
    """Trains a model by a recipe.

    RUN gets model.safetensors, recipe.yaml, metrics.json, curves.png, report.html and
    logs/.

    hide=5 hides five masked classes from a first training and measures the masks on
    them. This estimates the mask quality of box-only classes.

    Example: halfmask train coco_mini_voc2nonvoc_box_segmenter --out runs/voc

    Ctrl-C finishes the step and saves; the same command with --resume continues from
    there.

    devices=4 trains with four processes, one per GPU. Several hosts: torchrun … -m
    halfmask train …, or srun.
    """
    try:
        with Display() as progress:
            done = halfmask.train(
                recipe, overrides or (), out=out, resume=resume, dry_run=dry_run, progress=progress
            )
    except ProcessFailed as failed:
        raise typer.Exit(failed.code) from failed
    for line in done.lines():
        typer.echo(line)
    if done.exit_code:
        raise typer.Exit(done.exit_code)
