"""Recipes: one YAML file that says everything about a run. Unknown keys are errors;
`a.b=c` on the command line overrides.

The classes below are the file's schema: the line under a field is its documentation.
Sizes are pixels, channels or steps.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from halfmask.errors import InputError
from halfmask.recipes.model import (
    Backbone,
    BoxSegmenter,
    Detector,
    Images,
    MaskHead,
    MaskRCNN,
    Section,
    Transfer,
)

__all__ = [
    "RECIPE_FOLDER",
    "Backbone",
    "BoxSegmenter",
    "Data",
    "Detector",
    "Images",
    "MaskHead",
    "MaskRCNN",
    "Optimiser",
    "Recipe",
    "Section",
    "SelfTraining",
    "Stage",
    "Transfer",
    "expand",
    "load_recipe",
    "parse_recipe",
    "shipped_recipes",
]

RECIPE_FOLDER = Path(__file__).parent


class Data(Section):
    annotations: str
    """COCO file. Environment variables are expanded; HALFMASK_SHARED stands for the shared data."""
    images: str
    """Folder of its images."""
    masked: str | None = None
    """Simulates partial supervision: voc, nonvoc, random:TRIAL:COUNT or class names
    a,b,c keep their masks, the others' are stripped before anything sees them. null: as
    the file is.
    """
    masked_threshold: int = 10
    """A class counts as masked (set A) from this many usable masks on."""
    use: Literal["annotated", "accepted", "filled"] = "annotated"
    """annotated: masks that halfmask filled in count as missing; accepted: reviewed
    ones count; filled: all count.
    """
    development: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the images held out of training (by image id) for the evaluations on the way."""
    development_fold: int = Field(default=0, ge=0)
    """Which part of that share is held out: folds 0, 1, … have no image in common while
    (fold + 1) · development is at most 1.
    """
    flip: float = Field(default=0.5, ge=0.0, le=1.0)
    """Probability of a horizontal flip."""
    colour_jitter: float = Field(default=0.0, ge=0.0)
    """Strength of random brightness, contrast and saturation."""
    rotation: float = Field(default=0.0, ge=0.0, le=45.0)
    """Half of the photographs are turned by up to so many degrees, either way. A
    box-only object then has a loose box, so this is for a box_segmenter: a detector
    would learn that such classes have loose boxes.
    """
    paste: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability that masked objects of another training photograph are pasted into
    one (copy-paste).
    """
    paste_most: int = Field(default=4, ge=1)
    """Objects pasted into a photograph, at most."""
    skip_unmasked: bool = False
    """Leave out images without any mask (the box segmenter cannot learn from them)."""
    unreadable: float = Field(default=0.01, ge=0.0, lt=1.0)
    """Share of the photographs that may turn out broken: they are named and left out of
    training; more stop it. That a photograph is not there at all is found before the
    start, and always an error.
    """
    workers: int = Field(default=0, ge=0)
    cache: bool = False
    """Keep decoded images in memory."""


class Optimiser(Section):
    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(gt=0.0)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    bias_lr_factor: float = 1.0
    """The paper: 2, and no decay on biases."""
    part_lr_factors: dict[str, Annotated[float, Field(gt=0.0)]] = Field(default_factory=dict)
    """Part of the model (as in `train`) → factor of its learning rate, 1 for the
    others: a pretrained encoder may want a smaller one.
    """
    decay_biases: bool = True
    warmup: int = Field(default=0, ge=0)
    """Steps of linear warm-up from a third of lr."""
    schedule: Literal["constant", "step", "cosine"] = "cosine"
    steps: list[int] = Field(default_factory=list)
    """schedule: step. lr falls by ten after each of these steps."""
    clip_norm: float | None = Field(default=None, gt=0.0)


class Stage(Section):
    name: str
    train: list[str]
    """Parts of the model that learn; all others are frozen, BatchNorm included. `all`
    names every part.
    """
    loss: Literal["all", "boxes", "masks"] = "all"
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Images in a step; regions where features are cached."""
    optimiser: Optimiser
    ema: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Decay of an exponential moving average of the weights, which then is what is
    evaluated and saved.
    """
    cache_features: bool = False
    """loss: masks with a frozen detector. Pool the regions of every image once and
    train the mask head on them alone.
    """
    data: Data | None = None
    """Pictures of this stage's own; null: the recipe's. The model's classes stay those
    of the recipe's data, this file's are found among them by name: boxes from one data
    set, masks from another.
    """

    @model_validator(mode="after")
    def _nothing_held_out(self) -> Stage:
        if self.data is not None and self.data.development > 0:
            raise ValueError(
                "data.development: evaluations on the way are on the recipe's own data; hold "
                "nothing out here"
            )
        return self


class SelfTraining(Section):
    """Which of the teacher's masks the next round learns from (`rounds`)."""

    min_score: float = Field(default=0.6, ge=0.0, le=1.0)
    """Least score of a mask."""
    min_tightness: float = Field(default=0.7, ge=0.0, le=1.0)
    """Least IoU of a mask's own box with its annotation's box."""


class Recipe(Section):
    name: str
    seed: int = 3
    model: MaskRCNN | BoxSegmenter = Field(discriminator="kind")
    data: Data
    stages: list[Stage] = Field(min_length=1)
    init: str | None = None
    """A checkpoint whose fitting weights are the start (stage-wise training on another
    run's detector).
    """
    rounds: int = Field(default=1, ge=1)
    """Rounds of training. After each but the last, its model fills the masks that
    `data` lacks (RUN/teacher/filled.json), and the next round, which starts anew,
    learns from them too; a box segmenter weights them by their score.
    """
    self_training: SelfTraining = SelfTraining()
    hide: int = Field(default=0, ge=0)
    """Masked classes, chosen by the seed, whose masks are hidden from a first training
    (RUN/hidden), which is then measured on them: the IoU to expect on box-only classes
    (RUN/quality.json), and masks that the model's quality score is fitted to. Twice the
    time; box segmenters only.
    """
    loggers: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(default=["tensorboard"])
    """Where the numbers go besides RUN/logs/metrics.csv, which is always written. wandb
    and mlflow are extras of their own, and take project, server and offline mode from
    their own environment variables (docs/runs.md).
    """
    evaluate_every: int = Field(default=0, ge=0)
    """Steps between evaluations on the development part; 0: only at the end."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Steps between resume points; slow steps get one every five minutes besides."""
    precision: Literal["32", "bf16", "16"] = "32"
    """Mixed precision where the device has it; a CPU always uses 32."""
    channels_last: bool = False
    devices: int = Field(default=1, ge=1)
    """Processes on this host that train the model together, one a GPU; on a CPU by
    gloo. torchrun and srun start theirs themselves, and this is not asked then.
    `batch_size` stays the batch of all of them (docs/guides/many_gpus.md).
    """
    normaliser: Literal["global", "rank"] = "global"
    """What losses are means of where several processes train: the things of all, so
    that their number changes nothing, or, as in the paper, each process's own.
    """
    sampling: Literal["stream", "image"] | None = None
    """Where a training step's random draws (regions, crops, sizes) come from: one
    stream of random numbers, or of each image's own, which is the same whatever the
    number of processes. null: stream for one process, image for several.
    """

    @model_validator(mode="after")
    def _turned(self) -> Recipe:
        data = [self.data, *(stage.data for stage in self.stages if stage.data is not None)]
        if self.model.kind == "mask_rcnn" and any(d.rotation > 0 for d in data):
            raise ValueError(
                "data.rotation is for a box_segmenter: turned boxes are loose, and a mask_rcnn "
                "learns boxes"
            )
        return self

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def expand(path: str) -> Path:
    """A path of a recipe with `~` and environment variables filled in; HALFMASK_SHARED
    defaults to ../shared.

    Raises:
        InputError: an environment variable is not set.
    """
    os.environ.setdefault("HALFMASK_SHARED", "../shared")
    filled = os.path.expandvars(path)
    unset = re.search(r"\$(\w+|\{\w+\})", filled)
    if unset:
        name = unset[1].strip("{}")
        raise InputError(
            f"{path}: the environment variable {name} is not set: export {name}=/your/folder, "
            "or name the path itself"
        )
    return Path(filled).expanduser()


def shipped_recipes() -> dict[str, Path]:
    """Name → file of the recipes that ship with the package."""
    return {p.stem: p for p in sorted(RECIPE_FOLDER.rglob("*.yaml"))}


def load_recipe(source: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Reads a recipe.

    Args:
        source: a file, or a shipped recipe's name.
        overrides: `a.b=value` each; the value is read as YAML, list items are reached
            by number (`stages.0.steps=10`).
    Raises:
        InputError: no such recipe, not YAML, unknown key, wrong type, or an override
            that fits nothing.
    """
    path = Path(source)
    if not path.is_file():
        shipped = shipped_recipes()
        if str(source) not in shipped:
            near = difflib.get_close_matches(str(source), shipped, n=5, cutoff=0.5)
            names = (
                f"the nearest are: {', '.join(near)}"
                if near
                else f"they are: {', '.join(shipped) or 'none'}"
            )
            raise InputError(
                f"{source}: neither a recipe file nor one of the {len(shipped)} shipped "
                f"recipes; {names}"
            )
        path = shipped[str(source)]
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: a recipe is a mapping of keys, found {type(document).__name__}")
    for override in overrides or []:
        _override(document, override)
    return parse_recipe(document, str(path))


def parse_recipe(document: dict[str, Any], where: str) -> Recipe:
    """Checks a recipe that is already a dictionary; `where` is named in errors."""
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        # pydantic names the kind of model that it chose in the key's path; the file has
        # no such key.
        key = ".".join(
            str(part) for i, part in enumerate(first["loc"]) if i != 1 or first["loc"][0] != "model"
        )
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        what = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise InputError(f"{where}: {key}: {what}{more}") from error


def _override(document: dict[str, Any], text: str) -> None:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InputError(f"override {text!r}: expected key=value, for example stages.0.steps=100")
    node: Any = document
    *parents, last = key.split(".")
    for part in parents:
        node = _child(node, part, text)
    index: str | int = _index(node, last, text) if isinstance(node, list) else last
    try:
        node[index] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"override {text!r}: the value is not YAML") from error
    except TypeError as error:
        raise InputError(f"override {text!r}: {'.'.join(parents)} has no keys") from error


def _child(node: Any, part: str, text: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, text)]
    if not isinstance(node, dict):
        raise InputError(f"override {text!r}: {part} has no keys")
    if node.get(part) is None:
        node[part] = {}  # a section that the file leaves to its defaults
    return node[part]


def _index(node: list[Any], part: str, text: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise InputError(f"override {text!r}: {part} is no item of a list of {len(node)}")
    return int(part)
