"""Random changes keep image, boxes and masks together, and depend on nothing but the generator."""

import pytest
import torch

from halfmask.data.augment.augment import Augment, mirror
from halfmask.masks.crops import MaskCrops
from halfmask.structures import Target

H, W = 20, 30


def example(objects: int = 3, masked: int = 2) -> tuple[torch.Tensor, Target]:
    generator = torch.Generator().manual_seed(objects)
    image = torch.rand(3, H, W, generator=generator)
    low = torch.rand(objects, 2, generator=generator) * 10
    boxes = torch.cat([low, low + 1 + torch.rand(objects, 2, generator=generator) * 9], 1)
    dense = torch.rand(masked, H, W, generator=generator) > 0.9
    has_mask = torch.arange(objects) < masked
    labels = torch.arange(1, objects + 1)
    return image, Target(
        boxes=boxes,
        labels=labels,
        has_mask=has_mask,
        masks=MaskCrops.from_dense(dense),
        image_id=5,
        annotation_ids=torch.arange(objects),
    )


@pytest.mark.parametrize(("objects", "masked"), [(3, 2), (1, 0), (0, 0)])
def test_mirror_moves_image_boxes_and_masks_together(objects: int, masked: int) -> None:
    image, target = example(objects, masked)
    mirrored, moved = mirror(image, target)
    assert torch.equal(mirrored, image.flip(-1))
    assert torch.equal(moved.masks.dense(), target.masks.dense().flip(-1))
    assert torch.allclose(moved.boxes[:, 0], W - target.boxes[:, 2])
    assert torch.allclose(
        moved.boxes[:, 2] - moved.boxes[:, 0], target.boxes[:, 2] - target.boxes[:, 0], atol=1e-5
    )
    assert torch.equal(moved.boxes[:, 1::2], target.boxes[:, 1::2])
    assert torch.equal(moved.annotation_ids, target.annotation_ids)
    back, again = mirror(mirrored, moved)
    assert torch.equal(back, image)
    assert torch.allclose(again.boxes, target.boxes, atol=1e-5)
    assert torch.equal(again.masks.dense(), target.masks.dense())


def test_nothing_to_do_changes_nothing() -> None:
    image, target = example()
    changed, same = Augment()(image, target, torch.Generator().manual_seed(0))
    assert torch.equal(changed, image)
    assert same is target


def test_always_and_never_flip_and_the_share_between() -> None:
    image, target = example()
    flips = 0
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        flips += not torch.equal(Augment(flip=0.3)(image, target, generator)[0], image)
        assert torch.equal(Augment(flip=1.0)(image, target, generator)[0], image.flip(-1))
    assert 40 < flips < 80


def test_colours_change_within_bounds_and_geometry_does_not() -> None:
    image, target = example()
    means = []
    for seed in range(50):
        changed, same = Augment(colour_jitter=0.4)(
            image, target, torch.Generator().manual_seed(seed)
        )
        assert same is target
        assert changed.min() >= 0
        assert changed.max() <= 1
        means.append(float(changed.mean() / image.mean()))
    assert 0.55 < min(means) < 0.85
    assert 1.1 < max(means) < 1.4


def test_the_generator_decides() -> None:
    image, target = example()
    augment = Augment(0.5, 0.5)
    first, second = (augment(image, target, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1].boxes, second[1].boxes)
    others = [augment(image, target, torch.Generator().manual_seed(s))[0] for s in range(5, 9)]
    assert not any(torch.equal(first[0], other) for other in others)


def test_colours_do_not_depend_on_whether_mirrors_are_on() -> None:
    image, target = example()
    plain = Augment(0.0, 0.5)(image, target, torch.Generator().manual_seed(4))[0]
    flipped = Augment(1.0, 0.5)(image, target, torch.Generator().manual_seed(4))[0]
    assert torch.allclose(flipped, plain.flip(-1), atol=1e-6)


def test_half_of_the_examples_are_turned_by_their_own_angle() -> None:
    image, target = example()
    turned = []
    for seed in range(200):
        changed, moved = Augment(rotation=20.0)(image, target, torch.Generator().manual_seed(seed))
        again, _ = Augment(rotation=20.0)(image, target, torch.Generator().manual_seed(seed))
        assert torch.equal(changed, again)
        if not torch.equal(changed, image):
            turned.append(float((changed - image).abs().mean()))
            assert moved.loose_box is not None
    assert 70 < len(turned) < 130
    assert len(set(turned)) == len(turned)
