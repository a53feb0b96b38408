"""`--max-size`: the size of the photographs that a Mask R-CNN sees."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from halfmask.errors import InputError
from halfmask.inference.complete import plan as planning
from halfmask.inference.export.export import export
from halfmask.inference.export.int8 import answer, session_of
from halfmask.inference.predict import predict
from halfmask.inference.predictor import Predictor, load
from halfmask.labelling.complete import complete
from halfmask.models.mask_rcnn.images import inference_batch
from tests.conftest import RunsHalfmask

SIZE = 70
"""Below the tiny detector's 96."""


@pytest.fixture
def image() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.rand(3, 90, 200)


def seen(model: Predictor, image: torch.Tensor) -> tuple[int, int]:
    return inference_batch(model.model.transform, [image]).image_sizes[0]  # type: ignore[arg-type]


def test_boxes_are_those_of_a_transform_of_that_size(
    tiny_detector: Path, image: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    by_hand = load(tiny_detector, device="cpu")
    own: Any = by_hand.model.transform
    by_hand.model.transform = GeneralizedRCNNTransform(64, SIZE, own.image_mean, own.image_std)
    with caplog.at_level(logging.INFO, "halfmask"):
        limited = load(tiny_detector, device="cpu", max_size=SIZE)
    assert limited.max_size == SIZE
    assert "has at most 70 pixels; the recipe allows 96" in caplog.text
    assert seen(limited, image) == seen(by_hand, image) == (31, 70)
    wanted, found = by_hand.detect(image), limited.detect(image)
    assert len(found) > 0
    for name in ("boxes", "labels", "scores", "mask_probs"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    assert not torch.equal(
        found.boxes[:3], load(tiny_detector, device="cpu").detect(image).boxes[:3]
    )


def test_more_than_the_recipe_allows_changes_nothing(
    tiny_detector: Path, image: torch.Tensor
) -> None:
    plain, larger = (load(tiny_detector, device="cpu", max_size=size) for size in (None, 5000))
    assert larger.max_size is None
    assert seen(larger, image) == seen(plain, image) == (43, 96)
    assert torch.equal(plain.detect(image).boxes, larger.detect(image).boxes)
    small = torch.rand(3, 64, 66)  # not enlarged to the limit
    assert seen(load(tiny_detector, device="cpu", max_size=SIZE), small) == (64, 66)


def test_a_detector_beside_a_box_segmenter_is_limited(
    tiny_segmenter: Path, tiny_detector: Path, image: torch.Tensor
) -> None:
    pair = load(tiny_segmenter, tiny_detector, "cpu", max_size=SIZE)
    alone = load(tiny_detector, device="cpu", max_size=SIZE)
    assert torch.equal(pair.detect(image).boxes, alone.detect(image).boxes)
    assert pair.max_size == SIZE


def test_where_it_has_no_meaning_it_is_refused(
    tiny_segmenter: Path,
    tiny_detector: Path,
    tmp_path: Path,
    write_file: Any,
    halfmask_cli: RunsHalfmask,
) -> None:
    write_file(images=1)
    with pytest.raises(InputError, match="box-segmenter reads crops of a fixed size: leave"):
        load("box-segmenter", max_size=800)
    with pytest.raises(InputError, match="is for a Mask R-CNN"):
        load("baseline:box", max_size=800)
    for size in (63, 0, -800, 800.5, True):
        with pytest.raises(InputError, match="whole number of pixels from 64 on"):
            load(tiny_detector, max_size=size)  # type: ignore[arg-type]
    loaded = load(tiny_detector, device="cpu")
    with pytest.raises(InputError, match="name max_size when you load it"):
        predict(loaded, tmp_path / "photos", out=tmp_path / "out", max_size=SIZE)
    outcome = halfmask_cli("serve", tiny_segmenter, "--max-size", 800)
    assert (outcome.code, "reads crops of a fixed size" in outcome.err) == (2, True)


def test_complete_auto_refuses_it_before_it_learns(tmp_path: Path, write_file: Any) -> None:
    with pytest.raises(InputError, match="`complete auto` adapts a box segmenter"):
        complete("auto", write_file(), images=tmp_path / "photos", out=tmp_path / "o", max_size=99)


def test_a_run_goes_on_with_the_size_that_began_it(
    tiny_detector: Path, tmp_path: Path, write_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "BATCH_BOXES", 4)
    source, out, folder = write_file(), tmp_path / "o.json", tmp_path / "photos"

    def stop(_task: str, done: int, _of: int) -> None:
        if done:
            raise KeyboardInterrupt

    def run(size: int | None, **more: Any) -> Any:
        given = {"images": folder, "out": out, "device": "cpu", "max_size": size}
        return complete(tiny_detector, source, **given | more)

    with pytest.raises(KeyboardInterrupt):
        run(SIZE, progress=stop)
    for other in (None, 80):
        with pytest.raises(InputError, match=r"other size of photographs \(--max-size\) began"):
            run(other)
    done = run(SIZE)
    assert done.resumed > 0
    assert done.to_json()["max_size"] == done.max_size == SIZE
    assert json.loads(out.read_bytes())["info"]["halfmask"]["max_size"] == SIZE
    again = run(SIZE, out=tmp_path / "again.json", workers=0)
    assert again.resumed == 0
    assert (tmp_path / "again.json").read_bytes() == out.read_bytes()
    assert "max_size" not in run(None, out=tmp_path / "plain.json").to_json()
    assert (tmp_path / "plain.json").read_bytes() != out.read_bytes()


def test_complete_limits_the_detector_of_objects_to_add(
    tiny_segmenter: Path, tiny_detector: Path, tmp_path: Path, write_file: Any
) -> None:
    source, folder = write_file(), tmp_path / "photos"

    def boxes(model: Path, size: int | None) -> list[Any]:
        out = tmp_path / f"{model.name}{size}.json"
        given: Any = {"images": folder, "out": out, "device": "cpu", "max_size": size}
        finding = {"detector": tiny_detector, "add_objects": True, "add_score": 0.1}
        complete(model, source, **given, **finding)
        rows = json.loads(out.read_bytes())["annotations"]
        return [one["bbox"] for one in rows if "added" in one.get("halfmask", {})]

    assert boxes(tiny_segmenter, SIZE) == boxes(tiny_detector, SIZE)
    assert boxes(tiny_segmenter, SIZE) != boxes(tiny_segmenter, None) != []


def test_an_exported_graph_resizes_to_it(
    tiny_detector: Path, tmp_path: Path, image: torch.Tensor
) -> None:
    pytest.importorskip("onnxruntime")
    done = export(tiny_detector, out=tmp_path / "out", max_size=SIZE)
    assert done.report["max_size"] == SIZE
    got = answer(session_of(tmp_path / "out" / "detect.onnx"), (image,))
    wanted = load(tiny_detector, device="cpu", max_size=SIZE).detect(image)
    torch.testing.assert_close(torch.from_numpy(got[0]), wanted.boxes, atol=1e-2, rtol=0)


def test_predict_notes_the_size(tiny_detector: Path, tmp_path: Path, write_file: Any) -> None:
    write_file(images=1)
    found = predict(tiny_detector, tmp_path / "photos", out=tmp_path / "out", max_size=SIZE)
    assert json.loads(found.instances.read_bytes())["info"]["halfmask"]["max_size"] == SIZE
