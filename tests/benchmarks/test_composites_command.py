"""`python -m benchmarks.composites`: from the command line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from halfmask.coco.file import CocoFile


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        return self.err.strip()


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., Path]:
    """DATA/instances_train.json of three photographs in DATA/train/, with two masked
    classes and one without.
    """

    def write(images: str = "train", **changes: Any) -> Path:
        folder = tmp_path / "DATA"
        (folder / images).mkdir(parents=True)
        rng, rows = np.random.default_rng(0), []
        for i in (1, 2, 3):
            Image.fromarray(rng.integers(0, 256, (180, 280, 3), dtype=np.uint8)).save(
                folder / images / f"{i}.png"
            )
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
            "images": [
                {"id": i, "file_name": f"{i}.png", "width": 280, "height": 180} for i in (1, 2, 3)
            ],
            "annotations": rows,
            "categories": [
                {"id": 2, "name": "cat"},
                {"id": 5, "name": "dog"},
                {"id": 9, "name": "owl"},
            ],
        }
        path = folder / "instances_train.json"
        path.write_text(json.dumps(document | changes))
        return path

    return write


@pytest.fixture
def composites(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs `python -m benchmarks.composites ARGUMENTS` without a new process."""
    from benchmarks.composites.__main__ import main

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["composites", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return run


@pytest.mark.parametrize("images", ["train", "images", "."])
def test_composites_find_their_photographs(
    composites: Callable[..., Any], tmp_path: Path, data: Callable[..., Path], images: str
) -> None:
    """The photographs are found in the usual places."""
    source, out = data(images), tmp_path / "composites"
    done = composites(out, "--images", 5, "--seed", 3, "--from", source)
    assert done.code == 0, done.err
    assert "6 cut-outs of 2 classes, 3 backgrounds" in done.out
    assert "no usable cut-out, so no object, of: owl" in done.out
    assert (out / "contact_sheet.png").is_file()
    document = json.loads((out / "instances.json").read_text())
    assert [i["width"] for i in document["images"]] == [128] * 5
    assert document["info"]["composites"]["file"] == "instances_train.json"
    assert len(CocoFile.read(out / "instances.json").images) == 5


def test_composites_of_a_part(
    composites: Callable[..., Any], tmp_path: Path, data: Callable[..., Path]
) -> None:
    arguments = (
        "--images",
        6,
        "--from",
        data("pictures"),
        "--photographs",
        tmp_path / "DATA/pictures",
        "--size",
        96,
    )
    used = []
    for part in ("0/2", "1/2"):
        done = composites(tmp_path / part[0], *arguments, "--part", part)
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
        (
            ("--images", 1, "--photographs", "nowhere"),
            "nowhere: expected the folder of the photographs",
        ),
    ],
)
def test_wrong_use_of_composites(
    composites: Callable[..., Any],
    tmp_path: Path,
    data: Callable[..., Path],
    arguments: tuple[Any, ...],
    message: str,
) -> None:
    done = composites(tmp_path / "out", *arguments, "--from", data())
    assert done.code == 2
    assert message in done.line
    assert not (tmp_path / "out").exists()


def test_wrong_files(
    composites: Callable[..., Any], tmp_path: Path, data: Callable[..., Path]
) -> None:
    source = data("elsewhere")
    lost = composites(tmp_path / "out", "--images", 1, "--from", source)
    assert lost.code == 2
    assert "1.png is in none of" in lost.line
    assert "--photographs" in lost.line
    for text, message in (
        ("[]", "found a list"),
        ("{", "found something else"),
        ('{"images": []}', "annotations and categories are missing"),
    ):
        source.write_text(text)
        wrong = composites(tmp_path / "out", "--images", 1, "--from", source)
        assert wrong.code == 2
        assert message in wrong.line
    absent = composites(tmp_path / "out", "--images", 1, "--from", tmp_path / "no.json")
    assert (absent.code, "cannot read it" in absent.line) == (2, True)
