"""One training: data, model, fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halfmask.models.base import SegmentationModel
    from halfmask.recipes.recipe import Recipe
    from halfmask.training.data import TrainingData
    from halfmask.training.loop.fit import Outcome


def train_single(
    recipe: Recipe,
    data: TrainingData,
    model: SegmentationModel,
    out: Path,
    resume: bool,
    resume_command: str,
) -> Outcome:
    """The training itself; a run that fails before its first resume point leaves nothing behind."""
    from halfmask.distributed import current
    from halfmask.errors import InputError
    from halfmask.training.folder import begin_run, remove_begun
    from halfmask.training.loop.fit import fit

    before = set(out.iterdir()) if out.is_dir() else None
    try:
        begin_run(recipe, data, model, out)
        return fit(
            model, recipe, data.loaders(recipe), out, data.evaluation(recipe.data.workers), resume
        )
    except (InputError, OSError) as error:
        if isinstance(
            error, OSError
        ):  # of a log or a tracker; the system names no file when a disk is full
            error = InputError(f"{error.filename or out}: {error.strerror or error}")
        if (out / "resume.ckpt").is_file():
            raise InputError(f"{error} (the last good state is kept: {resume_command})") from error
        if not resume and current().is_main and out.is_dir():
            remove_begun(out, before)
        raise error


def with_embedding_size_of_recipe(recipe: Recipe) -> Recipe:
    """The recipe with what its files decide, as the run keeps it."""
    from halfmask.models.build import with_embedding_size

    return recipe.model_copy(update={"model": with_embedding_size(recipe.model)})


def build_for(recipe: Recipe, data: TrainingData) -> SegmentationModel:
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
            f"{source}: init: trained on other classes ({len(theirs)}: {', '.join(theirs[:3])} "
            f"…) than {data.name} has ({len(own)}: "
            f"{', '.join(own[:3])} …), and labels would change their meaning"
        )
    left = load_fitting_weights(model, start.state)
    if len(left) == len(model.state_dict()):
        raise InputError(f"{source}: init: not one of its weights fits this recipe's model")
    parts = sorted({key.split(".")[0] for key in left})
    print(f"init: {source}; new: {', '.join(parts) or 'nothing'}")
    return model


def describe(recipe: Recipe, data: TrainingData) -> None:
    held = 0 if data.development is None else len(data.development)
    print(
        f"{recipe.name}: {len(data.training)} images to learn from, {held} held out; "
        f"{data.main.objects} objects, {data.main.masks} of "
        f"them with a mask; {len(data.categories)} classes, {len(data.masked)} masked (A), "
        f"{len(data.categories) - len(data.masked)} box-only (B)"
    )
    for index, pictures in data.own.items():
        print(
            f"stage {recipe.stages[index].name} on data of its own: {len(pictures.training)} "
            f"images, {pictures.objects} objects, "
            f"{pictures.masks} of them with a mask"
        )
