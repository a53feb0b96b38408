"""`halfmask train`: a recipe, a run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfmask.training.dry_run import dry_run_of
from halfmask.training.single import with_embedding_size_of_recipe
from halfmask.training.train import train

if TYPE_CHECKING:
    from halfmask.recipes.recipe import Recipe


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value …, for example stages.0.steps=100")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, from its last step.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, measure two steps, write nothing.")
    ] = False,
) -> None:
    """Trains a model by a recipe. RUN gets model.safetensors, recipe.yaml,
    metrics.json, curves.png, report.html and logs/.

    hide=5 hides five masked classes from a first training and measures it on them: what
    to expect of the masks of box-only classes.

    Example: halfmask train coco_mini_voc2nonvoc_box_segmenter --out runs/voc

    Ctrl-C finishes the step and saves; the same command with --resume goes on from
    there.

    devices=4 trains with four processes, one a GPU. Several hosts: torchrun … -m
    halfmask train …, or srun.
    """
    from halfmask.errors import InputError
    from halfmask.recipes.recipe import load_recipe

    settings = load_recipe(recipe, overrides)
    if dry_run:
        from halfmask.training.folder import for_processes

        dry_run_of(for_processes(settings, Path(), False, settings.devices))
        return
    if out is None:
        raise InputError("train: --out RUN is missing: name the folder that the run shall have")
    arguments = ["train", recipe, *(overrides or []), "--out", str(out)]
    resume_command = " ".join(["halfmask", *arguments, "--resume"])
    if resume:
        arguments.append("--resume")
    code = _run(settings, out, resume, arguments, resume_command)
    if code:
        raise typer.Exit(code)


def _run(
    settings: Recipe, out: Path, resume: bool, arguments: list[str], resume_command: str
) -> int:
    """Trains here, or starts the processes that do; the exit code."""
    import contextlib
    import io

    from halfmask import distributed
    from halfmask.errors import InputError
    from halfmask.training.folder import check_folder, for_processes
    from halfmask.training.launch import end_with_launcher, launch

    place = distributed.place_of(os.environ)
    if settings.devices > 1 and not place.by:
        # What can be seen here is said once, not by every process.
        check_folder(
            for_processes(with_embedding_size_of_recipe(settings), out, resume, settings.devices),
            out,
            resume,
        )
        return launch(
            [*arguments, *["--debug"] * ("--debug" in sys.argv)], settings.devices, resume_command
        )
    end_with_launcher()
    members = distributed.join(place)
    try:
        with (
            contextlib.nullcontext()
            if members.is_main
            else contextlib.redirect_stdout(io.StringIO())
        ):
            model = train(settings, out, resume, resume_command)
    except RuntimeError as error:
        ended = distributed.another_ended(error)
        if ended is None:
            raise
        if not members.is_main:  # one line is enough
            return 2
        raise InputError(
            f"{ended}; go on from the last resume point with: {resume_command}"
        ) from error
    distributed.leave()
    if model is None:
        return 130
    if members.is_main:
        print(f"{model}: trained")
    return 0
