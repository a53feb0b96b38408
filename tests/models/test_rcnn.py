"""PartialMaskRCNN: who teaches what, where gradients go, given boxes, and batches in
which something is missing.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops, iou
from halfmask.masks.sample import sample
from halfmask.models.build import build_model
from halfmask.models.mask_rcnn import model as rcnn
from halfmask.models.mask_rcnn.box_heads import region_pool
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.structures import Target

CLASSES = 6
SIZES = [(64, 80), (72, 64)]
BOX_LOSSES = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
KINDS = ["agnostic", "per_class", "transfer"]


def build(config: Any, classes: int = CLASSES, seed: int = 0, **mask_head: Any) -> PartialMaskRCNN:
    torch.manual_seed(seed)
    model = build_model(config(**mask_head), classes)
    assert isinstance(model, PartialMaskRCNN)
    return model


def losses(
    model: PartialMaskRCNN, batch: tuple[list[Tensor], list[Target]], loss: Any = "all"
) -> dict[str, Tensor]:
    torch.manual_seed(9)
    return model(*batch, loss)


def nothing(size: tuple[int, int]) -> Target:
    none = torch.zeros(0, dtype=torch.int64)
    return Target(
        boxes=torch.zeros(0, 4), labels=none, has_mask=none.bool(), masks=MaskCrops.empty(size)
    )


def test_parts_own_every_parameter_once(config: Any) -> None:
    model = build(config, mlp="full")
    owned = [p for part in model.parts().values() for p in part.parameters()]
    assert len(owned) == len({id(p) for p in owned})
    assert {id(p) for p in owned} == {id(p) for p in model.parameters()}
    assert list(model.parts()) == ["backbone", "fpn", "rpn", "box_head", "mask_head"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["all", "boxes", "masks"])
def test_losses_by_name(config: Any, scene: Any, kind: str, loss: str) -> None:
    model = build(config, kind=kind)
    calls: list[int] = []
    model.mask_branch.register_forward_hook(lambda *_: calls.append(1))
    found = losses(model, scene(SIZES, masked="half"), loss)
    expected = {"all": BOX_LOSSES | {"loss_mask"}, "boxes": BOX_LOSSES, "masks": {"loss_mask"}}[
        loss
    ]
    assert set(found) == expected
    assert len(calls) == ("loss_mask" in expected)
    assert all(torch.isfinite(v) and v.ndim == 0 and v.detach() > 0 for v in found.values())


def test_box_losses_do_not_depend_on_masks(config: Any, scene: Any) -> None:
    model = build(config)
    found = [losses(model, scene(SIZES, masked=m)) for m in ("all", "half", "none")]
    only_boxes = losses(model, scene(SIZES, masked="half"), "boxes")
    for name in BOX_LOSSES:
        assert all(torch.equal(f[name], only_boxes[name]) for f in found), name


def test_mask_regions_are_of_masked_objects_alone(config: Any, scene: Any) -> None:
    model = build(config)
    images, targets = scene(SIZES, objects=8, masked="half")
    regions = model.mask_regions(images, targets)
    assert len(regions.labels) >= sum(int(t.has_mask.sum()) for t in targets)
    assert set(regions.labels.tolist()) <= {1, 2, 3}
    assert regions.features.shape == (len(regions.labels), 16, 6, 6)
    assert regions.targets.shape == (len(regions.labels), 12, 12)
    assert not regions.features.requires_grad


def test_targets_are_drawn_in_the_frame_of_the_original_image(config: Any, scene: Any) -> None:
    """Pictures are resized, masks never: the objects' own boxes get exactly the masks
    that the original frame gives them.
    """
    model = build(config)
    images, targets = scene([(150, 130), (40, 50)], objects=3, masked="half", seed=3)
    regions = model.mask_regions(images, targets)
    for target in targets:
        rows = target.mask_row[target.has_mask]
        expected = sample(target.masks, rows, target.boxes[target.has_mask], size=12)
        for one in expected:
            assert float((regions.targets - one).abs().amax(dim=(1, 2)).min()) < 1e-3


def test_mask_loss_with_a_frozen_detector(config: Any, scene: Any) -> None:
    model = build(config)
    batch = scene(SIZES, masked="half")
    detector = [part for name, part in model.parts().items() if name != "mask_head"]
    for part in detector:
        part.eval().requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found = losses(model, batch, "masks")["loss_mask"]
    found.backward()
    assert all(p.grad is None for part in detector for p in part.parameters())
    assert all(p.grad is not None for p in model.mask_branch.parameters())
    assert all(
        torch.equal(v, before[k]) for k, v in model.state_dict().items()
    )  # BatchNorm's statistics too
    torch.manual_seed(9)
    assert torch.equal(model.mask_loss(model.mask_regions(*batch)), found)


def test_training_flags_are_left_as_they_were(config: Any, scene: Any) -> None:
    model = build(config).eval()
    batch = scene(SIZES)
    for loss in ("all", "boxes", "masks"):
        assert all(torch.isfinite(v) for v in losses(model, batch, loss).values())
    model.detect(batch[0])
    assert not any(m.training for m in model.modules())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", ["all", "boxes", "masks"])
def test_batches_without_objects_or_masks(config: Any, scene: Any, kind: str, loss: str) -> None:
    images, targets = scene(SIZES, masked="none")
    for case in (targets, [nothing(s) for s in SIZES], [targets[0], nothing(SIZES[1])]):
        model = build(config, kind=kind, mlp="full")
        found = losses(model, (images, case), loss)
        assert all(torch.isfinite(v) for v in found.values())
        torch.stack(list(found.values())).sum().backward()
        if loss != "boxes":
            assert float(found["loss_mask"].detach()) == 0.0
            for name, parameter in model.mask_branch.named_parameters():
                assert parameter.grad is not None, name
                assert not parameter.grad.any(), name


def test_a_mask_head_on_cached_regions_overfits(config: Any, scene: Any) -> None:
    model = build(config, width=24)
    regions = model.mask_regions(*scene(SIZES, objects=4))
    optimiser = torch.optim.Adam(model.mask_branch.parameters(), 0.01)
    history = []
    for _ in range(200):
        optimiser.zero_grad()
        loss = model.mask_loss(regions)
        loss.backward()
        optimiser.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.35 * history[0]


@pytest.mark.parametrize("kind", KINDS)
def test_segment_gives_what_detect_gives(config: Any, scene: Any, kind: str) -> None:
    model = build(config, kind=kind).eval()
    images = scene([(64, 64), (64, 96)])[0]  # not resized, so that boxes travel without rounding
    found = model.detect(images)
    again = model.segment(images, [f.boxes for f in found], [f.labels for f in found])
    for a, b in zip(found, again, strict=True):
        assert len(a) > 0
        assert torch.equal(a.boxes, b.boxes)
        assert torch.equal(a.labels, b.labels)
        torch.testing.assert_close(a.mask_probs, b.mask_probs)
        torch.testing.assert_close(a.quality, b.quality)
        assert bool((b.scores == 1).all())
        assert a.image_size == tuple(images[0].shape[-2:]) or a.image_size == tuple(
            images[1].shape[-2:]
        )


def test_segment_finds_labels_that_are_not_given(config: Any, scene: Any) -> None:
    images, targets = scene([(100, 90), (64, 64)])
    boxes = [t.boxes for t in targets]
    model = build(config, transfer={"input": "cls", "input_norm": 3.0}).eval()
    free = model.segment(images, boxes)
    features, placed, sizes = model._place(images, boxes)
    logits = model.box_heads.box_predictor(
        model.box_heads.box_head(model.box_heads.box_roi_pool(features, placed, sizes))
    )[0]
    probability = logits.detach().softmax(1)
    labels = torch.cat([f.labels for f in free])
    assert torch.equal(labels, probability[:, 1:].argmax(1) + 1)
    torch.testing.assert_close(
        torch.cat([f.scores for f in free]), probability[torch.arange(len(labels)), labels]
    )
    mixed = [
        torch.where(torch.arange(len(b)) % 2 == 0, f.labels, 0)
        for b, f in zip(boxes, free, strict=True)
    ]
    for a, b in zip(free, model.segment(images, boxes, mixed), strict=True):
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.mask_probs, b.mask_probs)
        assert bool((b.scores[::2] == 1).all())


def test_class_agnostic_segment_asks_for_no_label(config: Any, scene: Any) -> None:
    model = build(config, kind="agnostic").eval()
    images, targets = scene(SIZES)
    assert not model.needs_labels
    for found in model.segment(images, [t.boxes for t in targets]):
        assert not found.labels.any()
        assert bool((found.scores == 1).all())


def test_segment_edges(config: Any, scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(config).eval()
    images, targets = scene(SIZES, objects=7)
    boxes, labels = [t.boxes for t in targets], [t.labels for t in targets]
    assert model.segment([], []) == []
    assert model.detect([]) == []
    empty = [torch.zeros(0, 4), boxes[1]]
    first, second = model.segment(images, empty, [labels[0][:0], labels[1]])
    assert len(first) == 0
    assert first.mask_probs.shape == (0, 12, 12)
    whole = model.segment(images, boxes, labels)
    torch.testing.assert_close(second.mask_probs, whole[1].mask_probs)
    assert [len(f) for f in model.segment(images, [torch.zeros(0, 4)] * 2)] == [0, 0]
    monkeypatch.setattr(rcnn, "CHUNK", 3)
    for a, b in zip(whole, model.segment(images, boxes, labels), strict=True):
        torch.testing.assert_close(a.mask_probs, b.mask_probs)
    with pytest.raises(InputError, match=r"expected 1…5 \(0 where unknown\), found 1…6|found .*…6"):
        model.segment(images, boxes, [labels[0], torch.full_like(labels[1], CLASSES)])


def test_a_picture_alone_gives_the_masks_it_gives_in_a_batch_of_its_size(
    config: Any, scene: Any
) -> None:
    """(Beside larger pictures it is padded, and convolutions see the padding;
    torchvision has that too.)
    """
    model = build(config).eval()
    images, targets = scene([(64, 96), (64, 96), (64, 96)])
    boxes, labels = [t.boxes for t in targets], [t.labels for t in targets]
    batch = model.segment(images, boxes, labels)
    alone = model.segment(images[2:], boxes[2:], labels[2:])
    torch.testing.assert_close(alone[0].mask_probs, batch[2].mask_probs, rtol=1e-4, atol=1e-5)


def test_cached_pieces_make_the_same_masks(config: Any, scene: Any) -> None:
    model = build(config).eval()
    images, targets = scene(SIZES)
    boxes, labels = [t.boxes for t in targets], [t.labels for t in targets]
    pooled = model.mask_probs(model.pool(images, boxes), torch.cat(labels))
    segmented = torch.cat([f.mask_probs for f in model.segment(images, boxes, labels)])
    torch.testing.assert_close(pooled, segmented)
    found = model.detect_boxes(images)
    detected = torch.cat([f.mask_probs for f in model.detect(images)])
    probs = model.mask_probs(
        torch.cat([f.features for f in found]), torch.cat([f.labels for f in found])
    )
    torch.testing.assert_close(probs, detected)


class _Shapes(TorchDispatchMode):
    """Notes the shape of every tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, Tensor):
                self.shapes.add(tuple(value.shape))
        return out


@pytest.mark.parametrize("classes", [CLASSES, 501])
def test_nothing_of_size_objects_by_image_or_classes_by_map(
    config: Any, scene: Any, classes: int
) -> None:
    model = build(config, classes, transfer={"input": "cls"})
    size = (61, 83)
    batch = scene([size], objects=37, classes=classes)
    with _Shapes() as seen:
        model(*batch)
        model.eval().detect(batch[0])
    assert (1, 3, *size) in seen.shapes or (3, *size) in seen.shapes
    assert not [s for s in seen.shapes if s[-2:] == size and (s[0] > 3 or len(s) > 4)]
    assert not [s for s in seen.shapes if s[-2:] == (12, 12) and classes in s]


def test_scales_of_training_and_inference(config: Any, scene: Any) -> None:
    recipe = config()
    recipe = recipe.model_copy(
        update={"images": recipe.images.model_copy(update={"min_size": [32, 48, 64]})}
    )
    model = build(lambda: recipe)
    seen: list[int] = []
    model.backbone.register_forward_pre_hook(
        lambda module, inputs: seen.append(min(inputs[0].shape[-2:]))
    )
    batch = scene([(64, 64)])
    for _ in range(12):
        model(*batch, "boxes")
    assert set(seen) == {32, 64}  # 48 is padded to 64
    seen.clear()
    for _ in range(4):
        model.train().detect(batch[0])
    assert set(seen) == {64}


def test_masks_lie_where_they_were_learnt(
    config: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that predicts its training targets exactly gives the objects' masks back,
    not half a pixel aside.
    """
    model = build(config, roi_size=14).eval()
    images, targets = scene([(96, 96)], objects=6, seed=1)
    drawn = sample(targets[0].masks, torch.arange(6), targets[0].boxes, size=28)
    monkeypatch.setattr(model, "mask_probs", lambda features, labels: drawn)
    found = model.segment(images, [targets[0].boxes], [targets[0].labels])[0]
    assert float(iou(found.crops(), targets[0].masks).mean()) > 0.985
    aside = replace(found, regions=found.boxes)
    assert float(iou(aside.crops(), targets[0].masks).mean()) < 0.96


def test_region_pool_knows_its_scales_on_small_pictures() -> None:
    """torchvision alone takes stride 32 for 16 here: the picture is 65 px, padded to 96."""
    ramp = {
        str(i): (torch.arange(96 // s) * s + s / 2).float().expand(1, 1, 96 // s, -1)
        for i, s in enumerate((4, 32))
    }
    pool = region_pool([32], 1, 2)
    centre = float(pool({"0": ramp["1"]}, [torch.tensor([[16.0, 16.0, 64.0, 64.0]])], [(65, 65)]))
    assert centre == pytest.approx(
        40 + 16
    )  # not aligned: half a cell to the right, as in torchvision
    both = region_pool([4, 8], 1, 2)
    assert both.scales == [0.25, 0.125]
    assert (both.map_levels.k_min, both.map_levels.k_max) == (2, 3)
