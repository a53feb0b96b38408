"""A Mask R-CNN in a runtime: the same answers, 8 bits after a calibration, plain words."""

import logging
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from halfmask.errors import InputError
from halfmask.inference.complete import plan as planning
from halfmask.inference.predictor import Predictor, load
from halfmask.inference.runtime import detector, names
from halfmask.inference.runtime.cache import Made
from halfmask.inference.runtime.engines import PartEngine
from halfmask.inference.runtime.parts import ROWS, write_parts
from halfmask.labelling.complete import complete
from tests.conftest import RunsHalfmask

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

FIELDS = ("boxes", "scores", "mask_probs", "quality")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFMASK_CACHE", str(cache))
    monkeypatch.setattr(detector, "CALIBRATED", 2)
    monkeypatch.setattr(detector, "COMPARED", 2)
    # The tiny detector's weights are random: its boxes differ by less than 8 bits.
    monkeypatch.setattr(detector, "LEAST_FOUND", {"float32": 0.99, "int8": 0.5})
    monkeypatch.setattr(detector, "LEAST_IOU", {"float32": 0.995, "int8": 0.8})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    import numpy as np
    from PIL import Image

    folder = tmp_path / "calibration"
    folder.mkdir()
    for k in range(2):
        pixels = np.random.default_rng(k).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return folder


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(3, 80, 100, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_runtime_finds_the_same(runtime: Any, tiny_detector: Path, image: torch.Tensor) -> None:
    plain = load(tiny_detector, device="cpu")
    other = load(tiny_detector, device="cpu", runtime=runtime)
    assert re.fullmatch(rf"{runtime} \S+ float32", other.runtime)
    assert other.model.engine is not None
    for given in (image, torch.rand(3, 90, 64)):
        wanted, found = plain.detect(given), other.detect(given)
        assert len(wanted) > 0
        assert torch.equal(found.labels, wanted.labels)
        for name in FIELDS:
            mine, theirs = getattr(found, name), getattr(wanted, name)
            torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=0)
    boxes, labels = [[3, 4, 60, 70], [20, 10, 90, 78]], [1, 0]
    wanted, found = plain.segment(image, boxes, labels), other.segment(image, boxes, labels)
    torch.testing.assert_close(found.mask_probs, wanted.mask_probs, atol=2e-4, rtol=0)
    assert len(other.segment(image, [])) == 0


def test_a_region_does_not_depend_on_the_others_and_parts_travel(
    tiny_detector: Path, tmp_path: Path
) -> None:
    model: Any = load(tiny_detector, device="cpu").model
    graph = write_parts(model, tmp_path)["mask"].read_bytes()
    regions = torch.rand(ROWS["mask"] + 3, 8, 6, 6)  # type: ignore[operator]
    for runtime in names.PACKAGES:
        engine = PartEngine(runtime, graph, threads=1, rows=ROWS["mask"])
        [whole] = engine(regions)
        torch.testing.assert_close(whole, model.mask_branch.trunk(regions), atol=1e-5, rtol=0)
        assert torch.equal(engine(regions[:3])[0], whole[:3])
        assert torch.equal(pickle.loads(pickle.dumps(engine))(regions)[0], whole)


def test_only_a_calibrated_model_runs_in_8_bits(
    tiny_detector: Path,
    photos: Path,
    tmp_path: Path,
    image: torch.Tensor,
    halfmask_cli: RunsHalfmask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HALFMASK_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="is not calibrated here") as refused:
        load(tiny_detector, device="cpu", runtime="auto", precision="int8")
    with caplog.at_level(logging.INFO, "halfmask"):
        before = load(tiny_detector, device="cpu", runtime="auto")
    assert "int8" not in before.runtime
    assert "8 bits are faster; they need a calibration: halfmask export" in caplog.text
    command = str(refused.value).rpartition(": halfmask ")[2]
    command = command.replace("DIR", str(tmp_path / "out")).replace("PHOTOS", str(photos))
    outcome = halfmask_cli(*command.split())
    assert outcome.code == 0, outcome.err
    assert re.search(r"8 bits for --runtime: used; .*% of PyTorch's detections", outcome.out)
    caplog.clear()
    with caplog.at_level(logging.INFO, "halfmask"):
        small = load(tiny_detector, device="cpu", runtime="openvino", precision="int8")
    assert re.fullmatch(r"openvino \S+ int8 [0-9a-f]{8}", small.runtime)
    assert "% of PyTorch's detections, mean mask IoU" in caplog.text
    wanted, found = load(tiny_detector, device="cpu").detect(image), small.detect(image)
    assert len(found) > 0
    assert found.mask_probs.shape[1:] == wanted.mask_probs.shape[1:]
    assert not torch.equal(found.scores[:3], wanted.scores[:3]), "nothing is in 8 bits"
    assert "float32" in load(tiny_detector, runtime="openvino", device="cpu").runtime
    assert (
        "float32"
        in load(tiny_detector, device="cpu", runtime="openvino", precision="float32").runtime
    )
    monkeypatch.setattr(detector, "LEAST_IOU", {"float32": 0.995, "int8": 1.01})
    with pytest.raises(InputError, match=r"\(1\.01 is needed\): use --precision float32"):
        load(tiny_detector, device="cpu", runtime="auto", precision="int8")
    with caplog.at_level(logging.INFO, "halfmask"):
        left = load(tiny_detector, device="cpu", runtime="auto")
    assert "8 bits are left out: " in caplog.text
    assert "int8" not in left.runtime


def made(**known: tuple[float, float, float]) -> Made:
    rows = {k: {"found": f, "iou": i, "speed": s} for k, (f, i, s) in known.items()}
    return Made(graph=b"", facts={"runtimes": rows | {"torch": {"speed": 10.0}}})


def test_auto_takes_the_fastest_that_answers_alike() -> None:
    both = made(onnx=(1, 0.999, 20), openvino=(1, 0.999, 30))
    assert detector._chosen(both, "auto", "float32", must=False) == "openvino"
    assert detector._chosen(both, "onnx", "float32", must=True) == "onnx"
    few = made(onnx=(1, 0.999, 20), openvino=(0.9, 0.999, 30))
    assert detector._chosen(few, "auto", "float32", must=False) == "onnx"
    slow = made(onnx=(1, 0.999, 5), openvino=(1, 0.999, 6))
    assert detector._chosen(slow, "auto", "float32", must=False) == "torch"
    assert detector._chosen(slow, "auto", "int8", must=True) == "openvino"
    odd = made(onnx=(0.4, 0.6, 20), openvino=(0.4, 0.5, 30))
    assert detector._chosen(odd, "auto", "int8", must=False) == "torch"
    with pytest.raises(InputError, match=r"40\.0 % of PyTorch's detections .* 0\.600"):
        detector._chosen(odd, "onnx", "int8", must=True)


def test_the_comparison_sees_missing_detections_and_other_masks(
    tiny_detector: Path, image: torch.Tensor
) -> None:
    model = load(tiny_detector, device="cpu")
    found = model.detect_batch([image])[0]
    drawn = model.segment_batch([image], [torch.tensor([[3.0, 4, 60, 70]])])[0]
    whole = [(found, drawn)]
    assert detector._agreement(whole, whole) == {"found": 1.0, "iou": 1.0}
    half = found.select(torch.arange(0, len(found), 2))
    some = detector._agreement(whole, [(half, drawn)])
    assert some["found"] < 0.75
    other = model.segment_batch([image], [torch.tensor([[30.0, 40, 60, 70]])])[0]
    assert detector._agreement(whole, [(found, other)])["iou"] == 1, "detections decide"
    none = found.select(torch.arange(0))
    assert detector._agreement([(none, drawn)], [(none, other)])["iou"] < 1
    odd = replace(found, mask_probs=1 - found.mask_probs)
    assert detector._agreement(whole, [(odd, drawn)])["iou"] < 1


def test_bytes_do_not_depend_on_workers_and_a_run_keeps_its_runtime(
    tiny_detector: Path, tmp_path: Path, write_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "BATCH_BOXES", 4)
    source, folder, out = write_file(), tmp_path / "photos", tmp_path / "o.json"
    given: Any = {"images": folder, "device": "cpu"}

    def stop(_task: str, done: int, _of: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        complete(tiny_detector, source, out=out, runtime="openvino", progress=stop, **given)
    with pytest.raises(InputError, match="a run with other runtime began here"):
        complete(tiny_detector, source, out=out, **given)
    done = complete(tiny_detector, source, out=out, runtime="openvino", **given)
    assert done.resumed > 0
    assert done.runtime.startswith("openvino")
    again = tmp_path / "again.json"
    complete(tiny_detector, source, out=again, runtime="openvino", workers=0, **given)
    assert again.read_bytes() == out.read_bytes()
    assert f'"runtime": "{done.runtime}"' in out.read_text()


def test_a_part_without_a_graph_runs_in_pytorch(
    tiny_detector: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HALFMASK_CACHE", str(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no symbolic for it\nmore")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(InputError, match=r"part `maps` has no ONNX graph: no symbolic for it$"):
        load(tiny_detector, device="cpu", runtime="onnx")
    with caplog.at_level(logging.INFO, "halfmask"):
        assert load(tiny_detector, device="cpu", runtime="auto").runtime == "torch"
    assert "PyTorch; the model's part `maps` has no ONNX graph" in caplog.text


def test_a_smaller_photograph_in_a_runtime(tiny_detector: Path, image: torch.Tensor) -> None:
    plain = load(tiny_detector, device="cpu", max_size=70)
    other: Predictor = load(tiny_detector, device="cpu", max_size=70, runtime="openvino")
    wanted, found = plain.detect(image), other.detect(image)
    torch.testing.assert_close(found.boxes, wanted.boxes, atol=2e-3, rtol=0)
