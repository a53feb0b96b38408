"""Fits weights of another program into a model of this package, with a recipe for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.models.base import SegmentationModel
from halfmask.models.build import build_model
from halfmask.models.checkpoint import Category, Checkpoint
from halfmask.models.mask_rcnn.build import build_mask_branch
from halfmask.recipes.recipe import MaskHead, MaskRCNN, parse_recipe
from halfmask.text import listed

LISTED = 40
"""Number of names in an error."""
MASK_BRANCH = "mask_branch."
COUNTER = "num_batches_tracked"
"""BatchNorm's counter, which no result depends on."""


@dataclass(frozen=True, kw_only=True)
class ImportedModel:
    """A model that was read from another program's file.

    Attributes:
        source: "detectron" or "torchvision".
        model: the recipe's model section.
        state: the model's state dict.
        classes: K, background included.
        trained_masks: whether the file has a mask head.
        masked_rows: number of the first classes that had masks in training; None if the
            file does not say.
        notes: facts that the user should know, a line each.
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
    *,
    values: Mapping[str, Tensor],
    name_of: Callable[[str], str | None],
    where: str,
) -> dict[str, Tensor]:
    """Returns the state dict of a model, filled with another file's tensors.

    Args:
        model, classes: arguments of `build_model`. Parts that the file lacks keep their
            seeded start.
        values: the file's tensors by the file's names; the model must use each of them.
        name_of: the model's key → the name in the file; None if no such file has it.
        where: the file, for errors.
    Raises:
        InputError: names are missing, unknown, or of another shape; all are listed.
    """
    with torch.device("meta"):  # names and shapes alone: random weights would only be overwritten
        built: SegmentationModel = build_model(model, classes, pretrained=False)
    state = built.state_dict()
    named = {key: name for key in state if (name := name_of(key)) is not None}
    names = {k: name for k, name in named.items() if name in values or not name.endswith(COUNTER)}
    missing = sorted({name for name in names.values() if name not in values})
    misshaped = [
        f"{name} {list(values[name].shape)} instead of {list(state[key].shape)}"
        for key, name in sorted(names.items(), key=lambda item: item[1])
        if name in values and values[name].shape != state[key].shape
    ]
    unknown = sorted(set(values) - set(names.values()))
    found = {"missing": missing, "of another shape": misshaped, "unknown": unknown}
    problems = [
        f"{len(rows)} {what}: {listed(rows, LISTED)}" for what, rows in found.items() if rows
    ]
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
    """Initial values of absent tensors: a seeded mask head, and BatchNorm statistics."""
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
    imported: ImportedModel, *, categories: list[Category], masked: list[int], name: str
) -> Checkpoint:
    """Returns the checkpoint of an imported model.

    Args:
        imported: the model.
        categories: K−1 classes in the order of the rows.
        masked: ids of those that had masks in training.
        name: name of the recipe.
    Raises:
        InputError: another number of categories.
    """
    if len(categories) != imported.classes - 1:
        raise InputError(
            f"{name}: the weights are of {imported.classes - 1} classes, but {len(categories)} "
            "are named (--categories FILE)"
        )
    recipe = parse_recipe(_recipe(imported, name), name)
    return Checkpoint(state=imported.state, recipe=recipe, categories=categories, masked=masked)


def untrained(kind: str, width: int = 256) -> MaskHead:
    """Returns the mask head for a file without one."""
    return MaskHead.model_validate({"kind": kind, "width": width})


def _recipe(imported: ImportedModel, name: str) -> dict[str, object]:
    """A complete recipe: the imported model, and data and a schedule to continue with."""
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
    stage = {"name": "end_to_end", "train": ["all"], "steps": 90000, "batch_size": 16}
    return {
        "name": name,
        "model": imported.model.model_dump(mode="json"),
        "data": {
            "annotations": "${COCO_ROOT}/annotations/instances_train2017.json",
            "images": "${COCO_ROOT}/train2017",
        },
        "stages": [{**stage, "optimiser": optimiser}],
    }
