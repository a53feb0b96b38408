"""Detectron's arithmetic as one line of a recipe: `detectron: exact`.

The line gives each key below the authors' value, unless the recipe names another.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from halfmask.recipes.run import Recipe

PIXEL_MEANS = (122.7717, 115.9465, 102.9801)
"""Detectron's pixel means, RGB, of 0 … 255. It divides by no deviation."""

MODEL: dict[str, Any] = {
    "minibatch": 2,
    "detector": {
        "legacy_boxes": True,
        "straddling_anchors": False,
        "rpn_divisor": "fixed",
        "rpn_post_nms_per": "minibatch",
        "box_beta": 1.0,
        "fc_init": "xavier",
    },
    "mask_head": {"divisor": "minibatch"},
}
DATA: dict[str, Any] = {"mask_targets": "polygon", "crowds": "label"}
DATA_OF_BOXES: dict[str, Any] = {"skip_unannotated": True}
"""Where boxes are learnt. Stage 2 alone reads the authors' precomputed proposals, with
which they keep these images.
"""
OPTIMISER: dict[str, Any] = {"momentum_of": "steps"}


def with_exact_keys(document: Any) -> Any:
    """Returns a recipe's document with the keys that `detectron: exact` stands for.

    A document without that line, or of another form than a recipe's, comes back
    unchanged.
    """
    if not isinstance(document, Mapping) or document.get("detectron") != "exact":
        return document
    filled = copy.deepcopy(dict(document))
    _fill(filled, {"model": MODEL, "normaliser": "rank"})
    stages = filled.get("stages")
    stages = [s for s in stages if isinstance(s, dict)] if isinstance(stages, list) else []
    for stage in stages:
        _fill(stage, {"optimiser": OPTIMISER})
        if isinstance(stage.get("data"), dict):
            _fill(stage, {"data": _data_of([stage])})
    _fill(filled, {"data": _data_of(stages)})
    return filled


def with_own_conventions(document: Any) -> Any:
    """Returns a model's document with the conventions of a Detectron backbone (.pkl).

    The stride stands in the 1×1 convolution, and pixels are 0 … 255 less their means.

    Raises:
        ValueError: the document names other conventions.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("backbone"), Mapping):
        return document
    weights = document["backbone"].get("weights")
    if not isinstance(weights, str) or not weights.endswith(".pkl"):
        return document
    own: dict[str, dict[str, Any]] = {
        "backbone": {"stride_in_1x1": True},
        "images": {"mean": [mean / 255 for mean in PIXEL_MEANS], "std": [1 / 255] * 3},
    }
    filled = copy.deepcopy(dict(document))
    _fill(filled, own)
    for section, keys in own.items():
        given = filled.get(section)
        wrong = [k for k, value in keys.items() if isinstance(given, dict) and given[k] != value]
        if wrong:
            raise ValueError(
                f"{weights} is a backbone of Detectron: leave out {section}.{wrong[0]}, or set it "
                f"to {keys[wrong[0]]}"
            )
    return filled


def _data_of(stages: list[dict[str, Any]]) -> dict[str, Any]:
    boxes = any(stage.get("loss", "all") != "masks" for stage in stages)
    return DATA | DATA_OF_BOXES if boxes else DATA


def _fill(document: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Sets keys that a document does not have, section by section."""
    for key, value in defaults.items():
        if not isinstance(value, Mapping):
            document.setdefault(key, value)
        elif document.get(key) is None:
            document[key] = copy.deepcopy(dict(value))
        elif isinstance(document[key], dict):
            _fill(document[key], value)


def fault_of_authors_keys(recipe: Recipe) -> str | None:
    """Says which of the authors' keys does not fit the rest of a recipe; None if all do."""
    data = [recipe.data, *(stage.data for stage in recipe.stages if stage.data is not None)]
    polygons = [d for d in data if d.mask_targets == "polygon"]
    if recipe.model.kind != "mask_rcnn":
        if polygons or any(d.crowds == "label" for d in data):
            return "data.mask_targets: polygon and data.crowds: label are for a mask_rcnn"
        return None
    if any(d.paste > 0 or d.rotation > 0 for d in polygons):
        return "data.mask_targets: polygon: pasted or turned objects have no polygons; set bitmap"
    minibatch, by_minibatch = recipe.model.minibatch, recipe.model.mask_head.divisor == "minibatch"
    if by_minibatch and recipe.normaliser != "rank":
        return "model.mask_head.divisor: minibatch needs `normaliser: rank`"
    for stage in recipe.stages:
        if by_minibatch and stage.cache_features:
            return (
                f"stage {stage.name}: cached regions belong to no minibatch; set "
                "cache_features: false, or model.mask_head.divisor: batch"
            )
        if minibatch is not None and stage.batch_size % (minibatch * recipe.devices):
            return (
                f"stage {stage.name}: batch_size: expected a multiple of model.minibatch × devices "
                f"({minibatch * recipe.devices}), found {stage.batch_size}"
            )
    return None
