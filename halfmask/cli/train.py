"""`halfmask train`: adapts the shipped model to data, or trains a model by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import halfmask
from halfmask.cli.shared.options import (
    AcceptChangesOption,
    CrowdMasksOption,
    ReadAsOption,
    complete_recipe,
)
from halfmask.errors import ProcessFailed
from halfmask.progress import Display
from halfmask.terminal import say

if TYPE_CHECKING:
    from halfmask.training.run import Run


def run(
    recipe: Annotated[
        str,
        typer.Argument(
            help="Your data: a COCO file, a YOLO folder or data.yaml, a VOC folder, an export of "
            "CVAT or Label Studio. Or a recipe: a file, or the name of a shipped one.",
            metavar="DATA|RECIPE",
            autocompletion=complete_recipe,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings that override the recipe: key=value …, for example stages.0.steps=100"
        ),
    ] = None,
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the photographs. Default: where the data say they are."),
    ] = None,
    val: Annotated[
        Path | None, typer.Option(help="Other data, on which the result is measured.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="How long adapting may take, with DATA. Default: 10.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out from its last saved state.")
    ] = False,
    accept_changes: AcceptChangesOption = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything and measure two steps; write nothing."),
    ] = False,
    crowd_masks: CrowdMasksOption = False,
    read_as: ReadAsOption = None,
    json: Annotated[Path | None, typer.Option(help="Write the result to this file.")] = None,
) -> None:
    """Adapts the shipped model to your data, or trains a model by a recipe.

    With DATA the shipped box segmenter learns from your masks for some minutes. Masks
    that it did not learn from say whether this helps. If so, RUN gets the adapted
    model, else the shipped one. Both numbers are printed, and the mean IoU to expect on
    objects without masks.

    Example: halfmask train photos/labels.json --images photos --out runs/mine

    With RECIPE the recipe says everything: halfmask train
    coco_mini_voc2nonvoc_box_segmenter --out runs/voc

    RUN gets model.safetensors, recipe.yaml, report.html and logs/; with DATA also
    adaptation.json. hide=5 in a recipe hides five masked classes from a first training
    and measures the masks on them.

    Ctrl-C finishes the step and saves; the same command with --resume continues from
    there.

    devices=4 trains a recipe with four processes, one per GPU. Several hosts: torchrun
    … -m halfmask train …, or srun.
    """
    # fmt: off
    try:
        with Display() as progress:
            done = halfmask.train(
                recipe, overrides or (), out=out, images=images, val=val, minutes=minutes,
                resume=resume, accept_changes=accept_changes, dry_run=dry_run,
                crowd_masks=crowd_masks, read_as=read_as, json=json, progress=progress,
            )
    except ProcessFailed as failed:
        raise typer.Exit(failed.code) from failed
    # fmt: on
    _show(done)


def _show(done: Run) -> None:
    for note in done.notes:
        say(f"note: {note}")
    for line in done.lines():
        say(line)
    for fault in done.faults:
        say(f"problem: {fault}", err=True)
    if done.exit_code:
        raise typer.Exit(done.exit_code)
