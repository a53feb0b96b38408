"""Measures the starting model and held-out trainings on the same held-out masks."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from halfmask.models.fixed.baselines import build_baseline
from halfmask.training.adapt.contest import Contest
from halfmask.training.adapt.holdout import HoldOut
from halfmask.training.adapt.job import AdaptationJob
from halfmask.training.adapt.timing import Timing, fit_steps, measure_speed, with_steps
from halfmask.training.data import read_training_data
from halfmask.training.measure import MeasuredMasks, load_for_measuring, measure_masks
from halfmask.training.rounds import train_helper

logger = logging.getLogger("halfmask")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Both models' masks of the same objects, and the numbers."""

    contest: Contest
    start: MeasuredMasks
    adapted: MeasuredMasks

    @property
    def best(self) -> MeasuredMasks:
        """Masks of the better model."""
        return self.adapted if self.contest.won else self.start


def compare(job: AdaptationJob, held: HoldOut) -> Comparison:
    """Trains without each part of the held-out masks, and measures both models.

    Raises:
        Stopped: a signal stopped a training.
    """
    pictures = job.pictures

    def measure(model: Any, title: str) -> list[MeasuredMasks]:
        return [
            measure_masks(model, pictures, fold.chosen, title=title, progress=job.options.progress)
            for fold in held.folds
        ]

    begin = time.monotonic()
    start = measure(load_for_measuring(job.source), "measuring the model as it is")
    spent = time.monotonic() - begin
    job.state["measuring_seconds"] = spent
    box, ellipse = (
        measure(build_baseline(f"baseline:{name}"), f"measuring the {name}")
        for name in ("box", "ellipse")
    )
    timing = _timing(job, held, reserve=2.5 * spent)
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
        title = "measuring the adapted model"
        adapted.append(
            measure_masks(
                load_for_measuring(checkpoint),
                pictures,
                fold.chosen,
                title=title,
                progress=job.options.progress,
            )
        )
    ious = [MeasuredMasks.joined(m).ious.double().numpy() for m in (start, adapted, box, ellipse)]
    names = ("start", "adapted", "box", "ellipse")
    joined = MeasuredMasks.joined(adapted)
    contest = Contest(
        **dict(zip(names, ious, strict=True)), classes=joined.classes, images=joined.images
    )
    return Comparison(contest=contest, start=MeasuredMasks.joined(start), adapted=joined)


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
