"""RUN/quality.json: the expected mask quality on classes without masks, from hidden classes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from halfmask._version import __version__
from halfmask.evaluation.measures.reliability import class_estimate, reliability
from halfmask.files.atomic import write_json
from halfmask.models.box_segmenter.quality import FEATURES, QualityScore
from halfmask.pictures.reliability import reliability_plot
from halfmask.training.measure import MeasuredMasks

logger = logging.getLogger("halfmask")

FOLDS = 5


def report_quality(
    measured: MeasuredMasks, names: Mapping[int, str], seed: int, *, out: Path
) -> None:
    """Writes quality.json and reliability.png, and logs the estimate.

    Args:
        names: id → name of the hidden classes.
        seed: of the bootstrap interval.
    """
    result = _result(measured, names, seed)
    write_json(out / "quality.json", result, indent=1)
    estimate, quality = result["estimate"], result["quality"]
    count = f"{quality['instances']} masks of {len(names)} hidden classes"
    picture = reliability_plot(
        quality, out / "reliability.png", f"{count}, each scored by a fit on the others"
    )
    rank = "unknown" if quality["spearman"] is None else f"{quality['spearman']:.2f}"
    logger.info(
        f"masks of classes without masks: expect a mean IoU of {estimate['miou']:.3f} (95 %: "
        f"{estimate['low']:.3f} to {estimate['high']:.3f}), from {count}; the score's rank "
        f"correlation with the IoU {rank}, calibration error {quality['calibration_error']:.3f} "
        f"({out / 'quality.json'}, {picture})"
    )


def _result(measured: MeasuredMasks, names: Mapping[int, str], seed: int) -> dict[str, Any]:
    """Returns the content of quality.json.

    `quality` is the reliability of scores fitted on other classes, `unfitted` that of
    the unfitted score.
    """
    scores, ious = held_out_scores(measured).tolist(), measured.ious.tolist()
    columns = zip(
        measured.images, measured.annotations, measured.classes, ious, scores, strict=True
    )
    objects = [
        dict(zip(("image_id", "annotation_id", "category_id", "iou", "score"), row, strict=True))
        | {"features": dict(zip(FEATURES, values, strict=True))}
        for row, values in zip(columns, measured.features.tolist(), strict=True)
    ]
    classes = torch.tensor(measured.classes)
    hidden = [
        {
            "id": i,
            "name": name,
            "objects": int((classes == i).sum()),
            "miou": float(measured.ious[classes == i].mean()),
        }
        for i, name in names.items()
    ]
    return {
        "estimate": class_estimate(ious, measured.classes, measured.images, seed=seed),
        "hidden": hidden,
        "quality": reliability(scores, ious),
        "unfitted": reliability(measured.features[:, 0].tolist(), ious),
        "objects": objects,
        "version": __version__,
    }


def held_out_scores(measured: MeasuredMasks) -> Tensor:
    """Scores each mask (float32 [n]) by a fit that has not seen its class.

    Where only one class is hidden, the fit has not seen its image.
    """
    many = len(set(measured.classes)) > 1
    groups = torch.tensor(measured.classes if many else [i % FOLDS for i in measured.images])
    scores = measured.features[:, 0].clone()
    for group in set(groups.tolist()):
        rest = groups != group
        if int(rest.sum()) < 2:
            continue  # too few to fit: keep the unfitted score
        score = QualityScore()
        score.fit(measured.features[rest], measured.ious[rest])
        scores[~rest] = score(measured.features[~rest])
    return scores
