"""`box_only: taught`: what box-only objects' regions teach, that it comes from boxes
and from the masks of A alone, and that it works.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from halfmask.masks.crops import MaskCrops
from halfmask.models.build import build_model
from halfmask.models.mask_rcnn.loss import SURE, pseudo_targets
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.models.mask_rcnn.regions import MaskRegions, region_targets
from halfmask.recipes.recipe import MaskHead
from halfmask.structures import Target
from halfmask.training.loop.batches import ImageBatch
from halfmask.training.loop.feature_cache import build_cache

SIZE = 64
TAUGHT: dict[str, Any] = {"box_only": "taught"}
KINDS: list[dict[str, Any]] = [
    {"transfer": {"input": "cls"}},
    {"kind": "per_class"},
    {"transfer": {"input": "cls"}, "trunk": "hourglass"},
    {"transfer": {"input": "cls"}, "mlp": "light"},
    {"transfer": {"input": "cls"}, "unknown": "skip", "regions": "boxes", "region_jitter": 0.1},
]


def network(config: Any, **mask_head: Any) -> PartialMaskRCNN:
    torch.manual_seed(0)
    model = build_model(config(**{**TAUGHT, **mask_head}), 6)
    assert isinstance(model, PartialMaskRCNN)
    return model


def pair() -> Target:
    """One box, twice: its left half is a masked object, its right half a box-only one;
    a second box-only object lies below.
    """
    masks = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
    masks[0, 16:48, 16:32] = 1
    boxes = torch.tensor([[16.0, 16, 48, 48], [16, 16, 48, 48], [16, 40, 48, 60]])
    return Target(
        boxes=boxes,
        labels=torch.tensor([1, 4, 5]),
        has_mask=torch.tensor([True, False, False]),
        masks=MaskCrops.from_dense(masks),
        image_id=1,
    )


def test_a_box_only_region_knows_its_masked_neighbour_and_not_the_others() -> None:
    region = torch.tensor([[15.5, 15.5, 47.5, 47.5]])
    targets, unknown = region_targets(pair(), torch.tensor([1]), region, side=8)
    left = torch.zeros(8, 8)
    left[:, :4] = 1.0
    torch.testing.assert_close(targets[0], left)
    below = torch.zeros(8, 8, dtype=torch.bool)
    below[6:, 4:] = (
        True  # the third object's box, but where the masked one is: its own box is no neighbour's
    )
    assert torch.equal(unknown[0], below)
    own, shared = region_targets(pair(), torch.tensor([0]), region, side=8)
    torch.testing.assert_close(own[0], left)
    assert torch.equal(shared[0], left == 0)


def test_the_lesson_is_the_sure_map_less_the_masked_neighbour() -> None:
    sure = torch.logit(torch.tensor(SURE)) + 0.01
    logits = torch.stack([sure, -sure, torch.tensor(0.3), sure, torch.tensor(0.0), sure]).reshape(
        1, 1, 6
    )
    covered = torch.tensor([0.0, 0, 0, 1, 0.8, 0.2]).reshape(1, 1, 6)
    unknown = torch.tensor([False, False, False, False, False, True]).reshape(1, 1, 6)
    regions = MaskRegions(
        features=torch.zeros(1, 1, 1, 1),
        labels=torch.ones(1).long(),
        targets=covered,
        unknown=unknown,
    )
    targets, counts = pseudo_targets(logits.requires_grad_(), regions)
    assert counts.flatten().tolist() == [True, True, False, True, True, False]
    assert targets[counts].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert not targets.requires_grad
    assert not pseudo_targets(torch.zeros(1, 1, 6), replace(regions, targets=torch.zeros(1, 1, 6)))[
        1
    ].any(), "at the start nothing"


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("loss", ["all", "masks"])
@pytest.mark.parametrize("masked", ["all", "half", "none"])
def test_every_parameter_is_in_every_batch(
    config: Any, scene: Any, options: Any, loss: Any, masked: str
) -> None:
    model = network(config, **options)
    torch.manual_seed(9)
    value = model(*scene([(64, 80), (72, 64)], objects=6, masked=masked), loss)["loss_mask"]
    value.backward()
    assert torch.isfinite(value)
    for name, parameter in model.mask_branch.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    empty = Target(
        boxes=torch.zeros(0, 4),
        labels=torch.zeros(0).long(),
        has_mask=torch.zeros(0).bool(),
        masks=MaskCrops.empty((64, 80)),
    )
    nothing = model(scene([(64, 80)])[0], [empty], loss)["loss_mask"]
    assert float(nothing.detach()) == 0.0


def test_regions_of_box_only_objects_are_drawn_where_they_teach_and_only_there(config: Any) -> None:
    image = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    # Proposals would match the first of two equal boxes.
    found = network(config, regions="boxes").mask_regions([image], [pair()])
    assert found.has_mask is not None
    assert set(found.labels[found.has_mask].tolist()) == {1}
    assert set(found.labels[~found.has_mask].tolist()) == {4, 5}
    plain = network(config, regions="boxes", box_only="none").mask_regions([image], [pair()])
    assert set(plain.labels.tolist()) == {1}


def test_masks_of_box_only_objects_never_count(config: Any, scene: Any) -> None:
    values: list[Tensor] = []
    for seed in (1, 2):
        images, targets = scene([(64, 80), (72, 64)], objects=8, masked="all")
        generator = torch.Generator().manual_seed(seed)
        kept = []
        for target in targets:
            mask = target.labels <= 3
            dense = target.masks.dense()
            dense[~mask] = torch.rand(dense[~mask].shape, generator=generator) > 0.5
            kept.append(
                replace(target, has_mask=mask, masks=MaskCrops.from_dense(dense).select(mask))
            )
        torch.manual_seed(9)
        model = network(config)
        values.append(model(images, kept, "masks")["loss_mask"].detach())
    assert torch.equal(values[0], values[1])
    assert float(values[0]) > 0


def test_a_box_only_class_learns_its_side_of_the_box(config: Any) -> None:
    """Objects of class 1 are the red half of a box, of class 4 the blue half; only
    class 1 has masks. A per-class filter of class 4 is never held against a mask, and
    still finds its half.
    """
    images, targets = [], []
    for i in range(6):
        flip = i % 2 == 1
        image = torch.full((3, SIZE, SIZE), 0.5)
        halves = [(16, 32), (32, 48)][:: -1 if flip else 1]
        image[:, 16:48, 16:48] = 0.0
        image[0, 16:48, slice(*halves[0])] = 1.0
        image[2, 16:48, slice(*halves[1])] = 1.0
        masks = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
        masks[0, 16:48, slice(*halves[0])] = 1
        boxes = torch.tensor([[16.0, 16, 48, 48]] * 2)
        flags = torch.tensor([True, False])
        images.append(image)
        targets.append(
            Target(
                boxes=boxes,
                labels=torch.tensor([1, 4]),
                has_mask=flags,
                masks=MaskCrops.from_dense(masks),
                image_id=i,
            )
        )
    shares = {}
    for box_only in ("taught", "none"):
        model = network(
            config, kind="per_class", box_only=box_only, regions="boxes", unknown="ignore"
        )
        for part in ("backbone", "fpn"):
            model.parts()[part].eval()
        regions = model.mask_regions(images, targets)
        optimiser = torch.optim.Adam(model.mask_branch.parameters(), 0.01)
        for _ in range(150):
            optimiser.zero_grad()
            model.mask_loss(regions).backward()
            optimiser.step()
        pooled = model.pool(images, [t.boxes[1:] for t in targets])
        found = model.mask_probs(pooled, torch.full((6,), 4)) > 0.5
        blue = torch.zeros(6, 12, 12, dtype=torch.bool)
        blue[::2, :, 6:] = True
        blue[1::2, :, :6] = True
        shares[box_only] = float((found == blue).float().mean())
    assert shares["taught"] > 0.85, shares
    assert shares["none"] < shares["taught"] - 0.1, shares


def test_inference_does_not_know_of_the_teacher(config: Any, scene: Any) -> None:
    taught, plain = network(config).eval(), network(config, box_only="none").eval()
    state = {k: v for k, v in taught.state_dict().items() if "teacher" not in k}
    plain.load_state_dict(state)
    images, targets = scene([(64, 80)])
    boxes, labels = [targets[0].boxes], [targets[0].labels]
    one, other = (m.segment(images, boxes, labels)[0].mask_probs for m in (taught, plain))
    assert torch.equal(one, other)


def test_a_head_without_filters_of_classes_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs `kind: transfer` or `per_class`"):
        MaskHead(kind="agnostic", box_only="taught")


@pytest.mark.parametrize(
    "options",
    [{}, {"box_only": "none", "unknown": "skip"}, {"box_only": "none", "unknown": "ignore"}],
)
def test_cached_regions_give_the_same_loss(
    config: Any, scene: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    images, targets = scene([(64, 80), (72, 64)], objects=8, masked="half")
    model = network(config, regions="boxes", **options)
    direct = model(images, targets, "masks")["loss_mask"].detach()
    device = torch.device("cpu")
    batches = [ImageBatch(images, targets, "masks")]
    cache = build_cache(
        model, batches, tmp_path / "cache", device=device, on_batch=lambda images: None
    )
    batch = cache.batch(np.arange(len(cache))).to(device)
    assert batch.regions.unknown.dtype == torch.bool
    torch.testing.assert_close(
        batch.losses(model)["loss_mask"].detach(), direct, rtol=2e-3, atol=1e-4
    )
    assert float(direct) > 0
