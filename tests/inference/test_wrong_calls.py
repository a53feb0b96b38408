"""Whatever a user passes wrongly, one InputError says what was expected and what was found."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import halfmask
from halfmask.errors import InputError
from halfmask.inference.predictor import Predictor, load

torch.set_num_threads(1)

BOX = [[4.0, 6.0, 40.0, 50.0]]
PIXELS = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tiny_segmenter: Path) -> Predictor:
    return load(tiny_segmenter, device="cpu")


WRONG_IMAGES: list[tuple[Any, str]] = [
    ("no such file.jpg", "no such file"),
    ("a\0b", "cannot read it"),
    ("", "no such file|cannot read"),
    (Path("/"), "expected a photograph"),
    (None, "found NoneType"),
    (7, "found int"),
    ([], "found list"),
    ([[1, 2], [3, 4]], "found list"),
    ({"path": "a.jpg"}, "found dict"),
    (b"", "the image data"),
    (b"no image", "the image data: expected a photograph"),
    (io.BytesIO(b"no image"), "the image data"),
    (io.StringIO("text"), "the image data"),
    (np.zeros((4, 4)), r"uint8 \[H, W, 3\] or \[H, W\], found float64 \[4, 4\]"),
    (np.zeros((4, 4, 4), np.uint8), r"found uint8 \[4, 4, 4\]"),
    (np.zeros((0, 4, 3), np.uint8), r"found uint8 \[0, 4, 3\]"),
    (np.zeros(4, np.uint8), r"found uint8 \[4\]"),
    (np.array(["a.jpg"]), "found <U5"),
    (torch.zeros(4, 4), r"found torch.float32 \[4, 4\]"),
    (torch.zeros(64, 80, 3), r"\[3, H, W\].*found torch.float32 \[64, 80, 3\]"),
    (torch.zeros(3, 4, 4, dtype=torch.int64), "found torch.int64"),
    (torch.full((3, 4, 4), 200.0), r"in \[0, 1\], found 200 to 200; divide"),
    (torch.full((3, 4, 4), float("nan")), "found nan to nan"),
]


@pytest.mark.parametrize(
    ("image", "message"), WRONG_IMAGES, ids=lambda v: repr(v).split(" at ")[0][:30]
)
def test_an_image_that_cannot_be_used(model: Predictor, image: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.segment(image, BOX)


def test_a_pil_image_whose_file_is_cut_short(model: Predictor) -> None:
    data = io.BytesIO()
    Image.fromarray(PIXELS).save(data, "PNG")
    with pytest.raises(InputError, match="the PIL image cannot be read"):
        model.segment(Image.open(io.BytesIO(data.getvalue()[:3000])), BOX)


WRONG_BOXES: list[tuple[Any, str]] = [
    (None, "boxes are numbers.*found None"),
    ("boxes", "boxes are numbers.*found 'boxes'"),
    (5, "boxes are numbers"),
    ([1, 2, 3], r"found shape \[3\]"),
    ([[1, 2, 3]], r"found shape \[1, 3\]"),
    ([[1, 2, 3, 4], [1, 2]], "boxes are numbers"),
    ([["a", "b", "c", "d"]], "boxes are numbers"),
    ({"x": 1}, "boxes are numbers"),
    (np.zeros((2, 2, 2)), r"found shape \[2, 2, 2\]"),
    (torch.zeros(4, 4, 4), r"found shape \[4, 4, 4\]"),
    ([[10, 10, 5, 20]], r"box 0: \[10.0, 10.0, 5.0, 20.0\] is not an xyxy box"),
    ([[1, 1, 5, 5], [1, 1, float("nan"), 9]], "box 1"),
    ([[1, 1, float("inf"), 9]], "box 0"),
    ([[90, 1, 99, 9]], "within the image of 80 × 64"),
    ([[10**400, 1, 99, 9]], "boxes are numbers"),
]


@pytest.mark.parametrize(("boxes", "message"), WRONG_BOXES, ids=lambda v: repr(v)[:30])
def test_boxes_that_cannot_be_used(model: Predictor, boxes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.segment(PIXELS, boxes)


WRONG_LABELS: list[tuple[Any, str]] = [
    ("dog", "labels are a list.*found 'dog'"),
    (1, "labels are a list.*found 1"),
    ({"dog": 1}, "labels are a list"),
    ([], "one label for each box, found 0 for 1 boxes"),
    ([1, 2], "found 2 for 1 boxes"),
    (["dgo"], "label 0: the model has no class 'dgo'; did you mean 'dog'"),
    (["unicorn"], "no class 'unicorn'; it knows cat, dog, tree"),
    ([4], "labels run from 0 to 3, found 4"),
    ([-1], "labels run from 0 to 3, found -1"),
    ([1.5], "label 0: expected a class name or a number, found 1.5"),
    ([float("nan")], "found nan"),
    ([True], "found True"),
    ([None], "found None"),
    ([[1, 2]], r"found \[1, 2\]"),
    (np.array([0.5]), "found 0.5"),
    (torch.tensor([9]), "labels run from 0 to 3"),
]


@pytest.mark.parametrize(("labels", "message"), WRONG_LABELS, ids=lambda v: repr(v)[:30])
def test_labels_that_cannot_be_used(model: Predictor, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.segment(PIXELS, BOX, labels)


OTHERS: list[tuple[Callable[[Predictor, Path], object], str]] = [
    (lambda m, _: m.detect(PIXELS), "finds none itself"),
    (lambda m, _: m.segment(PIXELS, BOX).save("picture.txt"), "does not end like a picture"),
    (lambda m, _: m.segment(PIXELS, BOX).save(None), "expected a path, found NoneType"),  # type: ignore[arg-type]
    (lambda m, _: m.segment(PIXELS, BOX).polygons(-1), "at least 0, found -1"),
    (lambda m, _: m.segment(PIXELS, BOX).polygons("1"), "expected pixels, found '1'"),  # type: ignore[arg-type]
    (lambda *_: load("baseline:ellipse").segment(PIXELS, BOX, ["dog"]), "knows no classes"),
    (lambda *_: halfmask.load(None), "expected a name or a path, found NoneType"),  # type: ignore[arg-type]
    (lambda *_: halfmask.load("nothing"), "no such checkpoint"),
    (lambda *_: halfmask.load("baseline:nothing"), "no such baseline"),
    (lambda *_: halfmask.load("baseline:box", device="abacus"), "device 'abacus'"),
    (lambda *_: halfmask.load("baseline:box", device="cuda:99"), "device 'cuda:99'"),
    (lambda m, p: halfmask.predict(m, [], out=p), "found none"),
    (lambda m, p: halfmask.predict(m, "absent.jpg", out=p), "finds no boxes itself"),
    (lambda m, p: halfmask.predict(m, "a.jpg", out=p, detector="x"), "loaded already"),
    (lambda m, p: halfmask.export("baseline:box", out=p), "is a rule, not a network|onnx"),
    (lambda m, p: halfmask.export(m, out=p, precision="int4"), "float32 or int8, found 'int4'"),  # type: ignore[arg-type]
    (lambda m, p: halfmask.export(m, out=p / "o", calibrate=p), "are for --precision int8"),
    (lambda m, p: halfmask.complete(m, p / "a.json", images=p, out=p), "is the input"),
    (lambda m, p: halfmask.complete(m, p / "a", images=p, out=p / "b"), "cannot read"),
    (
        lambda m, p: halfmask.complete(m, "a", images=p, out=p / "b", boxes="wide"),  # type: ignore[arg-type]
        "expected auto, tight or loose, found 'wide'",
    ),
]


@pytest.mark.parametrize(("call", "message"), OTHERS, ids=[message for _, message in OTHERS])
def test_other_calls(
    model: Predictor, tmp_path: Path, call: Callable[..., object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(model, tmp_path)
