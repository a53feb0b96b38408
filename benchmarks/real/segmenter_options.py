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
SHARED = "${HALFMASK_SHARED}/data"
STAGE = (
    "loss: masks, ema: 0.98, batch_size: 4, optimiser: {name: adamw, lr: %s, weight_decay: 0.01, "
    "warmup: 30}"
)
"""Of the shipped recipes, with the budget's average."""


def _more(*names: str) -> str:
    parts = [
        f'{{annotations: "{SHARED}/{name}/instances_train.json", images: "{SHARED}/{name}/train"}}'
        for name in names
    ]
    return f"data.more=[{', '.join(parts)}]"


def _stages(*stages: str) -> str:
    return f"stages=[{', '.join(f'{{{stage}}}' for stage in stages)}]"


LARGER_AT_LAST = [
    "model.crop_size=128",
    _stages(
        f"name: small, train: [all], steps: 240, crop_size: 96, {STAGE % 0.0008}",
        f"name: large, train: [all], steps: 60, {STAGE % 0.0004}",
    ),
]
# The border learns on photographs that the first look has not seen: its errors are true ones.
SECOND_LOOK = [
    "model.border={width: 24, blocks: 4}",
    _stages(
        f"name: masks, train: [encoder, decoder, mask_head], steps: 300, {STAGE % 0.0008}",
        f"name: border, train: [border], steps: 150, {STAGE % 0.003}, data: {{annotations: "
        f'"{SHARED}/voc-aug/instances_train.json", images: "{SHARED}/voc-aug/train", '
        "skip_unmasked: true}",
    ),
]
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
    "second look at the border": SECOND_LOOK,
    "voc-aug too": [_more("voc-aug")],
    "coco-more too": [_more("coco-more")],
    "1200 steps": ["stages.0.steps=1200", "stages.0.ema=0.995"],
    "1200 steps, voc-aug and coco-more": [
        "stages.0.steps=1200",
        "stages.0.ema=0.995",
        _more("coco-more", "voc-aug"),
    ],
    "128 px in the last fifth": LARGER_AT_LAST,
    "all masks (oracle)": ORACLE,
}
"""One change each. More can be given: `--set "name: key=value key=value"`."""
INFERENCE = ("model.mirror", "model.zooms", "model.decision")
"""Keys that change nothing in training. (`model.settle` does: it looks at its masks.)"""


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
