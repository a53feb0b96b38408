"""One training in its folder: what belongs to it, and what comes before the first step."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from halfmask import distributed
from halfmask.data.dataset import CocoInstances
from halfmask.errors import InputError
from halfmask.files.atomic import write_text
from halfmask.files.folders import sweep_parts
from halfmask.inference.checkpoints import SCHEME, SHIPPED_NAMES, find_checkpoint
from halfmask.models.base import SegmentationModel
from halfmask.models.box_segmenter.looks import Distillation
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.models.box_segmenter.prototypes import PER_CLASS
from halfmask.models.build import build_model
from halfmask.models.checkpoint import Checkpoint, load_checkpoint, load_weights
from halfmask.progress import Progress
from halfmask.recipes.recipe import Recipe, expand
from halfmask.structures import Target
from halfmask.training.data import TrainingData
from halfmask.training.folder import await_folder
from halfmask.training.loop.callback import RESUME_FILE
from halfmask.training.loop.inputs import check_inputs, note_inputs

logger = logging.getLogger("halfmask")


def show_nothing(title: str, done: int, total: int) -> None:
    """Shows no progress."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options that all trainings of a run share.

    Attributes:
        resume_command: command that resumes the run, for messages.
        curves: draw curves.png.
        report: write report.html.
        evaluate: measure the held-out images on the way.
        accept_changes: go on although the data or the versions have changed.
        progress: see `halfmask.progress`.
    """

    resume_command: str
    curves: bool = True
    report: bool = True
    evaluate: bool = True
    accept_changes: bool = False
    progress: Progress = show_nothing


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A model to train on data, in the folder `out`."""

    recipe: Recipe
    data: TrainingData
    model: SegmentationModel
    out: Path
    options: RunOptions


def read_start(name: str, key: str) -> tuple[Path, Checkpoint]:
    """Reads the checkpoint that a key names: a shipped model, a run or a file.

    Args:
        key: of the recipe, for messages.
    Raises:
        InputError: there is none, or it cannot be read.
    """
    where = name if name.startswith(SCHEME) else str(expand(name))
    if not (where.startswith(SCHEME) or where in SHIPPED_NAMES or Path(where).exists()):
        raise InputError(
            f"{key}: {where}: no such file, run directory or shipped model "
            f"({', '.join(SHIPPED_NAMES)})"
        )
    source = find_checkpoint(where)
    return source, load_checkpoint(source)


def teacher_of(recipe: Recipe, previous: Path | None = None) -> str | None:
    """Names the checkpoint that teaches a recipe's model.

    Args:
        previous: checkpoint of the previous round, if there was one.
    Returns:
        None without a teacher, and for one that follows the model.
    """
    if recipe.distil is None or recipe.distil.follows:
        return None
    name = recipe.distil.teacher or (str(previous) if previous else recipe.init)
    if name is None:
        raise InputError(
            "distil: no teacher: name one (distil.teacher), a start (init), or set rounds to 2"
        )
    return name


def set_teacher(model: nn.Module, recipe: Recipe, previous: Path | None = None) -> None:
    """Gives a box segmenter its teacher, if the recipe has `distil`.

    A teacher that follows the model is set by the stage.

    Raises:
        InputError: the teacher cannot be read, or is no box segmenter with the same
            classes.
    """
    if recipe.distil is None:
        return
    assert isinstance(model, BoxSegmenter)
    settings = recipe.distil
    teaching = Distillation(settings.weight, settings.regions_per_image, follows=settings.follows)
    name = teacher_of(recipe, previous)
    if name is not None:
        source, found = read_start(name, "distil.teacher")
        teacher = build_model(found.recipe.model, len(found.categories) + 1, pretrained=False)
        if not isinstance(teacher, BoxSegmenter):
            raise InputError(f"{source}: distil.teacher: expected a box segmenter")
        load_weights(teacher, found.state, source)
        if teacher.mask_size != model.mask_size:
            raise InputError(
                f"{source}: distil.teacher: its masks have {teacher.mask_size} cells a side, those "
                f"of this recipe {model.mask_size}; set the same crop_size and decoder"
            )
        teaching.teacher = teacher.eval().requires_grad_(False)
        contexts = teacher.reader.contexts
        logger.info(
            f"distil: {name} teaches by {len(contexts) * (1 + teacher.reader.mirror)} looks at "
            "each box"
        )
    model.sampler.distillation = teaching


def prepare(job: TrainingJob) -> None:
    """Prepares model and folder in the main process; `fit` copies the model to the others."""
    members, out = distributed.current(), job.out
    if members.is_main:
        accept = job.options.accept_changes
        files = job.data.files(job.recipe)
        to_note = check_inputs(files, out, accept_changes=accept)
        if not (out / RESUME_FILE).is_file():  # which holds what is learned here
            _learn_looks(job)
            _learn_overlaps(job)
        out.mkdir(parents=True, exist_ok=True)
        sweep_parts(out)
        write_text(out / "recipe.yaml", job.recipe.to_yaml())
        if to_note:
            note_inputs(files, out)
    members.wait()
    await_folder(out)


def _learn_looks(job: TrainingJob) -> None:
    """Sets class prototypes from boxes of the training images, if the recipe uses them."""
    settings = job.recipe.model
    condition = settings.condition if settings.kind == "box_segmenter" else None
    if condition is None or condition.input != "prototype":
        return
    assert isinstance(job.model, BoxSegmenter)
    assert settings.kind == "box_segmenter"
    if settings.encoder.weights is None and job.recipe.init is None:
        logger.warning(
            "model.condition.input: prototype: the encoder has no weights, so all classes look "
            "alike to it; name some"
        )
    # Photographs without a mask too: a box-only class may appear on no other.
    training = job.data.main.training
    pictures = CocoInstances(training.file, training.folder)
    job.model.learn_prototypes(_examples(pictures, job.options.progress))


def _learn_overlaps(job: TrainingJob) -> None:
    """Measures how far the training's masks contain each other, if the model settles masks."""
    settling = job.model.settling if isinstance(job.model, BoxSegmenter) else None
    if settling is None:
        return
    training = job.data.main.training
    settling.learn(training.target(k) for k in range(len(training)))
    if not settling.active:
        logger.info(
            "model.settle: not used: %.0f%% of a smaller mask lies in the larger one around it",
            100 * float(settling.nested),
        )


def _examples(pictures: CocoInstances, progress: Progress) -> Iterator[tuple[Tensor, Target]]:
    """Yields photographs that show a class with too few examples so far."""
    seen: Counter[int] = Counter()
    for index, image_id in enumerate(pictures.image_ids):
        classes = [a["category_id"] for a in pictures.file.annotations_of(image_id)]
        if any(seen[c] < PER_CLASS for c in classes):
            seen.update(classes)
            yield pictures[index]
        progress("looking at the classes", index + 1, len(pictures))
