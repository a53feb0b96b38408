"""The options of the box segmenter that `segmenter` measures, and the budget of a run."""

from __future__ import annotations

import re

from halfmask.errors import InputError

DIRECTIONS = {
    "voc": "coco_mini_voc2nonvoc_box_segmenter",
    "nonvoc": "coco_mini_nonvoc2voc_box_segmenter",
}
"""Masked classes → the recipe."""
FOLDS = 3
SHARE = 0.333
BUDGET = [
    "stages.0.steps=300",
    "stages.0.ema=0.98",
    "rounds=1",
    f"data.development={SHARE}",
    "model.zooms=[]",
]
"""What every run has: 300 steps of one round, weights averaged over the last fifty or
so, and each box read in one context, mirrored too. About two minutes on one free core.
"""
BASE = "the recipe"
FROM_BOXES = "model.from_boxes"
ORACLE = ["data.masked=null"]
OPTIONS: dict[str, list[str]] = {
    BASE: [],
    "crops of 128 px": ["model.crop_size=128"],
    "context 0.12": ["model.context=0.12"],
    "wider decoder": ["model.decoder_widths=[192, 96, 64, 48]"],
    "BatchNorm learns": ["model.encoder.norm=batch"],
    "loose boxes too": ["model.box_jitter=0.12", "model.box_reach=0.12"],
    "hourglass decoder": ["model.decoder=hourglass", "model.decoder_widths=[32]"],
    "crop jitter 0.25": ["model.crop_jitter=0.25"],
    "no rotation": ["data.rotation=0"],
    "rotation 15": ["data.rotation=15"],
    "no colour jitter": ["data.colour_jitter=0"],
    "no copy-paste": ["data.paste=0"],
    "copy-paste, on all photographs": ["data.skip_unmasked=false"],
    "no dice": ["model.dice_weight=0"],
    "border at 3": ["model.boundary_weight=2"],
    "no EMA": ["stages.0.ema=null"],
    "not mirrored in inference": ["model.mirror=false"],
    "cut at one half": ["model.decision=half"],
    "three contexts in inference": ["model.zooms=[0.12, 0.22, 0.36]"],
    "settled masks": ["model.settle=true"],
    "the other boxes": ["model.neighbours=true"],
    "B's boxes: projection": [
        "data.skip_unmasked=false",
        f"{FROM_BOXES}={{projection: 0.5, warmup: 60}}",
    ],
    "B's boxes: colour": ["data.skip_unmasked=false", f"{FROM_BOXES}={{colour: 0.1, warmup: 60}}"],
    "B's boxes: both": [
        "data.skip_unmasked=false",
        f"{FROM_BOXES}={{projection: 0.5, colour: 0.1, warmup: 60}}",
    ],
    "unknown neighbours left out": ["model.unknown=ignore"],
    "class names (GloVe)": [
        "model.condition.input=embedding",
        "model.condition.embedding=${HALFMASK_SHARED}/data/embeddings/coco_glove.npy",
        "model.condition.input_norm=1",
    ],
    "class prototypes": ["model.condition.input=prototype", "model.condition.input_norm=1"],
    "self-training, two rounds": ["rounds=2"],
    "clicks too": ["model.clicks=true"],
    "a detector's box errors": ["model.box_noise=detector", "model.box_reach=0.12"],
    "looks of the moving average": ["distil={teacher: average}", "data.skip_unmasked=false"],
    "second look at the border": ["model.border={width: 24, blocks: 4}"],
    "all masks (oracle)": ORACLE,
}
"""One change each. More can be given: `--set "name: key=value key=value"`."""
INFERENCE = ("model.mirror", "model.zooms", "model.decision", "model.settle")
"""Keys that change nothing in training."""


def chosen_options(wanted: tuple[str, ...]) -> dict[str, list[str]]:
    """Name → overrides; the base first. Raises InputError where a name is not known and
    says no keys.
    """
    if not wanted:
        return OPTIONS
    out = {BASE: OPTIONS[BASE]}
    for one in wanted:
        name, colon, keys = one.partition(": ")
        if one in OPTIONS:
            out[one] = OPTIONS[one]
        elif colon and "=" in keys:
            out[name] = re.split(r" (?=[\w.]+=)", keys)  # YAML's own blanks stay
        else:
            raise InputError(
                f"bench segmenter: no option {one!r}; there are {', '.join(OPTIONS)}, or --set "
                '"NAME: key=value …"'
            )
    return out
