"""`halfmask train`: a recipe, a run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from halfmask.commands.training_data import TrainingData
    from halfmask.config import Recipe
    from halfmask.models.base import SegmentationModel

MAY_CHANGE = {
    "data.annotations",
    "data.images",
    "data.workers",
    "data.cache",
    "evaluate_every",
    "checkpoint_every",
    "loggers",
}
"""Keys that a resumed run may have otherwise: they do not change what is learnt (data may have moved). The data keys hold for a stage's
own data too."""


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
    """
    from halfmask.config import load_recipe
    from halfmask.errors import InputError

    settings = load_recipe(recipe, overrides)
    if dry_run:
        _dry_run(settings)
        return
    if out is None:
        raise InputError("train: --out RUN is missing: name the folder that the run shall have")
    again = " ".join(["halfmask train", recipe, *(overrides or []), "--out", str(out), "--resume"])
    model = train(settings, out, resume, again)
    if model is None:
        raise typer.Exit(130)
    print(f"{model}: trained")


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
    recipe = _settled(recipe)
    finished = _check_folder(recipe, out, resume)
    if finished is not None:
        print(f"{finished}: this run is finished")
        return finished
    from halfmask.coco.write import write_text
    from halfmask.commands.class_looks import learn_looks
    from halfmask.commands.hiding import learn_hidden
    from halfmask.commands.rounds import teach
    from halfmask.commands.run_page import report_run
    from halfmask.commands.training_data import read_training_data
    from halfmask.engine.train import fit
    from halfmask.errors import InputError

    hidden = learn_hidden(recipe, out, again) if recipe.hide else None
    if recipe.hide and hidden is None:
        return None
    filled = teach(recipe, out, again) if recipe.rounds > 1 else None
    if recipe.rounds > 1 and filled is None:
        return None
    data = read_training_data(recipe, filled)
    model = _build(recipe, data)
    _describe(recipe, data)
    if not (out / "resume.ckpt").is_file():  # else it has them
        learn_looks(model, recipe, data)
    before = set(out.iterdir()) if out.is_dir() else None
    out.mkdir(parents=True, exist_ok=True)
    for scrap in out.glob(".*.part"):  # of a run that was killed while it wrote
        scrap.unlink()
    write_text(out / "recipe.yaml", recipe.to_yaml())
    evaluation = data.evaluation(recipe.data.workers)
    try:
        outcome = fit(model, recipe, data.loaders(recipe), out, evaluation, resume)
    except InputError as error:
        if (out / "resume.ckpt").is_file():
            raise InputError(f"{error} (the last good state is kept: {again})") from error
        if not resume:
            _remove_begun(out, before)
        raise
    if not outcome.finished:
        print(f"stopped at step {outcome.step} of {outcome.steps}, saved; go on with: {again}")
        return None
    if hidden is not None:
        hidden.fit(model)
    path = _finish(recipe, data, model, out)
    if report:
        report_run(recipe, data, model, out)
    (out / "resume.ckpt").unlink(missing_ok=True)  # the last thing: killed before, the run is finished by --resume
    return path


def _remove_begun(out: Path, before: set[Path] | None) -> None:
    """Takes away what a run wrote that failed before its first resume point, so that the mended run may have the same folder.

    Args:
        before: what the folder held already; None: it was not there.
    """
    import shutil

    for path in set(out.iterdir()) - (before or set()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if before is None:
        out.rmdir()


def _check_folder(recipe: Recipe, out: Path, resume: bool) -> Path | None:
    """Whether the run may start in its folder; the checkpoint of a run that is already finished."""
    import yaml

    from halfmask.config import parse_recipe
    from halfmask.errors import InputError

    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for the run, found a file")
    written = out / "recipe.yaml"
    if not written.is_file() and not (out / "model.safetensors").exists():
        return None
    if not resume:
        raise InputError(f"{out} holds a run already: add --resume to go on with it, or name another folder with --out")
    if not written.is_file():
        raise InputError(f"{out}: no recipe.yaml: this is no run that could be resumed; name another folder with --out")
    try:
        before = parse_recipe(yaml.safe_load(written.read_text(encoding="utf-8")), str(written))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{written}: not readable as YAML; name another folder with --out") from error
    was, now = _flat(before.model_dump(mode="json")), _flat(recipe.model_dump(mode="json"))
    changed = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key) and not _may_change(key))
    if changed:
        key = changed[0]
        raise InputError(
            f"{out} was begun with {key}={was.get(key)}, the recipe now says {now.get(key)}: a run is resumed as it was begun "
            f"(halfmask train {written} --out {out} --resume)"
        )
    model = out / "model.safetensors"
    return model if model.is_file() and not (out / "resume.ckpt").is_file() else None


def _may_change(key: str) -> bool:
    return re.sub(r"^stages\.\d+\.(?=data\.)|(?<=^loggers)\.\d+$", "", key) in MAY_CHANGE


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(node, dict | list) and node:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        return {key: value for name, child in items for key, value in _flat(child, f"{prefix}.{name}").items()}
    return {prefix.lstrip("."): node}


def _settled(recipe: Recipe) -> Recipe:
    """The recipe with what its files decide, as the run keeps it."""
    from halfmask.models.build import settled

    return recipe.model_copy(update={"model": settled(recipe.model)})


def _build(recipe: Recipe, data: TrainingData) -> SegmentationModel:
    import torch

    from halfmask.checkpoint import load_checkpoint, load_fitting_weights
    from halfmask.config import expand
    from halfmask.errors import InputError
    from halfmask.models.build import build_model

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


def _finish(recipe: Recipe, data: TrainingData, model: SegmentationModel, out: Path) -> Path:
    from halfmask.checkpoint import Checkpoint, save_checkpoint
    from halfmask.errors import InputError
    from halfmask.visualize.curves import training_curves

    path = out / "model.safetensors"
    categories: list[Any] = [{"id": c["id"], "name": c["name"]} for c in data.categories]
    save_checkpoint(path, Checkpoint(model.state_dict(), recipe, categories, sorted(data.masked), data.mask_counts))
    try:
        training_curves(out)
    except InputError as error:  # a run of less steps than one log line: nothing to draw, and no reason to fail
        print(f"no curves: {error}")
    return path


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
        hours = cost.seconds * stage.batch_size / cost.images * stage.steps / 3600
        losses = ", ".join(f"{name} {value:.3f}" for name, value in cost.losses.items())
        print(
            f"stage {stage.name}: {', '.join(stage.train)} learn; {stage.steps} steps of {stage.batch_size} {unit}; measured on {device} "
            f"with {cost.images}: {cost.seconds:.3f} s a step, {cost.memory / 2**30:.2f} GiB; {losses}; about {hours:.2f} h"
        )
    if recipe.rounds > 1:
        print(f"rounds: {recipe.rounds} such trainings, and the training file filled in between two")
    if recipe.hide:
        print(f"hide: as much again, {recipe.rounds} more without the hidden classes' masks")
    print("dry run: nothing was written")
