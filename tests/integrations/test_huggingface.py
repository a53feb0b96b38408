"""Models on the Hugging Face Hub: huggingface_hub with stubs for HfApi and the download."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import halfmask
from halfmask.errors import InputError
from halfmask.inference.predictor import load
from halfmask.integrations.huggingface import from_pretrained, push_to_hub, write_repository
from halfmask.models.checkpoint import file_digest

hub = pytest.importorskip("huggingface_hub")
torch.set_num_threads(1)

NUMBERS = [
    {"step": 5, "given_boxes": {"A": {"miou": 0.1}}},
    {
        "step": 10,
        "given_boxes": {"A": {"miou": 0.8125}, "B": {"miou": 0.7}, "all": {"miou": 0.75}},
        "box": {"A": {"AP": None}, "B": {"AP": None}, "all": {"AP": None}},
        "mask": {"A": {"AP": 31.25}, "B": {"AP": None}, "all": {"AP": 20.0}},
    },
]


@pytest.fixture
def run(tiny_segmenter: Path, tmp_path: Path) -> Path:
    """A run's folder."""
    folder = tmp_path / "myrun"
    folder.mkdir()
    shutil.copyfile(tiny_segmenter, folder / "model.safetensors")
    (folder / "metrics.json").write_text(json.dumps(NUMBERS))
    return folder


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The uploaded files of each repository."""
    held: dict[str, Any] = {"files": {}}

    class Api:
        def __init__(self, token: str | None = None) -> None:
            held["token"] = token

        def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> None:
            held["made"] = (repo_id, private, exist_ok)

        def upload_folder(self, repo_id: str, folder_path: str, commit_message: str) -> str:
            held["files"] = {p.name: p.read_bytes() for p in Path(folder_path).iterdir()}
            return f"https://hub/{repo_id}/commit/1"

    monkeypatch.setattr(hub, "HfApi", Api)
    return held


def test_the_uploaded_files(run: Path, uploads: dict[str, Any], tmp_path: Path) -> None:
    said = push_to_hub(run, "me/tiny", license="cc-by-4.0", private=True, token="secret")
    assert said == "https://hub/me/tiny/commit/1"
    assert uploads["made"] == ("me/tiny", True, True)
    assert uploads["token"] == "secret"
    assert sorted(uploads["files"]) == ["README.md", "model.safetensors"]
    assert uploads["files"]["model.safetensors"] == (run / "model.safetensors").read_bytes()
    path = tmp_path / "card.md"
    path.write_bytes(uploads["files"]["README.md"])
    card = hub.ModelCard.load(path)
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "halfmask"
    assert card.data.pipeline_tag == "image-segmentation"
    text = card.text
    assert "**Many masks (10+), 2 of the classes:** cat (30), dog (20)" in text
    assert "**No masks, 1 of the classes:** tree" in text
    assert "at step 10" in text, "the last evaluation"
    assert "| mask IoU on given boxes | 0.812 | 0.700 | 0.750 |" in text
    assert "| mask AP, % | 31.2 | – | 20.0 |" in text
    assert "box AP" not in text, "nothing was measured of it"
    assert file_digest(run / "model.safetensors") in text
    assert 'halfmask.load("hf://me/tiny")' in text
    assert "model.segment(" in text
    assert str(tmp_path) not in text


def test_there_and_back(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_repository(run, tmp_path / "hub", repository="me/tiny", license="apache-2.0")
    asked: list[Any] = []

    def download(repo_id: str, filename: str, revision: str | None) -> str:
        asked.append((repo_id, filename, revision))
        return str(tmp_path / "hub" / filename)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    model = from_pretrained("me/tiny", revision="v1", device="cpu")
    plain = halfmask.load("hf://me/tiny", device="cpu")
    assert asked == [("me/tiny", "model.safetensors", "v1"), ("me/tiny", "model.safetensors", None)]
    assert plain.identity == f"hf://me/tiny@{file_digest(run / 'model.safetensors')}"
    assert model.categories == load(run).categories
    boxes, image = [[4, 4, 40, 40]], torch.rand(3, 48, 64)
    for loaded in (model, plain):
        assert torch.equal(
            loaded.segment(image, boxes).mask_probs, load(run).segment(image, boxes).mask_probs
        )


def test_a_detectors_card(tiny_detector: Path, tmp_path: Path) -> None:
    write_repository(tiny_detector, tmp_path / "hub", repository="me/finds", license="other")
    text = (tmp_path / "hub" / "README.md").read_text()
    assert "model.detect(" in text
    assert "The run has none" in text
    write_repository(
        "box-segmenter", tmp_path / "shipped", repository="me/shipped", license="apache-2.0"
    )
    assert (tmp_path / "shipped" / "model.safetensors").stat().st_size > 1_000_000


def test_errors(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"hf://nobody/nothing: cannot get model.safetensors"):
        from_pretrained("nobody/nothing")
    with pytest.raises(InputError, match=r"hf://not a name: cannot get model.safetensors"):
        halfmask.load("hf://not a name")
    with pytest.raises(InputError, match=r"me/tiny: the Hub refuses it: .*hf auth login"):
        push_to_hub(run, "me/tiny", license="mit")
    (run / "metrics.json").write_text("{broken")
    with pytest.raises(InputError, match="not the metrics of a run"):
        push_to_hub(run, "me/tiny", license="mit")
    with pytest.raises(InputError, match="no such checkpoint"):
        push_to_hub("nowhere", "me/tiny", license="mit")


def test_without_huggingface_hub(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (
        lambda: push_to_hub(run, "me/tiny", license="mit"),
        lambda: from_pretrained("me/tiny"),
    ):
        with pytest.raises(InputError, match=r"halfmask\[hub\]"):
            call()
