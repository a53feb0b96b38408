"""Recipes: one YAML file that says everything about a run. Unknown keys are errors; `a.b=c` on the command line overrides.

The classes below are the file's schema: the line under a field is its documentation. Sizes are pixels, channels or steps.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from halfmask.errors import InputError

RECIPE_FOLDER = Path(__file__).parent / "recipes"


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class Backbone(Section):
    name: str
    """A torchvision classification model (resnet18 … resnet101, mobilenet_v2, mobilenet_v3_large, …) or `small_resnet`."""
    weights: str | None = None
    """null: random; DEFAULT: torchvision's (needs a network once); else a .safetensors or .pth file of torchvision's key names."""
    widths: list[int] | None = None
    """small_resnet only: channels of each stage; the first is also the stem's."""
    blocks: list[int] | None = None
    """small_resnet only: BasicBlocks in each stage."""
    norm: Literal["batch", "frozen"] = "batch"
    """frozen: BatchNorm's statistics and weights stay as loaded."""
    trainable_stages: int = Field(default=5, ge=0)
    """How many of the last stages learn; the earlier ones stay as loaded."""
    stride_in_1x1: bool = False
    """ResNets of bottleneck blocks: the stride is in a block's first 1×1 convolution, as in Detectron's weights, not in the 3×3 one."""


class Images(Section):
    min_size: list[int]
    """Short side; one is drawn for each training picture, the last is used in inference."""
    max_size: int
    mean: list[float] = [0.485, 0.456, 0.406]
    std: list[float] = [0.229, 0.224, 0.225]


class Detector(Section):
    fpn_channels: int = 256
    strides: list[int] = [4, 8, 16, 32]
    """FPN levels taken from the backbone's stages of these strides."""
    extra_level: bool = True
    """One more RPN level, pooled from the last (torchvision's `pool`)."""
    anchor_sizes: list[int] = [32, 64, 128, 256, 512]
    """One size for each RPN level."""
    anchor_ratios: list[float] = [0.5, 1.0, 2.0]
    box_width: int = 1024
    """Width of fc6 and fc7."""
    box_convs: int = Field(default=0, ge=0)
    """3×3 convolutions before a single fully connected layer; 0: two fully connected layers and no convolution."""
    rpn_convs: int = Field(default=1, ge=1)
    """3×3 convolutions of the RPN."""
    norm: Literal["none", "batch"] = "none"
    """BatchNorm in the FPN and in the box head's convolutions (torchvision's v2 models)."""
    legacy_boxes: bool = False
    """Detectron's geometry, for weights that were trained in it: boxes count their last pixel, anchors are centred on their cells."""
    box_roi_size: int = 7
    box_sampling_ratio: int = 2
    rpn_pre_nms: tuple[int, int] = (2000, 1000)
    """Training, inference; for each level."""
    rpn_post_nms: tuple[int, int] = (2000, 1000)
    rpn_batch: int = 256
    box_batch: int = 512
    """Regions sampled for the box loss of each image; a quarter at most are foreground."""
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: int = 100
    """Boxes kept for each image, over all classes."""


class Transfer(Section):
    """The transfer function T (paper, section 3.1)."""

    input: Literal["cls", "box", "cls+box", "random", "embedding"] = "cls+box"
    """Class weights: rows of the box head, fixed random vectors, or a file's."""
    layers: int = Field(default=2, ge=1, le=3)
    activation: Literal["leaky_relu", "relu", "none"] = "leaky_relu"
    stop_gradient: bool = True
    """The mask loss does not reach the box head through T."""
    input_norm: float | None = Field(default=None, gt=0.0)
    """Each class's vector is rescaled to this length before T; null: fed raw, as the paper does. Set it where vectors are long: rows of
    `cls` begin near length 0.3, GloVe's are 6.5 long, and the first filters and their gradients grow with them."""
    embedding: str | None = None
    """input: embedding only. A .npy file, K−1 × E in the order of the category ids (a background row of zeros may stand first), or a
    .safetensors file with a vector under each class's name."""
    embedding_size: int | None = Field(default=None, ge=1)
    """Length of the vectors; null: 300 for `random`, the file's for `embedding`."""
    seed: int = 0
    """input: random only."""

    @model_validator(mode="after")
    def _file(self) -> Transfer:
        if (self.input == "embedding") != (self.embedding is not None):
            raise ValueError("`embedding` names a file when and only when input is `embedding`")
        return self


class MaskHead(Section):
    kind: Literal["agnostic", "per_class", "transfer"] = "transfer"
    width: int = 256
    convs: int = 4
    norm: Literal["none", "batch"] = "none"
    """BatchNorm after each of the convolutions (torchvision's v2 models)."""
    roi_size: int = 14
    """Side of the pooled region; masks have twice that side."""
    sampling_ratio: int = 2
    transfer: Transfer = Transfer()
    mlp: Literal["none", "light", "full"] = "none"
    """A class-agnostic branch whose map is added to the logits. full: the paper's, one fully connected layer on the deconvolution's output
    (157 million weights at width 256); light: the same from pooled, narrowed features through a hidden layer (0.9 million)."""


class MaskRCNN(Section):
    kind: Literal["mask_rcnn"]
    backbone: Backbone
    images: Images
    detector: Detector = Detector()
    mask_head: MaskHead = MaskHead()


class BoxSegmenter(Section):
    kind: Literal["box_segmenter"]
    encoder: Backbone
    mean: list[float] = [0.485, 0.456, 0.406]
    std: list[float] = [0.229, 0.224, 0.225]
    crop_size: int = 128
    """Side of the square to which a box with its context is resampled; a multiple of 32."""
    context: float = 0.22
    """Share of the box's side added on each side of it."""
    decoder_widths: list[int] = [128, 64, 48, 32]
    """Channels of the decoder from stride 16 up to stride 2."""
    box_jitter: float = 0.0
    """Training: corners of the box move by up to this share of its side, so that loose boxes work."""
    crop_jitter: float = 0.0
    """Training: scale and place of the crop vary by up to this share."""
    regions_per_image: int = 16
    """Training: masked objects drawn from each photograph."""
    dice_weight: float = 1.0
    """Weight of the dice loss beside binary cross-entropy."""
    mirror: bool = False
    """Inference: each crop's mask is averaged with its mirror image's. Twice the time."""
    zooms: list[Annotated[float, Field(ge=0.0)]] = []
    """Inference: a box is read with each of these contexts, and the masks are averaged. As many times the time. []: `context` alone."""
    condition: Transfer | None = None
    """Class conditioning: null, or T on `random` or `embedding` class vectors as the last layer."""


class Data(Section):
    annotations: str
    """COCO file. Environment variables are expanded; HALFMASK_SHARED stands for the shared data."""
    images: str
    """Folder of its images."""
    masked: str | None = None
    """Simulates partial supervision: voc, nonvoc, random:TRIAL:COUNT or class names a,b,c keep their masks, the others'
    are stripped before anything sees them. null: as the file is."""
    masked_threshold: int = 10
    """A class counts as masked (set A) from this many usable masks on."""
    use: Literal["annotated", "accepted", "filled"] = "annotated"
    """annotated: masks that halfmask filled in count as missing; accepted: reviewed ones count; filled: all count."""
    development: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the images held out of training (by image id) for the evaluations on the way."""
    flip: float = Field(default=0.5, ge=0.0, le=1.0)
    """Probability of a horizontal flip."""
    colour_jitter: float = Field(default=0.0, ge=0.0)
    """Strength of random brightness, contrast and saturation."""
    skip_unmasked: bool = False
    """Leave out images without any mask (the box segmenter cannot learn from them)."""
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
    decay_biases: bool = True
    warmup: int = Field(default=0, ge=0)
    """Steps of linear warm-up from a third of lr."""
    schedule: Literal["constant", "step", "cosine"] = "cosine"
    steps: list[int] = []
    """schedule: step. lr falls by ten after each of these steps."""
    clip_norm: float | None = Field(default=None, gt=0.0)


class Stage(Section):
    name: str
    train: list[str]
    """Parts of the model that learn; all others are frozen, BatchNorm included. `all` names every part."""
    loss: Literal["all", "boxes", "masks"] = "all"
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Images in a step; regions where features are cached."""
    optimiser: Optimiser
    ema: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Decay of an exponential moving average of the weights, which then is what is evaluated and saved."""
    cache_features: bool = False
    """loss: masks with a frozen detector. Pool the regions of every image once and train the mask head on them alone."""
    data: Data | None = None
    """Pictures of this stage's own; null: the recipe's. The model's classes stay those of the recipe's data, this file's are found among
    them by name: boxes from one data set, masks from another."""

    @model_validator(mode="after")
    def _nothing_held_out(self) -> Stage:
        if self.data is not None and self.data.development > 0:
            raise ValueError(
                "data.development: evaluations on the way are on the recipe's own data; hold nothing out here"
            )
        return self


class Recipe(Section):
    name: str
    seed: int = 3
    model: MaskRCNN | BoxSegmenter = Field(discriminator="kind")
    data: Data
    stages: list[Stage] = Field(min_length=1)
    init: str | None = None
    """A checkpoint whose fitting weights are the start (stage-wise training on another run's detector)."""
    evaluate_every: int = Field(default=0, ge=0)
    """Steps between evaluations on the development part; 0: only at the end."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Steps between resume points; slow steps get one every five minutes besides."""
    precision: Literal["32", "bf16", "16"] = "32"
    """Mixed precision where the device has it; a CPU always uses 32."""
    channels_last: bool = False

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def expand(path: str) -> Path:
    """A path of a recipe with `~` and environment variables filled in; HALFMASK_SHARED defaults to ../shared.

    Raises:
        InputError: an environment variable is not set.
    """
    os.environ.setdefault("HALFMASK_SHARED", "../shared")
    filled = os.path.expandvars(path)
    unset = re.search(r"\$(\w+|\{\w+\})", filled)
    if unset:
        name = unset[1].strip("{}")
        raise InputError(
            f"{path}: the environment variable {name} is not set: export {name}=/your/folder, or name the path itself"
        )
    return Path(filled).expanduser()


def shipped_recipes() -> dict[str, Path]:
    """Name → file of the recipes that ship with the package."""
    return {p.stem: p for p in sorted(RECIPE_FOLDER.rglob("*.yaml"))}


def load_recipe(source: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Reads a recipe.

    Args:
        source: a file, or a shipped recipe's name.
        overrides: `a.b=value` each; the value is read as YAML, list items are reached by number (`stages.0.steps=10`).
    Raises:
        InputError: no such recipe, not YAML, unknown key, wrong type, or an override that fits nothing.
    """
    path = Path(source)
    if not path.is_file():
        shipped = shipped_recipes()
        if str(source) not in shipped:
            near = difflib.get_close_matches(str(source), shipped, n=5, cutoff=0.5)
            names = f"the nearest are: {', '.join(near)}" if near else f"they are: {', '.join(shipped) or 'none'}"
            raise InputError(f"{source}: neither a recipe file nor one of the {len(shipped)} shipped recipes; {names}")
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
        # pydantic names the kind of model that it chose in the key's path; the file has no such key.
        key = ".".join(str(part) for i, part in enumerate(first["loc"]) if i != 1 or first["loc"][0] != "model")
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
