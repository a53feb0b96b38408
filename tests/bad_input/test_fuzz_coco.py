"""The short form of fuzz/coco.py, on a made file, and what once crashed."""

import json
import random
from pathlib import Path

import pytest

from tests.bad_input.fuzz import coco, verbs
from tests.bad_input.fuzz.coco import fuzz
from tests.bad_input.fuzz.mutations import mutate
from tests.bad_input.fuzz.verbs import VERBS, outcome


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three images, and masks of every kind."""
    images = [{"id": i, "width": 48, "height": 48, "file_name": f"{i}.jpg"} for i in (1, 2, 3)]
    box = {"bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
    outline = [[4, 4, 24, 4, 14, 24]]
    rows = [
        {"id": 1, "image_id": 1, "category_id": 1, **box, "segmentation": outline},
        {"id": 2, "image_id": 1, "category_id": 2, **box},
        {"id": 3, "image_id": 2, "category_id": 1, **box, "segmentation": {"size": [48, 48], "counts": [100, 50, 2154]}},
        {"id": 4, "image_id": 2, "category_id": 2, **box, "segmentation": outline, "halfmask": {"state": "filled"}},
        {"id": 5, "image_id": 3, "category_id": 2, **box, "iscrowd": 1, "segmentation": {"size": [48, 48], "counts": [0, 9, 2295]}},
    ]  # fmt: skip
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    path = tmp_path / "source.json"
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return path


def test_every_verb_reads_or_refuses(source: Path, tmp_path: Path) -> None:
    done = fuzz(source, tmp_path / "out", 200, 7)
    seen = "\n".join(p.read_text() for p in (tmp_path / "out/failures").glob("*.txt"))
    assert done["crashes"] == 0, seen
    assert done["refused"] > 20
    assert done["read"] > 20


def test_a_crash_is_saved_and_counted(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fails(data: Path, images: Path, out: Path) -> None:
        calls.append(data)
        if len(calls) > 1:
            raise KeyError("here")

    monkeypatch.setattr(verbs, "VERBS", {"doctor": fails})
    monkeypatch.setattr(coco, "VERBS", {"doctor": fails})
    assert fuzz(source, tmp_path / "out", 2, 0)["crashes"] == 2
    assert "KeyError" in (tmp_path / "out/failures/0-1.txt").read_text()
    assert (tmp_path / "out/failures/0-1.json").exists()
    calls.clear()
    assert fuzz(source, tmp_path / "out", 3, 0, resume=True)["crashes"] == 3


def test_the_same_seed_gives_the_same_bytes(source: Path) -> None:
    text = source.read_bytes()
    cases = [mutate(text, random.Random(f"1:{k}")) for k in range(50)]
    assert cases == [mutate(text, random.Random(f"1:{k}")) for k in range(50)]
    assert len(set(cases)) > 45


@pytest.mark.parametrize("where", ["images", "categories"])
@pytest.mark.parametrize("name", ["\ud800", "a\udfff.jpg", "é" * 400, "nul\0", "../x.jpg"])
def test_a_name_that_no_file_has_is_no_crash(
    source: Path, tmp_path: Path, where: str, name: str
) -> None:
    """Half characters crashed the index: neither Arrow nor a file system takes them."""
    document = json.loads(source.read_text())
    document[where][1]["file_name" if where == "images" else "name"] = name
    source.write_text(json.dumps(document))
    (tmp_path / "photos").mkdir()
    for verb in VERBS:
        (tmp_path / verb).mkdir()
        assert outcome(verb, source, tmp_path / "photos", tmp_path / verb).split(":")[0] in (
            "read",
            "refused",
        )
