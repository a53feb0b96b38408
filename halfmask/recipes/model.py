"""The schema of a recipe's model. Unknown keys are errors.

The text below a field documents it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from halfmask.recipes.detector import (
    Backbone,
    Detector,
    Few,
    Images,
    Layers,
    Regions,
    Sampling,
    Section,
    Seed,
    Side,
    Width,
)
from halfmask.recipes.detectron import with_own_conventions
from halfmask.recipes.outside import OutsideParts
from halfmask.recipes.teachers import FromBoxes


class Transfer(Section):
    """The transfer function T (paper, section 3.1)."""

    input: Literal["cls", "box", "cls+box", "random", "embedding", "prototype"] = "cls+box"
    """Class weights. cls, box, cls+box: rows of the box head. random: fixed random
    vectors. embedding: vectors of a file. prototype (box_segmenter only): the mean look
    of each class's boxes to the encoder as loaded, which box-only classes have too.
    """
    layers: int = Field(default=2, ge=1, le=3)
    activation: Literal["leaky_relu", "relu", "none"] = "leaky_relu"
    stop_gradient: bool = True
    """The mask loss does not reach the box head through T."""
    input_norm: float | None = Field(default=None, gt=0.0)
    """Rescales each class's vector to this length before T. null: no rescaling, as in
    the paper. Set it for long vectors: rows of `cls` start near length 0.3, GloVe's are
    6.5 long, and the first filters and their gradients grow with them.
    """
    embedding: str | None = None
    """input: embedding only. A .npy file, K−1 × E in the order of the category ids (a
    background row of zeros may stand first), or a .safetensors file with a vector under
    each class's name.
    """
    embedding_size: int | None = Field(default=None, ge=1, le=65_536)
    """Length of the vectors. null: 300 for `random`, the file's for `embedding`."""
    seed: Seed = 0
    """input: random only."""

    @model_validator(mode="after")
    def _file(self) -> Transfer:
        if (self.input == "embedding") != (self.embedding is not None):
            raise ValueError("`embedding` names a file when and only when input is `embedding`")
        return self


class MaskHead(OutsideParts, Section):
    width: Width = 256
    convs: Layers = 4
    """trunk: convs only."""
    norm: Literal["none", "batch", "group"] = "none"
    """After each of the trunk's convolutions. batch: BatchNorm (torchvision's v2
    models), trunk: convs only. group: GroupNorm, which needs no large batches.
    """
    roi_size: Few = 14
    """Side of the pooled region; masks have twice that side."""
    sampling_ratio: Sampling = 2
    transfer: Transfer = Transfer()
    mlp: Literal["none", "light", "full", "only"] = "none"
    """A class-agnostic branch whose map is added to the logits. full: the paper's, one
    fully connected layer on the deconvolution's output (157 million weights at width
    256). light: pooled, narrowed features through a hidden layer (0.9 million). only:
    the full branch alone, in place of the last convolution; `kind: agnostic`.
    """
    mlp_layers: int = Field(default=1, ge=1, le=3)
    """mlp: full and only. Fully connected layers; hidden ones are 1024 wide, with ReLU.
    """
    regions: Literal["proposals", "boxes"] = "proposals"
    """Training. proposals: the detector's proposals and the objects' boxes, as sampled
    for the box head (the paper's). boxes: the boxes of the objects that have a mask,
    each once.
    """
    region_jitter: float = Field(default=0.0, ge=0.0, lt=0.5)
    """regions: boxes only. Each side of the box moves by up to this share of the box's
    size, by a new draw each time a region is pooled (once if features are cached).
    """
    unknown: Literal["background", "ignore", "skip"] = "background"
    """Training. A cell of a region is unknown if it lies in the box of another object
    without a mask, and the region's own mask does not cover it. background: it counts
    as background (the paper's). ignore: it does not count in the loss. skip: as ignore,
    and regions with more than `unknown_limit` unknown cells are left out (but never all
    of a batch).
    """
    unknown_limit: float = Field(default=0.2, ge=0.0, le=1.0)
    """unknown: skip only. Largest share of unknown cells in a region of the loss."""
    box_only: Literal["none", "taught"] = "none"
    """Training of a head that knows classes. none: regions of objects without a mask
    teach it nothing (the paper's). taught: a class-agnostic map on the same trunk
    learns from the masked regions as under `unknown: ignore`. Where the map is sure,
    its answer is the target for regions of box-only objects, less the cells that masked
    neighbours cover. Cells in boxes of other box-only objects do not count.
    """
    divisor: Literal["batch", "minibatch"] = "batch"
    """Training. The mask loss is the mean over the regions of the batch, or (the
    authors') the mean of each `minibatch`, averaged over these; one without a masked
    object then adds 0. minibatch needs `normaliser: rank`.
    """

    @model_validator(mode="after")
    def _together(self) -> MaskHead:
        if self.trunk == "hourglass" and self.norm == "batch":
            raise ValueError(
                "`norm: batch` cannot average over the hourglass's one cell of one region: use "
                "group or none"
            )
        if self.mlp == "only" and self.kind != "agnostic":
            raise ValueError("`mlp: only` knows no classes: it needs `kind: agnostic`")
        if self.mlp_layers > 1 and self.mlp not in ("full", "only"):
            raise ValueError("`mlp_layers` is for `mlp: full` and `mlp: only`")
        if self.box_only == "taught" and self.kind == "agnostic":
            raise ValueError(
                "`box_only: taught` teaches filters of classes: it needs `kind: transfer` or "
                "`per_class`"
            )
        if self.region_jitter > 0 and self.regions != "boxes":
            raise ValueError("`region_jitter` moves the objects' boxes: it needs `regions: boxes`")
        return self


class MaskRCNN(Section):
    kind: Literal["mask_rcnn"]
    backbone: Backbone
    images: Images
    detector: Detector = Detector()
    mask_head: MaskHead = MaskHead()
    minibatch: int | None = Field(default=None, ge=1, le=65_536)
    """Training. Images of a minibatch, where a key names one: those of one GPU of the
    authors (2, with ResNet-101 1). A batch is cut into minibatches in its order. null:
    the batch of a process.
    """

    @model_validator(mode="before")
    @classmethod
    def _conventions(cls, document: Any) -> Any:
        return with_own_conventions(document)


class Border(Section):
    """A second look at the border of a mask (`border`)."""

    width: Width = 24
    """Channels of its network."""
    blocks: Layers = 4
    """Residual blocks."""


class BoxSegmenterConfig(Section):
    kind: Literal["box_segmenter"]
    encoder: Backbone
    mean: list[float] = [0.485, 0.456, 0.406]
    std: list[float] = [0.229, 0.224, 0.225]
    crop_size: Side = 128
    """Side of the square to which a box with its context is resampled; a multiple of
    32.
    """
    context: float = 0.22
    """Share of the box's side added on each side of it."""
    neighbours: bool = False
    """Shows the network the boxes that are given together, smaller and larger apart."""
    clicks: bool = False
    """Takes clicks on and beside the object, and an earlier mask, as three more input
    channels. Half of the training crops have up to three clicks on the model's own
    errors; without clicks the same weights work as before.
    """
    decoder: Literal["unet", "hourglass"] = "unet"
    """unet: the encoder's maps from coarse to fine. hourglass: all maps but the finest,
    added at stride 4, then down to one cell and up again.
    """
    decoder_widths: Annotated[list[Width], Field(max_length=8)] = [128, 64, 48, 32]
    """Channels of the decoder from stride 16 up to stride 2. hourglass: one number, for
    all of its maps.
    """
    box_jitter: float = Field(default=0.0, ge=0.0, lt=0.5)
    """Training: the corners of a third of the boxes move by up to this share of the
    box's side, and the model learns which boxes are loose. The others count as tight.
    In inference boxes count as tight unless the file's masks, or an option, say that
    they are loose.
    """
    box_noise: Literal["uniform", "detector"] = "uniform"
    """Training: how those corners move. uniform: by up to `box_jitter`. detector: as
    the boxes of a real detector are off, by the size of the box; `box_jitter` is then
    unused.
    """
    box_reach: float = Field(default=0.0, ge=0.0)
    """How far a mask may go beyond a loose box, share of the box's side: the part of
    the object that the box cuts off. It needs a `box_jitter` of about as much, and a
    context at least as large.
    """
    crop_jitter: float = 0.0
    """Training: scale and place of the crop vary by up to this share."""
    regions_per_image: Regions = 16
    """Training: masked objects drawn from each photograph."""
    class_balance: float = Field(default=0.0, ge=0.0, le=1.0)
    """Training: how those are drawn. 0: each object alike. 1: each class of the
    photograph alike, so that a class of many small objects does not crowd out the
    others.
    """
    dice_weight: float = 1.0
    """Weight of the dice loss beside binary cross-entropy."""
    boundary_weight: float = Field(default=0.0, ge=0.0)
    """Extra weight of a cell at the border of the true mask in cross-entropy: it counts
    1 + this times as much as any other.
    """
    unknown: Literal["background", "ignore"] = "background"
    """Training: cells of a masked object's crop in the box of another object without a
    mask. background: they count as background. ignore: they do not count, unless they
    are the object's own.
    """
    from_boxes: FromBoxes | None = None
    """Training: losses of box-only objects. null: they teach nothing. Photographs
    without any mask help too (`skip_unmasked: false`).
    """
    mirror: bool = False
    """Inference: averages each crop's mask with its mirror image's. Twice the time."""
    zooms: Annotated[list[Annotated[float, Field(ge=0.0)]], Field(max_length=16)] = []
    """Inference: reads a box with each of these contexts and averages the masks. As
    many times the time. []: `context` alone.
    """
    border: Border | None = None
    """Reads each box again at four times the mask's resolution, and corrects the mask
    at twice its resolution. null: no second look. A stage of its own teaches it
    (`train: [border]`), on `data` that the stages before did not learn from: their
    masks must have true errors.
    """
    settle: bool = False
    """Inference: settles overlapping masks, unless those of the training overlap too."""
    decision: Literal["half", "best_iou"] = "half"
    """Inference: the cells of the mask. half: those more likely in than out. best_iou:
    those with the greatest expected IoU, the measure of masks; where the model is
    unsure, that is more cells.
    """
    condition: Transfer | None = None
    """Class conditioning: null, or T on `random`, `embedding` or `prototype` class
    vectors as the last layer.
    """
