"""`halfmask train`: a recipe, a run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from halfmask.commands.training_data import TrainingData
    from halfmask.engine.train import Outcome
    from halfmask.models.base import SegmentationModel
    from halfmask.recipes.recipe import Recipe


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped recipe.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value …, for example stages.0.steps=100")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, from its last step.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, measure two steps, write nothing.")
    ] = False,
) -> None:
    """Trains a model by a recipe. RUN gets model.safetensors, recipe.yaml, metrics.json, curves.png, report.html and logs/.

    hide=5 hides five masked classes from a first training and measures it on them: what to expect of the masks of box-only classes.

    Example: halfmask train coco_mini_voc2nonvoc_box_segmenter --out runs/voc

    Ctrl-C finishes the step and saves; the same command with --resume goes on from there.

    devices=4 trains with four processes, one a GPU. Several hosts: torchrun … -m halfmask train …, or srun.
    """
    from halfmask.errors import InputError
    from halfmask.recipes.recipe import load_recipe

    settings = load_recipe(recipe, overrides)
    if dry_run:
        from halfmask.commands.run_folder import for_processes

        _dry_run(for_processes(settings, Path(), False, settings.devices))
        return
    if out is None:
        raise InputError("train: --out RUN is missing: name the folder that the run shall have")
    arguments = ["train", recipe, *(overrides or []), "--out", str(out)]
    again = " ".join(["halfmask", *arguments, "--resume"])
    if resume:
        arguments.append("--resume")
    code = _run(settings, out, resume, arguments, again)
    if code:
        raise typer.Exit(code)


def _run(settings: Recipe, out: Path, resume: bool, arguments: list[str], again: str) -> int:
    """Trains here, or starts the processes that do; the exit code."""
    import contextlib
    import io

    from halfmask import team
    from halfmask.commands.launch import end_with_launcher, launch
    from halfmask.commands.run_folder import check_folder, for_processes
    from halfmask.errors import InputError

    place = team.place_of(os.environ)
    if settings.devices > 1 and not place.by:
        # What can be seen here is said once, not by every process.
        check_folder(for_processes(_settled(settings), out, resume, settings.devices), out, resume)
        return launch([*arguments, *["--debug"] * ("--debug" in sys.argv)], settings.devices, again)
    end_with_launcher()
    members = team.join(place)
    try:
        with contextlib.nullcontext() if members.leads else contextlib.redirect_stdout(io.StringIO()):
            model = train(settings, out, resume, again)
    except RuntimeError as error:
        ended = team.another_ended(error)
        if ended is None:
            raise
        if not members.leads:  # one line is enough
            return 2
        raise InputError(f"{ended}; go on from the last resume point with: {again}") from error
    team.leave()
    if model is None:
        return 130
    if members.leads:
        print(f"{model}: trained")
    return 0


def train(
    recipe: Recipe,
    out: Path,
    resume: bool = False,
    again: str = "the same command with --resume",
    report: bool = True,
) -> Path | None:
    """Trains by a recipe into the folder `out`.

    Args:
        again: how to go on, for messages.
        report: write OUT/report.html too; a training that serves another one needs none.
    Returns:
        The checkpoint; None if a signal stopped the run, which can then be resumed.
    Raises:
        InputError: the recipe does not fit its data or its model, `out` holds another run, or the loss is not finite.
    """
    from halfmask.commands.run_folder import check_folder, finish_run, for_processes
    from halfmask.errors import InputError
    from halfmask.team import current, place_of

    members = current()
    if members.alone and recipe.devices > 1 and not place_of(os.environ).by:
        raise InputError(f"devices={recipe.devices}: only `halfmask train`, torchrun or srun starts several processes")
    recipe = for_processes(_settled(recipe), out, resume, members.place.world)
    finished = check_folder(recipe, out, resume)
    members.wait()
    if finished is not None:
        print(f"{finished}: this run is finished")
        return finished
    from halfmask.commands.hiding import learn_hidden
    from halfmask.commands.rounds import teach
    from halfmask.commands.run_page import report_run
    from halfmask.commands.training_data import read_training_data

    hidden = learn_hidden(recipe, out, again) if recipe.hide else None
    if recipe.hide and hidden is None:
        return None
    filled = teach(recipe, out, again) if recipe.rounds > 1 else None
    if recipe.rounds > 1 and filled is None:
        return None
    with members.in_turn():
        data = read_training_data(recipe, filled)
        model = _build(recipe, data)
    _describe(recipe, data)
    outcome = _fit(recipe, data, model, out, resume, again)
    if not outcome.finished:
        print(f"stopped at step {outcome.step} of {outcome.steps}, saved; go on with: {again}")
        return None
    if members.leads:
        if hidden is not None:
            hidden.fit(model)
        finish_run(recipe, data, model, out)
        if report:
            report_run(recipe, data, model, out)
        (out / "resume.ckpt").unlink(missing_ok=True)  # the last thing: killed before, the run is finished by --resume
    members.wait()
    return out / "model.safetensors"


def _fit(recipe: Recipe, data: TrainingData, model: SegmentationModel, out: Path, resume: bool, again: str) -> Outcome:
    """The training itself; a run that fails before its first resume point leaves nothing behind."""
    from halfmask.commands.run_folder import begin_run, remove_begun
    from halfmask.engine.train import fit
    from halfmask.errors import InputError
    from halfmask.team import current

    before = set(out.iterdir()) if out.is_dir() else None
    try:
        begin_run(recipe, data, model, out)
        return fit(model, recipe, data.loaders(recipe), out, data.evaluation(recipe.data.workers), resume)
    except (InputError, OSError) as error:
        if isinstance(error, OSError):  # of a log or a tracker; the system names no file when a disk is full
            error = InputError(f"{error.filename or out}: {error.strerror or error}")
        if (out / "resume.ckpt").is_file():
            raise InputError(f"{error} (the last good state is kept: {again})") from error
        if not resume and current().leads and out.is_dir():
            remove_begun(out, before)
        raise error


def _settled(recipe: Recipe) -> Recipe:
    """The recipe with what its files decide, as the run keeps it."""
    from halfmask.models.build import settled

    return recipe.model_copy(update={"model": settled(recipe.model)})


def _build(recipe: Recipe, data: TrainingData) -> SegmentationModel:
    import torch

    from halfmask.errors import InputError
    from halfmask.models.build import build_model
    from halfmask.models.checkpoint import load_checkpoint, load_fitting_weights
    from halfmask.recipes.recipe import expand

    torch.manual_seed(recipe.seed)
    names = [c["name"] for c in data.categories]
    model = build_model(recipe.model, len(names) + 1, names=names)
    if recipe.init is None:
        return model
    source = expand(recipe.init)
    start = load_checkpoint(source / "model.safetensors" if source.is_dir() else source)
    own, theirs = [c["name"] for c in data.categories], [c["name"] for c in start.categories]
    if own != theirs and len(own) == len(theirs) and (model.has_detector or model.needs_labels):
        raise InputError(
            f"{source}: init: trained on other classes ({len(theirs)}: {', '.join(theirs[:3])} …) than {data.name} has ({len(own)}: "
            f"{', '.join(own[:3])} …), and labels would change their meaning"
        )
    left = load_fitting_weights(model, start.state)
    if len(left) == len(model.state_dict()):
        raise InputError(f"{source}: init: not one of its weights fits this recipe's model")
    parts = sorted({key.split(".")[0] for key in left})
    print(f"init: {source}; new: {', '.join(parts) or 'nothing'}")
    return model


def _describe(recipe: Recipe, data: TrainingData) -> None:
    held = 0 if data.development is None else len(data.development)
    print(
        f"{recipe.name}: {len(data.training)} images to learn from, {held} held out; {data.main.objects} objects, {data.main.masks} of "
        f"them with a mask; {len(data.categories)} classes, {len(data.masked)} masked (A), "
        f"{len(data.categories) - len(data.masked)} box-only (B)"
    )
    for index, pictures in data.own.items():
        print(
            f"stage {recipe.stages[index].name} on data of its own: {len(pictures.training)} images, {pictures.objects} objects, "
            f"{pictures.masks} of them with a mask"
        )


def _without_download(recipe: Recipe) -> Recipe:
    """A dry run fetches nothing; all else that the model's files say is checked."""
    part = "backbone" if recipe.model.kind == "mask_rcnn" else "encoder"
    network = getattr(recipe.model, part)
    if network.weights != "DEFAULT":
        return recipe
    print("weights: DEFAULT: they are fetched when the training begins; here they are random")
    random = recipe.model.model_copy(update={part: network.model_copy(update={"weights": None})})
    return recipe.model_copy(update={"model": random})


def _dry_run(recipe: Recipe) -> None:
    import torch

    from halfmask.commands.hiding import plan_hiding
    from halfmask.commands.training_data import read_training_data
    from halfmask.engine.dry_run import measure
    from halfmask.engine.parts import built_to_learn

    data = read_training_data(recipe)
    _describe(recipe, data)
    if recipe.hide:
        print(plan_hiding(recipe).describe())
    model = _build(_without_download(recipe), data)
    learnable = built_to_learn(model)
    total = sum(p.numel() for p in model.parameters())
    print(
        f"{recipe.model.kind}: {total:,} parameters: "
        + ", ".join(f"{name} {sum(p.numel() for p in part.parameters()):,}" for name, part in model.parts().items())
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    loaders = data.loaders(recipe)
    for index, stage in enumerate(recipe.stages):
        cost = measure(model, recipe, stage, loaders.of(index), learnable)
        unit = "regions" if stage.cache_features else "images"
        hours = cost.seconds * stage.batch_size / recipe.devices / cost.images * stage.steps / 3600
        losses = ", ".join(f"{name} {value:.3f}" for name, value in cost.losses.items())
        print(
            f"stage {stage.name}: {', '.join(stage.train)} learn; {stage.steps} steps of {stage.batch_size} {unit}; measured on {device} "
            f"with {cost.images}: {cost.seconds:.3f} s a step, {cost.memory / 2**30:.2f} GiB; {losses}; about {hours:.2f} h"
        )
    if recipe.rounds > 1:
        print(f"rounds: {recipe.rounds} such trainings, and the training file filled in between two")
    if recipe.hide:
        print(f"hide: as much again, {recipe.rounds} more without the hidden classes' masks")
    if recipe.devices > 1:
        print(
            f"devices: {recipe.devices} processes; the steps were those of one of them, what they say to each other aside"
        )
    print("dry run: nothing was written")
