"""Recipes to models: the one place that turns configuration into modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from halfmask.config import BoxSegmenter, Detector, MaskHead, MaskRCNN, Transfer, expand
from halfmask.errors import InputError
from halfmask.models.backbones import Encoder, build_encoder
from halfmask.models.base import SegmentationModel
from halfmask.models.class_weights import (
    ClassWeights,
    DetectorWeights,
    FixedWeights,
    NoWeights,
    random_vectors,
    read_vectors,
)
from halfmask.models.heads.agnostic import AgnosticPredictor
from halfmask.models.heads.base import MaskPredictor
from halfmask.models.heads.mlp import MlpBranch
from halfmask.models.heads.per_class import PerClassPredictor
from halfmask.models.heads.transfer import TransferFunction, TransferPredictor
from halfmask.models.heads.trunk import MaskTrunk
from halfmask.models.mask_branch import MaskBranch
from halfmask.models.rcnn import PartialMaskRCNN
from halfmask.models.roi_heads import BoxHeads, region_pool


def build_model(config: MaskRCNN | BoxSegmenter, num_classes: int, pretrained: bool = True) -> SegmentationModel:
    """The model that a recipe describes.

    Args:
        config: the recipe's `model`.
        num_classes: K, background included.
        pretrained: load backbone weights and class vectors from where the recipe says; False where a checkpoint follows, which has
            them (no file and no network is touched).
    Raises:
        InputError: the recipe's numbers or files do not fit each other.
    """
    if num_classes < 2:
        raise InputError(f"model: expected at least one class besides background, found {num_classes - 1}")
    return _BUILDERS[config.kind](config, num_classes, pretrained)


def build_mask_rcnn(config: MaskRCNN, num_classes: int, pretrained: bool = True) -> PartialMaskRCNN:
    """Model 1, see `build_model`."""
    detector, images = config.detector, config.images
    strides = detector.strides
    if not strides or strides[0] not in (2, 4, 8, 16, 32) or strides != [strides[0] << i for i in range(len(strides))]:
        raise InputError(f"detector.strides: expected powers of two, each twice the one before, found {strides}")
    backbone = _encoder(config, strides, pretrained)
    width = detector.fpn_channels
    extra = LastLevelMaxPool() if detector.extra_level else None
    fpn = FeaturePyramidNetwork([backbone.channels[s] for s in strides], width, extra)
    rpn = _rpn(detector)
    box_heads = _box_heads(detector, num_classes)
    head = config.mask_head
    return PartialMaskRCNN(
        GeneralizedRCNNTransform(tuple(images.min_size), images.max_size, images.mean, images.std),
        backbone,
        fpn,
        rpn,
        box_heads,
        region_pool(strides, head.roi_size, head.sampling_ratio),
        build_mask_branch(head, width, num_classes, detector.box_width, pretrained),
    )


def _encoder(config: MaskRCNN, strides: list[int], pretrained: bool) -> Encoder:
    b = config.backbone
    return build_encoder(
        b.name, b.weights if pretrained else None, b.widths, b.blocks, b.norm, b.trainable_stages, strides
    )


def _rpn(detector: Detector) -> RegionProposalNetwork:
    levels = len(detector.strides) + detector.extra_level
    if len(detector.anchor_sizes) != levels:
        raise InputError(
            f"detector.anchor_sizes: expected one for each RPN level, {levels} (strides and extra_level), found {detector.anchor_sizes}"
        )
    anchors = AnchorGenerator(
        tuple((size,) for size in detector.anchor_sizes), (tuple(detector.anchor_ratios),) * levels
    )
    (before, before_test), (after, after_test) = detector.rpn_pre_nms, detector.rpn_post_nms
    return RegionProposalNetwork(
        anchors,
        RPNHead(detector.fpn_channels, anchors.num_anchors_per_location()[0]),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=detector.rpn_batch,
        positive_fraction=0.5,
        pre_nms_top_n={"training": before, "testing": before_test},
        post_nms_top_n={"training": after, "testing": after_test},
        nms_thresh=0.7,
    )


def _box_heads(detector: Detector, num_classes: int) -> BoxHeads:
    return BoxHeads(
        region_pool(detector.strides, detector.box_roi_size, detector.box_sampling_ratio),
        TwoMLPHead(detector.fpn_channels * detector.box_roi_size**2, detector.box_width),
        _box_predictor(detector.box_width, num_classes),
        detector.box_batch,
        detector.score_threshold,
        detector.nms_threshold,
        detector.detections,
    )


def _box_predictor(width: int, num_classes: int) -> FastRCNNPredictor:
    """torchvision's layers with the paper's start (1.1): Gaussian, deviation 0.01 for classes and 0.001 for boxes, biases 0.

    T reads these rows. torchvision's own start has length 0.58 a row, of the order of what training adds, and stays in them as noise.
    """
    predictor = FastRCNNPredictor(width, num_classes)
    for layer, deviation in ((predictor.cls_score, 0.01), (predictor.bbox_pred, 0.001)):
        nn.init.normal_(layer.weight, std=deviation)
        nn.init.zeros_(layer.bias)
    return predictor


def build_mask_branch(
    head: MaskHead, in_channels: int, num_classes: int, box_width: int, pretrained: bool = True
) -> MaskBranch:
    """The mask branch of a recipe on regions of `in_channels` channels, beside a box head of width `box_width`."""
    predictor, weights = _PREDICTORS[head.kind](head, num_classes, box_width, pretrained)
    mlp = MlpBranch(head.width, 2 * head.roi_size) if head.mlp == "full" else None
    return MaskBranch(MaskTrunk(in_channels, head.width, head.convs), predictor, weights, mlp)


def _transfer(head: MaskHead, num_classes: int, box_width: int, pretrained: bool) -> tuple[MaskPredictor, ClassWeights]:
    t = head.transfer
    weights, size = build_class_weights(t, num_classes, box_width, pretrained)
    return TransferPredictor(TransferFunction(size, head.width, t.layers, t.activation)), weights


def build_class_weights(
    transfer: Transfer, num_classes: int, box_width: int, pretrained: bool = True
) -> tuple[ClassWeights, int]:
    """Where T's input comes from, and its size D."""
    t = transfer
    if t.input == "cls" or t.input == "box" or t.input == "cls+box":
        size = {"cls": 1, "box": 4, "cls+box": 5}[t.input] * box_width
        return DetectorWeights(t.input, t.input_norm, t.stop_gradient), size
    if t.input == "embedding" and pretrained:
        assert t.embedding is not None
        vectors = read_vectors(expand(t.embedding), num_classes, t.embedding_size)
    else:
        # Of an embedding in a checkpoint only the shape matters here; its values follow.
        vectors = random_vectors(num_classes, t.embedding_size, t.seed)
    return FixedWeights(vectors, t.input_norm), t.embedding_size


def _build_box_segmenter(config: BoxSegmenter, num_classes: int, pretrained: bool) -> SegmentationModel:
    from halfmask.models.build_box import build_box_segmenter

    return build_box_segmenter(config, num_classes, pretrained)


_PREDICTORS: dict[str, Callable[[MaskHead, int, int, bool], tuple[MaskPredictor, ClassWeights]]] = {
    "agnostic": lambda head, *_: (AgnosticPredictor(head.width), NoWeights()),
    "per_class": lambda head, classes, *_: (PerClassPredictor(head.width, classes), NoWeights()),
    "transfer": _transfer,
}

_BUILDERS: dict[str, Callable[[Any, int, bool], SegmentationModel]] = {
    "mask_rcnn": build_mask_rcnn,
    "box_segmenter": _build_box_segmenter,
}
