"""Loading, and the three ways to ask a model."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import halfmask
from halfmask.errors import InputError
from halfmask.inference.checkpoints import find_checkpoint
from halfmask.inference.predictor import Predictor, load
from halfmask.models.checkpoint import load_checkpoint, save_checkpoint

torch.set_num_threads(1)

BOXES = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.5, 10.25, 70.0, 60.0]])


@pytest.fixture(scope="module")
def segmenter(tiny_segmenter: Path) -> Predictor:
    return load(tiny_segmenter, device="cpu")


@pytest.fixture(scope="module")
def finder(tiny_detector: Path) -> Predictor:
    return load(tiny_detector, device="cpu")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)


def test_the_face_is_the_same_function() -> None:
    assert halfmask.load is load
    assert callable(halfmask.complete)
    with pytest.raises(AttributeError):
        halfmask.nothing  # noqa: B018


def test_what_a_predictor_knows(
    segmenter: Predictor, finder: Predictor, tiny_detector: Path
) -> None:
    assert [c["name"] for c in segmenter.categories] == ["cat", "dog", "tree"]
    assert segmenter.masked == [2, 5]
    assert segmenter.masked_names == {"cat", "dog"}
    assert not segmenter.can_detect
    assert finder.can_detect
    assert len(segmenter.digest) == 12
    assert segmenter.name == "tiny"
    assert finder.name == tiny_detector.name
    file = [{"id": 1, "name": "tree"}, {"id": 9, "name": "zebra"}, {"id": 4, "name": "cat"}]
    assert segmenter.labels_of(file) == {1: 3, 9: 0, 4: 1}
    assert segmenter.masked_of(file) == {4}


def test_two_classes_of_one_name_have_a_label_each(
    tiny_segmenter: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    """As in exports with a root class that has the name of a real one."""
    made = load_checkpoint(tiny_segmenter)
    names = ["tree", "dog", "tree"]
    renamed = [{**c, "name": name} for c, name in zip(made.categories, names, strict=True)]
    save_checkpoint(tmp_path / "two.safetensors", replace(made, categories=renamed))
    model = load(tmp_path / "two.safetensors", device="cpu")
    drawn = model.segment_batch([pixels], [BOXES], [torch.tensor([1, 3])])
    assert drawn[0].labels.tolist() == [1, 3]


def test_every_form_of_an_image_gives_the_same(
    segmenter: Predictor, pixels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    expected = segmenter.segment(pixels, BOXES)
    for image in (path, str(path), Image.open(path), tensor, Image.open(path).convert("RGBA")):
        assert torch.equal(segmenter.segment(image, BOXES).mask_probs, expected.mask_probs)
    assert expected.image_size == (64, 80)
    assert expected.masks().shape == (2, 64, 80)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "I;16", "1", "LA"])
def test_any_mode_of_picture(segmenter: Predictor, mode: str) -> None:
    picture = (
        Image.new("I;16", (80, 64), 30000)
        if mode == "I;16"
        else Image.new("RGB", (80, 64), (200, 10, 90)).convert(mode)
    )
    assert len(segmenter.segment(picture, BOXES)) == 2


def test_segment_keeps_rows_labels_and_clips(
    segmenter: Predictor, finder: Predictor, pixels: np.ndarray
) -> None:
    found = finder.segment(pixels, [[-5, -5, 200, 30], *BOXES.tolist()], [3, 1, 2])
    assert found.boxes[0].tolist() == [0, 0, 80, 30]
    assert found.labels.tolist() == [3, 1, 2]
    assert found.mask_probs.device.type == "cpu"
    assert len(segmenter.segment(pixels, [])) == len(finder.segment(pixels, [])) == 0
    unknown = finder.segment(pixels, BOXES, [0, 2])
    assert unknown.labels[0] > 0
    assert unknown.labels[1] == 2


def test_a_batch_equals_its_images_one_by_one(segmenter: Predictor, pixels: np.ndarray) -> None:
    other = np.ascontiguousarray(pixels[:50, ::-1])
    both = segmenter.segment_batch([pixels, other], [BOXES, BOXES[:1]])
    torch.testing.assert_close(both[0].mask_probs, segmenter.segment(pixels, BOXES).mask_probs)
    torch.testing.assert_close(both[1].mask_probs, segmenter.segment(other, BOXES[:1]).mask_probs)


def test_a_detectors_boxes_filled_by_the_segmenter(
    tiny_segmenter: Path,
    tiny_detector: Path,
    segmenter: Predictor,
    finder: Predictor,
    pixels: np.ndarray,
) -> None:
    together = load(tiny_segmenter, tiny_detector, "cpu")
    assert together.can_detect
    assert together.categories == finder.categories
    found, boxes = together.detect(pixels), finder.detect(pixels)
    assert len(boxes) > 0
    assert torch.equal(found.boxes, boxes.boxes)
    assert torch.equal(found.scores, boxes.scores)
    assert torch.equal(found.labels, boxes.labels)
    drawn = segmenter.segment(pixels, boxes.boxes)
    torch.testing.assert_close(found.mask_probs, drawn.mask_probs)


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([[1, 2, 3]], None, r"\[n, 4\]"),
        ([[10, 10, 5, 20]], None, "box 0"),
        ([[1, 1, 5, 5], [1, 1, float("nan"), 9]], None, "box 1"),
        ([[90, 1, 99, 9]], None, "within the image of 80 × 64"),
        ([[1, 1, 9, 9]], [1, 2], "one label for each box"),
        ([[1, 1, 9, 9]], [4], "from 0 to 3"),
        ("boxes", None, r"\[n, 4\]"),
    ],
)
def test_boxes_that_are_none(
    segmenter: Predictor, pixels: np.ndarray, boxes: object, labels: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        segmenter.segment(pixels, boxes, labels)


def test_images_that_are_none(segmenter: Predictor, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(
        broken
    )
    broken.write_bytes(broken.read_bytes()[:2000])
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    for image in (
        broken,
        text,
        tmp_path / "absent.jpg",
        np.zeros((4, 4)),
        np.zeros((4, 4, 4), np.uint8),
        torch.zeros(4, 4),
    ):
        with pytest.raises(InputError):
            segmenter.segment(image, BOXES)


def test_models_that_are_none(tiny_segmenter: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="no such checkpoint or run directory; shipped models: box-segmenter"
    ):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match=r"without model\.safetensors"):
        load(tmp_path)
    with pytest.raises(InputError, match="has to find boxes"):
        load(tiny_segmenter, detector=tiny_segmenter)
    with pytest.raises(InputError, match="finds none itself"):
        load(tiny_segmenter).detect(np.zeros((9, 9, 3), np.uint8))
    text = tmp_path / "text.safetensors"
    text.write_text("no weights")
    with pytest.raises(InputError, match="not a safetensors file"):
        load(text)


def test_a_checkpoint_of_another_version(tiny_segmenter: Path, tmp_path: Path) -> None:
    import json

    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(tiny_segmenter, framework="pt") as file:
        header = json.loads(file.metadata()["halfmask"])
    header["format"] = 99
    other = tmp_path / "other.safetensors"
    save_file(load_file(tiny_segmenter), other, metadata={"halfmask": json.dumps(header)})
    with pytest.raises(InputError, match="format 99"):
        load(other)


def test_a_run_folder_and_a_file_are_both_models(tiny_segmenter: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_segmenter, tmp_path / "model.safetensors")
    assert find_checkpoint(tmp_path) == tmp_path / "model.safetensors"
    assert load(tmp_path).digest == load(tiny_segmenter).digest
    assert load(tmp_path).name == tmp_path.name
