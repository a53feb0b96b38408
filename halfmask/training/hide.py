"""How good will the masks of the box-only classes be? Some masked classes are hidden
from a first training, and measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from halfmask.distributed import current
from halfmask.errors import InputError

if TYPE_CHECKING:
    from halfmask.models.base import SegmentationModel
    from halfmask.recipes.recipe import Data, Recipe
    from halfmask.training.data import Pictures, TrainingData

HIDDEN = "hidden"
"""Folder of the first training, in the folder of a run."""
FOLDS = 5


@dataclass(frozen=True)
class Plan:
    """What is hidden.

    Attributes:
        classes: category ids of the hidden classes, most masks first.
        recipe: of the first training.
        data: what the run itself learns from, with the masks that are hidden from the
            first training.
    """

    classes: list[int]
    recipe: Recipe
    data: TrainingData

    def describe(self) -> str:
        names = [
            f"{self.data.training.file.name_of(i)} ({self.data.main.mask_counts[i]})"
            for i in self.classes
        ]
        return f"hide={len(names)}: a first training without the masks of {', '.join(names)}"


@dataclass(frozen=True)
class Measured:
    """Masks whose classes the model never saw one of.

    Attributes:
        features: float32 [n, F], see `models.box_segmenter.quality`.
        ious: float32 [n], with the truth.
        classes, images, annotations: the ids of each.
    """

    features: Tensor
    ious: Tensor
    classes: list[int]
    images: list[int]
    annotations: list[int]

    def fit(self, model: Any) -> None:
        """Fits a box segmenter's quality score to these masks."""
        model.quality_score.fit(self.features, self.ious)


def learn_hidden(recipe: Recipe, out: Path, resume_command: str) -> Measured | None:
    """Trains without some masked classes (OUT/hidden), measures masks of these, writes
    OUT/quality.json and OUT/reliability.png.

    What is there already is taken as it is, so that an interrupted run goes on.

    Args:
        recipe: of the run; `hide` is at least 1.
        out: the run's folder.
        resume_command: how to go on, for messages.
    Returns:
        The measured masks, to fit the run's own model with; None if a signal stopped
            the training.
    Raises:
        InputError: these classes cannot be hidden, see `plan_hiding`.
    """
    from halfmask.training.train import train

    plan = plan_hiding(recipe)
    print(plan.describe())
    folder = out / HIDDEN
    checkpoint = train(
        plan.recipe,
        folder,
        resume=(folder / "recipe.yaml").is_file(),
        resume_command=resume_command,
        report=False,
    )
    if checkpoint is None:
        return None
    measured = _measure(_load(checkpoint), plan)
    if current().is_main:
        _report(measured, plan, out)
    return measured


def plan_hiding(recipe: Recipe) -> Plan:
    """Chooses the classes to hide, by the recipe's seed: spread over the classes with
    few and with many masks.

    Raises:
        InputError: a kind of model whose masks have no quality features, too few
            classes with enough masks, a start that has learnt masks of a class to hide.
    """
    from halfmask.training.data import read_training_data

    if recipe.model.kind != "box_segmenter":
        raise InputError(
            f"hide={recipe.hide}: works for a box_segmenter, the recipe's model is a "
            f"{recipe.model.kind}"
        )
    data = read_training_data(recipe)
    classes = _choose(recipe, data)
    names = {data.training.file.name_of(i) for i in classes}
    _refuse_start(recipe, names)
    stages = list(recipe.stages)
    for index, pictures in data.own.items():
        own = stages[index].data
        assert own is not None, index
        stages[index] = stages[index].model_copy(update={"data": _without(own, pictures, names)})
    changes = {"hide": 0, "data": _without(recipe.data, data.main, names), "stages": stages}
    return Plan(classes, recipe.model_copy(update=changes), data)


def _choose(recipe: Recipe, data: TrainingData) -> list[int]:
    import numpy as np

    from halfmask.coco.doctor.estimate import hideable

    counts, enough = data.main.mask_counts, max(1, recipe.data.masked_threshold)
    fitting = hideable(counts, data.main.masked, enough)
    if len(fitting) < recipe.hide:
        raise InputError(
            f"hide={recipe.hide}: {data.name} has {len(fitting)} masked classes with at least "
            f"{enough} masks and at most a third of all; "
            f"hide fewer, or lower data.masked_threshold"
        )
    rng = np.random.default_rng([recipe.seed, recipe.hide])
    return [int(rng.choice(group)) for group in np.array_split(np.array(fitting), recipe.hide)]


def _without(data: Data, pictures: Pictures, hidden: set[str]) -> Data:
    """A data section that strips the masks of the hidden classes too."""
    file = pictures.training.file
    kept = [
        file.name_of(i)
        for i, n in pictures.mask_counts.items()
        if n > 0 and file.name_of(i) not in hidden
    ]
    odd = [name for name in kept if "," in name]
    if not kept or odd:
        why = f"the class name {odd[0]!r} has a comma" if odd else "no other class has masks"
        raise InputError(
            f"hide: {file.name}: {why}, so the first training cannot be told what to learn from"
        )
    return data.model_copy(update={"masked": ",".join(kept)})


def _refuse_start(recipe: Recipe, hidden: set[str]) -> None:
    from halfmask.models.checkpoint import load_checkpoint
    from halfmask.recipes.recipe import expand

    if recipe.init is None:
        return
    source = expand(recipe.init)
    start = load_checkpoint(source / "model.safetensors" if source.is_dir() else source)
    had = {i for i, n in start.mask_counts.items() if n > 0} | set(start.masked)
    seen = sorted(c["name"] for c in start.categories if c["id"] in had and c["name"] in hidden)
    if seen:
        raise InputError(
            f"hide={recipe.hide}: init: {source} has learnt masks of {seen[0]}, which is to be "
            "hidden: the estimate would be too good; "
            "start from another checkpoint, or leave hide out"
        )


def _load(checkpoint: Path) -> SegmentationModel:
    from halfmask.models.build import build_model
    from halfmask.models.checkpoint import load_checkpoint, load_weights

    found = load_checkpoint(checkpoint)
    model = build_model(found.recipe.model, len(found.categories) + 1, pretrained=False)
    load_weights(model, found.state, checkpoint)
    return model.to(current().device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def _measure(model: Any, plan: Plan) -> Measured:
    """Draws masks into the boxes of the hidden classes' objects, on the photographs
    that the run learns from.
    """
    from halfmask.masks.crops import iou
    from halfmask.progress import tracked

    pictures, device = plan.data.training, next(model.parameters()).device
    labels = torch.tensor([pictures.file.label_of[i] for i in plan.classes])
    columns: list[tuple[Tensor, Tensor]] = []
    rows: list[tuple[int, int, int]] = []
    for index in tracked(range(len(pictures)), "measuring hidden classes", len(pictures), "image"):
        wanted = _objects(pictures.target(index), labels)
        if len(wanted):
            image, target = pictures[index]
            given = [target.boxes[wanted].to(device)], [target.labels[wanted].to(device)]
            found, features = model.segment_with_features([image.to(device)], *given)[0]
            columns.append(
                (features.cpu(), iou(found.crops(), target.masks.select(target.mask_row[wanted])))
            )
            ids = [pictures.file.categories[k - 1]["id"] for k in target.labels[wanted].tolist()]
            rows += [
                (i, target.image_id, a)
                for i, a in zip(ids, target.annotation_ids[wanted].tolist(), strict=True)
            ]
    classes, images, annotations = (list(column) for column in zip(*rows, strict=True))
    features, ious = (torch.cat(parts) for parts in zip(*columns, strict=True))
    return Measured(features, ious, classes, images, annotations)


def _objects(target: Any, labels: Tensor) -> Tensor:
    """int64: the rows of a target whose class is one of `labels` and whose mask is known."""
    return torch.where(target.has_mask & torch.isin(target.labels, labels))[0]


def _honest_scores(measured: Measured) -> Tensor:
    """float32 [n]: the score of each mask by a fit that never saw its class (its image,
    where only one class is hidden).
    """
    from halfmask.models.box_segmenter.quality import QualityScore

    many = len(set(measured.classes)) > 1
    groups = torch.tensor(measured.classes if many else [i % FOLDS for i in measured.images])
    scores = measured.features[:, 0].clone()
    for group in set(groups.tolist()):
        rest = groups != group
        if int(rest.sum()) < 2:
            continue  # too little to fit: the unfitted score stays
        score = QualityScore()
        score.fit(measured.features[rest], measured.ious[rest])
        scores[~rest] = score(measured.features[~rest])
    return scores


def _report(measured: Measured, plan: Plan, out: Path) -> None:
    """Writes quality.json and reliability.png, and prints what they say."""
    from halfmask.files.atomic import write_json
    from halfmask.pictures.reliability import reliability_plot

    result = _result(measured, plan)
    write_json(out / "quality.json", result, indent=1)
    estimate, quality = result["estimate"], result["quality"]
    count = f"{quality['instances']} masks of {len(plan.classes)} hidden classes"
    picture = reliability_plot(
        quality, out / "reliability.png", f"{count}, each scored by a fit on the others"
    )
    rank = "unknown" if quality["spearman"] is None else f"{quality['spearman']:.2f}"
    print(
        f"masks of classes without masks: expect a mean IoU of {estimate['miou']:.3f} (95 %: "
        f"{estimate['low']:.3f} to "
        f"{estimate['high']:.3f}), from {count}; the score's rank correlation with the IoU "
        f"{rank}, calibration error "
        f"{quality['calibration_error']:.3f} ({out / 'quality.json'}, {picture})"
    )


def _result(measured: Measured, plan: Plan) -> dict[str, Any]:
    """quality.json: the estimate with its interval, the hidden classes, how far the
    score can be trusted (each mask's by a fit on the other classes) and how far the
    unfitted one, and each mask.
    """
    from halfmask._version import __version__
    from halfmask.evaluation.measures.reliability import class_estimate, reliability
    from halfmask.models.box_segmenter.quality import FEATURES

    scores, ious = _honest_scores(measured).tolist(), measured.ious.tolist()
    columns = zip(
        measured.images, measured.annotations, measured.classes, ious, scores, strict=True
    )
    objects = [
        dict(zip(("image_id", "annotation_id", "category_id", "iou", "score"), row, strict=True))
        | {"features": dict(zip(FEATURES, values, strict=True))}
        for row, values in zip(columns, measured.features.tolist(), strict=True)
    ]
    return {
        "estimate": class_estimate(ious, measured.classes, measured.images, plan.recipe.seed),
        "hidden": _by_class(measured, plan),
        "quality": reliability(scores, ious),
        "unfitted": reliability(measured.features[:, 0].tolist(), ious),
        "objects": objects,
        "version": __version__,
    }


def _by_class(measured: Measured, plan: Plan) -> list[dict[str, Any]]:
    classes = torch.tensor(measured.classes)
    file = plan.data.training.file
    return [
        {
            "id": i,
            "name": file.name_of(i),
            "objects": int((classes == i).sum()),
            "miou": float(measured.ious[classes == i].mean()),
        }
        for i in plan.classes
    ]
