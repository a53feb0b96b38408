"""`halfmask split`: removes masks and nothing else, never over its own input."""

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

import halfmask
from halfmask.cli import split
from halfmask.coco.categories import NONVOC_IDS, VOC_IDS
from halfmask.coco.file import CocoFile
from halfmask.errors import InputError


def invoke(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(split.run)
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "150"})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [2, 3, 18, 18.5],
            "area": 162.25,
            "segmentation": [[2, 3, 20, 3, 11, 21]],
        },
        {
            "id": 2,
            "image_id": 1,
            "category_id": 2,
            "bbox": [2, 3, 18, 18.5],
            "area": 162.25,
            "segmentation": [[2, 3, 20, 3, 11, 21]],
        },
    ]
    images = [{"id": 1, "file_name": "a.png", "width": 40, "height": 30, "licence": 1.10}]
    categories = [{"id": 1, "name": "cup"}, {"id": 2, "name": "dog"}]
    path = tmp_path / "data.json"
    path.write_text(
        json.dumps(
            {"info": {"ü": "é"}, "images": images, "annotations": rows, "categories": categories}
        )
    )
    return path


def test_split(data: Path, tmp_path: Path) -> None:
    before = data.read_bytes()
    result = invoke(data, "--masked", "dog", "--out", tmp_path / "out.json")
    assert result.exit_code == 0, result.output
    assert "masks of 1 of 2 classes kept, 1 masks stay, 1 removed" in result.stdout
    assert data.read_bytes() == before
    expected = json.loads(before)
    del expected["annotations"][0]["segmentation"]
    expected["annotations"][0]["area"] = 18 * 18.5
    written = (tmp_path / "out.json").read_text()
    assert json.loads(written) == expected
    assert list(json.loads(written)) == list(expected)


def test_the_library_function_returns_what_the_verb_prints(data: Path, tmp_path: Path) -> None:
    done = halfmask.split(str(data), masked="dog", out=str(tmp_path / "out.json"))
    counts = {"classes": 2, "masked": 1, "kept": 1, "removed": 1}
    read = {"reading": {"faults": [], "notes": []}}
    assert done.to_json() == {"out": str(tmp_path / "out.json"), **counts, **read}


@pytest.mark.parametrize("how", ["same", "link", "dots"])
def test_it_never_writes_over_its_input(data: Path, tmp_path: Path, how: str) -> None:
    before = data.read_bytes()
    out = {
        "same": data,
        "link": tmp_path / "link.json",
        "dots": tmp_path / "." / "x" / ".." / "data.json",
    }[how]
    (tmp_path / "x").mkdir()
    (tmp_path / "link.json").symlink_to(data)
    result = invoke(data, "--masked", "dog", "--out", out)
    assert isinstance(result.exception, InputError)
    assert re.search("is the input|found a link", str(result.exception))
    assert data.read_bytes() == before


def test_an_unknown_class_writes_nothing(data: Path, tmp_path: Path) -> None:
    result = invoke(data, "--masked", "cupp", "--out", tmp_path / "out.json")
    assert isinstance(result.exception, InputError)
    assert "near: cup" in str(result.exception)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.shared
@pytest.mark.parametrize(("masked", "keep"), [("voc", VOC_IDS), ("nonvoc", NONVOC_IDS)])
def test_coco_mini(shared_data: Path, tmp_path: Path, masked: str, keep: tuple[int, ...]) -> None:
    source = shared_data / "coco-mini/instances_val.json"
    assert invoke(source, "--masked", masked, "--out", tmp_path / "out.json").exit_code == 0
    before, after = json.loads(source.read_text()), json.loads((tmp_path / "out.json").read_text())
    assert {k: v for k, v in before.items() if k != "annotations"} == {
        k: v for k, v in after.items() if k != "annotations"
    }
    for old, new in zip(before["annotations"], after["annotations"], strict=True):
        if old["iscrowd"] or old["category_id"] in keep:
            assert old == new
        else:
            rest = {k: v for k, v in old.items() if k not in ("segmentation", "area")}
            assert new == {**rest, "area": old["bbox"][2] * old["bbox"][3]}
    counts = CocoFile.read(tmp_path / "out.json").mask_counts()
    assert sum(counts.values()) == (598 if masked == "voc" else 597)
    assert all(count == 0 for category, count in counts.items() if category not in keep)
