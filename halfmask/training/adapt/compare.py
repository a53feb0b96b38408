"""Measures the starting model and held-out trainings on the same held-out masks."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from halfmask.models.fixed.baselines import build_baseline
from halfmask.training.adapt.contest import Contest
from halfmask.training.adapt.holdout import HoldOut
from halfmask.training.adapt.job import AdaptationJob
from halfmask.training.adapt.timing import Timing, fit_steps, measure_speed, with_steps
from halfmask.training.data import read_training_data
from halfmask.training.measure import MeasuredMasks, load_for_measuring, measure_masks
from halfmask.training.rounds import train_helper

logger = logging.getLogger("halfmask")

ENOUGH_UNSEEN = 60
"""Masks of unseen classes to which the quality score is fitted alone."""
TITLES = {"start": "the model as it is", "box": "the box", "ellipse": "the ellipse"}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Both models' masks of the same objects, and the numbers.

    `adapted` is None if no model was trained; `folds` are the folders of the held-out
    trainings.
    """

    contest: Contest
    start: MeasuredMasks
    adapted: MeasuredMasks | None
    folds: list[str] = field(default_factory=list)

    @property
    def best(self) -> MeasuredMasks:
        """Masks of the better model: of classes that it did not learn from, if there are many."""
        won = self.contest.won and self.adapted is not None
        masks = self.adapted if won and self.adapted is not None else self.start
        unseen = self.contest.unseen
        return masks.select(unseen) if unseen.sum() >= ENOUGH_UNSEEN else masks


def measure_start(job: AdaptationJob, chosen: dict[int, Tensor]) -> Comparison:
    """Measures the starting model and the rules, without any training.

    Args:
        chosen: see `measure_masks`.
    """
    models = {"start": load_for_measuring(job.source)}
    models |= {name: build_baseline(f"baseline:{name}") for name in ("box", "ellipse")}
    found = {
        name: measure_masks(
            model,
            job.pictures,
            chosen,
            title=f"measuring {TITLES[name]}",
            progress=job.options.progress,
        )
        for name, model in models.items()
    }
    start = found["start"]
    ious = {name: masks.ious.double().numpy() for name, masks in found.items()}
    contest = Contest(
        **ious,
        adapted=None,
        classes=start.classes,
        images=start.images,
        unseen=np.zeros(len(start.classes), dtype=bool),
    )
    return Comparison(contest=contest, start=start, adapted=None)


def compare(job: AdaptationJob, held: HoldOut) -> Comparison:
    """Trains without each part of the held-out masks, and measures both models.

    Raises:
        Stopped: a signal stopped a training.
    """
    begin = time.monotonic()
    parts = [measure_start(job, fold.chosen) for fold in held.folds]
    seconds = job.state["measuring_seconds"] = time.monotonic() - begin
    timing = _timing(job, held, reserve=2.5 * seconds)
    adapted, begin = [], time.monotonic()
    for number, fold in enumerate(held.folds, 1):
        logger.info(f"held-out training {number} of {len(held.folds)}")
        recipe = with_steps(fold.recipe, timing.fold_steps)
        checkpoint = train_helper(recipe, job.out / fold.name, job.options)
        if "seconds_per_step" not in job.state:
            # A whole training knows the speed better than its first steps; one that is
            # resumed does not.
            speed = (time.monotonic() - begin) / timing.fold_steps
            job.state["seconds_per_step"] = max(speed, timing.seconds_per_step)
        adapted.append(
            measure_masks(
                load_for_measuring(checkpoint),
                job.pictures,
                fold.chosen,
                title="measuring the adapted model",
                progress=job.options.progress,
            )
        )
    joined = MeasuredMasks.joined(adapted)
    columns = {
        name: np.concatenate([getattr(part.contest, name) for part in parts])
        for name in ("start", "box", "ellipse")
    }
    contest = Contest(
        **columns,
        adapted=joined.ious.double().numpy(),
        classes=joined.classes,
        images=joined.images,
        unseen=np.array(
            [i in f.hidden for f, m in zip(held.folds, adapted, strict=True) for i in m.classes]
        ),
    )
    start = MeasuredMasks.joined([part.start for part in parts])
    folds = [fold.name for fold in held.folds]
    return Comparison(contest=contest, start=start, adapted=joined, folds=folds)


def _timing(job: AdaptationJob, held: HoldOut, *, reserve: float) -> Timing:
    """Fits the steps to the time, once: a resumed adaptation keeps them."""
    kept = job.state.get("timing")
    if kept is not None:
        return Timing(**kept)
    steps = job.state.get("steps")
    if steps is not None:
        timing = Timing(seconds_per_step=0.0, fold_steps=max(1, steps // 2), final_steps=steps)
    else:
        timing = fit_steps(
            measure_speed(job.recipe, job.data),
            job.deadline - time.monotonic() - reserve,
            masks=job.data.masks,
            folds=[read_training_data(fold.recipe).masks for fold in held.folds],
        )
        logger.info(
            f"{timing.seconds_per_step:.2f} s a step on this machine: {timing.fold_steps} steps "
            f"in each held-out training, about {timing.final_steps} on all masks"
        )
    job.state["timing"] = vars(timing)
    job.save()
    return timing
