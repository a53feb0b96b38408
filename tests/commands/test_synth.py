"""`halfmask synth`: the world and composites from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., Path]:
    """DATA/instances_train.json of three photographs in DATA/train/, with two masked classes and one without."""

    def write(images: str = "train", **changes: Any) -> Path:
        folder = tmp_path / "DATA"
        (folder / images).mkdir(parents=True)
        rng, rows = np.random.default_rng(0), []
        for i in (1, 2, 3):
            Image.fromarray(rng.integers(0, 256, (180, 280, 3), dtype=np.uint8)).save(folder / images / f"{i}.png")
            for k, category in enumerate((2, 5)):
                x, y = 6 + 60 * k, 10
                polygon = [[x, y, x + 50, y, x + 25, y + 70]]
                row = {
                    "id": len(rows) + 1,
                    "image_id": i,
                    "category_id": category,
                    "bbox": [x, y, 50, 70],
                    "iscrowd": 0,
                }
                rows.append(row | {"segmentation": polygon, "area": 1750})
        document = {
            "images": [{"id": i, "file_name": f"{i}.png", "width": 280, "height": 180} for i in (1, 2, 3)],
            "annotations": rows,
            "categories": [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 9, "name": "owl"}],
        }
        path = folder / "instances_train.json"
        path.write_text(json.dumps(document | changes))
        return path

    return write


def test_the_world(halfmask_cli: Callable[..., Any], tmp_path: Path) -> None:
    done = halfmask_cli("synth", tmp_path / "world", "--images", 2, "--classes", 5)
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "world/instances.json").read_text())
    assert [len(document["images"]), len(document["categories"])] == [2, 5]
    assert document["images"][0]["width"] == 112
    assert "2 pictures, 5 classes, seed 0" in done.out


@pytest.mark.parametrize("images", ["train", "images", "."])
def test_composites_then_doctor_and_a_split(
    halfmask_cli: Callable[..., Any], tmp_path: Path, data: Callable[..., Path], images: str
) -> None:
    """The photographs are found in the usual places."""
    source, out = data(images), tmp_path / "composites"
    done = halfmask_cli("synth", out, "--images", 5, "--seed", 3, "--from", source)
    assert done.code == 0, done.err
    assert "6 cut-outs of 2 classes, 3 backgrounds" in done.out
    assert "no usable cut-out, so no object, of: owl" in done.out
    assert (out / "contact_sheet.png").is_file()
    document = json.loads((out / "instances.json").read_text())
    assert [i["width"] for i in document["images"]] == [128] * 5
    assert document["info"]["composites"]["file"] == "instances_train.json"
    assert halfmask_cli("doctor", out / "instances.json").code == 0
    half = halfmask_cli("split", out / "instances.json", "--masked", "voc", "--out", tmp_path / "voc.json")
    assert half.code == 0, half.err
    assert "2 of 3 classes kept" in half.out


def test_composites_of_a_part(halfmask_cli: Callable[..., Any], tmp_path: Path, data: Callable[..., Path]) -> None:
    arguments = ("--images", 6, "--from", data("pictures"), "--photographs", tmp_path / "DATA/pictures", "--size", 96)
    used = []
    for part in ("0/2", "1/2"):
        done = halfmask_cli("synth", tmp_path / part[0], *arguments, "--part", part)
        assert done.code == 0, done.err
        document = json.loads((tmp_path / part[0] / "instances.json").read_text())
        assert document["info"]["composites"]["part"] == part
        used.append({i for image in document["images"] for i in image["photographs"]})
    assert used[0] & used[1] == set()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--images", 0), "at least one picture"),
        (("--images", 1, "--seed", -1), "at least one picture"),
        (("--images", 1, "--size", 8), "--size"),
        (("--images", 1, "--part", "2/2"), "--part 2/2: expected K/N"),
        (("--images", 1, "--classes", 4), "--classes is for the procedural world"),
        (("--images", 1, "--photographs", "nowhere"), "nowhere: expected the folder of the photographs"),
    ],
)
def test_wrong_use_of_composites(
    halfmask_cli: Callable[..., Any],
    tmp_path: Path,
    data: Callable[..., Path],
    arguments: tuple[Any, ...],
    message: str,
) -> None:
    done = halfmask_cli("synth", tmp_path / "out", *arguments, "--from", data())
    assert done.code == 2
    assert message in done.line
    assert not (tmp_path / "out").exists()


def test_wrong_files(halfmask_cli: Callable[..., Any], tmp_path: Path, data: Callable[..., Path]) -> None:
    source = data("elsewhere")
    lost = halfmask_cli("synth", tmp_path / "out", "--images", 1, "--from", source)
    assert lost.code == 2
    assert "1.png is in none of" in lost.line
    assert "--photographs" in lost.line
    for text, message in (("[]", "found a list"), ("{", "found something else"), ('{"images": []}', "not there")):
        source.write_text(text)
        wrong = halfmask_cli("synth", tmp_path / "out", "--images", 1, "--from", source)
        assert wrong.code == 2
        assert message in wrong.line
    absent = halfmask_cli("synth", tmp_path / "out", "--images", 1, "--from", tmp_path / "no.json")
    assert (absent.code, "cannot read it" in absent.line) == (2, True)


def test_options_of_composites_without_a_file(halfmask_cli: Callable[..., Any], tmp_path: Path) -> None:
    for option, value in (("--photographs", "here"), ("--part", "0/2")):
        done = halfmask_cli("synth", tmp_path / "out", "--images", 1, option, value)
        assert done.code == 2
        assert f"{option} is for composites" in done.line
