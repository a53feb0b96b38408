"""`supervision.Detections` in and out, against the real package."""

from pathlib import Path

import numpy as np
import pytest
import torch

from halfmask.errors import InputError
from halfmask.inference.predictor import Predictor, load
from halfmask.integrations.supervision import fill_detections, from_supervision, to_supervision

sv = pytest.importorskip("supervision")
torch.set_num_threads(1)

BOXES = [[4, 4, 40, 30], [10, 8, 60, 44], [0, 0, 64, 48]]


@pytest.fixture
def model(tiny_segmenter: Path) -> Predictor:
    return load(tiny_segmenter, device="cpu")


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_out_and_back(model: Predictor, image: np.ndarray) -> None:
    found = model.segment(image, BOXES, [1, 3, 0])
    out = to_supervision(found, model)
    assert isinstance(out, sv.Detections)
    assert np.array_equal(out.mask, found.masks().numpy())
    assert out.data["class_name"].tolist() == ["cat", "tree", ""]
    assert out.class_id.tolist() == [1, 3, 0]
    assert np.allclose(out.data["mask_score"], found.quality)
    boxes, labels = from_supervision(out, model)
    assert torch.equal(boxes, found.boxes)
    assert labels is not None
    assert labels.tolist() == [1, 3, 0]
    kept = out[out.confidence > 0.5][[0, 2]]  # supervision's own indexing keeps every field in step
    assert kept.data["class_name"].tolist() == ["cat", ""]
    assert (
        sv.MaskAnnotator(color_lookup=sv.ColorLookup.INDEX).annotate(image.copy(), out).shape
        == image.shape
    )


def test_nothing_found(model: Predictor, image: np.ndarray) -> None:
    out = to_supervision(model.segment(image, np.zeros((0, 4))), ["cat"])
    assert len(out) == 0
    assert out.mask.shape == (0, 48, 64)
    boxes, labels = from_supervision(out, model)
    assert boxes.shape == (0, 4)
    assert labels is not None
    assert labels.shape == (0,)
    assert len(fill_detections(model, image, sv.Detections.empty())) == 0


def test_class_ids_of_another_detector_are_not_trusted(model: Predictor) -> None:
    xyxy = np.array(BOXES, dtype=np.float64)
    assert (
        from_supervision(sv.Detections(xyxy=xyxy, class_id=np.array([1, 2, 3])), model)[1] is None
    )
    named = sv.Detections(
        xyxy=xyxy,
        class_id=np.array([7, 8, 9]),
        data={"class_name": np.array(["dog", "cat", "owl"])},
    )
    labels = from_supervision(named, model)[1]
    assert labels is not None
    assert labels.tolist() == [2, 1, 0], "by name; the model knows no owl"


@pytest.mark.parametrize("compact", [False, True])
def test_fill_detections_draws_missing_masks_and_keeps_the_others(
    model: Predictor, image: np.ndarray, compact: bool
) -> None:
    masks = np.zeros((3, 48, 64), dtype=bool)
    masks[1, 10:20, 12:50] = True
    xyxy = np.array(BOXES, dtype=np.float32)
    kept = sv.CompactMask.from_dense(masks, xyxy, (48, 64)) if compact else masks.copy()
    given = sv.Detections(
        xyxy=xyxy, mask=kept, confidence=np.array([0.9, 0.8, 0.7]), tracker_id=np.array([4, 5, 6])
    )
    out = fill_detections(model, image, given)
    alone = model.segment(image, [BOXES[0], BOXES[2]])
    assert np.array_equal(out.mask[1], masks[1])
    assert np.array_equal(out.mask[[0, 2]], alone.masks().numpy())
    assert np.isnan(out.data["mask_score"]).tolist() == [False, True, False]
    assert out.tracker_id.tolist() == [4, 5, 6]
    assert out.confidence.tolist() == [0.9, 0.8, 0.7]
    assert not np.asarray(given.mask)[0].any(), "what was given stays"
    whole = fill_detections(model, image, sv.Detections(xyxy=xyxy))
    assert np.array_equal(whole.mask, model.segment(image, BOXES).masks().numpy())


def test_input_that_cannot_be_used(model: Predictor, image: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected supervision.Detections, found list"):
        from_supervision(BOXES)
    wrong = sv.Detections(
        xyxy=np.array(BOXES[:1], dtype=float), mask=np.ones((1, 9, 9), dtype=bool)
    )
    with pytest.raises(
        InputError, match=r"masks of \[1, 9, 9\] on 1 boxes and an image of \[48, 64\]"
    ):
        fill_detections(model, image, wrong)


def test_without_supervision(
    model: Predictor, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InputError, match=r"halfmask\[supervision\]"):
        to_supervision(model.segment(image, BOXES), model)
