"""Distillation: a look learns the mean of a teacher's looks, with and without masks."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from halfmask.masks.crops import MaskCrops
from halfmask.models.box_segmenter.build import build_box_segmenter
from halfmask.models.box_segmenter.crops import crop_regions
from halfmask.models.box_segmenter.looks import Distillation
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.recipes.recipe import BoxSegmenterConfig
from halfmask.structures import Target

torch.set_num_threads(1)


def build(seed: int = 0, **changes: Any) -> BoxSegmenter:
    torch.manual_seed(seed)
    values = {
        "kind": "box_segmenter",
        "encoder": {"name": "small_resnet", "widths": [12, 16, 24], "blocks": [1, 1, 1]},
        "crop_size": 32,
        "decoder_widths": [24, 16, 12],
        "mirror": True,
        "zooms": [0.1, 0.22, 0.4],
    }
    return build_box_segmenter(BoxSegmenterConfig.model_validate(values | changes), 3)


def taught(student: BoxSegmenter, teacher: BoxSegmenter | None, **changes: Any) -> BoxSegmenter:
    values = {"weight": 1.0, "regions_per_image": 4, "teacher": teacher}
    student.sampler.distillation = Distillation(**(values | changes))
    return student


def photograph(masked: int, objects: int = 3) -> tuple[Tensor, Target]:
    generator = torch.Generator().manual_seed(5)
    boxes = torch.tensor(
        [[4.0, 6.0, 40.0, 50.0], [30.0, 20.0, 78.0, 60.0], [10.0, 5.0, 60.0, 66.0]]
    )
    dense = torch.rand((masked, 70, 80), generator=generator) > 0.5
    target = Target(
        boxes=boxes[:objects],
        labels=torch.ones(objects, dtype=torch.int64),
        has_mask=torch.arange(objects) < masked,
        masks=MaskCrops.from_dense(dense) if masked else MaskCrops.empty((70, 80)),
    )
    return torch.rand((3, 70, 80), generator=generator), target


def test_looks_are_the_mean_over_contexts_and_mirror() -> None:
    teacher = build().eval()
    image, target = photograph(0)
    teaching = Distillation(1.0, 4, teacher=teacher)
    closest = crop_regions(target.boxes, 0.1)
    found = teaching.looks(image, target.boxes, target.labels, regions=closest)
    # `segment` without a decision gives the same map.
    wanted = teacher.segment([image], [target.boxes])[0].mask_probs
    assert torch.allclose(found, wanted, atol=1e-6)
    # On other regions it is the same map there.
    wider = teaching.looks(
        image, target.boxes, target.labels, regions=crop_regions(target.boxes, 0.3)
    )
    shrunk = F.interpolate(found[:, None], size=12, mode="bilinear", align_corners=False)[:, 0]
    assert float((wider[:, 2:-2, 2:-2] - shrunk).abs().mean()) < 0.03


def test_the_loss_is_cross_entropy_with_the_teacher_s_answer() -> None:
    student, teacher = build(seed=1), build(seed=0).eval()
    taught(student, teacher, weight=0.5)
    image, target = photograph(masked=1)
    torch.manual_seed(0)
    batch = student.sampler.draw([image], [target], student.mask_size, hide_labels=False)
    assert batch is not None
    assert len(batch.labels) == 3, "objects without masks too"
    regions = crop_regions(target.boxes, 0.22)
    wanted = student.sampler.distillation.looks(image, target.boxes, target.labels, regions=regions)
    assert torch.allclose(batch.looks, wanted, atol=1e-5)
    torch.manual_seed(0)
    losses = student([image], [target])
    logits = student.logits(batch.crops, batch.labels)
    each = [
        F.binary_cross_entropy_with_logits(row[seen], look[seen])
        for row, look, seen in zip(logits, batch.looks, batch.counts, strict=True)
    ]
    assert losses["loss_looks"].item() == pytest.approx(
        0.5 * torch.stack(each).mean().item(), rel=1e-3
    )


def test_boxes_alone_teach() -> None:
    student = taught(build(seed=1), build().eval())
    image, target = photograph(masked=0)
    losses = student([image], [target])
    assert losses["loss_mask"].item() == 0
    assert losses["loss_looks"].item() > 0
    torch.stack(list(losses.values())).sum().backward()
    assert any(float(p.grad.abs().sum()) > 0 for p in student.parameters() if p.grad is not None)
    nothing = replace(
        target, boxes=target.boxes[:0], labels=target.labels[:0], has_mask=target.has_mask[:0]
    )
    assert set(student([image], [nothing])) == set(losses)


def test_other_masks_of_b_change_no_loss() -> None:
    """The objects of B have a box alone: a teacher's answer comes from it and the pixels."""
    image, target = photograph(masked=3)
    results = []
    for pattern in (torch.zeros(70, 80), torch.ones(70, 80)):
        dense = target.masks.dense()
        dense[1:] = pattern.bool()
        file = replace(target, masks=MaskCrops.from_dense(dense))
        keep = torch.tensor([True, False, False])  # as the data set strips B's masks
        seen = replace(file, has_mask=keep, masks=file.masks.select(keep))
        student = taught(build(seed=1), build().eval())
        torch.manual_seed(0)
        results.append(student([image], [seen]))
    assert all(torch.equal(results[0][k], results[1][k]) for k in results[0])


def test_the_teacher_is_no_part_of_the_student() -> None:
    student, teacher = build(seed=1), build().eval()
    names = set(student.state_dict())
    taught(student, teacher)
    assert set(student.state_dict()) == names
    assert copy.deepcopy(student).sampler.distillation.teacher is teacher
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    image, target = photograph(masked=1)
    teacher.train()  # a moving average may be in training mode
    student([image], [target])
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert teacher.training
