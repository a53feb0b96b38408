"""Overlapping masks of one photograph: who keeps a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from halfmask.coco.file import CocoFile
from halfmask.data.dataset import build_target
from halfmask.masks.crops import MaskCrops
from halfmask.models.box_segmenter import settle
from halfmask.models.box_segmenter.settle import (
    LARGER,
    SMALLER,
    Settling,
    nested_share,
    overlapping,
    settled,
)
from halfmask.models.checkpoint import load_checkpoint
from tests.cli.runs import (
    SEGMENTER,
    SEGMENTER_STAGE,
    data_of,
    small_world,
    tiny_recipe,
    trained,
    written,
)


def flat(boxes: list[list[float]], values: list[float], size: int = 16) -> tuple[Tensor, ...]:
    """Maps of one value each, over regions that are the boxes."""
    places = torch.tensor(boxes)
    maps = torch.tensor(values)[:, None, None].expand(-1, size, size).clone()
    return maps, places, places


def test_the_likelier_mask_takes_the_pixels_from_a_margin_on() -> None:
    large, small = [0.0, 0.0, 32.0, 32.0], [8.0, 8.0, 16.0, 16.0]
    for p, q, kept in ((0.7, 0.7 + SMALLER - 0.01, True), (0.7, 0.7 + SMALLER + 0.01, False)):
        out = settled(*flat([large, small], [p, q]))
        assert bool((out[0, 4:8, 4:8] >= 0.5).all()) == kept
        assert bool((out[0, 4:8, 4:8] >= 0.5).any()) == kept
        outside = torch.ones(16, 16, dtype=torch.bool)
        outside[3:9, 3:9] = False
        assert torch.equal(out[0][outside], torch.full((16, 16), p)[outside])
        assert torch.equal(out[1], torch.full((16, 16), q)), "the likelier one loses nothing"
    for q, kept in ((0.6 + LARGER - 0.01, True), (0.6 + LARGER + 0.01, False)):
        out = settled(*flat([large, small], [q, 0.6]))
        assert bool((out[1] >= 0.5).all()) == kept


def test_boxes_apart_alone_or_twice_change_nothing() -> None:
    apart = flat([[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 16.0, 8.0]], [0.5, 1.0])
    assert torch.equal(settled(*apart), apart[0])
    twice = flat([[0.0, 0.0, 8.0, 8.0]] * 2, [0.8, 0.8])
    assert torch.equal(settled(*twice), twice[0])
    alone = flat([[0.0, 0.0, 8.0, 8.0]], [0.8])
    assert torch.equal(settled(*alone), alone[0])
    none = torch.zeros(0, 8, 8), torch.zeros(0, 4), torch.zeros(0, 4)
    assert settled(*none).shape == (0, 8, 8)


def test_the_rule_cell_by_cell_on_a_common_grid() -> None:
    generator = torch.Generator().manual_seed(2)
    size, count = 24, 6
    probs = torch.rand((count, size, size), generator=generator)
    regions = torch.tensor([[0.0, 0.0, float(size), float(size)]]).repeat(count, 1)
    corners = torch.randint(0, size - 6, (count, 2), generator=generator).float()
    sides = torch.randint(5, 18, (count, 2), generator=generator).float()
    boxes = torch.cat([corners, (corners + sides).clamp_max(size)], 1)
    found = settled(probs, regions, boxes)
    p, b = probs.numpy().astype(np.float64), boxes.int().numpy()
    area = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    wanted = p.copy()
    for i in range(count):
        for j in range(count):
            overlap = np.minimum(b[i, 2:], b[j, 2:]) - np.maximum(b[i, :2], b[j, :2])
            if i == j or (overlap <= 0).any():
                continue
            margin = SMALLER if area[j] < area[i] else LARGER
            window = (slice(b[j, 1], b[j, 3]), slice(b[j, 0], b[j, 2]))
            wanted[i][window] -= np.maximum(0, p[j][window] - margin - 0.5)
    np.testing.assert_allclose(found.numpy(), np.maximum(wanted, 0), atol=1e-5)
    assert torch.equal(found, settled(probs, regions, boxes, at_once=True))
    pairs = len(overlapping(boxes)[0])
    assert pairs > 6
    before, settle.PAIRS = settle.PAIRS, 5
    try:
        torch.testing.assert_close(settled(probs, regions, boxes), found)
    finally:
        settle.PAIRS = before


def blocks(*windows: tuple[int, int, int, int]) -> MaskCrops:
    dense = torch.zeros((len(windows), 20, 20), dtype=torch.bool)
    for k, (x0, y0, x1, y1) in enumerate(windows):
        dense[k, y0:y1, x0:x1] = True
    return MaskCrops.from_dense(dense)


def test_how_far_masks_contain_each_other() -> None:
    assert nested_share([blocks((0, 0, 10, 10)), blocks((0, 0, 4, 4), (8, 8, 12, 12))]) is None
    assert nested_share([blocks((0, 0, 20, 20), (4, 4, 8, 8))]) == 1
    assert nested_share([blocks((0, 0, 10, 10), (8, 0, 14, 4))]) is None, "a third of its box"
    assert nested_share([blocks((0, 0, 10, 10), (7, 0, 11, 4))]) == pytest.approx(0.75)
    frame = blocks((0, 0, 20, 20), (4, 4, 12, 12))
    frame.bitmaps()[0][4:12, 4:12] = 0
    assert nested_share([frame]) == 0
    assert nested_share([frame, blocks((0, 0, 20, 20), (4, 4, 8, 8))]) == pytest.approx(0.5)


def test_masks_stay_where_those_of_the_training_contain_each_other() -> None:
    given = flat([[0.0, 0.0, 32.0, 32.0], [8.0, 8.0, 16.0, 16.0]], [0.6, 0.9])
    settling = Settling()
    assert float(settling(*given)[0].amin()) < 0.5
    settling.nested.fill_(0.7)
    assert torch.equal(settling(*given), given[0])
    settling.load_state_dict({})
    assert settling.active, "the weights of a model that did not settle"


def test_training_measures_the_masks_it_learns_from(tmp_path: Path) -> None:
    document = small_world(tmp_path, 8)
    twice = [{**a, "id": 1000 + a["id"]} for a in document["annotations"]]
    document["annotations"] += [a for a in twice if a["category_id"] == 1]
    written(tmp_path / "instances.json", document)
    data = data_of(tmp_path, masked="c1,c2,c6")
    recipe = tiny_recipe({**SEGMENTER, "settle": True}, data, {**SEGMENTER_STAGE, "steps": 1})
    path = trained(recipe, tmp_path / "run")
    assert path is not None
    file = CocoFile.read(tmp_path / "instances.json")
    part = file.part(file.image_ids, {1, 2, 6})
    share = nested_share(build_target(part, i).masks for i in part.image_ids)
    assert share
    assert float(load_checkpoint(path).state["settling.nested"]) == pytest.approx(share)
