"""Self-training: a model fills the masks that its training file lacks, and the next
round's model learns from them too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halfmask.recipes.recipe import Recipe

TEACHER = "teacher"
"""Folder of the round before, in the folder of a run."""


def teach(recipe: Recipe, out: Path, resume_command: str) -> Path | None:
    """Trains the round before this one in OUT/teacher, and has it fill the file's
    missing masks.

    What is there already is taken as it is, so that an interrupted run goes on. The
    teacher reads the file as its own training did: stripped of the masks that the
    recipe takes away, without the images that are held out.

    Args:
        recipe: of this round; `rounds` is at least 2.
        out: this round's run folder.
        resume_command: how to go on, for messages.
    Returns:
        A COCO file of the training images with the teacher's masks; None if a signal
            stopped its training.
    """
    from halfmask.distributed import current
    from halfmask.training.train import train

    folder = out / TEACHER
    filled = folder / "filled.json"
    # What is hidden for an estimate is a matter of the last round.
    earlier = recipe.model_copy(update={"rounds": recipe.rounds - 1, "hide": 0})
    print(f"round {recipe.rounds - 1} of {recipe.rounds}: the teacher")
    model = train(
        earlier,
        folder,
        resume=(folder / "recipe.yaml").is_file(),
        resume_command=resume_command,
        report=False,
    )
    if model is None:
        return None
    members = current()
    if members.is_main and not filled.is_file():
        _fill(recipe, model, folder, filled)
    members.wait()
    print(f"round {recipe.rounds} of {recipe.rounds}")
    return filled


def _fill(recipe: Recipe, model: Path, folder: Path, filled: Path) -> None:
    from halfmask.coco.file import CocoFile
    from halfmask.files.atomic import write_json
    from halfmask.inference.complete.complete import complete
    from halfmask.recipes.recipe import expand
    from halfmask.training.data import read_training_data

    bare = folder / "to_fill.json"
    once = recipe.model_copy(update={"rounds": 1, "hide": 0})
    file = read_training_data(once, in_memory=True).training.file
    assert isinstance(file, CocoFile)
    write_json(bare, file.document)
    done = complete(model, bare, images=expand(recipe.data.images), out=filled, redo_filled=True)
    score = "" if done.mean_score is None else f", mean score {done.mean_score:.2f}"
    print(f"{filled}: {done.filled} masks filled in by the teacher{score}")
