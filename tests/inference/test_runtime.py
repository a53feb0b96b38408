"""Runtimes: the same masks, a cache that heals, and words for what is missing."""

import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from halfmask.errors import InputError
from halfmask.inference.complete import plan as planning
from halfmask.inference.predictor import load
from halfmask.inference.runtime import names, use
from halfmask.inference.runtime.cache import Made
from halfmask.inference.runtime.engines import BATCH
from halfmask.inference.runtime.graph import mean_iou, shipped_crops
from halfmask.labelling.complete import complete

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFMASK_CACHE", str(cache))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_runtime_draws_the_same_masks(runtime: Any, tiny_segmenter: Path) -> None:
    plain = load(tiny_segmenter, device="cpu")
    other = load(tiny_segmenter, device="cpu", runtime=runtime)
    assert other.runtime.split()[0] == runtime
    assert other.runtime.endswith("float32")
    image, boxes = torch.rand(3, 90, 120), [[3, 4, 60, 70], [20, 10, 110, 88], [1, 1, 9, 9]]
    wanted, found = plain.segment(image, boxes), other.segment(image, boxes)
    torch.testing.assert_close(found.mask_probs, wanted.mask_probs, atol=2e-4, rtol=0)
    torch.testing.assert_close(found.quality, wanted.quality, atol=2e-3, rtol=0)


def test_a_crop_does_not_depend_on_the_others_and_engines_travel(tiny_segmenter: Path) -> None:
    model = load(tiny_segmenter, device="cpu", runtime="onnx").model
    crops = shipped_crops(model)[: BATCH + 3]
    labels = torch.zeros(len(crops), dtype=torch.int64)
    whole = model.engine(crops, labels)
    assert torch.equal(model.engine(crops[:3], labels[:3]), whole[:3])
    assert model.engine(crops[:0], labels[:0]).shape == (0, *whole.shape[1:])
    travelled = pickle.loads(pickle.dumps(model.engine))
    assert torch.equal(travelled(crops, labels), whole)


def test_a_graph_is_made_once_and_again_when_damaged(
    tiny_segmenter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HALFMASK_CACHE", str(tmp_path))
    made: list[str] = []
    build = use.build_graph

    def counted(model: Any, precision: Any) -> Any:
        made.append(precision)
        return build(model, precision)

    monkeypatch.setattr(use, "build_graph", counted)
    load(tiny_segmenter, device="cpu", runtime="onnx")
    load(tiny_segmenter, device="cpu", runtime="onnx")
    assert made == ["float32"]
    [kept] = (tmp_path / "graphs").iterdir()
    kept.write_bytes(kept.read_bytes()[:-7])
    with caplog.at_level(logging.WARNING, "halfmask"):
        load(tiny_segmenter, device="cpu", runtime="onnx")
    assert len(made) == 2
    assert "damaged, made again" in caplog.text
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("HALFMASK_CACHE", str(blocked))
    assert load(tiny_segmenter, device="cpu", runtime="onnx").runtime.startswith("onnx")
    assert "not kept for the next run" in caplog.text


@pytest.mark.slow
def test_eight_bits_keep_the_masks_of_the_shipped_model() -> None:
    exact = load("box-segmenter", device="cpu").model
    small = load("box-segmenter", device="cpu", runtime="auto", precision="int8")
    assert small.runtime.endswith("int8")
    crops = shipped_crops(exact)[:24]
    labels = torch.zeros(len(crops), dtype=torch.int64)
    with torch.no_grad():
        wanted = exact.look(crops, labels)
    found = small.model.engine(crops, labels)
    assert not torch.equal(found, wanted)
    assert mean_iou(wanted, found, crops) > 0.98


def made(**known: tuple[float, float]) -> Made:
    runtimes = {name: {"iou": iou, "speed": speed} for name, (iou, speed) in known.items()}
    return Made(graph=b"", facts={"runtimes": runtimes})


def test_auto_takes_the_fastest_that_draws_the_same_masks() -> None:
    tried: list[names.Runtime] = ["onnx", "openvino"]
    both = made(torch=(1, 100), onnx=(0.999, 200), openvino=(0.9, 900))
    assert use._chosen(both, tried, "float32", asked="auto") == "onnx"
    slow = made(torch=(1, 300), onnx=(0.999, 200), openvino=(0.999, 250))
    assert use._chosen(slow, tried, "float32", asked="auto") == "torch"
    assert use._chosen(slow, ["onnx"], "float32", asked="onnx") == "onnx"
    odd = made(torch=(1, 300), onnx=(0.9, 200), openvino=(0.9, 250))
    assert use._chosen(odd, tried, "float32", asked="auto") == "torch"
    with pytest.raises(InputError, match=r"mean IoU 0\.900 .* use --runtime torch"):
        use._chosen(odd, ["onnx"], "float32", asked="onnx")
    with pytest.raises(InputError, match="use --precision float32"):
        use._chosen(odd, tried, "int8", asked="auto")


def test_what_is_missing_is_named_with_its_command(
    tiny_segmenter: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(names, "find_spec", lambda _: None)
    with pytest.raises(InputError, match="onnx and openvino are not installed: pip install onnx o"):
        load(tiny_segmenter, device="cpu", runtime="openvino")
    with pytest.raises(InputError, match="pip install onnx onnxruntime"):
        load(tiny_segmenter, device="cpu", runtime="auto", precision="int8")
    with caplog.at_level(logging.INFO, "halfmask"):
        assert load(tiny_segmenter, device="cpu", runtime="auto").runtime == "torch"
    assert "pip install onnx openvino" in caplog.text


def test_what_does_not_fit_is_refused_and_auto_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="add --runtime auto, onnx or openvino"):
        load("box-segmenter", device="cpu", precision="int8")
    with pytest.raises(InputError, match="is no box segmenter"):
        load("baseline:box", runtime="onnx")
    with pytest.raises(InputError, match="runtime: expected auto, torch, onnx, openvino"):
        load("box-segmenter", runtime="tensorrt")  # type: ignore[arg-type]
    with caplog.at_level(logging.INFO, "halfmask"):
        assert load("baseline:box", runtime="auto").runtime == "torch"
    assert "runs in PyTorch alone" in caplog.text


def test_a_resume_under_another_runtime_or_effort_is_refused(
    tiny_segmenter: Path, tmp_path: Path, write_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "BATCH_BOXES", 4)
    source, out = write_file(), tmp_path / "o.json"
    folder = tmp_path / "photos"

    def stop(_task: str, done: int, _of: int) -> None:
        if done:
            raise KeyboardInterrupt

    model = load(tiny_segmenter, device="cpu", runtime="onnx")
    model.model.best_looks = type(model.model.best_looks)((0.1, 0.3), True)
    with pytest.raises(KeyboardInterrupt):
        complete(model, source, images=folder, out=out, progress=stop)
    with pytest.raises(InputError, match=r"a run with other looks at each box \(--effort\) began"):
        complete(model, source, images=folder, out=out, effort="fast")
    name, model.runtime = model.runtime, "torch"
    with pytest.raises(InputError, match="a run with other runtime began here"):
        complete(model, source, images=folder, out=out)
    model.runtime = name
    done = complete(model, source, images=folder, out=out)
    assert done.resumed > 0
    again = complete(model, source, images=folder, out=tmp_path / "again.json", workers=0)
    assert again.resumed == 0
    assert (tmp_path / "again.json").read_bytes() == out.read_bytes()
