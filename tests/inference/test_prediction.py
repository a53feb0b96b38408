"""A prediction draws, saves and converts itself; images, boxes and labels in any form."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as reference

from halfmask.errors import InputError
from halfmask.inference.predictor import Predictor, load
from halfmask.pictures.legend import GREEN, GREY, RED

torch.set_num_threads(1)

BOXES = [[4.0, 6.0, 40.0, 50.0], [20.5, 10.25, 70.0, 60.0]]


@pytest.fixture(scope="module")
def model(tiny_segmenter: Path) -> Predictor:
    return load(tiny_segmenter, device="cpu")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def test_images_in_memory_are_the_same_image(model: Predictor, pixels: np.ndarray) -> None:
    expected = model.segment(pixels, BOXES)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for image in (png(pixels), io.BytesIO(png(pixels)), tensor, tensor.double() / 255):
        found = model.segment(image, BOXES)
        torch.testing.assert_close(found.mask_probs, expected.mask_probs)
        assert found.plot().tobytes() == expected.plot().tobytes()
    grey = model.segment(pixels[:, :, 0], BOXES)
    assert grey.plot().size == expected.plot().size


def test_labels_by_name_or_number(model: Predictor, pixels: np.ndarray) -> None:
    expected = model.segment(pixels, BOXES, [2, 1])
    assert expected.names == ["dog", "cat"]
    forms: list[Any] = [["dog", "cat"], ("dog", 1), np.array([2, 1]), torch.tensor([2, 1])]
    for labels in (*forms, [2.0, np.int64(1)], iter(["dog", "cat"])):
        assert model.segment(pixels, BOXES, labels).names == ["dog", "cat"]
    assert model.segment(pixels, BOXES, [0, "tree"]).names[1] == "tree"
    assert model.segment(pixels, []).names == []


def test_boxes_in_any_form(model: Predictor, pixels: np.ndarray) -> None:
    expected = model.segment(pixels, BOXES)
    rows = [torch.tensor(row) for row in BOXES]
    backwards = np.array(BOXES[::-1])[::-1]
    for boxes in (np.array(BOXES), torch.tensor(BOXES), tuple(map(tuple, BOXES)), rows, backwards):
        assert torch.equal(model.segment(pixels, boxes).mask_probs, expected.mask_probs)
    one = model.segment(pixels, BOXES[0])
    torch.testing.assert_close(one.mask_probs, expected.mask_probs[:1])


def test_a_plot_and_its_file(model: Predictor, pixels: np.ndarray, tmp_path: Path) -> None:
    found = model.segment(pixels, BOXES, ["dog", "cat"])
    picture = found.plot()
    assert picture.mode == "RGB"
    assert picture.size == (480, 384), "small images are enlarged by a whole factor"
    assert picture.tobytes() != model.segment(pixels, []).plot().tobytes()
    unsure = replace(found, quality=torch.zeros_like(found.quality))
    assert picture.tobytes() != unsure.plot().tobytes(), "the score of given boxes is printed"
    assert found.save(tmp_path / "new" / "a.png") == tmp_path / "new" / "a.png"
    with Image.open(tmp_path / "new" / "a.png") as saved:
        assert saved.tobytes() == picture.tobytes()
    with Image.open(found.save(str(tmp_path / "a.jpg"))) as saved:
        assert saved.format == "JPEG"


def test_polygons_stay_within_their_tolerance(model: Predictor, pixels: np.ndarray) -> None:
    found = model.segment(pixels, BOXES)
    exact, loose = found.polygons(0), found.polygons()
    assert [len(rings) for rings in exact] == [len(rings) for rings in loose]
    few, many = (sum(len(ring) for rings in r for ring in rings) for r in (loose, exact))
    assert few < many
    for rings, mask in zip(exact, found.masks(), strict=True):
        shapes = reference.frPyObjects([[float(v) for v in ring] for ring in rings], 64, 80)
        assert np.array_equal(reference.decode(reference.merge(shapes)), mask.numpy())
    for rings, mask in zip(loose, found.masks().numpy(), strict=True):
        shapes = reference.frPyObjects([[float(v) for v in ring] for ring in rings], 64, 80)
        pixels = reference.decode(reference.merge(shapes)).astype(bool)
        assert (pixels & mask).sum() >= 0.97 * (pixels | mask).sum()


def test_coco_results(model: Predictor, pixels: np.ndarray) -> None:
    rows = model.segment(pixels, BOXES, ["dog", 0]).to_coco(image_id=7)
    assert [row["image_id"] for row in rows] == [7, 7]
    assert rows[0]["category_id"] == model.categories[1]["id"]
    assert rows[0]["bbox"] == [4, 6, 36, 44]
    assert all(reference.decode(row["segmentation"]).shape == (64, 80) for row in rows)
    assert all(0 <= row["mask_score"] <= 1 for row in rows)


def test_what_a_detector_finds_can_be_selected(tiny_detector: Path, pixels: np.ndarray) -> None:
    found = load(tiny_detector, device="cpu").detect(pixels)
    assert len(found) > 0
    assert not found.given
    few = found.select(found.scores >= found.scores.max())
    assert set(few.names) <= {"cat", "dog", "tree"}
    assert few.plot().size == found.plot().size


def test_masks_in_the_colours_of_supervision(model: Predictor, pixels: np.ndarray) -> None:
    """Cat and dog had masks, tree had none."""

    def drawn(labels: list[int]) -> np.ndarray:
        found = model.segment(pixels, BOXES, ["cat", "tree"])
        found = replace(found, labels=torch.tensor(labels))
        plain, coloured = found.plot(), found.plot(colour_by="supervision")
        assert coloured.width == plain.width
        assert coloured.height > plain.height, "a legend"
        return np.asarray(coloured)[: plain.height]

    def has(picture: np.ndarray) -> list[bool]:
        return [bool((picture == colour).all(-1).any()) for colour in (GREEN, RED, GREY)]

    assert has(drawn([1, 2])) == [True, False, False]
    assert has(drawn([1, 3])) == [True, True, False]
    assert has(drawn([0, 3])) == [False, True, True]
    found = model.segment(pixels, BOXES, ["cat", "tree"])
    assert found.plot(colour_by="class").tobytes() == found.plot().tobytes()


def test_colours_that_nobody_knows(model: Predictor, pixels: np.ndarray, tmp_path: Path) -> None:
    rule = load("baseline:box", device="cpu").segment(pixels, BOXES)
    with pytest.raises(InputError, match="does not know which classes had masks"):
        rule.save(tmp_path / "a.png", colour_by="supervision")
    with pytest.raises(InputError, match="expected class or supervision, found 'score'"):
        model.segment(pixels, BOXES).plot(colour_by="score")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
