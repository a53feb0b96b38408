"""Box, ellipse and GrabCut against their definitions."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops, iou
from halfmask.models.fixed.baselines import BASELINES, BoxBaseline, EllipseBaseline, GrabCutBaseline
from halfmask.structures import Detection


def dense(found: Detection) -> Tensor:
    return found.masks()


def disc(size: tuple[int, int], box: list[float]) -> Tensor:
    ys, xs = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    x0, y0, x1, y1 = box
    return ((2 * xs - x0 - x1) / (x1 - x0)) ** 2 + ((2 * ys - y0 - y1) / (y1 - y0)) ** 2 <= 1


@pytest.mark.parametrize("name", BASELINES)
def test_one_answer_an_image_in_order_of_the_boxes(name: str) -> None:
    if name == "grabcut":
        pytest.importorskip("cv2")
    model = BASELINES[name]()
    images = [torch.rand(3, 40, 50), torch.rand(3, 30, 30), torch.rand(3, 20, 20)]
    boxes = [
        torch.tensor([[5.0, 5, 20, 30], [30, 10, 45, 38]]),
        torch.zeros(0, 4),
        torch.tensor([[2.0, 2, 18, 12]]),
    ]
    labels = [torch.tensor([3, 1]), torch.zeros(0, dtype=torch.int64), torch.tensor([2])]
    found = model.segment(images, boxes, labels)
    assert [len(f) for f in found] == [2, 0, 1]
    assert found[0].labels.tolist() == [3, 1]
    assert found[0].image_size == (40, 50)
    assert model.segment(images, boxes)[0].labels.tolist() == [0, 0]
    for f, image, places in zip(found, images, boxes, strict=True):
        assert torch.isfinite(f.mask_probs).all()
        if len(places):
            assert torch.equal(model.segment([image], [places])[0].mask_probs, f.mask_probs)


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_to_train_nothing_to_find(name: str) -> None:
    if name == "grabcut":
        pytest.importorskip("cv2")
    model = BASELINES[name]()
    assert model.parts() == {}
    assert not model.has_detector
    assert not model.needs_labels
    with pytest.raises(InputError, match="nothing to train"):
        model([], [])
    with pytest.raises(InputError, match="finds none"):
        model.detect([torch.rand(3, 8, 8)])


def test_the_box_is_every_pixel_whose_centre_it_holds() -> None:
    boxes = [
        [5.0, 6, 20, 30],
        [-10, -10, 8, 9],
        [3, 3, 4, 4],
        [10.1, 10.1, 20.9, 30.9],
        [10.9, 10.9, 20.1, 30.1],
    ]
    found = BoxBaseline().segment([torch.rand(3, 40, 50)], [torch.tensor(boxes)])[0]
    expected = torch.zeros(5, 40, 50, dtype=torch.bool)
    expected[3, 10:31, 10:21] = True
    expected[4, 11:30, 11:20] = True
    expected[0, 6:30, 5:20] = True
    expected[1, :9, :8] = True
    expected[2, 3, 3] = True
    assert torch.equal(dense(found), expected)


@pytest.mark.parametrize("box", [[10.0, 20, 70, 90], [0.0, 0, 120, 100], [30.0, 30, 110, 50]])
def test_the_ellipse_touches_the_sides(box: list[float]) -> None:
    found = EllipseBaseline().segment([torch.rand(3, 100, 120)], [torch.tensor([box])])[0]
    truth = MaskCrops.from_dense(disc((100, 120), box)[None])
    assert float(iou(found.crops(), truth)) > 0.98
    share = float(dense(found).sum()) / ((box[2] - box[0]) * (box[3] - box[1]))
    assert share == pytest.approx(math.pi / 4, abs=0.02)


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """A red disc on a blue ground, each with noise: colours tell them apart."""
    box = [20.0, 15.0, 70.0, 60.0]
    mask = disc((80, 100), box)
    noise = torch.rand((3, 80, 100), generator=torch.Generator().manual_seed(0)) * 0.2
    image = torch.where(
        mask,
        torch.tensor([0.7, 0.1, 0.1])[:, None, None],
        torch.tensor([0.1, 0.1, 0.7])[:, None, None],
    )
    return image + noise, torch.tensor([box]), mask


def test_grabcut_finds_what_its_colours_tell_apart() -> None:
    pytest.importorskip("cv2")
    image, boxes, mask = scene()
    found = GrabCutBaseline().segment([image], [boxes])[0]
    assert float(iou(found.crops(), MaskCrops.from_dense(mask[None]))) > 0.97


def test_grabcut_equals_opencv_on_the_same_crop() -> None:
    cv2 = pytest.importorskip("cv2")
    image, _, _ = scene()
    box = torch.tensor([[18.0, 12.0, 73.0, 62.0]])  # context of 0.2: columns 7…84, rows 2…72
    pixels = np.ascontiguousarray(
        (image * 255).round().byte().permute(1, 2, 0).numpy()[2:72, 7:84, ::-1]
    )
    mask = np.zeros(pixels.shape[:2], np.uint8)
    cv2.setRNGSeed(0)
    cv2.grabCut(
        pixels,
        mask,
        (11, 10, 55, 50),
        np.zeros((1, 65)),
        np.zeros((1, 65)),
        5,
        cv2.GC_INIT_WITH_RECT,
    )
    expected = torch.zeros(80, 100, dtype=torch.bool)
    expected[2:72, 7:84] = torch.from_numpy((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD))
    found = dense(GrabCutBaseline().segment([image], [box])[0])[0]
    assert (
        0.02 < float(expected[12:62, 18:73].float().mean()) < 0.98
    )  # the case is not a trivial one
    # Borders are redrawn through 128 cells.
    assert float((found ^ expected).float().sum()) <= 0.03 * float(expected.sum())


@pytest.mark.parametrize(
    "box", [[0.0, 0, 30, 30], [5.0, 5, 6, 6], [-9.0, -9, 12, 12], [40.0, 40, 50, 50]]
)
def test_grabcut_where_there_is_little_to_learn_from(box: list[float]) -> None:
    pytest.importorskip("cv2")
    image = torch.full((3, 30, 30), 0.5)
    found = GrabCutBaseline().segment([image], [torch.tensor([box])])[0]
    assert torch.isfinite(found.mask_probs).all()
    if box == [0.0, 0, 30, 30]:  # no background in sight: the whole box
        assert bool(dense(found).all())
    if box[0] == 40.0:  # outside the image: nothing
        assert int(dense(found).sum()) == 0


def test_grabcut_without_opencv_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r"halfmask\[baselines\]"):
        GrabCutBaseline()
