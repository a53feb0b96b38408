"""The schema of a recipe beside its model: data, stages, and options of the run.

The text below a field documents it. Unknown keys are errors. Sizes are pixels, channels
or steps.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator

from halfmask.recipes.detector import Section, Seed, Side
from halfmask.recipes.detectron import fault_of_authors_keys, with_exact_keys
from halfmask.recipes.model import BoxSegmenterConfig, MaskRCNN
from halfmask.recipes.teachers import Distil, SelfTraining

LossKind = Literal["all", "boxes", "masks"]
Precision = Literal["32", "bf16", "16"]
CROP_STEP = 32
"""The coarsest stride of an encoder: a crop has whole cells there."""
SMALLEST_CROP = 64
"""Two such cells: BatchNorm cannot learn from one."""


class MoreData(Section):
    """A COCO file and its photographs."""

    annotations: str
    images: str


class Data(Section):
    annotations: str
    """COCO file. Environment variables are expanded; HALFMASK_SHARED is the shared
    data.
    """
    images: str
    """Folder of its images."""
    more: tuple[MoreData, ...] = ()
    """Further COCO files and their folders, to learn from together with the first:
    objects are pasted across all of them. Classes are matched by name. Nothing of them
    is held out. Files of any size are read whole.
    """
    masked: str | None = None
    """Simulates partial supervision: the classes voc, nonvoc, random:TRIAL:COUNT or
    a,b,c keep their masks; masks of all others are removed before the file is used.
    null: the file's own masks.
    """
    masked_threshold: int = 10
    """A class with at least this many usable masks counts as masked (set A)."""
    use: Literal["annotated", "accepted", "filled"] = "annotated"
    """annotated: masks that halfmask filled in count as missing. accepted: reviewed
    ones count. filled: all count.
    """
    development: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the images held out of training, by image id, for evaluations on the
    way.
    """
    validation: str | None = None
    """A COCO file for the evaluations on the way, in place of a development part. Its
    classes are matched by name.
    """
    validation_images: str | None = None
    """Folder of its images; null: `images`."""
    development_fold: int = Field(default=0, ge=0)
    """Which part of that share is held out. Folds 0, 1, … have no image in common while
    (fold + 1) · development is at most 1.
    """
    flip: float = Field(default=0.5, ge=0.0, le=1.0)
    """Probability of a horizontal flip."""
    colour_jitter: float = Field(default=0.0, ge=0.0)
    """Strength of random brightness, contrast and saturation."""
    rotation: float = Field(default=0.0, ge=0.0, le=45.0)
    """Turns half of the photographs by up to this many degrees, either way. A box-only
    object then has a loose box, so this is for a box_segmenter: a detector would learn
    that such classes have loose boxes.
    """
    paste: float = Field(default=0.0, ge=0.0, le=1.0)
    """Probability that masked objects of another training photograph are pasted into
    one (copy-paste).
    """
    paste_most: int = Field(default=4, ge=1, le=1_000)
    """Objects pasted into a photograph, at most."""
    skip_unmasked: bool = False
    """Leaves out images without any mask (the box segmenter cannot learn from them)."""
    skip_unannotated: bool = False
    """Leaves out images without an object of any class, crowds aside (the authors')."""
    crowds: Literal["ignore", "label"] = "ignore"
    """A mask_rcnn's training. ignore: a region on a crowd is background. label (the
    authors'): it has the crowd's class, and the box of the object that it overlaps
    most. It teaches no mask, and the RPN ignores crowds either way.
    """
    mask_targets: Literal["bitmap", "polygon"] = "bitmap"
    """A mask_rcnn's training. bitmap: the share of each cell that the mask covers.
    polygon (the authors'): the polygons drawn on the cells by COCO's rule, 0 or 1.
    Masks that are no polygons then cover a cell from one half on.
    """
    unreadable: float = Field(default=0.01, ge=0.0, lt=1.0)
    """Share of the photographs that may turn out unreadable: they are named and left
    out of training. More than this share is an error. A missing photograph is found
    before the start, and always an error.
    """
    workers: int = Field(default=0, ge=0, le=256)
    """Processes that read ahead; 0: the training's own."""
    cache: bool = False
    """Keeps decoded images in memory."""


class Optimiser(Section):
    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(gt=0.0)
    momentum: float = 0.9
    momentum_of: Literal["gradients", "steps"] = "gradients"
    """sgd: what momentum sums up. gradients: PyTorch's. steps (Caffe2's): gradients
    times the rate of their time, rescaled if the rate changes by more than a tenth at
    once. Only warm-up tells them apart.
    """
    weight_decay: float = 1e-4
    bias_lr_factor: float = 1.0
    """The paper: 2, and no decay on biases."""
    part_lr_factors: dict[str, Annotated[float, Field(gt=0.0)]] = Field(default_factory=dict)
    """Part of the model (as in `train`) → factor of its learning rate, 1 for the
    others. A pretrained encoder may need a smaller one.
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
    loss: LossKind = "all"
    steps: int = Field(ge=1, le=1_000_000_000)
    batch_size: int = Field(ge=1, le=65_536)
    """Images in a step; regions if features are cached."""
    optimiser: Optimiser
    ema: float | None = Field(default=None, gt=0.0, lt=1.0)
    """Decay of an exponential moving average of the weights, which is then evaluated
    and saved.
    """
    cache_features: bool = False
    """loss: masks with a frozen detector. Pools the regions of every image once and
    trains the mask head on them alone.
    """
    crop_size: Side | None = None
    """Side of the crops in this stage; null: `model.crop_size`, which inference uses. A
    multiple of 32. box_segmenter with a unet only.
    """
    data: Data | None = None
    """This stage's own pictures; null: the recipe's. The classes are those of the
    recipe's data, and this file's are matched by name: boxes from one data set, masks
    from another.
    """

    @model_validator(mode="after")
    def _nothing_held_out(self) -> Stage:
        held = self.data is not None and (self.data.development > 0 or self.data.validation)
        if held:
            raise ValueError(
                "data.development and data.validation: evaluations on the way use the recipe's "
                "own; hold nothing out here"
            )
        return self


class Recipe(Section):
    """A whole recipe."""

    name: str
    seed: Seed = 3
    detectron: Literal["exact"] | None = None
    """exact: gives every key that names the authors their value, unless the recipe sets
    another (docs/paper.md lists them). null: torchvision's ways.
    """
    model: MaskRCNN | BoxSegmenterConfig = Field(discriminator="kind")
    data: Data
    stages: list[Stage] = Field(min_length=1, max_length=100)
    init: str | None = None
    """The start: the fitting weights of a shipped model (box-segmenter), of a run's
    folder, of a checkpoint file, or of hf://OWNER/NAME.
    """
    rounds: int = Field(default=1, ge=1, le=1_000)
    """Rounds of training. After each but the last, its model fills the masks that
    `data` lacks (RUN/teacher/filled.json). The next round starts from the beginning and
    learns from them too; a box segmenter weights them by their score.
    """
    self_training: SelfTraining = SelfTraining()
    distil: Distil | None = None
    """A teacher's answer as a further target, for masked and box-only objects. The
    teacher reads each box in all of its contexts, mirrored too, while the model learns
    from one look. null: no teacher. box_segmenter only.
    """
    hide: int = Field(default=0, ge=0)
    """Masked classes, chosen by the seed, whose masks are hidden from a first training
    (RUN/hidden). The result is measured on them: the IoU to expect on box-only classes
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
    precision: Precision = "32"
    """Mixed precision if the device has it, else 32. A CPU has bf16 with AMX or
    AVX512-BF16.
    """
    channels_last: bool = False
    devices: int = Field(default=1, ge=1, le=1_024)
    """Processes on this host that train the model together, one a GPU; on a CPU by
    gloo. torchrun and srun start their own processes, and this key is then unused.
    `batch_size` stays the batch of all of them (docs/guides/many_gpus.md).
    """
    normaliser: Literal["global", "rank"] = "global"
    """The denominator of losses with several processes. global: the items of all
    processes, so that their number changes nothing. rank: each process's own, as in the
    paper.
    """
    sampling: Literal["stream", "image"] | None = None
    """Source of a training step's random draws (regions, crops, sizes). stream: one
    stream of random numbers. image: one of each image's own, the same for any number of
    processes. null: stream for one process, image for several.
    """

    @model_validator(mode="before")
    @classmethod
    def _exact(cls, document: Any) -> Any:
        return with_exact_keys(document)

    @model_validator(mode="after")
    def _of_the_authors(self) -> Recipe:
        fault = fault_of_authors_keys(self)
        if fault:
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _one_held_out(self) -> Recipe:
        if self.data.validation is not None and self.data.development > 0:
            raise ValueError(
                "data.validation names the images that are measured; set data.development=0"
            )
        return self

    @model_validator(mode="after")
    def _taught(self) -> Recipe:
        if self.distil is None:
            return self
        if self.model.kind != "box_segmenter":
            raise ValueError("distil is for a box_segmenter")
        if self.distil.follows and any(s.ema is None for s in self.stages):
            raise ValueError("distil.teacher: average needs `ema` in every stage")
        return self

    @model_validator(mode="after")
    def _cropped(self) -> Recipe:
        for index, stage in enumerate(self.stages):
            fault = None if stage.crop_size is None else self._fault_of_crops(stage.crop_size)
            if fault:
                raise ValueError(f"stages.{index}.crop_size{fault}")
        return self

    def _fault_of_crops(self, size: int) -> str | None:
        if self.model.kind != "box_segmenter" or self.model.decoder != "unet":
            return " is for a box_segmenter with `decoder: unet`, whose crops may have any side"
        if self.distil is not None:
            return ": a teacher draws masks of one size; leave out distil"
        if size < SMALLEST_CROP or size % CROP_STEP:
            return f": expected a multiple of {CROP_STEP} from {SMALLEST_CROP} on, found {size}"
        return None

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
