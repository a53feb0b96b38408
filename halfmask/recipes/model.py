"""What a recipe says of its model. Unknown keys are errors.

`halfmask.recipes.recipe` has the rest of a recipe, and hands these out too.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Backbone(Section):
    name: str
    """A torchvision classification model (resnet18 … resnet101, mobilenet_v2,
    mobilenet_v3_large, …), one of timm's (timm/tf_efficientnet_lite2, …) or
    `small_resnet`.
    """
    weights: str | None = None
    """null: random; DEFAULT: torchvision's or timm's own (needs a network once); else a
    .safetensors or .pth file of their key names.
    """
    widths: list[int] | None = None
    """small_resnet only: channels of each stage; the first is also the stem's."""
    blocks: list[int] | None = None
    """small_resnet only: BasicBlocks in each stage."""
    norm: Literal["batch", "frozen"] = "batch"
    """frozen: BatchNorm's statistics and weights stay as loaded."""
    trainable_stages: int = Field(default=5, ge=0)
    """How many of the last stages learn; the earlier ones stay as loaded."""
    stride_in_1x1: bool = False
    """ResNets of bottleneck blocks: the stride is in a block's first 1×1 convolution,
    as in Detectron's weights, not in the 3×3 one.
    """


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
    """3×3 convolutions before a single fully connected layer; 0: two fully connected
    layers and no convolution.
    """
    rpn_convs: int = Field(default=1, ge=1)
    """3×3 convolutions of the RPN."""
    norm: Literal["none", "batch"] = "none"
    """BatchNorm in the FPN and in the box head's convolutions (torchvision's v2 models)."""
    legacy_boxes: bool = False
    """Detectron's geometry, for weights that were trained in it: boxes count their last
    pixel, anchors are centred on their cells.
    """
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

    input: Literal["cls", "box", "cls+box", "random", "embedding", "prototype"] = "cls+box"
    """Class weights: rows of the box head, fixed random vectors, a file's, or
    (box_segmenter only) prototypes: the mean look of each class's boxes to the encoder
    as it was loaded, which box-only classes have too.
    """
    layers: int = Field(default=2, ge=1, le=3)
    activation: Literal["leaky_relu", "relu", "none"] = "leaky_relu"
    stop_gradient: bool = True
    """The mask loss does not reach the box head through T."""
    input_norm: float | None = Field(default=None, gt=0.0)
    """Each class's vector is rescaled to this length before T; null: fed raw, as the
    paper does. Set it where vectors are long: rows of `cls` begin near length 0.3,
    GloVe's are 6.5 long, and the first filters and their gradients grow with them.
    """
    embedding: str | None = None
    """input: embedding only. A .npy file, K−1 × E in the order of the category ids (a
    background row of zeros may stand first), or a .safetensors file with a vector under
    each class's name.
    """
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
    trunk: Literal["convs", "hourglass"] = "convs"
    """What stands before the predictor. convs: `convs` 3×3 convolutions (the paper's).
    hourglass: down to one cell and up again, with skips; it sees the whole region, is
    deep, and wants a narrow `width` (32 to 64) and a larger `roi_size` (16, 32).
    """
    convs: int = 4
    """trunk: convs only."""
    norm: Literal["none", "batch", "group"] = "none"
    """After each of the trunk's convolutions. batch: BatchNorm (torchvision's v2
    models), trunk: convs only; group: GroupNorm, which does not ask for large batches.
    """
    roi_size: int = 14
    """Side of the pooled region; masks have twice that side."""
    sampling_ratio: int = 2
    transfer: Transfer = Transfer()
    mlp: Literal["none", "light", "full"] = "none"
    """A class-agnostic branch whose map is added to the logits. full: the paper's, one
    fully connected layer on the deconvolution's output (157 million weights at width
    256); light: the same from pooled, narrowed features through a hidden layer (0.9
    million).
    """
    regions: Literal["proposals", "boxes"] = "proposals"
    """Training. proposals: the detector's proposals and the objects' boxes, as sampled
    for the box head (the paper's); boxes: the boxes of the objects that have a mask,
    each once.
    """
    region_jitter: float = Field(default=0.0, ge=0.0, lt=0.5)
    """regions: boxes only. Each side of the box moves by up to this share of the box's
    size, anew each time a region is pooled (once where features are cached).
    """
    unknown: Literal["background", "ignore", "skip"] = "background"
    """Training. A cell of a region that lies in the box of another object, one without
    a mask, and that the region's own mask does not cover may be that object's.
    background: it is taught as background (the paper's); ignore: it does not count in
    the loss; skip: as ignore, and regions with more than `unknown_limit` of such cells
    are left out (but never all of a batch).
    """
    unknown_limit: float = Field(default=0.2, ge=0.0, le=1.0)
    """unknown: skip only. The largest share of unknown cells of a region that is learnt from."""
    box_only: Literal["none", "taught"] = "none"
    """Training of a head that knows classes. none: regions of objects without a mask
    teach it nothing (the paper's). taught: they do. A class-agnostic map on the same
    trunk learns from the masked regions as under `unknown: ignore`; where it is sure,
    its answer is the target of a box-only object's region, less what masked neighbours
    cover; cells in other box-only objects' boxes do not count.
    """

    @model_validator(mode="after")
    def _together(self) -> MaskHead:
        if self.trunk == "hourglass" and self.norm == "batch":
            raise ValueError(
                "`norm: batch` cannot average over the hourglass's one cell of one region: use "
                "group or none"
            )
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


class FromBoxes(Section):
    """What a box segmenter learns from objects that have a box alone (BoxInst's losses,
    on crops).
    """

    projection: float = Field(default=0.0, ge=0.0)
    """Weight: the mask touches the four sides of its box. It falls by itself where the
    boxes of masked objects are loose.
    """
    colour: float = Field(default=0.0, ge=0.0)
    """Weight: neighbours of like colour are both in the mask, or both out."""
    warmup: int = Field(default=0, ge=0)
    """Steps in which the weights grow to their value."""
    regions_per_image: int = Field(default=4, ge=1)
    """Box-only objects drawn from each photograph."""


class BoxSegmenter(Section):
    kind: Literal["box_segmenter"]
    encoder: Backbone
    mean: list[float] = [0.485, 0.456, 0.406]
    std: list[float] = [0.229, 0.224, 0.225]
    crop_size: int = 128
    """Side of the square to which a box with its context is resampled; a multiple of 32."""
    context: float = 0.22
    """Share of the box's side added on each side of it."""
    decoder: Literal["unet", "hourglass"] = "unet"
    """unet: the encoder's maps from coarse to fine. hourglass: all but the finest at
    its next stride, 4, then down to one cell and up again.
    """
    decoder_widths: list[int] = [128, 64, 48, 32]
    """Channels of the decoder from stride 16 up to stride 2; hourglass: one number, for
    all of its maps.
    """
    box_jitter: float = Field(default=0.0, ge=0.0, lt=0.5)
    """Training: the corners of a third of the boxes move by up to this share of the
    box's side, and the model is told which boxes they are; the others it takes for
    tight, as the training file has them. In inference boxes are taken for tight ones
    unless the file's masks show, or someone says, that they are loose.
    """
    box_reach: float = Field(default=0.0, ge=0.0)
    """How far beyond a loose box its mask may go, share of the box's side: the rest of
    an object that the box cuts. It asks for a `box_jitter` of about as much, and for a
    context that holds it.
    """
    crop_jitter: float = 0.0
    """Training: scale and place of the crop vary by up to this share."""
    regions_per_image: int = 16
    """Training: masked objects drawn from each photograph."""
    dice_weight: float = 1.0
    """Weight of the dice loss beside binary cross-entropy."""
    boundary_weight: float = Field(default=0.0, ge=0.0)
    """How much more a cell at the border of the true mask counts in cross-entropy: 1 +
    this times as much as any other.
    """
    unknown: Literal["background", "ignore"] = "background"
    """Training: what cells of a masked object's crop are that lie in the box of another
    object, which has no mask: background, or nothing that is known, unless they are the
    object's own.
    """
    from_boxes: FromBoxes | None = None
    """Training: losses of box-only objects; null: they teach nothing. Photographs
    without any mask help too (`skip_unmasked: false`).
    """
    mirror: bool = False
    """Inference: each crop's mask is averaged with its mirror image's. Twice the time."""
    zooms: list[Annotated[float, Field(ge=0.0)]] = []
    """Inference: a box is read with each of these contexts, and the masks are averaged.
    As many times the time. []: `context` alone.
    """
    decision: Literal["half", "best_iou"] = "half"
    """Inference: which cells are the mask. half: those that are more likely in than
    out. best_iou: those that give the greatest expected IoU, which is what masks are
    judged by; where the model is unsure, that is more of them.
    """
    condition: Transfer | None = None
    """Class conditioning: null, or T on `random`, `embedding` or `prototype` class
    vectors as the last layer.
    """
