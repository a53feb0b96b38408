"""End-to-end rows (Table 1d): detector and mask head learn together, the masks of B
taken out of the file before anything sees them.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch

from benchmarks.paper.region_heads import change_head
from halfmask.data.augment.augment import Augment
from halfmask.data.dataset import CocoInstances
from halfmask.data.loader import build_loader
from halfmask.models.checkpoint import load_checkpoint, load_weights
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.progress import Display
from halfmask.recipes.recipe import MaskRCNN, Recipe, parse_recipe
from halfmask.training.loop.fit import Loaders, fit

END_TO_END: dict[str, dict[str, Any]] = {
    "class-agnostic, end to end": {"kind": "agnostic"},
    "T, end to end": {"transfer": {"stop_gradient": False}},
    "T, end to end, stop-gradient": {"transfer": {"stop_gradient": True}},
}
"""What each changes in the recipe's mask head."""
STEPS_SHARE, RATE_SHARE = 1 / 3, 1 / 2
"""Of the box stage. The runs start from the seed's detector, not from nothing: a third
of its steps at half its rate is then enough for mask heads to converge, and rows of one
seed differ in nothing but the head.
"""


def train_end_to_end(
    recipe: Recipe,
    head: str,
    detector: Path,
    training: CocoInstances,
    masked: set[int],
    folder: Path,
) -> tuple[PartialMaskRCNN, float]:
    """Trains a detector and a mask head on all boxes and the masks of A.

    Args:
        recipe: whose box stage gives batch size and optimiser; its seed starts the run.
        head: name of END_TO_END.
        detector: checkpoint that backbone, FPN, RPN and box head start from.
        training: pictures with all masks.
        masked: category ids of A.
        folder: of the run; an interrupted one is resumed.
    Returns:
        The model in eval mode, and the mask loss at its last log line.
    """
    joint = _joint_recipe(recipe, head)
    assert isinstance(joint.model, MaskRCNN)
    torch.manual_seed(joint.seed)
    model = build_mask_rcnn(joint.model, len(training.file.categories) + 1, pretrained=False)
    start = load_checkpoint(detector)
    load_weights(model, model.state_dict() | start.state, detector)
    file = training.file.part(training.file.image_ids, masks_of=masked)
    stripped = CocoInstances(file, training.folder, training.image_ids, cache=True)
    augment = Augment(recipe.data.flip, recipe.data.colour_jitter)
    data = Loaders(
        lambda batch_size, seed: build_loader(
            stripped, batch_size, 0, seed=seed, augment=augment, shuffle=True
        ),
        lambda batch_size: build_loader(stripped, batch_size, shuffle=False),
        len(stripped),
    )
    folder.mkdir(parents=True, exist_ok=True)
    if not fit(model, joint, data, folder=folder, resume=True, progress=Display()).finished:
        raise KeyboardInterrupt
    return model.cpu().eval(), _last_mask_loss(folder / "logs" / "metrics.csv")


def _joint_recipe(recipe: Recipe, head: str) -> Recipe:
    document = recipe.model_dump(mode="json") | {"evaluate_every": 0}
    assert isinstance(recipe.model, MaskRCNN)
    document["model"]["mask_head"] = change_head(
        recipe.model.mask_head, END_TO_END[head]
    ).model_dump(mode="json")
    stage = next(stage for stage in document["stages"] if stage["loss"] == "boxes")
    optimiser = stage["optimiser"] | {"lr": stage["optimiser"]["lr"] * RATE_SHARE}
    steps = max(1, round(stage["steps"] * STEPS_SHARE))
    joint = {
        "name": "joint",
        "train": ["all"],
        "loss": "all",
        "steps": steps,
        "optimiser": optimiser,
    }
    document["stages"] = [stage | joint]
    return parse_recipe(document, recipe.name)


def _last_mask_loss(log: Path) -> float:
    """nan where the run was shorter than one log line."""
    if not log.is_file():
        return float("nan")
    with log.open(encoding="utf-8", newline="") as lines:
        values = [row["loss_mask"] for row in csv.DictReader(lines) if row.get("loss_mask")]
    return float(values[-1]) if values else float("nan")
