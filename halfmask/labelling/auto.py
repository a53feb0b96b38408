"""`complete auto`: a model made for the data fills in its masks."""

from __future__ import annotations

import logging
import shlex
from dataclasses import replace
from pathlib import Path

from halfmask.coco.reading.read_as import ReadAs
from halfmask.errors import InputError
from halfmask.inference.complete.complete import FillOptions, check_filling, fill_missing
from halfmask.inference.complete.journal import run_of
from halfmask.inference.complete.report import DOUBTFUL, Completion
from halfmask.progress import Progress
from halfmask.text import plural
from halfmask.training.adapt.adapt import adapt
from halfmask.training.adapt.outcome import Adaptation
from halfmask.training.adapt.request import checked_minutes, read_request
from halfmask.training.adapt.run import clean_on_error
from halfmask.training.job import RunOptions, show_nothing
from halfmask.training.loop.inputs import alone_in
from halfmask.training.single import Stopped

logger = logging.getLogger("halfmask")

START = "box-segmenter"
ENOUGH = 50
"""Masks from which on the shipped model is adapted."""


def complete_auto(
    data: str | Path,
    options: FillOptions,
    *,
    images: str | Path | None,
    out: Path,
    minutes: float | None,
    progress: Progress | None,
) -> Completion:
    """Adapts the shipped model in OUT.run if there are enough masks, then fills with it."""
    minutes = checked_minutes(minutes)
    if options.computing.max_size is not None and not options.adding.resizes:
        raise InputError(
            "--max-size is for a Mask R-CNN, which resizes photographs; `complete auto` adapts a "
            "box segmenter, which reads crops of a fixed size: leave --max-size out"
        )
    if options.dry_run:
        planned = fill_missing(START, data, options, images=images, out=out, progress=progress)
        return replace(planned, summary=_intention(planned, minutes))
    if not check_filling(data, options, images=images, out=out, progress=progress):
        return fill_missing(START, data, options, images=images, out=out, progress=progress)
    run = run_of(out)
    learned = _adapted(
        data,
        images,
        run,
        minutes=minutes,
        read_as=options.read_as,
        accept_changes=options.accept_changes,
        progress=progress,
    )
    done = fill_missing(run, data, options, images=images, out=out, progress=progress)
    return replace(done, learned=learned.to_json(), summary=_summary(learned, done, images))


def _intention(planned: Completion, minutes: float) -> str:
    """Says whether a model would be adapted."""
    masks = planned.counts["kept"]
    if not planned.plan.total:
        return ""
    if masks < ENOUGH:
        return f"no model would be adapted: {plural(masks, 'mask')}, it takes {ENOUGH}"
    return f"first the shipped model would learn from {masks} masks, at most {minutes:g} minutes"


def _summary(learned: Adaptation, done: Completion, images: str | Path | None) -> str:
    """Says in one paragraph what was learned and what to expect, then what to do next."""
    sentences = [f"{line[0].upper()}{line[1:]}." for line in learned.lines()]
    if not done.filled:
        return " ".join(sentences)
    if done.doubtful:
        sentences.append(
            f"Look at {done.doubtful:,} of the {plural(done.filled, 'filled mask')} first: a "
            f"score below {DOUBTFUL} is doubtful."
        )
    else:
        sentences.append(f"No filled mask has a score below {DOUBTFUL}.")
    where = [] if images is None else ["--images", str(images)]
    command = shlex.join(["halfmask", "review", str(done.out), *where])
    return f"{' '.join(sentences)}\nNext: {command}"


def _adapted(
    data: str | Path,
    images: str | Path | None,
    run: Path,
    *,
    minutes: float,
    read_as: ReadAs,
    accept_changes: bool,
    progress: Progress | None,
) -> Adaptation:
    """Adapts the shipped model in the folder `run`, or goes on with it."""
    with clean_on_error(run), alone_in(run):
        request = read_request(
            data, (), images=images, val=None, out=run, read_as=read_as, progress=progress
        )
        options = RunOptions(
            resume_command="the same command",
            accept_changes=accept_changes,
            progress=progress or show_nothing,
        )
        try:
            return adapt(request.recipe, run, options, minutes=minutes, least=ENOUGH)
        except (Stopped, KeyboardInterrupt) as stopped:
            logger.warning("what is done so far is saved; the same command goes on from there")
            raise KeyboardInterrupt from stopped
