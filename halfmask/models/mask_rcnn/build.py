"""Builds a recipe's Mask R-CNN: encoder, detector, mask branch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from halfmask.errors import InputError
from halfmask.models.backbones.encoder import encoder_of
from halfmask.models.backbones.norm import norm_in_place
from halfmask.models.class_weights import ClassWeights, NoWeights, build_class_weights
from halfmask.models.heads.mlp import LightMlpBranch, MlpBranch, MlpPredictor
from halfmask.models.heads.predictors import (
    AgnosticPredictor,
    MaskPredictor,
    PerClassPredictor,
    TransferFunction,
    TransferPredictor,
)
from halfmask.models.heads.trunks import HourglassTrunk, MaskTrunk
from halfmask.models.mask_rcnn.added_classes import GrownPredictor
from halfmask.models.mask_rcnn.box_heads import BoxHeads, region_pool
from halfmask.models.mask_rcnn.detections import DetectionRules
from halfmask.models.mask_rcnn.detectron_geometry import DetectronAnchors
from halfmask.models.mask_rcnn.detectron_training import RpnRules, start_xavier
from halfmask.models.mask_rcnn.images import propose_in_full_precision
from halfmask.models.mask_rcnn.mask_branch import MaskBranch, ObjectTeacher
from halfmask.models.mask_rcnn.matching import match_in_parts
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.models.mask_rcnn.regions import RegionRules
from halfmask.models.outside import is_outside, outside_function, outside_predictor, outside_trunk
from halfmask.recipes.recipe import Detector, MaskHead, MaskRCNN, Transfer


def build_mask_rcnn(
    config: MaskRCNN,
    num_classes: int,
    pretrained: bool = True,
    *,
    names: Sequence[str] | None = None,
) -> PartialMaskRCNN:
    """Builds a Mask R-CNN; the arguments are those of `build_model`."""
    detector, images = config.detector, config.images
    strides = _checked_strides(detector)
    backbone = encoder_of(config.backbone, pretrained, strides)
    norm_in_place(backbone.body)
    width = detector.fpn_channels
    extra = LastLevelMaxPool() if detector.extra_level else None
    fpn = FeaturePyramidNetwork(
        [backbone.channels[s] for s in strides], width, extra, _norm(detector)
    )
    rpn = _rpn(detector)
    box_heads = _box_heads(detector, num_classes)
    minibatch = sys.maxsize if config.minibatch is None else config.minibatch
    head = config.mask_head
    return PartialMaskRCNN(
        GeneralizedRCNNTransform(tuple(images.min_size), images.max_size, images.mean, images.std),
        backbone,
        fpn,
        rpn=rpn,
        box_heads=box_heads,
        mask_pool=region_pool(
            strides, head.roi_size, head.sampling_ratio, legacy=detector.legacy_boxes
        ),
        mask_branch=build_mask_branch(
            head,
            width,
            num_classes,
            box_width=detector.box_width,
            pretrained=pretrained,
            names=names,
        ),
        legacy=detector.legacy_boxes,
        rpn_rules=RpnRules.of(detector, minibatch),
        minibatch=minibatch if head.divisor == "minibatch" else None,
    )


def _checked_strides(detector: Detector) -> list[int]:
    strides = detector.strides
    if (
        not strides
        or strides[0] not in (2, 4, 8, 16, 32)
        or strides != [strides[0] << i for i in range(len(strides))]
    ):
        raise InputError(
            f"detector.strides: expected powers of two, each twice the one before, found {strides}"
        )
    return strides


def _norm(detector: Detector) -> type[nn.Module] | None:
    return nn.BatchNorm2d if detector.norm == "batch" else None


def _rpn(detector: Detector) -> RegionProposalNetwork:
    levels = len(detector.strides) + detector.extra_level
    if len(detector.anchor_sizes) != levels:
        raise InputError(
            f"detector.anchor_sizes: expected one for each RPN level, {levels} (strides and "
            f"extra_level), found {detector.anchor_sizes}"
        )
    anchors = _anchors(detector, levels)
    (before, before_test), (after, after_test) = detector.rpn_pre_nms, detector.rpn_post_nms
    rpn = RegionProposalNetwork(
        anchors,
        RPNHead(detector.fpn_channels, len(detector.anchor_ratios), detector.rpn_convs),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=detector.rpn_batch,
        positive_fraction=0.5,
        pre_nms_top_n={"training": before, "testing": before_test},
        post_nms_top_n={"training": after, "testing": after_test},
        nms_thresh=0.7,
    )
    match_in_parts(rpn)
    propose_in_full_precision(rpn.head)
    return rpn


def _anchors(detector: Detector, levels: int) -> AnchorGenerator | DetectronAnchors:
    sizes, ratios = detector.anchor_sizes, detector.anchor_ratios
    if detector.legacy_boxes or detector.centred_anchors:
        return DetectronAnchors([detector.strides[0] << i for i in range(levels)], sizes, ratios)
    return AnchorGenerator(tuple((size,) for size in sizes), (tuple(ratios),) * levels)


def _box_heads(detector: Detector, num_classes: int) -> BoxHeads:
    pool = region_pool(
        detector.strides,
        detector.box_roi_size,
        detector.box_sampling_ratio,
        legacy=detector.legacy_boxes,
    )
    return BoxHeads(
        pool,
        _box_head(detector),
        _grown_predictor(detector, num_classes),
        batch=detector.box_batch,
        rules=DetectionRules(detector.score_threshold, detector.nms_threshold, detector.detections),
        beta=detector.box_beta,
    )


def _box_head(detector: Detector) -> nn.Module:
    width, side = detector.fpn_channels, detector.box_roi_size
    head: nn.Module = TwoMLPHead(width * side**2, detector.box_width)
    if detector.box_convs:
        convs = [width] * detector.box_convs
        head = FastRCNNConvFCHead((width, side, side), convs, [detector.box_width], _norm(detector))
    if detector.fc_init == "xavier":
        start_xavier(head)
    return head


def _grown_predictor(detector: Detector, num_classes: int) -> FastRCNNPredictor | GrownPredictor:
    added = detector.added_classes
    if num_classes - sum(added) < 2:
        raise InputError(
            f"detector.added_classes: {sum(added)} of {num_classes - 1} classes leave none that "
            "the model was trained on; remove the key to train it on all"
        )
    trained = _box_predictor(detector.box_width, num_classes - sum(added))
    return GrownPredictor(trained.cls_score, trained.bbox_pred, added) if added else trained


def _box_predictor(width: int, num_classes: int) -> FastRCNNPredictor:
    """Returns torchvision's layers with the paper's initialisation (1.1).

    Gaussian, deviation 0.01 for classes and 0.001 for boxes, biases 0. T reads these
    rows. torchvision's own rows start with length 0.58, of the order of what training
    adds, and that noise stays in them.
    """
    predictor = FastRCNNPredictor(width, num_classes)
    for layer, deviation in ((predictor.cls_score, 0.01), (predictor.bbox_pred, 0.001)):
        nn.init.normal_(layer.weight, std=deviation)
        nn.init.zeros_(layer.bias)
    return predictor


def build_mask_branch(
    head: MaskHead,
    in_channels: int,
    num_classes: int,
    *,
    box_width: int,
    pretrained: bool = True,
    names: Sequence[str] | None = None,
) -> MaskBranch:
    """Builds the mask branch of a recipe on regions of `in_channels` channels.

    T may read the rows of a box head of width `box_width`; others as in `build_model`.
    """
    if is_outside(head.kind):
        predictor, weights = _outside(
            head, num_classes, box_width=box_width, pretrained=pretrained, names=names
        )
    elif head.kind == "transfer":
        predictor, weights = _transfer(
            head.transfer,
            head.width,
            num_classes,
            box_width=box_width,
            pretrained=pretrained,
            names=names,
        )
    else:
        predictor, weights = _PREDICTORS[head.kind](head.width, num_classes), NoWeights()
    if head.mlp == "only":
        predictor = MlpPredictor(head.width, 2 * head.roi_size, head.mlp_layers)
    mlp = _MLPS[head.mlp](head)
    if is_outside(head.trunk):
        given = {"in_channels": in_channels, "width": head.width, "side": head.roi_size}
        trunk = outside_trunk(head.trunk, head.trunk_options, given)
    else:
        trunk = _TRUNKS[head.trunk](head, in_channels)
    return MaskBranch(
        trunk,
        predictor,
        weights,
        mlp=mlp,
        teacher=ObjectTeacher(head.width) if head.box_only == "taught" else None,
        rules=region_rules(head),
        loss=outside_function(head.loss, head.loss_options, "loss", arguments=3),
        sampler=outside_function(head.sampler, head.sampler_options, "sampler", arguments=2),
    )


def _outside(
    head: MaskHead,
    num_classes: int,
    *,
    box_width: int,
    pretrained: bool,
    names: Sequence[str] | None,
) -> tuple[MaskPredictor, ClassWeights]:
    """Builds another package's predictor; `transfer` says which class weights it reads."""
    weights, size = build_class_weights(
        head.transfer, num_classes, box_width, pretrained=pretrained, names=names
    )
    given = {
        "channels": head.width,
        "side": 2 * head.roi_size,
        "num_classes": num_classes,
        "class_size": size,
    }
    return outside_predictor(head.kind, head.options, given), weights


def region_rules(head: MaskHead) -> RegionRules:
    """Returns the rules for a mask head's training regions."""
    return RegionRules(head.unknown, head.unknown_limit, head.regions, head.region_jitter)


def _transfer(
    t: Transfer,
    width: int,
    num_classes: int,
    *,
    box_width: int,
    pretrained: bool,
    names: Sequence[str] | None,
) -> tuple[MaskPredictor, ClassWeights]:
    weights, size = build_class_weights(
        t, num_classes, box_width, pretrained=pretrained, names=names
    )
    function = TransferFunction(size, width, t.layers, activation=t.activation)
    return TransferPredictor(function), weights


_PREDICTORS: dict[str, Callable[[int, int], MaskPredictor]] = {
    "agnostic": lambda width, _: AgnosticPredictor(width),
    "per_class": PerClassPredictor,
}
_TRUNKS: dict[str, Callable[[MaskHead, int], nn.Module]] = {
    "convs": lambda head, in_channels: MaskTrunk(
        in_channels, head.width, head.convs, norm=head.norm
    ),
    "hourglass": lambda head, in_channels: HourglassTrunk(
        in_channels, head.width, head.roi_size, norm=head.norm
    ),
}
_MLPS: dict[str, Callable[[MaskHead], nn.Module | None]] = {
    "none": lambda _: None,
    "only": lambda _: None,
    "light": lambda head: LightMlpBranch(head.width, 2 * head.roi_size),
    "full": lambda head: MlpBranch(head.width, 2 * head.roi_size, head.mlp_layers),
}
