"""torchvision's Mask R-CNN as the benchmarks' peer: the same detector weights, its own
mask head.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import get_model
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.models.mask_rcnn.regions import MaskRegions
from halfmask.recipes.recipe import MaskRCNN as Config


def mask_head(channels: int, width: int, convs: int, classes: int) -> nn.Sequential:
    """torchvision's mask head and predictor: [R, C, S, S] → logits [R, K, 2S, 2S]."""
    return nn.Sequential(
        MaskRCNNHeads(channels, (width,) * convs, 1), MaskRCNNPredictor(width, width, classes)
    )


def mask_head_loss(head: nn.Sequential, regions: MaskRegions) -> Tensor:
    """torchvision's mask loss on pooled regions: all K maps, then each region's own."""
    logits = head(regions.features)
    rows = torch.arange(len(regions.labels), device=logits.device)
    return F.binary_cross_entropy_with_logits(logits[rows, regions.labels], regions.targets)


def torchvision_twin(ours: PartialMaskRCNN, config: Config, classes: int) -> MaskRCNN:
    """torchvision's Mask R-CNN with the weights of our backbone, FPN, RPN, box head and
    mask trunk, and a mask filter for each class.

    Where our head is a transfer head, its filters are copied for every class, so that
    both draw the same masks.

    Args:
        config: what ours was built from; a ResNet with four levels.
        classes: K.
    """
    detector, head = config.detector, config.mask_head
    peer: Any = MaskRCNN(
        _backbone(config),
        min_size=config.images.min_size[-1],
        max_size=config.images.max_size,
        rpn_anchor_generator=copy.deepcopy(ours.rpn.anchor_generator),
        box_roi_pool=_pool(detector.box_roi_size, detector.box_sampling_ratio),
        mask_roi_pool=_pool(head.roi_size, head.sampling_ratio),
        box_head=ours.box_heads.box_head,
        box_predictor=ours.box_heads.box_predictor,
        mask_head=MaskRCNNHeads(detector.fpn_channels, (head.width,) * head.convs, 1),
        mask_predictor=MaskRCNNPredictor(head.width, head.width, classes),
        rpn_pre_nms_top_n_train=detector.rpn_pre_nms[0],
        rpn_pre_nms_top_n_test=detector.rpn_pre_nms[1],
        rpn_post_nms_top_n_train=detector.rpn_post_nms[0],
        rpn_post_nms_top_n_test=detector.rpn_post_nms[1],
        box_score_thresh=ours.box_heads.score_thresh,
        box_nms_thresh=detector.nms_threshold,
        box_detections_per_img=detector.detections,
        box_batch_size_per_image=detector.box_batch,
        rpn_batch_size_per_image=detector.rpn_batch,
    )
    state = {f"backbone.{name}": value for name, value in ours.backbone.state_dict().items()}
    state |= {f"backbone.fpn.{name}": value for name, value in ours.fpn.state_dict().items()}
    state |= {f"rpn.{name}": value for name, value in ours.rpn.state_dict().items()}
    missing, unknown = peer.load_state_dict(state, strict=False)
    assert not unknown, unknown
    assert all(name.startswith("roi_heads.") for name in missing), missing
    _share_heads(peer.roi_heads, ours)
    return peer


def _backbone(config: Config) -> BackboneWithFPN:
    norm = FrozenBatchNorm2d if config.backbone.norm == "frozen" else nn.BatchNorm2d
    network = get_model(config.backbone.name, weights=None, norm_layer=norm)
    stages = ["layer4", "layer3", "layer2", "layer1", "conv1"][: config.backbone.trainable_stages]
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(tuple(stages)))
    widths = [network.inplanes // 8 << i for i in range(4)]
    levels = {f"layer{i + 1}": str(i) for i in range(4)}
    return BackboneWithFPN(network, levels, widths, config.detector.fpn_channels)


def _pool(size: int, sampling_ratio: int) -> MultiScaleRoIAlign:
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], size, sampling_ratio)
    pool.scales, pool.map_levels = (
        [1 / 4, 1 / 8, 1 / 16, 1 / 32],
        LevelMapper(2, 5),
    )  # not left to its guess
    return pool


@torch.no_grad()
def _share_heads(heads: RoIHeads, ours: PartialMaskRCNN) -> None:
    """Copies of our box head, and our mask trunk and filters in torchvision's layers."""
    heads.box_head, heads.box_predictor = (
        copy.deepcopy(heads.box_head),
        copy.deepcopy(heads.box_predictor),
    )
    branch: Any = ours.mask_branch
    convs = [m for m in heads.mask_head.modules() if isinstance(m, nn.Conv2d)]
    own = [m for m in branch.trunk.convs if isinstance(m, nn.Conv2d)]
    for theirs, mine in zip(convs, own, strict=True):
        theirs.load_state_dict(mine.state_dict())
    heads.mask_predictor.conv5_mask.load_state_dict(branch.trunk.upsample.state_dict())
    logits = heads.mask_predictor.mask_fcn_logits
    transfer = getattr(branch.predictor, "transfer", None)
    if transfer is not None:
        logits.weight.copy_(transfer(ours.class_weights())[:, :, None, None])
        logits.bias.zero_()
    else:
        logits.load_state_dict(branch.predictor.conv.state_dict())
