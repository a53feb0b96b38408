"""Detectron's geometry, against its rules written out in NumPy with inclusive boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from halfmask.masks.crops import iou
from halfmask.masks.paste import paste
from halfmask.models.build import build_model
from halfmask.models.mask_rcnn.box_heads import SampledRegions, region_pool
from halfmask.models.mask_rcnn.detectron_geometry import DetectronAnchors, padded, resize_detectron
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.recipes.recipe import MaskRCNN
from halfmask.structures import Target

Boxes = NDArray[np.float64]
LAST = torch.tensor([0.0, 0.0, 1.0, 1.0])


def test_anchors_are_the_known_ones() -> None:
    """The table of py-faster-rcnn, stride 16 (its boxes end with their last pixel)."""
    known = [
        [-84, -40, 99, 55],
        [-176, -88, 191, 103],
        [-360, -184, 375, 199],
        [-56, -56, 71, 71],
        [-120, -120, 135, 135],
        [-248, -248, 263, 263],
        [-36, -80, 51, 95],
        [-80, -168, 95, 183],
        [-168, -344, 183, 359],
    ]
    for k, size in enumerate((128, 256, 512)):
        anchors = DetectronAnchors([16], [size], [0.5, 1.0, 2.0])
        (found,) = anchors(
            ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)]), [torch.zeros(1, 8, 1, 1)]
        )
        assert torch.equal(found - LAST, torch.tensor(known[k::3], dtype=torch.float32))
        assert anchors.num_anchors_per_location() == [3]


def test_anchors_of_an_odd_map_are_a_stride_apart() -> None:
    """The map of stride 64 of an 800 px image has 13 cells; torchvision would put them
    61 px apart.
    """
    (found,) = DetectronAnchors([64], [512], [1.0])(
        ImageList(torch.zeros(1, 3, 800, 32), [(800, 32)]), [torch.zeros(1, 1, 13, 2)]
    )
    assert found[:, 1].reshape(13, 2)[:, 0].diff().tolist() == [64.0] * 12
    assert found[:2, 0].diff().tolist() == [64.0]


def test_boxes_are_scaled_without_their_last_pixel() -> None:
    boxes = torch.tensor([[10.0, 20.0, 31.0, 41.0]])  # Detectron: 10, 20, 30, 40
    assert resize_detectron(boxes, (100, 100), (200, 200)).tolist() == [[20.0, 40.0, 61.0, 81.0]]
    there_and_back = resize_detectron(
        resize_detectron(boxes, (100, 80), (250, 200)), (250, 200), (100, 80)
    )
    torch.testing.assert_close(there_and_back, boxes)


def test_padded_sizes() -> None:
    batch = padded(ImageList(torch.zeros(2, 3, 96, 96), [(64, 65), (90, 96)]))
    assert batch.image_sizes == [(64, 96), (96, 96)]


def test_pooled_regions_lack_the_last_pixel_and_levels_do_not() -> None:
    features = {str(i): torch.randn(1, 2, 512 >> (i + 2), 512 >> (i + 2)) for i in range(4)}
    pool = region_pool([4, 8, 16, 32], 7, 2, legacy=True)
    # A side of 111.5 is still on the level of 112 with its last pixel, and below it
    # without.
    boxes = torch.tensor(
        [
            [8.0, 8.0, 120.0, 120.0],
            [8.0, 8.0, 119.0, 119.0],
            [0.0, 0.0, 448.0, 448.0],
            [5.0, 6.0, 6.0, 7.0],
        ]
    )
    found = pool(features, [boxes], [(512, 512)])
    for row, level in enumerate([1, 0, 3, 0]):
        one = (boxes[row] - LAST)[None]
        expected = roi_align(features[str(level)], [one], 7, 1 / (4 << level), 2)
        torch.testing.assert_close(found[row], expected[0], msg=str(row))
    assert pool.output_size == (7, 7)


def legacy_config(config: Callable[..., MaskRCNN], **detector: Any) -> MaskRCNN:
    recipe = config(kind="per_class")
    settings = {
        "legacy_boxes": True,
        "extra_level": True,
        "anchor_sizes": [16, 24, 48, 64],
        "score_threshold": 0.2,
        **detector,
    }
    return recipe.model_copy(update={"detector": recipe.detector.model_copy(update=settings)})


def legacy_model(config: Callable[..., MaskRCNN], **detector: Any) -> PartialMaskRCNN:
    torch.manual_seed(0)
    model = build_model(legacy_config(config, **detector), 4)
    assert isinstance(model, PartialMaskRCNN)
    with torch.no_grad():
        model.rpn.head.cls_logits.weight.mul_(30)
        model.rpn.head.bbox_pred.weight.mul_(20)
        model.box_heads.box_predictor.cls_score.weight.mul_(100)
        model.box_heads.box_predictor.bbox_pred.weight.mul_(300)
    return model.eval()


def decode(boxes: Boxes, deltas: Boxes, weights: tuple[float, ...]) -> Boxes:
    """Detectron's: widths count the last pixel, and the far corner gives it back."""
    width, height = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    x, y = boxes[:, 0] + 0.5 * width, boxes[:, 1] + 0.5 * height
    dx, dy, dw, dh = (deltas[:, i] / w for i, w in enumerate(weights))
    limit = np.log(1000 / 16)
    x, y = x + dx * width, y + dy * height
    width, height = width * np.exp(np.minimum(dw, limit)), height * np.exp(np.minimum(dh, limit))
    return np.stack(
        [x - 0.5 * width, y - 0.5 * height, x + 0.5 * width - 1, y + 0.5 * height - 1], 1
    )


def clip(boxes: Boxes, height: int, width: int) -> Boxes:
    return np.stack(
        [boxes[:, i].clip(0, (width if i % 2 == 0 else height) - 1) for i in range(4)], 1
    )


def suppress(boxes: Boxes, scores: Boxes, threshold: float) -> list[int]:
    """Greedy NMS on inclusive boxes."""
    kept: list[int] = []
    area = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    for i in np.argsort(-scores, kind="stable"):
        side = (
            np.minimum(boxes[kept, 2:], boxes[i, 2:])
            - np.maximum(boxes[kept, :2], boxes[i, :2])
            + 1
        )
        both = side.clip(0).prod(1)
        if (both / (area[kept] + area[i] - both) <= threshold).all():
            kept.append(int(i))
    return kept


def proposals(
    model: PartialMaskRCNN,
    features: dict[str, Tensor],
    size: tuple[int, int],
    limits: tuple[int, int],
) -> Boxes:
    """The RPN's inclusive boxes in the resized image, level by level."""
    strides, sizes = [4, 8, 16, 32], [16, 24, 48, 64]
    logits, offsets = model.rpn.head(list(features.values()))
    found, found_scores = [], []
    for level, (stride, side) in enumerate(zip(strides, sizes, strict=True)):
        cells = []
        for ratio in (0.5, 1.0, 2.0):
            width = np.round(np.sqrt(stride * stride / ratio))
            height = np.round(width * ratio)
            width, height = width * side / stride, height * side / stride
            middle = 0.5 * (stride - 1)
            cells.append(
                [
                    middle - 0.5 * (width - 1),
                    middle - 0.5 * (height - 1),
                    middle + 0.5 * (width - 1),
                    middle + 0.5 * (height - 1),
                ]
            )
        rows, columns = logits[level].shape[-2:]
        places = [[x * stride, y * stride] * 2 for y in range(rows) for x in range(columns)]
        anchors = (np.array(places, dtype=float)[:, None] + np.array(cells)[None]).reshape(-1, 4)
        score = logits[level][0].permute(1, 2, 0).reshape(-1).double().numpy()
        delta = offsets[level][0].permute(1, 2, 0).reshape(-1, 4).double().numpy()
        best = np.argsort(-score, kind="stable")[: limits[0]]
        boxes = clip(decode(anchors[best], delta[best], (1, 1, 1, 1)), *size)
        kept = suppress(boxes, score[best], 0.7)[: limits[1]]
        found.append(boxes[kept])
        found_scores.append(score[best][kept])
    order = np.argsort(-np.concatenate(found_scores), kind="stable")[: limits[1]]
    return np.concatenate(found)[order]


@torch.no_grad()
def detect_as_detectron(
    model: PartialMaskRCNN, image: Tensor
) -> tuple[Boxes, list[int], Boxes, Tensor]:
    """Inclusive boxes, labels and scores in the image, and the inclusive regions of the
    masks in the resized one.
    """
    height, width = image.shape[-2:]
    batch, _ = model.transform([image])
    features = model.features(batch.tensors)
    scale = batch.image_sizes[0][0] / height
    assert batch.image_sizes[0][1] / width == scale
    limits = (model.rpn._pre_nms_top_n["testing"], model.rpn._post_nms_top_n["testing"])
    regions = proposals(model, features, (batch.tensors.shape[-2], batch.tensors.shape[-1]), limits)
    pooled = []
    for box in torch.from_numpy(regions).float():
        side = float(((box[2] - box[0] + 1) * (box[3] - box[1] + 1)) ** 0.5)
        level = int(np.clip(np.floor(4 + np.log2(side / 224 + 1e-6)), 2, 4)) - 2
        pooled.append(roi_align(features[str(level)], [box[None]], 5, 1 / (4 << level), 2))
    logits, offsets = model.box_heads.box_predictor(model.box_heads.box_head(torch.cat(pooled)))
    scores = logits.double().softmax(1).numpy()
    rows = []
    for label in range(1, 4):
        boxes = decode(
            regions / scale, offsets[:, 4 * label : 4 * label + 4].double().numpy(), (10, 10, 5, 5)
        )
        boxes = clip(boxes, height, width)
        chosen = np.where(scores[:, label] > model.box_heads.score_thresh)[0]
        kept = chosen[suppress(boxes[chosen], scores[chosen, label], 0.5)]
        rows += [(scores[i, label], label, boxes[i]) for i in kept]
    rows = sorted(rows, key=lambda row: -row[0])[: model.box_heads.detections_per_img]
    found = np.stack([row[2] for row in rows])
    return (
        found,
        [row[1] for row in rows],
        np.array([row[0] for row in rows]),
        torch.from_numpy(found * scale).float(),
    )


@pytest.mark.parametrize("size", [(64, 96), (32, 40)])
def test_detections_are_detectrons(config: Any, scene: Any, size: tuple[int, int]) -> None:
    """(64, 96) keeps its size and needs no padding; (32, 40) is doubled and padded to 64 × 96."""
    model = legacy_model(config)
    (image,), _ = scene([size], seed=3)
    boxes, labels, scores, regions = detect_as_detectron(model, image)
    found = model.detect([image])[0]
    assert len(found) == len(labels) > 5
    assert found.labels.tolist() == labels
    torch.testing.assert_close(found.scores, torch.from_numpy(scores).float(), rtol=1e-4, atol=1e-5)
    inclusive = torch.from_numpy(boxes).float()
    torch.testing.assert_close(found.boxes - LAST, inclusive, rtol=1e-4, atol=2e-3)
    # Where Detectron pastes: from half a pixel before the first one to half a pixel
    # behind the last.
    torch.testing.assert_close(
        found.regions,
        torch.cat([inclusive[:, :2] - 0.5, inclusive[:, 2:] + 0.5], 1),
        rtol=1e-4,
        atol=2e-3,
    )
    with torch.no_grad():
        batch, _ = model.transform([image])
        features = model.features(batch.tensors)
        pooled = model.mask_pool.pool(features, [regions], batch.image_sizes)
        probs = model.mask_branch(pooled, found.labels, model.class_weights()).sigmoid()
    torch.testing.assert_close(found.mask_probs, probs, rtol=1e-3, atol=1e-3)
    given = model.segment([image], [found.boxes], [found.labels])[0]
    torch.testing.assert_close(given.mask_probs, found.mask_probs, rtol=1e-3, atol=1e-3)
    assert torch.equal(given.regions, given.boxes - 0.5)


def test_training_targets_lie_where_masks_are_put(config: Any, scene: Any) -> None:
    """A mask head that learnt its targets by heart gives the object back, not one that
    is a pixel off.
    """
    model = legacy_model(config)
    images, targets = scene([(64, 96)], objects=1, seed=1)
    batch, placed = model._batch(images, targets)
    boxes = targets[0].boxes
    torch.testing.assert_close(placed[0]["boxes"], boxes)  # this image is not resized
    rows = torch.zeros(1, dtype=torch.int64)
    regions = SampledRegions([boxes], [rows], [rows + 1], [boxes[:, :0]])
    masked, _ = model._pool_masked(model.features(batch.tensors), regions, batch, targets=targets)
    drawn = masked.targets
    given_back = [
        float(
            iou(
                paste(drawn, boxes + model.mask_shift + error, boxes, image_size=(64, 96)),
                targets[0].masks,
            )[0]
        )
        for error in (0.0, 1.0, -1.0)
    ]
    assert given_back[0] > 0.85
    assert given_back[0] == max(given_back)


def test_losses_are_finite_and_learn(config: Any, scene: Any) -> None:
    model = legacy_model(config).train()
    images, targets = scene([(40, 50), (64, 96)], objects=3, seed=5)
    labels = [
        Target(boxes=t.boxes, labels=t.labels.clamp(max=3), has_mask=t.has_mask, masks=t.masks)
        for t in targets
    ]
    torch.manual_seed(0)
    losses = model(images, labels)
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    assert losses["loss_mask"].item() > 0
