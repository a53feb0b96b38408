"""The box segmenter: what its crops show, what it learns from, and that its answer does
not depend on company.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops, iou
from halfmask.models.box_segmenter.box_losses import BoxSupervision
from halfmask.models.box_segmenter.build import build_box_segmenter
from halfmask.models.box_segmenter.crops import crop_regions, inside_box, resample
from halfmask.models.box_segmenter.inference import mean_of
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.models.box_segmenter.sampler import batch_tightness
from halfmask.recipes.recipe import BoxSegmenterConfig as Config
from halfmask.structures import Target

SMALL = {"name": "small_resnet", "widths": [12, 16, 24], "blocks": [1, 1, 1]}
MOBILENET = {"name": "mobilenet_v2", "norm": "frozen"}


def config(encoder: dict[str, Any] = SMALL, **changes: Any) -> Config:
    values = {
        "kind": "box_segmenter",
        "encoder": encoder,
        "crop_size": 32,
        "decoder_widths": [24, 16, 12],
    }
    return Config.model_validate(values | changes)


def build(encoder: dict[str, Any] = SMALL, num_classes: int = 4, **changes: Any) -> BoxSegmenter:
    torch.manual_seed(0)
    return build_box_segmenter(config(encoder, **changes), num_classes)


def discs(seed: int, count: int = 4, size: tuple[int, int] = (80, 100)) -> tuple[Tensor, Target]:
    """A noisy photograph with bright ellipses that each fill their box, and a bright
    bar through every box that is no object.
    """
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand((3, *size), generator=generator) * 0.4
    ys, xs = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    masks, boxes = [], []
    for _ in range(count):
        w, h = (torch.rand(2, generator=generator) * 20 + 16).round().tolist()
        x = float((torch.rand(1, generator=generator) * (size[1] - w)).round())
        y = float((torch.rand(1, generator=generator) * (size[0] - h)).round())
        masks.append(((xs - x - w / 2) / (w / 2)) ** 2 + ((ys - y - h / 2) / (h / 2)) ** 2 <= 1)
        boxes.append([x, y, x + w, y + h])
        image[:, masks[-1]] += 0.5
    found = Target(
        boxes=torch.tensor(boxes),
        labels=torch.arange(count) % 3 + 1,
        has_mask=torch.ones(count, dtype=torch.bool),
        masks=MaskCrops.from_dense(torch.stack(masks)),
    )
    return image, found


def without_masks(target: Target, keep: list[bool]) -> Target:
    flags = torch.tensor(keep)
    return replace(target, has_mask=flags, masks=target.masks.select(flags))


# --- learning ----------------------------------------------------------------------------------------------------------------------


def test_it_learns_a_tiny_set_and_masks_land_on_the_pixels() -> None:
    model = build(crop_jitter=0.05, regions_per_image=8)
    data = [discs(seed) for seed in range(3)]
    images, targets = [d[0] for d in data], [d[1] for d in data]
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(60):
        losses = model(images, targets)
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
    found = model.eval().segment(images, [t.boxes for t in targets])
    scores = torch.cat([iou(f.crops(), t.masks) for f, t in zip(found, targets, strict=True)])
    assert float(scores.mean()) > 0.85, scores
    quality = torch.cat([f.quality for f in found])
    assert float((quality - scores).abs().mean()) < 0.15


def test_masks_of_box_only_objects_are_never_seen() -> None:
    image, target = discs(1)
    keep = [True, False, True, False]
    stripped = without_masks(target, keep)
    garbage = replace(
        target,
        has_mask=torch.tensor(keep),
        masks=MaskCrops.from_dense(target.masks.dense()[[0, 2]]),
    )  # packed anew from other memory
    losses = []
    for given in (stripped, garbage):
        model = build(crop_jitter=0.1, box_jitter=0.1)
        torch.manual_seed(3)
        losses.append(model([image], [given]))
    assert losses[0]["loss_mask"] == losses[1]["loss_mask"]
    model = build()
    torch.manual_seed(3)
    only = without_masks(target, [True, False, False, False])
    drawn = model.sampler.draw([image], [only], model.mask_size, hide_labels=False)
    assert drawn is not None
    assert drawn.crops.shape == (1, 4, 32, 32)
    assert drawn.labels.tolist() == [int(target.labels[0])]
    region = crop_regions(target.boxes[:1], 0.22)[0]
    share = float(target.masks.areas()[0]) / float(
        (region[2] - region[0]) * (region[3] - region[1])
    )
    assert float(drawn.masks.mean()) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("objects", [0, 2])
def test_a_batch_without_masks_has_finite_losses_and_gradients(objects: int) -> None:
    model = build()
    image, target = discs(0)
    none = Target(
        boxes=target.boxes[:objects],
        labels=target.labels[:objects],
        has_mask=torch.zeros(objects, dtype=torch.bool),
        masks=MaskCrops.empty((80, 100)),
    )
    losses = model([image], [none])
    assert [v.item() for v in losses.values()] == [0.0, 0.0]
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    mixed = model([image, image], [none, target])
    assert mixed["loss_mask"].item() > 0


def test_no_more_regions_than_asked_for() -> None:
    model = build(regions_per_image=2)
    image, target = discs(0, count=5)
    drawn = model.sampler.draw([image], [target], model.mask_size, hide_labels=False)
    assert drawn is not None
    assert len(drawn.crops) == 2


def bar(
    size: tuple[int, int],
    box: list[float],
    own: list[int],
    has_mask: list[bool],
    boxes: list[list[float]],
) -> Target:
    """Objects with boxes; those with a mask fill the rectangle `own` (x0, y0, x1, y1)."""
    dense = torch.zeros(sum(has_mask), *size, dtype=torch.bool)
    dense[:, own[1] : own[3], own[0] : own[2]] = True
    return Target(
        boxes=torch.tensor([box, *boxes], dtype=torch.float32),
        labels=torch.ones(1 + len(boxes), dtype=torch.int64),
        has_mask=torch.tensor(has_mask),
        masks=MaskCrops.from_dense(dense),
    )


def test_cells_in_a_box_only_neighbour_are_unknown_unless_the_mask_covers_them() -> None:
    target = bar((64, 64), [16, 16, 48, 48], [16, 16, 48, 32], [True, False], [[32, 8, 60, 60]])
    image = torch.rand(3, 64, 64)
    for unknown, expected in (("background", 1.0), ("ignore", 0.75)):
        model = build(context=0.0, unknown=unknown)
        drawn = model.sampler.draw([image], [target], model.mask_size, hide_labels=False)
        assert drawn is not None
        assert float(drawn.counts.float().mean()) == pytest.approx(expected, abs=0.07)
        # The upper half is the object's own, whoever else's box it lies in.
        assert drawn.counts[0, : model.mask_size // 2 - 1].all()
    masked = replace(target, has_mask=torch.tensor([True, True]), masks=target.masks.select([0, 0]))
    model = build(context=0.0, unknown="ignore")
    drawn = model.sampler.draw([image], [masked], model.mask_size, hide_labels=False)
    assert drawn is not None
    assert drawn.counts.all(), "a neighbour with a mask hides nothing"


def test_boxes_alone_teach_shape() -> None:
    from_boxes = {"projection": 1.0, "colour": 1.0, "regions_per_image": 8}
    model = build(from_boxes=from_boxes, context=0.2)
    data = [discs(seed) for seed in range(3)]
    images = [d[0] for d in data]
    targets = [without_masks(d[1], [False] * 4) for d in data]
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    history = []
    for _ in range(40):
        losses = model(images, targets)
        assert losses["loss_mask"].item() == losses["loss_dice"].item() == 0
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        history.append(losses["loss_projection"].item())
    assert history[-1] < 0.3 * history[0]
    found = model.eval().segment(images, [t.boxes for t in targets])
    tight = torch.cat([box_iou_of(f) for f in found])
    assert float(tight.mean()) > 0.8, "masks reach the sides of their boxes"


def box_iou_of(found: Any) -> Tensor:
    crops = found.crops()
    own = torch.cat([crops.offsets, crops.offsets + crops.sizes.flip(1)], 1).float()
    return box_iou(own, found.boxes).diagonal()


def test_masked_losses_are_the_same_beside_box_only_objects() -> None:
    image, target = discs(1)
    mixed = without_masks(target, [True, False, True, False])
    losses = []
    for from_boxes in (None, {"projection": 0.0, "colour": 0.0}):
        model = build(from_boxes=from_boxes).eval()  # eval: BatchNorm looks at nobody's company
        torch.manual_seed(3)
        losses.append(model([image], [mixed]))
    assert losses[0]["loss_mask"].item() == pytest.approx(losses[1]["loss_mask"].item(), rel=1e-5)
    assert set(losses[1]) == {"loss_mask", "loss_dice", "loss_projection", "loss_colour"}


def test_the_weight_grows_in_the_warm_up_and_falls_where_boxes_are_loose() -> None:
    supervision = BoxSupervision(1.0, 1.0, warmup=4)
    logits, rgb, inside = (
        torch.randn(2, 8, 8),
        torch.full((2, 3, 16, 16), 0.5),
        torch.zeros(2, 8, 8),
    )
    inside[:, 2:6, 1:7] = 1
    series = [supervision(logits, rgb, inside, 1.0)["loss_projection"].item() for _ in range(6)]
    assert series[0] == 0
    assert series[1:5] == pytest.approx([series[5] * k / 4 for k in (1, 2, 3, 4)])
    assert supervision(logits, rgb, inside, 0.75)["loss_projection"].item() == pytest.approx(
        series[5] / 2
    )
    assert supervision(logits, rgb, inside, 0.4)["loss_projection"].item() == 0
    assert supervision(logits, rgb, inside, 0.4)["loss_colour"].item() > 0
    assert supervision(logits[:0], rgb[:0], inside[:0], None)["loss_colour"].item() == 0


def test_tightness_compares_boxes_with_their_masks() -> None:
    target = bar((64, 64), [10, 10, 50, 30], [10, 10, 30, 30], [True, False], [[0, 0, 9, 9]])
    assert batch_tightness([target, target]) == pytest.approx(0.5)
    assert batch_tightness([without_masks(target, [False, False])]) is None


def test_box_losses_do_not_exist() -> None:
    image, target = discs(0)
    with pytest.raises(InputError, match="no box losses"):
        build()([image], [target], "boxes")


def test_the_mask_of_a_loose_box_may_go_beyond_it_where_it_is_told_to() -> None:
    data = [discs(seed) for seed in range(3)]
    images, targets = [d[0] for d in data], [d[1] for d in data]
    cut = [
        t.boxes + torch.tensor([0.2, 0.0, 0.0, 0.0]) * (t.boxes[:, 2:3] - t.boxes[:, :1])
        for t in targets
    ]
    model = build(box_jitter=0.25, box_reach=0.2, regions_per_image=8)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(80):
        optimiser.zero_grad()
        torch.stack(list(model(images, targets).values())).sum().backward()
        optimiser.step()
    scores = {}
    for loose in (False, True, False):
        model.eval().expect_loose_boxes(loose)
        found = model.segment(images, cut)
        assert all(torch.equal(f.boxes, b) for f, b in zip(found, cut, strict=True)), (
            "the boxes stay as given"
        )
        scores[loose] = float(
            torch.cat([iou(f.crops(), t.masks) for f, t in zip(found, targets, strict=True)]).mean()
        )
    assert scores[True] > scores[False] + 0.02, scores
    tight = model.segment(images, [t.boxes for t in targets])
    scores = torch.cat([iou(f.crops(), t.masks) for f, t in zip(tight, targets, strict=True)])
    assert float(scores.mean()) > 0.85, scores


def test_a_model_that_saw_no_loose_box_takes_every_box_as_it_is() -> None:
    image, target = discs(0)
    model = build().eval()
    before = model.segment([image], [target.boxes])[0]
    model.expect_loose_boxes(True)
    after = model.segment([image], [target.boxes])[0]
    assert not model.knows_loose_boxes
    assert torch.equal(after.mask_probs, before.mask_probs)
    assert after.reach == before.reach == 0.0


# --- the answer -------------------------------------------------------------------------------------------------------------------


def test_boxes_of_many_images_at_once_equal_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build().eval()
    data = [discs(seed, count=3 + 4 * seed) for seed in range(3)]
    images, boxes = [d[0] for d in data], [d[1].boxes for d in data]
    boxes[1] = boxes[1][:0]
    monkeypatch.setattr("halfmask.models.box_segmenter.model.CHUNK", 4)
    together = model.segment(images, boxes)
    monkeypatch.setattr("halfmask.models.box_segmenter.model.CHUNK", 1)
    for image, places, found in zip(images, boxes, together, strict=True):
        assert found.mask_probs.shape == (len(places), 16, 16)
        if len(places):
            alone = model.segment([image], [places])[0]
            assert torch.allclose(found.mask_probs, alone.mask_probs, atol=1e-5)
            assert torch.allclose(found.quality, alone.quality, atol=1e-5)
    assert len(together[1]) == 0


def test_no_images_and_no_boxes() -> None:
    model = build().eval()
    assert model.segment([], []) == []
    found = model.segment([torch.rand(3, 30, 30)], [torch.zeros(0, 4)])[0]
    assert len(found) == 0
    assert found.rle() == []


def test_evaluation_has_no_randomness() -> None:
    model = build(box_jitter=0.3, crop_jitter=0.3).eval()
    image, target = discs(2)
    first = model.segment([image], [target.boxes])[0]
    torch.manual_seed(99)
    again = model.segment([image], [target.boxes])[0]
    assert torch.equal(first.mask_probs, again.mask_probs)


@pytest.mark.parametrize(
    ("box", "columns", "rows"),
    [
        ([-30.0, -30.0, 20.0, 20.0], (0, 20), (0, 20)),
        ([90.0, 70.0, 140.0, 95.0], (90, 100), (70, 80)),
        ([40.0, 40.0, 41.0, 41.0], (40, 41), (40, 41)),
        ([40.2, 40.6, 40.6, 40.8], (40, 41), (40, 41)),
        ([10.4, 10.6, 20.4, 20.6], (10, 20), (11, 21)),
        ([0.0, 0.0, 100.0, 80.0], (0, 100), (0, 80)),
        ([0.0, 30.0, 100.0, 31.0], (0, 100), (30, 31)),
    ],
)
def test_boxes_at_the_edge_tiny_and_thin(
    box: list[float], columns: tuple[int, int], rows: tuple[int, int]
) -> None:
    model = build().eval()
    nn.init.constant_(model.predictor.conv.bias, 20.0)  # type: ignore[union-attr, arg-type]
    found = model.segment([torch.rand(3, 80, 100)], [torch.tensor([box])])[0]
    assert torch.isfinite(found.mask_probs).all()
    assert 0.9 <= float(found.quality[0]) <= 1.0
    dense = found.masks()[0]
    ys, xs = torch.where(dense)
    # Everything is mask, so it fills the pixels whose centre the box holds (a box
    # thinner than a pixel keeps one), and no other.
    assert (int(xs.min()), int(xs.max()) + 1) == columns
    assert (int(ys.min()), int(ys.max()) + 1) == rows


def test_a_box_beside_the_image_gets_an_empty_mask_of_no_quality() -> None:
    found = (
        build()
        .eval()
        .segment([torch.rand(3, 40, 40)], [torch.tensor([[50.0, 50.0, 70.0, 70.0]])])[0]
    )
    assert int(found.masks().sum()) == 0
    assert float(found.quality[0]) == 0.0


def test_it_finds_no_boxes_itself() -> None:
    model = build()
    assert not model.has_detector
    with pytest.raises(InputError, match="pass a detector"):
        model.detect([torch.rand(3, 32, 32)])


# --- modules ----------------------------------------------------------------------------------------------------------------------


def test_parts_own_every_parameter_once_and_gradient_reaches_all() -> None:
    model = build(MOBILENET, crop_size=64, decoder_widths=[24, 16, 12, 8])
    owned = [id(p) for part in model.parts().values() for p in part.parameters()]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())
    image, target = discs(0)
    torch.stack(list(model([image], [target]).values())).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
    stem = next(p for p in model.encoder.parameters())
    assert stem.grad is not None
    assert float(stem.grad.abs().sum()) > 0
    assert float(stem.grad[:, 3].abs().sum()) > 0  # the box channel


def test_class_vectors_change_the_mask_and_can_be_left_out() -> None:
    model = build(
        condition={"input": "random", "embedding_size": 8, "input_norm": 3.0, "layers": 1}
    ).eval()
    assert model.needs_labels
    image, target = discs(0)
    boxes = target.boxes
    ones, twos = torch.ones(len(boxes), dtype=torch.int64), torch.full((len(boxes),), 2)
    first, second = (model.segment([image], [boxes], [labels])[0] for labels in (ones, twos))
    assert not torch.allclose(first.mask_probs, second.mask_probs, atol=1e-3)
    assert second.labels.tolist() == twos.tolist()
    unknown = model.segment([image], [boxes])[0]
    zeros = model.segment([image], [boxes], [torch.zeros_like(ones)])[0]
    assert torch.equal(unknown.mask_probs, zeros.mask_probs)
    torch.stack(list(model.train()([image], [target]).values())).sum().backward()
    assert all(p.grad is not None for p in model.predictor.parameters())


def test_labels_do_not_matter_without_conditioning() -> None:
    model = build().eval()
    assert not model.needs_labels
    image, target = discs(0)
    assert torch.equal(
        model.segment([image], [target.boxes])[0].mask_probs,
        model.segment([image], [target.boxes], [target.labels])[0].mask_probs,
    )


def test_with_mirror_a_crop_and_its_mirror_image_have_mirrored_masks() -> None:
    plain, mirrored = build().eval(), build(mirror=True).eval()
    generator = torch.Generator().manual_seed(1)
    crops, labels = (
        torch.rand((3, 4, 32, 32), generator=generator),
        torch.zeros(3, dtype=torch.int64),
    )
    with torch.no_grad():
        here = mean_of(mirrored.readings(crops, labels))
        there = mean_of(mirrored.readings(crops.flip(3), labels))
        torch.testing.assert_close(there, here.flip(2))
        (once,), (flipped,) = plain.readings(crops, labels), plain.readings(crops.flip(3), labels)
        assert not torch.allclose(flipped, once.flip(2))
        torch.testing.assert_close(here, (once + flipped.flip(2)) / 2)


def test_zooms_average_what_each_context_gives_in_the_image_s_frame() -> None:
    """One context alone is the plain model; of two, the mean over the closer one's region."""
    image, target = discs(0)
    boxes = target.boxes
    alone = {c: build(context=c).eval() for c in (0.1, 0.4)}
    found = {c: model.segment([image], [boxes])[0] for c, model in alone.items()}
    one = build(context=0.4, zooms=[0.1]).eval().segment([image], [boxes])[0]
    torch.testing.assert_close(one.mask_probs, found[0.1].mask_probs)
    both = build(context=0.3, zooms=[0.4, 0.1]).eval().segment([image], [boxes])[0]
    torch.testing.assert_close(both.regions, crop_regions(boxes, 0.1))
    moved = resample(found[0.4].mask_probs, crop_regions(boxes, 0.4), crop_regions(boxes, 0.1))
    torch.testing.assert_close(both.mask_probs, (found[0.1].mask_probs + moved) / 2)
    assert len(build(zooms=[0.1, 0.2]).segment([image], [boxes[:0]])[0].mask_probs) == 0


def test_a_mask_cut_at_its_greatest_expected_iou_keeps_its_score_and_is_another_mask() -> None:
    torch.manual_seed(0)
    half = build().eval()
    best = build(decision="best_iou").eval()
    best.load_state_dict(half.state_dict())
    image, target = discs(0)
    (one,), (other,) = (model.segment([image], [target.boxes]) for model in (half, best))
    assert torch.equal(one.quality, other.quality)
    assert not torch.equal(one.mask_probs >= 0.5, other.mask_probs >= 0.5)
    visible = inside_box(target.boxes, one.regions, half.mask_size) > 0.5
    found = [(d.mask_probs * visible >= 0.5) for d in (one, other)]
    seen = one.mask_probs * visible
    expected = [
        (seen * m).sum((1, 2)) / (m.sum((1, 2)) + (seen * ~m).sum((1, 2))).clamp_min(1e-6)
        for m in found
    ]
    assert (expected[1] >= expected[0] - 1e-6).all()


# --- the other boxes of a photograph ------------------------------------------------------------------------------------------------


def test_neighbours_change_an_answer_and_their_order_does_not() -> None:
    model = build(neighbours=True, zooms=[0.1, 0.3], mirror=True).eval()
    first = next(m for m in model.encoder.modules() if isinstance(m, nn.Conv2d))
    assert not first.weight[:, 3:].any(), "the initial answers are those of a model without"
    nn.init.normal_(first.weight[:, 4:])
    image, target = discs(1, count=40)
    found = model.segment([image, image], [target.boxes, target.boxes[:5]])
    turned = model.segment([image], [target.boxes.flip(0)])[0]
    torch.testing.assert_close(turned.mask_probs.flip(0), found[0].mask_probs, atol=1e-4, rtol=0)
    assert float((found[0].mask_probs[:5] - found[1].mask_probs).abs().max()) > 1e-3
    alone = torch.cat([model.segment([image], [box[None]])[0].mask_probs for box in target.boxes])
    nn.init.zeros_(first.weight[:, 4:])
    none = model.segment([image], [target.boxes])[0].mask_probs
    torch.testing.assert_close(alone, none, atol=1e-4, rtol=0)


def test_training_crops_show_the_other_boxes_except_in_some() -> None:
    model = build(neighbours=True, regions_per_image=40)
    image, target = discs(2, count=40)
    torch.manual_seed(0)
    drawn = model.sampler.draw([image], [target], model.mask_size, hide_labels=False)
    assert drawn is not None
    assert drawn.crops.shape == (40, 6, 32, 32)
    shown = drawn.crops[:, 4:].flatten(1).any(1)
    assert 0.5 < float(shown.float().mean()) < 0.95
    assert model.sampler.nothing([image], 8).crops.shape == (0, 6, 32, 32)


def test_settled_masks_overlap_less_and_lie_in_the_masks_of_before() -> None:
    image, target = discs(3, count=12)
    before = build(mirror=True).eval().segment([image], [target.boxes])[0]
    model = build(mirror=True, settle=True).eval()
    found = model.segment([image], [target.boxes])[0]
    assert (found.mask_probs <= before.mask_probs).all()
    assert torch.equal(found.quality, before.quality)
    alone = model.segment([image], [target.boxes[:1]])[0]
    torch.testing.assert_close(alone.mask_probs, before.mask_probs[:1], atol=1e-5, rtol=0)
