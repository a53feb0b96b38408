"""Copy-paste: what is pasted is known, what it covers is taken away, and everything else stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from halfmask.data.augment.augment import Augment
from halfmask.data.augment.paste import COVERED, CopyPaste
from halfmask.data.loader import build_loader
from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops
from halfmask.structures import Target

H, W = 60, 80


class Scenes:
    """Photographs of one flat colour each, with rectangles of another: object k of
    image i has colour (i + 1) / 10 + k / 100.
    """

    def __init__(self, *images: list[tuple[list[int], bool]]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        image = torch.full((3, H, W), (index + 1) / 10)
        rows = self.images[index]
        masks = torch.zeros(len(rows), H, W, dtype=torch.bool)
        for k, ((x0, y0, x1, y1), _) in enumerate(rows):
            masks[k, y0:y1, x0:x1] = True
            image[:, y0:y1, x0:x1] = (index + 1) / 10 + (k + 1) / 100
        has_mask = torch.tensor([known for _, known in rows], dtype=torch.bool)
        boxes = torch.tensor([box for box, _ in rows], dtype=torch.float32).reshape(-1, 4)
        crops = MaskCrops.from_dense(masks[has_mask]) if has_mask.any() else MaskCrops.empty((H, W))
        ids = torch.arange(1, len(rows) + 1)
        return image, Target(
            boxes=boxes,
            labels=torch.full((len(rows),), index + 1),
            has_mask=has_mask,
            masks=crops,
            image_id=index,
            annotation_ids=ids,
        )


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


POOL = Scenes([([10, 10, 40, 40], True), ([50, 5, 70, 30], True), ([0, 0, 9, 9], False)])
GROUND = Scenes([], [([5, 5, 35, 45], True), ([40, 20, 75, 55], False), ([60, 2, 78, 18], True)])


@pytest.mark.parametrize("seed", range(30))
def test_pixels_masks_and_boxes_agree(seed: int) -> None:
    image, target = GROUND[1]
    before = image.clone()
    made, known = CopyPaste(POOL, 1.0)(image, target, generator(seed))
    assert torch.equal(image, before), "the photograph given is not written to"
    masks, labels = known.masks.dense(), known.labels[known.has_mask]
    assert int(masks.sum(0).max()) <= 1, "one pixel, one object"
    pasted = labels == 1
    assert pasted.any()
    own = made[0, masks[pasted].any(0)]
    # Colours of the pool's objects, mixed with the ground at their soft edges.
    assert float((own - 0.1).abs().median()) < 0.03
    below = masks[~pasted].any(0)
    assert ((made[0, below] - before[0, below]).abs() < 0.06).all()
    untouched = (made == before).all(0)
    assert untouched.float().mean() > 0.2
    tight = torch.cat(
        [known.masks.offsets, known.masks.offsets + known.masks.sizes.flip(1)], 1
    ).float()
    assert torch.equal(known.boxes[known.has_mask], tight)
    assert len(known) == len(known.annotation_ids)
    assert (known.annotation_ids[known.labels == 1] == 0).all()


def test_photographs_without_objects_get_some() -> None:
    image, target = GROUND[0]
    made, known = CopyPaste(POOL, 1.0)(image, target, generator(0))
    assert len(known) > 0
    assert known.has_mask.all()
    assert not torch.equal(made, image)


def test_what_is_pasted_over_is_gone() -> None:
    gone_masked = gone_box = 0
    for seed in range(200):
        image, target = GROUND[1]
        _, known = CopyPaste(POOL, 1.0)(image, target, generator(seed))
        old = known.annotation_ids[known.labels == 2].tolist()
        covered = known.masks.dense()[known.labels[known.has_mask] == 1].any(0)
        for number, row in zip((1, 2, 3), range(3), strict=True):
            x0, y0, x1, y1 = (int(v) for v in target.boxes[row])
            share = float(covered[y0:y1, x0:x1].float().mean())
            assert (number in old) == (share <= COVERED), (seed, number, share)
            gone_masked += number not in old and number != 2
            gone_box += number not in old and number == 2
        if 2 in old:
            place = known.annotation_ids.tolist().index(2)
            assert torch.equal(known.boxes[place], target.boxes[1]), (
                "a box without a mask stays the file's"
            )
    assert gone_masked > 0
    assert gone_box > 0


def test_chance_and_seed_decide() -> None:
    image, target = GROUND[1]
    assert CopyPaste(POOL, 0.0)(image, target, generator(0))[0] is image
    changes = [
        not torch.equal(CopyPaste(POOL, 0.5)(image, target, generator(s))[0], image)
        for s in range(100)
    ]
    assert 30 < sum(changes) < 70
    one, two = (CopyPaste(POOL, 1.0)(image, target, generator(7)) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1].boxes, two[1].boxes)


def test_nothing_to_paste() -> None:
    empty = Scenes([], [([3, 3, 30, 30], False)], [([3, 3, 8, 50], True)])
    image, target = GROUND[1]
    for seed in range(10):
        made, known = CopyPaste(empty, 1.0)(image, target, generator(seed))
        assert torch.equal(made, image)
        assert torch.equal(known.boxes, target.boxes)


class WeightedScenes(Scenes):
    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        image, target = super().__getitem__(index)
        return image, replace(target, mask_weight=torch.full((len(target),), 0.5))


def test_weights_travel() -> None:
    image, target = GROUND[1]
    _, known = CopyPaste(WeightedScenes(*POOL.images), 1.0)(image, target, generator(1))
    assert known.mask_weight is not None
    assert known.mask_weight.tolist() == [
        0.5 if label == 1 else 1.0 for label in known.labels.tolist()
    ]
    _, plain = CopyPaste(POOL, 1.0)(image, target, generator(1))
    assert plain.mask_weight is None


def test_objects_come_from_photographs_that_have_masks() -> None:
    """Photographs without masks in the pool, here nine of ten, do not make pasting rarer."""
    pool = Scenes(*([[([3, 3, 30, 30], False)]] * 9), *POOL.images)
    image, target = GROUND[1]
    for seed in range(20):
        made, known = CopyPaste(pool, 1.0, rows=[9])(image, target, generator(seed))
        assert not torch.equal(made, image)
        assert (known.labels == 10).any()
    assert torch.equal(CopyPaste(pool, 1.0, rows=[])(image, target, generator(0))[0], image)


def test_batches_are_the_same_whoever_reads_them() -> None:
    scenes = WeightedScenes(*GROUND.images, *POOL.images)
    augment = Augment(0.5, 0.2, CopyPaste(scenes, 0.8))
    alone, helped = (
        iter(build_loader(scenes, 2, workers, seed=5, augment=augment)) for workers in (0, 2)
    )
    for _ in range(4):
        for (image, target), (same, known) in zip(
            zip(*next(alone), strict=True), zip(*next(helped), strict=True), strict=True
        ):
            assert torch.equal(image, same)
            assert torch.equal(target.boxes, known.boxes)
            assert torch.equal(target.masks.dense(), known.masks.dense())
            assert target.mask_weight is not None
            assert known.mask_weight is not None
            assert torch.equal(target.mask_weight, known.mask_weight)
            assert set(target.mask_weight.tolist()) <= {0.5, 1.0}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_photograph_of_the_pool_is_an_error_of_one_line(workers: int) -> None:
    class Broken(Scenes):
        def __getitem__(self, index: int) -> tuple[Tensor, Target]:
            raise InputError("photos/7.jpg (image id 7): cannot be read")

    augment = Augment(0.0, 0.0, CopyPaste(Broken(*POOL.images), 1.0))
    with pytest.raises(InputError, match=r"^photos/7.jpg \(image id 7\): cannot be read$"):
        next(iter(build_loader(GROUND, 2, workers, seed=5, augment=augment)))
