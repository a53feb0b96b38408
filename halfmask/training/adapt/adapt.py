"""Adapts a trained box segmenter to a data set, if held-out masks get better by it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.evaluation.measures.reliability import reliability
from halfmask.evaluation.samples import training_samples
from halfmask.files.atomic import write_text
from halfmask.models.checkpoint import Checkpoint, save_checkpoint
from halfmask.pictures.reliability import reliability_plot
from halfmask.recipes.recipe import Recipe
from halfmask.training.adapt.compare import Comparison, compare, measure_start
from halfmask.training.adapt.contest import expected_quality
from halfmask.training.adapt.holdout import LEFT, MEASURED, draw_rows, hold_out
from halfmask.training.adapt.job import AdaptationJob, open_adaptation
from halfmask.training.adapt.outcome import Adaptation, reason_of
from halfmask.training.adapt.section import report_kept_start
from halfmask.training.adapt.teacher import teach
from halfmask.training.adapt.timing import final_steps, with_steps
from halfmask.training.folder import MODEL
from halfmask.training.held_out import segment_with
from halfmask.training.job import RunOptions
from halfmask.training.measure import load_for_measuring, measure_masks, scores_of
from halfmask.training.quality import held_out_scores
from halfmask.training.single import open_run, train_single

logger = logging.getLogger("halfmask")

JUDGED = 240
"""Objects without a mask whose scores give the expected IoU, at most."""
LOOKED_AT = 3000
"""Photographs from which they are drawn, at most."""


def adapt(
    recipe: Recipe,
    out: Path,
    options: RunOptions,
    *,
    minutes: float,
    steps: int | None = None,
    least: int = LEFT,
) -> Adaptation:
    """Adapts the recipe's `init` to its data, in the folder `out`.

    Two short trainings, each without its part of the held-out masks, say whether
    adapting helps. If it does, a last training learns from all masks. Else the starting
    model is kept. Called again, it goes on where it stopped.

    Args:
        recipe: `adapt` or one like it: a box segmenter with `init`, and with data.
        out: gets the files of a run, and adaptation.json.
        minutes: for everything; the steps are fitted to it by the first ones.
        steps: of the last training, instead; the others get half as many.
        least: masks below which the starting model is measured, and nothing trained.
    Raises:
        InputError: the recipe does not fit, or `out` was begun with other data.
        Stopped: a signal stopped a training.
    """
    job = open_adaptation(recipe, out, options, minutes=minutes)
    if job.state.get("finished"):
        logger.info("%s: this run is finished", out / MODEL)
        return Adaptation.of(out, job.state)
    job.state.update(learned_from=_learned_from(job), steps=steps)
    found = _compared(job, least)
    job.state["reason"] = reason_of(job.state.get("held_out"), job.data.masks, least)
    if found is not None and found.contest.won:
        _train_on_all(job, found)
    else:
        _keep_start(job, found)
    job.state["validation"] = _validated(job)
    job.state["finished"] = True
    job.save()
    return Adaptation.of(out, job.state)


def _compared(job: AdaptationJob, least: int) -> Comparison | None:
    """Measures what can be measured; None without a mask."""
    pictures, counts = job.pictures, job.data.mask_counts
    held = None
    if job.data.masks >= least:
        held = hold_out(job.recipe, pictures, counts, known=job.known)
    if held is not None:
        by, names = str(held.by), held.names
        logger.info(
            "held out, in two trainings: a third of the photographs"
            + (f", and the masks of some classes: {', '.join(names)}" if by == "classes" else "")
        )
        found = compare(job, held)
    else:
        by, names = "nothing", [job.file.name_of(i) for i, n in counts.items() if n]
        order = np.random.default_rng([job.recipe.seed, 18]).permutation(len(pictures))
        chosen = draw_rows(pictures, order[:LOOKED_AT].tolist(), MEASURED)
        if not chosen:
            return None
        found = measure_start(job, chosen)
    job.state["held_out"] = {
        "by": by,
        "names": names,
        "known_to_start": sorted(job.known & set(names)),
        **found.contest.to_json(),
    }
    job.save()
    return found


def _train_on_all(job: AdaptationJob, found: Comparison) -> None:
    logger.info("adapting helps on held-out masks: the last training learns from all masks")
    checkpoints = [job.source, *(job.out / name / MODEL for name in found.folds)]
    filled = teach(job, checkpoints)
    _set_steps(job)

    def calibrate(model: Any) -> None:
        found.best.calibrate(model)
        _judge(job, model, found)
        job.state["kept"] = "adapted"
        job.save()

    recipe = with_steps(job.recipe, job.state["final_steps"])
    resume = (job.out / "recipe.yaml").is_file()
    recipe, finished = open_run(recipe, job.out, resume)
    if not finished:
        train_single(
            recipe, job.out, job.options, resume=resume, filled=filled, calibrate=calibrate
        )


def _set_steps(job: AdaptationJob) -> None:
    """Fits the steps of the last training to the time that is left, once."""
    state = job.state
    if "final_steps" not in state:
        given = state.get("steps")
        left = job.deadline - time.monotonic() - state["measuring_seconds"]
        fitting = final_steps(state["seconds_per_step"], left, masks=job.data.masks)
        state["final_steps"] = fitting if given is None else given
        job.save()


def _keep_start(job: AdaptationJob, found: Comparison | None) -> None:
    """Writes the starting model into the run, its score fitted to measured masks."""
    model = load_for_measuring(job.source)
    if found is not None and len(found.best.ious) > 1:
        found.best.calibrate(model)
    _judge(job, model, found)
    state = {k: v.cpu() for k, v in model.state_dict().items()}
    start = job.start
    save_checkpoint(
        job.out / MODEL,
        Checkpoint(
            state=state,
            recipe=start.recipe,
            categories=start.categories,
            masked=start.masked,
            mask_counts=start.mask_counts,
        ),
    )
    write_text(job.out / "recipe.yaml", start.recipe.to_yaml())
    job.state["kept"] = "start"
    if job.options.report:
        segment, progress = segment_with(model), job.options.progress
        samples = training_samples(job.pictures, segment, learned=False, progress=progress)
        report_kept_start(job.out, job.state, samples)


def _judge(job: AdaptationJob, model: Any, found: Comparison | None) -> None:
    """Notes the expected IoU of objects without masks, and draws reliability.png."""
    pictures, measured, scores = job.pictures, None, None
    if found is not None:
        measured, scores = found.best, held_out_scores(found.best)
        quality = reliability(scores.tolist(), measured.ious.tolist())
        text = f"{len(measured.ious)} held-out masks, each scored by a fit on the others"
        reliability_plot(quality, job.out / "reliability.png", text)
    order = np.random.default_rng([job.recipe.seed, 19]).permutation(len(pictures))[:LOOKED_AT]
    chosen = draw_rows(pictures, order.tolist(), JUDGED, masked=False)
    own, classes = scores_of(model, pictures, chosen, progress=job.options.progress)
    expected = expected_quality(own, classes, measured, held_out=scores)
    job.state["expected"] = None if expected is None else expected.to_json()


def _validated(job: AdaptationJob) -> dict[str, Any] | None:
    """Measures both models on the validation data; None without."""
    held = job.data.development
    if held is None:
        return None
    order = np.random.default_rng([job.recipe.seed, 20]).permutation(len(held))[:LOOKED_AT]
    chosen = draw_rows(held, order.tolist(), JUDGED)
    if not chosen:
        return None
    start, kept = (
        measure_masks(
            load_for_measuring(path),
            held,
            chosen,
            title="measuring the validation data",
            progress=job.options.progress,
        ).ious
        for path in (job.source, job.out / MODEL)
    )
    return {"masks": len(start), "start": float(start.mean()), "kept": float(kept.mean())}


def _learned_from(job: AdaptationJob) -> dict[str, Any]:
    """Counts masks, and objects and classes without."""
    file, counts = job.file, job.data.mask_counts
    present = {a["category_id"] for i in file.image_ids for a in file.annotations_of(i)}
    return {
        "masks": job.data.masks,
        "classes": sum(n > 0 for n in counts.values()),
        "photographs": len(job.data.training.with_masks()),
        "boxes_without_masks": file.objects - job.data.masks,
        "classes_without_masks": sum(counts.get(i, 0) == 0 for i in present),
    }
