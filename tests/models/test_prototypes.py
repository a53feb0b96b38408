"""Class vectors from boxes: what they depend on, and that a label changes the mask of
an ambiguous box.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops, iou
from halfmask.models.box_segmenter.build import build_box_segmenter
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.models.box_segmenter.prototypes import class_prototypes
from halfmask.models.mask_rcnn.build import build_mask_branch
from halfmask.recipes.recipe import BoxSegmenterConfig as Config
from halfmask.recipes.recipe import MaskHead
from halfmask.structures import Target

LEFT, RIGHT, UNSEEN = 1, 2, 3


def build(**changes: Any) -> BoxSegmenter:
    torch.manual_seed(0)
    encoder = {"name": "small_resnet", "widths": [12, 16, 24], "blocks": [1, 1, 1]}
    condition = {"input": "prototype", "input_norm": 1.0}
    values = {
        "kind": "box_segmenter",
        "encoder": encoder,
        "crop_size": 32,
        "decoder_widths": [24, 16],
        "condition": condition,
    }
    return build_box_segmenter(Config.model_validate(values | changes), 4)


def scene(seed: int, masked: bool = True) -> tuple[Tensor, Target]:
    """A box of two halves, red and blue, that two objects share; and a clean box of
    each, which says what the class looks like.
    """
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand((3, 48, 96), generator=generator) * 0.3
    red, blue = (
        torch.tensor([0.7, 0.0, 0.0])[:, None, None],
        torch.tensor([0.0, 0.0, 0.7])[:, None, None],
    )
    image[:, 8:40, 4:20] += red
    image[:, 8:40, 20:36] += blue
    image[:, 8:40, 44:60] += red
    image[:, 8:40, 70:86] += blue
    boxes = torch.tensor([[4.0, 8, 36, 40], [4.0, 8, 36, 40], [44.0, 8, 60, 40], [70.0, 8, 86, 40]])
    dense = torch.zeros((4, 48, 96), dtype=torch.bool)
    dense[0, 8:40, 4:20] = dense[1, 8:40, 20:36] = dense[2, 8:40, 44:60] = dense[3, 8:40, 70:86] = (
        True
    )
    has_mask = torch.full((4,), masked)
    return image, Target(
        boxes=boxes,
        labels=torch.tensor([LEFT, RIGHT, LEFT, RIGHT]),
        has_mask=has_mask,
        masks=MaskCrops.from_dense(dense[has_mask]),
    )


def vectors(model: BoxSegmenter, examples: list[tuple[Tensor, Target]], **more: int) -> Tensor:
    return class_prototypes(model.reader, model.encoder.eval(), examples, num_classes=4, **more)


def test_a_vector_for_each_class_that_has_boxes_of_length_one() -> None:
    found = vectors(build(), [scene(0), scene(1)])
    assert found.shape == (3, 24)
    assert found.norm(dim=1).tolist() == pytest.approx([1, 1, 0], abs=1e-5), (
        "the third class has no box"
    )
    assert float(found[0] @ found[1]) < 0.5, "what the classes have in common is gone"


def test_masks_are_not_read() -> None:
    model = build()
    with_masks, without = vectors(model, [scene(0)]), vectors(model, [scene(0, masked=False)])
    assert torch.equal(with_masks, without)


def test_a_class_is_looked_at_so_often_and_no_more() -> None:
    model, one, other = build(), scene(0), scene(5)
    assert torch.equal(vectors(model, [one, other], per_class=2), vectors(model, [one]))
    assert not torch.equal(vectors(model, [one, other], per_class=3), vectors(model, [one]))


def test_no_example_and_one_class() -> None:
    model = build()
    assert not vectors(model, []).any()
    image, target = scene(0)
    alone = replace(target, labels=torch.full((4,), UNSEEN))
    found = vectors(model, [(image, alone)])
    assert found.norm(dim=1).tolist() == pytest.approx([0, 0, 1], abs=1e-5)


def test_the_label_changes_the_mask_of_a_shared_box() -> None:
    model = build(regions_per_image=8)
    examples = [scene(seed) for seed in range(4)]
    model.learn_prototypes(examples)
    assert model.training
    kept = model.class_weights.vectors.clone()  # type: ignore[union-attr]
    images, targets = [e[0] for e in examples], [e[1] for e in examples]
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=5e-3)
    for _ in range(60):
        optimiser.zero_grad()
        torch.stack(list(model(images, targets).values())).sum().backward()
        optimiser.step()
    assert torch.equal(model.class_weights.vectors, kept), "nothing trains them"  # type: ignore[union-attr]
    image, target = scene(9)
    found = model.eval().segment([image], [target.boxes], [target.labels])[0]
    assert float(iou(found.crops(), target.masks).min()) > 0.7
    swapped = model.segment([image], [target.boxes[:2]], [torch.tensor([RIGHT, LEFT])])[0]
    assert float(iou(swapped.crops(), target.masks.select([1, 0])).min()) > 0.7


def test_every_class_begins_nearly_alike() -> None:
    model = build()
    model.learn_prototypes([scene(0)])
    model.eval()
    image, target = scene(0)
    maps = [
        model.segment([image], [target.boxes[:1]], [torch.tensor([k])])[0].mask_probs
        for k in (0, LEFT, RIGHT)
    ]
    spread = float(maps[0].std())
    assert spread > 0.01
    assert float((maps[1] - maps[2]).std()) < 0.5 * spread


def test_a_mask_rcnn_has_rows_of_its_own() -> None:
    head = MaskHead.model_validate(
        {"kind": "transfer", "width": 8, "transfer": {"input": "prototype"}}
    )
    with pytest.raises(InputError, match="prototype is for a box_segmenter"):
        build_mask_branch(head, 8, 4, box_width=16)
