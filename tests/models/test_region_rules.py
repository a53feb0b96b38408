"""What a region's cells teach: cells in a box-only neighbour's box, regions that are
left out, the objects' own boxes.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from halfmask.masks.crops import MaskCrops
from halfmask.models.build import build_model
from halfmask.models.mask_rcnn.box_heads import own_boxes
from halfmask.models.mask_rcnn.loss import mask_bce
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.models.mask_rcnn.regions import HALF_PIXEL, MaskRegions, RegionRules, unknown_cells
from halfmask.recipes.recipe import MaskHead
from halfmask.structures import Target

SIZE = 64
RULES: list[dict[str, Any]] = [
    {"unknown": "ignore"},
    {"unknown": "skip"},
    {"unknown": "skip", "unknown_limit": 0.9},
]


def network(config: Any, **mask_head: Any) -> PartialMaskRCNN:
    torch.manual_seed(0)
    model = build_model(config(**mask_head), 6)
    assert isinstance(model, PartialMaskRCNN)
    return model


def pair(has_mask: list[bool]) -> tuple[list[Tensor], list[Target]]:
    """Two objects that share the box (16, 16, 48, 48): the left half is the first's,
    the right half the second's.
    """
    masks = torch.zeros(2, SIZE, SIZE, dtype=torch.uint8)
    masks[0, 16:48, 16:32] = 1
    masks[1, 16:48, 32:48] = 1
    flags = torch.tensor(has_mask)
    boxes = torch.tensor([[16.0, 16, 48, 48]] * 2)
    image = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return [image], [
        Target(
            boxes=boxes,
            labels=torch.tensor([1, 4]),
            has_mask=flags,
            masks=MaskCrops.from_dense(masks[flags]),
        )
    ]


def regions_of(unknown_share: list[float], side: int = 10) -> MaskRegions:
    """Regions whose first rows are unknown, this share of them."""
    count = len(unknown_share)
    unknown = torch.zeros(count, side, side, dtype=torch.bool)
    for i, share in enumerate(unknown_share):
        unknown[i, : round(share * side)] = True
    targets = torch.rand(count, side, side, generator=torch.Generator().manual_seed(2))
    return MaskRegions(
        features=torch.arange(count)[:, None, None, None].float(),
        labels=torch.arange(count) + 1,
        targets=targets,
        unknown=unknown,
    )


def test_unknown_is_what_lies_in_another_box_and_is_not_covered() -> None:
    places = torch.tensor([[0.0, 0, 8, 4], [100, 0, 108, 4]])
    targets = torch.zeros(2, 4, 4)
    targets[0, :, 2] = 1.0
    targets[0, 0, 3] = 0.4
    others = torch.tensor([[3.0, 0, 50, 3]])
    found = unknown_cells(places, targets, others)
    # Cells are 2 × 1 pixels: the box begins at the centre of column 1 and ends above
    # row 3's.
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[:3, 1] = True
    expected[:3, 3] = True
    assert torch.equal(found[0], expected)
    assert not found[1].any()
    assert not unknown_cells(places, targets, torch.zeros(0, 4)).any()
    assert unknown_cells(places[:0], targets[:0], others).shape == (0, 4, 4)


def test_unknown_equals_a_slow_computation() -> None:
    generator = torch.Generator().manual_seed(0)
    low, boxes = (
        torch.rand(5, 2, generator=generator) * 40,
        torch.rand(7, 2, generator=generator) * 40,
    )
    places = torch.cat([low, low + 5 + 30 * torch.rand(5, 2, generator=generator)], 1)
    others = torch.cat([boxes, boxes + 3 + 20 * torch.rand(7, 2, generator=generator)], 1)
    targets = torch.rand(5, 6, 6, generator=generator)
    found = unknown_cells(places, targets, others)
    for r in range(5):
        x0, y0, x1, y1 = places[r].tolist()
        for i in range(6):
            for j in range(6):
                x, y = x0 + (j + 0.5) * (x1 - x0) / 6, y0 + (i + 0.5) * (y1 - y0) / 6
                inside = any(a <= x < c and b <= y < d for a, b, c, d in others.tolist())
                assert bool(found[r, i, j]) == (inside and float(targets[r, i, j]) < 0.5)


def test_the_model_finds_the_unknown_cells_of_its_regions(config: Any) -> None:
    model = network(config, regions="boxes")
    regions = model.mask_regions(*pair([True, False]))
    assert regions.unknown is not None
    assert len(regions.labels) == 1
    # The box-only partner has the same box: all that is not the object's own is
    # unknown. (Cells lie half a pixel off the drawn ones.)
    assert torch.equal(regions.unknown[0], regions.targets[0] < 0.5)
    both = model.mask_regions(*pair([True, True]))
    assert both.unknown is not None
    assert not both.unknown.any()


def test_unknown_lies_where_the_cells_are_drawn(config: Any) -> None:
    """In the frame of the picture, not of the resized one, and with the shift that
    masks are given back with.
    """
    model = network(config, regions="boxes")
    images, targets = pair([True, False])
    box = torch.tensor([[16.0, 16, 48, 48], [32, 8, 60, 30]])
    large = torch.nn.functional.interpolate(images[0][None], scale_factor=2)[0]
    found = model.mask_regions([images[0]], [replace(targets[0], boxes=box)])
    expected = unknown_cells(box[:1] + HALF_PIXEL, found.targets, box[1:])
    assert found.unknown is not None
    assert torch.equal(found.unknown, expected)
    assert 0.1 < float(expected.float().mean()) < 0.3
    masks = MaskCrops.from_dense(
        targets[0].masks.dense().repeat_interleave(2, 1).repeat_interleave(2, 2)
    )
    doubled = model.mask_regions([large], [replace(targets[0], boxes=2 * box, masks=masks)])
    assert doubled.unknown is not None
    assert float((doubled.unknown != expected).float().mean()) < 0.1


def test_ignored_cells_do_not_count() -> None:
    logits, targets = torch.randn(3, 4, 4, requires_grad=True), torch.rand(3, 4, 4)
    known = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)) > 0.4
    loss = mask_bce(logits, targets, known)
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad[~known].any()
    assert logits.grad[known].all()
    one_by_one = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], targets[known])
    torch.testing.assert_close(loss, one_by_one)
    torch.testing.assert_close(
        mask_bce(logits, targets, torch.ones_like(known)), mask_bce(logits, targets)
    )
    nothing = mask_bce(logits, targets, torch.zeros_like(known))
    assert float(nothing.detach()) == 0.0
    nothing.backward()


def test_each_rule_takes_its_regions_and_cells() -> None:
    regions = regions_of([0.0, 0.2, 0.3, 1.0])
    assert regions.unknown is not None
    found, known = RegionRules().taught(regions)
    assert found is regions
    assert known is None
    found, known = RegionRules("ignore").taught(regions)
    assert known is not None
    assert len(found.labels) == 4
    assert torch.equal(known, ~regions.unknown)
    found, known = RegionRules("skip", 0.2).taught(regions)
    assert known is not None
    assert found.labels.tolist() == [1, 2]
    assert found.features.flatten().tolist() == [0.0, 1.0]
    assert torch.equal(found.targets, regions.targets[:2])
    assert torch.equal(known, ~regions.unknown[:2]), (
        "what is unknown of the others does not count either"
    )
    assert RegionRules("skip", 0.5).taught(regions)[0].labels.tolist() == [1, 2, 3]


def test_never_all_of_a_batch_is_skipped() -> None:
    regions = regions_of([0.5, 1.0])
    found, known = RegionRules("skip", 0.2).taught(regions)
    assert found.labels.tolist() == [1, 2]
    assert known is not None
    assert known.float().mean((1, 2)).tolist() == [0.5, 0.0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("loss", ["all", "masks"])
def test_losses_with_and_without_box_only_neighbours(
    config: Any, scene: Any, rule: dict[str, Any], loss: Any
) -> None:
    """Nothing box-only: each rule is the plain loss. Box-only objects: another loss,
    finite. None with a mask: zero.
    """
    batches = {
        masked: scene([(64, 80), (72, 64)], objects=8, masked=masked)
        for masked in ("all", "half", "none")
    }
    found: dict[str, list[float]] = {}
    for options in ({}, rule):
        model = network(config, **options)
        for masked, batch in batches.items():
            torch.manual_seed(9)
            value = model(*batch, loss)["loss_mask"]
            value.backward()
            found.setdefault(masked, []).append(float(value.detach()))
    assert found["all"][0] == pytest.approx(found["all"][1], rel=1e-6)
    assert found["half"][0] != pytest.approx(found["half"][1], rel=1e-6)
    assert found["none"] == [0.0, 0.0]


@pytest.mark.parametrize(
    "options", [*RULES, {"regions": "boxes", "region_jitter": 0.1, "unknown": "ignore"}]
)
@pytest.mark.parametrize("loss", ["all", "masks"])
def test_masks_of_box_only_objects_never_count(
    config: Any, scene: Any, options: dict[str, Any], loss: Any
) -> None:
    """The masks that a file has for objects whose has_mask is false are in no target;
    what is left of them is their box.
    """
    values = []
    for seed in (1, 2):
        images, targets = scene([(64, 80), (72, 64)], objects=8, masked="all")
        own = [t.labels <= 3 for t in targets]
        generator = torch.Generator().manual_seed(seed)
        kept = []
        for target, mask in zip(targets, own, strict=True):
            dense = target.masks.dense()
            dense[~mask] = torch.rand(dense[~mask].shape, generator=generator) > 0.5
            kept.append(
                replace(target, has_mask=mask, masks=MaskCrops.from_dense(dense).select(mask))
            )
        torch.manual_seed(9)
        values.append(network(config, **options)(images, kept, loss)["loss_mask"].detach())
    assert torch.equal(values[0], values[1])
    assert float(values[0]) > 0


def test_own_boxes_are_the_masked_objects_alone_and_jitter_moves_their_sides() -> None:
    boxes = torch.tensor([[10.0, 10, 30, 50], [0, 0, 8, 8], [5, 5, 25, 15]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([1, 2, 3])},
        {"boxes": boxes[:0], "labels": torch.zeros(0).long()},
    ]
    has_mask = [torch.tensor([True, False, True]), torch.zeros(0, dtype=torch.bool)]
    plain = own_boxes(targets, has_mask, 9, jitter=0.0)
    assert torch.equal(plain.boxes[0], boxes[[0, 2]])
    assert plain.matched[0].tolist() == [0, 2]
    assert plain.labels[0].tolist() == [1, 3]
    assert len(plain.boxes[1]) == 0
    assert len(own_boxes(targets, has_mask, 1, jitter=0.0).boxes[0]) == 1
    torch.manual_seed(0)
    size = (boxes[:, 2:] - boxes[:, :2])[[0, 2]].repeat(1, 2)
    moves = torch.stack(
        [
            (own_boxes(targets, has_mask, 9, jitter=0.2).boxes[0] - boxes[[0, 2]]) / size
            for _ in range(200)
        ]
    )
    assert float(moves.abs().max()) <= 0.2 + 1e-6
    assert bool((moves.abs().amax(0) > 0.18).all())
    assert float(moves.mean().abs()) < 0.02


def test_regions_of_boxes_need_no_proposal(
    config: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, targets = scene([(64, 80), (72, 64)], objects=8, masked="half")
    model = network(config, regions="boxes")

    def refuse(*args: Any) -> None:
        raise AssertionError("proposals are not asked for")

    monkeypatch.setattr(model, "_propose", refuse)
    regions = model.mask_regions(images, targets)
    expected = torch.cat([t.labels[t.has_mask] for t in targets])
    assert torch.equal(regions.labels, expected)
    assert torch.equal(
        regions.labels, network(config, regions="boxes").mask_regions(images, targets).labels
    )
    jittered = network(config, regions="boxes", region_jitter=0.3).mask_regions(images, targets)
    assert not torch.equal(jittered.targets, regions.targets)


def test_end_to_end_on_boxes_teaches_the_box_head_as_before(config: Any, scene: Any) -> None:
    batch = scene([(64, 80), (72, 64)], objects=8, masked="half")
    found = []
    for options in ({}, {"regions": "boxes", "region_jitter": 0.2}):
        torch.manual_seed(9)
        found.append(network(config, **options)(*batch, "all"))
    for name in ("loss_objectness", "loss_classifier", "loss_box_reg"):
        assert torch.equal(found[0][name], found[1][name]), name
    assert not torch.equal(found[0]["loss_mask"], found[1]["loss_mask"])


def test_options_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValidationError, match="needs `regions: boxes`"):
        MaskHead(region_jitter=0.1)
    with pytest.raises(ValidationError, match="use group or none"):
        MaskHead(trunk="hourglass", norm="batch")
