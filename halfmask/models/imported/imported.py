"""Weights from elsewhere on their way into a checkpoint: what they are, whether they
fit, and the recipe that goes with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from halfmask.coco.categories import COCO_NAMES
from halfmask.errors import InputError
from halfmask.models.base import SegmentationModel
from halfmask.models.build import build_model
from halfmask.models.checkpoint import Category, Checkpoint
from halfmask.models.mask_rcnn.build import build_mask_branch
from halfmask.recipes.recipe import MaskHead, MaskRCNN, parse_recipe

LISTED = 40
"""How many names an error gives."""
MASK_BRANCH = "mask_branch."
COUNTER = "num_batches_tracked"
"""BatchNorm's, which no result depends on."""


@dataclass(frozen=True)
class Imported:
    """A model that was read from another program's file.

    Attributes:
        source: what it was: "detectron" or "torchvision".
        model: the recipe's model section.
        state: the model's state dict.
        classes: K, background included.
        trained_masks: whether the file brought a mask head.
        masked_rows: how many of the first classes had masks in training; None where the
            file does not say.
        notes: what the user should know, a line each.
    """

    source: str
    model: MaskRCNN
    state: dict[str, Tensor]
    classes: int
    trained_masks: bool
    masked_rows: int | None = None
    notes: list[str] = field(default_factory=list)


def assemble(
    model: MaskRCNN,
    classes: int,
    values: Mapping[str, Tensor],
    name_of: Callable[[str], str | None],
    where: str,
) -> dict[str, Tensor]:
    """The state dict of a model, filled with another file's tensors.

    Args:
        model, classes: what `build_model` takes. Parts that the file does not cover
            keep their seeded start.
        values: the file's tensors by the file's own names; each must have a place in
            the model.
        name_of: the model's key → the name in the file; None for what no such file
            holds.
        where: the file, for errors.
    Raises:
        InputError: names are missing, unknown, or of another shape; all of them are
            listed.
    """
    with torch.device("meta"):  # names and shapes alone: random weights would only be overwritten
        built: SegmentationModel = build_model(model, classes, pretrained=False)
    state = built.state_dict()
    names = {key: name for key in state if (name := name_of(key)) is not None}
    names = {
        key: name for key, name in names.items() if name in values or not name.endswith(COUNTER)
    }
    missing = sorted({name for name in names.values() if name not in values})
    misshaped = [
        f"{name} {list(values[name].shape)} instead of {list(state[key].shape)}"
        for key, name in sorted(names.items(), key=lambda item: item[1])
        if name in values and values[name].shape != state[key].shape
    ]
    unknown = sorted(set(values) - set(names.values()))
    found = {"missing": missing, "of another shape": misshaped, "unknown": unknown}
    problems = [f"{len(rows)} {what}: {_listed(rows)}" for what, rows in found.items() if rows]
    if problems:
        raise InputError(
            f"{where}: does not fit {model.backbone.name}-FPN with {classes - 1} classes: "
            f"{'; '.join(problems)}"
        )
    rest = _start(model, classes, {key: t for key, t in state.items() if key not in names})
    return {
        key: (values[names[key]] if key in names else rest[key]).to(like.dtype)
        for key, like in state.items()
    }


def _start(model: MaskRCNN, classes: int, absent: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What no such file holds: a mask head's seeded start, and the statistics that a
    BatchNorm begins with.
    """
    out: dict[str, Tensor] = {}
    for key, like in absent.items():
        if not key.startswith(MASK_BRANCH):
            assert key.endswith(("running_mean", "running_var", COUNTER)), key
            out[key] = torch.full(like.shape, float(key.endswith("running_var")), dtype=like.dtype)
    if len(out) < len(absent):
        head, detector = model.mask_head, model.detector
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            branch = build_mask_branch(
                head, detector.fpn_channels, classes, box_width=detector.box_width, pretrained=False
            )
        out |= {MASK_BRANCH + key: tensor for key, tensor in branch.state_dict().items()}
    return out


def checkpoint_of(
    imported: Imported, categories: list[Category], masked: list[int], name: str
) -> Checkpoint:
    """The checkpoint of an imported model.

    Args:
        categories: K−1 classes in the order of the rows.
        masked: ids of those that had masks in training.
        name: of the recipe.
    Raises:
        InputError: another number of categories.
    """
    if len(categories) != imported.classes - 1:
        raise InputError(
            f"{name}: the weights are of {imported.classes - 1} classes, but {len(categories)} "
            "are named (--categories FILE)"
        )
    return Checkpoint(
        state=imported.state,
        recipe=parse_recipe(_recipe(imported, name), name),
        categories=categories,
        masked=masked,
    )


def coco_categories() -> list[Category]:
    """COCO's 80 classes in the order of their ids."""
    return [{"id": i, "name": name} for i, name in COCO_NAMES.items()]


def untrained(kind: str, width: int = 256) -> MaskHead:
    """The mask head of a model whose file brings none."""
    return MaskHead.model_validate({"kind": kind, "width": width})


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _recipe(imported: Imported, name: str) -> dict[str, object]:
    """A whole recipe: the model as imported; the data and the schedule are those to go
    on with, for the file does not say its own.
    """
    optimiser = {
        "name": "sgd",
        "lr": 0.02,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "bias_lr_factor": 2.0,
        "decay_biases": False,
        "warmup": 500,
        "schedule": "step",
        "steps": [60000, 80000],
    }
    stage = {
        "name": "end_to_end",
        "train": ["all"],
        "steps": 90000,
        "batch_size": 16,
        "optimiser": optimiser,
    }
    data = {
        "annotations": "${COCO_ROOT}/annotations/instances_train2017.json",
        "images": "${COCO_ROOT}/train2017",
    }
    return {
        "name": name,
        "model": imported.model.model_dump(mode="json"),
        "data": data,
        "stages": [stage],
    }
