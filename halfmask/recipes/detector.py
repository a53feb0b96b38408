"""The parts of a recipe's model that find regions: backbone, images, detector.

The text below a field documents it. The keys that name the authors or Detectron stand
each alone; a recipe's `detectron: exact` sets all of them
(`halfmask.recipes.detectron`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# A recipe may come from a stranger, in the header of a checkpoint; these bounds and
# `halfmask.models.build.MOST_WEIGHTS` keep what it asks for within a machine.
Width = Annotated[int, Field(ge=1, le=4096)]  # channels of a layer
Side = Annotated[int, Field(ge=1, le=16_384)]  # pixels
Few = Annotated[int, Field(ge=1, le=256)]  # blocks of a stage, or cells of a small map's side
Layers = Annotated[int, Field(ge=0, le=64)]
Regions = Annotated[int, Field(ge=1, le=100_000)]  # of a picture
Sampling = Annotated[int, Field(ge=-1, le=16)]  # points along a side of a pooled cell
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Section(BaseModel):
    """A part of a recipe: it refuses unknown keys, and its values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Backbone(Section):
    name: str
    """A torchvision classification model (resnet18 … resnet101, mobilenet_v2,
    mobilenet_v3_large, …), a timm model (timm/tf_efficientnet_lite2, …) or
    `small_resnet`.
    """
    weights: str | None = None
    """null: random. DEFAULT: torchvision's or timm's own, downloaded once.
    IMAGENET1K_V1 or another of torchvision's names: those weights, downloaded once.
    Else a .safetensors or .pth file with their key names, or the authors' R-50.pkl or
    R-101.pkl.
    """
    widths: Annotated[list[Width], Field(max_length=8)] | None = None
    """small_resnet only: channels of each stage; the first is also the stem's."""
    blocks: Annotated[list[Few], Field(max_length=8)] | None = None
    """small_resnet only: BasicBlocks in each stage."""
    norm: Literal["batch", "frozen"] = "batch"
    """frozen: BatchNorm's statistics and weights stay as loaded."""
    trainable_stages: Layers = 5
    """How many of the last stages learn; the earlier ones stay as loaded."""
    stride_in_1x1: bool = False
    """ResNets of bottleneck blocks: the first 1×1 convolution of a block has the
    stride, as in Detectron's weights, not the 3×3 one. A .pkl file of `weights` sets
    it, and Detectron's pixel means.
    """


class Images(Section):
    min_size: Annotated[list[Side], Field(max_length=64)]
    """Length of the short side. Training draws one for each picture; inference uses the
    last.
    """
    max_size: Side
    mean: list[float] = [0.485, 0.456, 0.406]
    std: list[float] = [0.229, 0.224, 0.225]


class Detector(Section):
    fpn_channels: Width = 256
    strides: Annotated[list[Side], Field(max_length=8)] = [4, 8, 16, 32]
    """Strides of the backbone's stages that the FPN uses."""
    extra_level: bool = True
    """Adds an RPN level, pooled from the last one (torchvision's `pool`)."""
    anchor_sizes: Annotated[list[Side], Field(max_length=16)] = [32, 64, 128, 256, 512]
    """One size for each RPN level."""
    anchor_ratios: Annotated[list[float], Field(max_length=64)] = [0.5, 1.0, 2.0]
    box_width: Width = 1024
    """Width of fc6 and fc7."""
    box_convs: Layers = 0
    """3×3 convolutions before a single fully connected layer. 0: two fully connected
    layers without convolutions.
    """
    rpn_convs: int = Field(default=1, ge=1, le=64)
    """3×3 convolutions of the RPN."""
    norm: Literal["none", "batch"] = "none"
    """BatchNorm in the FPN and in the box head's convolutions (torchvision's v2
    models).
    """
    legacy_boxes: bool = False
    """Detectron's geometry, for weights trained in it: boxes include their last pixel,
    anchors are centred on their cells.
    """
    centred_anchors: bool = False
    """Detectron's anchors without the rest of its geometry: centred on the middle of
    their cell, of rounded sides, a stride apart. `legacy_boxes` has them too.
    """
    straddling_anchors: bool = True
    """Training. false: anchors that cross the image's border neither match an object
    nor teach the RPN (the authors').
    """
    rpn_divisor: Literal["drawn", "fixed"] = "drawn"
    """Training. The RPN's losses are sums over the drawn anchors, divided by their
    number, or (fixed, the authors') classification by `rpn_batch` for each image and
    regression by each image's own number.
    """
    box_beta: float = Field(default=1 / 9, gt=0.0)
    """β of the box head's smooth L1 loss: quadratic below it, linear above. The
    authors: 1.
    """
    fc_init: Literal["torch", "xavier"] = "torch"
    """Start of the box head's fully connected layers. torch: PyTorch's default. xavier
    (the authors'): uniform of deviation 1/√inputs, biases 0.
    """
    box_roi_size: Few = 7
    box_sampling_ratio: Sampling = 2
    rpn_pre_nms: tuple[Regions, Regions] = (2000, 1000)
    """Proposals of each level before NMS: in training, in inference."""
    rpn_post_nms: tuple[Regions, Regions] = (2000, 1000)
    """Proposals after NMS: in training, in inference."""
    rpn_post_nms_per: Literal["image", "minibatch"] = "image"
    """Training. What `rpn_post_nms` counts: proposals of an image, or (the authors') of
    the images of a `minibatch` together, the best of all of them.
    """
    rpn_batch: Regions = 256
    box_batch: Regions = 512
    """Regions sampled from each image for the box loss; at most a quarter are
    foreground.
    """
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: Regions = 100
    """Boxes kept for each image, over all classes; as many of added classes besides."""
    added_classes: Annotated[list[Regions], Field(max_length=64)] = []
    """Set by `halfmask add-class`: how many classes each call added. They have scores
    of their own, beside those of the classes before them.
    """
