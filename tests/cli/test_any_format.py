"""Every verb takes a data set in any format; what cannot be read ends with exit code 1."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import halfmask
from halfmask.formats.convert import convert
from tests.conftest import RunsHalfmask

FORMATS = ("yolo", "voc", "cvat", "label-studio")
POLYGON = "3 0.123456 0.234567890123 0.523456 0.2 0.4 0.61234567"
BOX = "0 0.5 0.5 0.4 0.4"
APART = "3 0.7 0.75 0.95 0.7 0.8 0.98"
Makes = Callable[[str], Path]


def yolo(root: Path) -> Path:
    """Two photographs to train on and one to measure on, in Roboflow's folders."""
    random = np.random.default_rng(0)
    for part, name in (("train", "a"), ("train", "b"), ("valid", "c")):
        for kind in ("images", "labels"):
            (root / part / kind).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / part / "images" / f"{name}.png")
        (root / part / "labels" / f"{name}.txt").write_text(f"{POLYGON}\n{BOX}\n{APART}\n")
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\nnc: 4\nnames: [cat, dog, hen, cow]\n"
    )
    return root


@pytest.fixture
def made(tmp_path: Path) -> Makes:
    """`made(FORMAT)`: the same data set in a format; photographs are in `tmp_path / "yolo"`."""
    root = yolo(tmp_path / "yolo")
    coco = tmp_path / "all.json"
    convert("yolo", root, coco, split="all")

    def make(form: str) -> Path:
        if form == "yolo":
            return root
        if form == "coco":
            return coco
        out = tmp_path / f"data-{form}"
        convert(f"to-{form}", coco, out)
        return out.rename(out.with_suffix(".xml")) if form == "cvat" else out

    return make


@pytest.mark.parametrize("form", FORMATS)
def test_verbs_read_every_format(
    form: str, made: Makes, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    data, photos = made(form), tmp_path / "yolo"
    images = () if form == "yolo" else ("--images", photos)
    found = halfmask_cli("doctor", data, *images, "--json", tmp_path / "doctor.json")
    assert found.code in (0, 1), found.err
    counts = json.loads((tmp_path / "doctor.json").read_text())["annotations"]
    assert (counts["total"], counts["mask"], counts["missing"]) == (9, 6, 3)
    split = halfmask_cli("split", data, "--masked", "cat", "--out", tmp_path / "split.json")
    assert (split.code, "6 removed" in split.out) == (0, True), split.err
    index = halfmask_cli("index", data)
    assert (index.code, "3 images, 9 boxes, 6 masks" in index.out) == (0, True), index.err
    assert "read as COCO: " in index.out
    measured = halfmask_cli("evaluate", "baseline:box", data, *images, "--device", "cpu")
    assert measured.code == 0, measured.err
    given = halfmask_cli(
        *("predict", "baseline:box", photos / "train" / "images", "--data", data),
        *("--out", tmp_path / "found", "--no-overlays"),
    )
    assert "6 objects in 2 photographs" in given.out, given.err


@pytest.mark.parametrize("form", FORMATS)
def test_complete_writes_the_same_format(
    form: str, made: Makes, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    data, photos = made(form), tmp_path / "yolo"
    out = tmp_path / ("out.xml" if form == "cvat" else "out")
    images = () if form == "yolo" else ("--images", photos)
    done = halfmask_cli("complete", "baseline:ellipse", data, *images, "--out", out)
    assert done.code == 0, done.err
    coco = tmp_path / "out.halfmask.json" if form == "cvat" else out / "halfmask.json"
    assert f"{coco}: the same as COCO" in done.out
    document = json.loads(coco.read_text())
    states = [a.get("halfmask", {}).get("state") for a in document["annotations"]]
    assert states == [None, "filled", None] * 3
    left = {p.name for p in tmp_path.iterdir() if p.name.startswith((".", "out"))}
    assert left == {out.name, coco.name} if form == "cvat" else left == {"out"}
    again = halfmask_cli("doctor", out, "--images", photos, "--json", tmp_path / "d.json")
    assert again.code in (0, 1), again.err
    counts = json.loads((tmp_path / "d.json").read_text())["annotations"]
    assert (counts["mask"], counts["missing"], counts["filled"]) == (6, 0, 3)


def test_yolo_returns_with_its_parts(
    made: Makes, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    data, out = made("yolo"), tmp_path / "out"
    done = halfmask_cli("complete", "baseline:ellipse", data / "data.yaml", "--out", out)
    assert done.code == 0, done.err
    config = yaml.safe_load((out / "data.yaml").read_text())
    assert config == {
        "train": "train/images",
        "val": "valid/images",
        "nc": 4,
        "names": {0: "cat", 1: "dog", 2: "hen", 3: "cow"},
    }
    for part, name in (("train", "a"), ("train", "b"), ("valid", "c")):
        lines = (out / part / "labels" / f"{name}.txt").read_text().splitlines()
        assert (lines[0], lines[2]) == (POLYGON, APART)
        assert lines[1].startswith("0 ")
        assert len(lines[1].split()) > 7
        assert (out / part / "images" / f"{name}.png").is_file()
    refused = halfmask_cli("complete", "baseline:ellipse", data, "--out", out)
    assert refused.code == 2
    assert "name another place" in refused.line


def test_review_and_convert_go_on_from_the_folder(
    made: Makes, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    from halfmask.web.review.review import Review
    from halfmask.web.segmenting import Segmenter

    data, out = made("yolo"), tmp_path / "out"
    halfmask.complete("baseline:ellipse", data, out=out)
    file, journal = out / "halfmask.json", out / "halfmask.json.review.jsonl"
    review = Review(
        file, Segmenter("baseline:box"), images=data, journal=journal, out=tmp_path / "unused"
    )
    for position, state in zip(review.index.queue, ("accepted", "rejected"), strict=False):
        review.decisions.decide(int(position), 0, state, by="Anna")
    review.close()
    done = halfmask_cli("review", out, "--export")
    assert done.code == 0, done.err
    assert f"{out / 'halfmask.reviewed.json'}: 1 accepted, 1 rejected" in done.out
    done = halfmask_cli("convert", "to-yolo", out, tmp_path / "final")
    assert done.code == 0, done.err
    rows = [p.read_text() for p in sorted((tmp_path / "final").rglob("labels/*.txt"))]
    assert [len(text.splitlines()) for text in rows] == [3, 3, 3]
    assert sum(len(line.split()) == 5 for text in rows for line in text.splitlines()) == 1
    assert (tmp_path / "final" / "valid" / "images" / "c.png").is_file()
    label = out / "train" / "labels" / "a.txt"
    os.utime(label, (label.stat().st_atime, label.stat().st_mtime + 60))
    stale = halfmask_cli("doctor", out)
    assert stale.code == 2
    assert "changed after" in stale.line


def test_an_interrupted_run_goes_on(
    made: Makes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from halfmask.inference.complete import plan, target

    monkeypatch.setattr(plan, "BATCH_IMAGES", 1)
    data, out = made("yolo"), tmp_path / "out"

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(target, "deliver", stop)
        with pytest.raises(KeyboardInterrupt):
            halfmask.complete("baseline:ellipse", data, out=out)
    assert not out.exists()
    done = halfmask.complete("baseline:ellipse", data, out=out)
    assert (done.filled, done.resumed) == (3, 3)
    assert (out / "data.yaml").is_file()
    assert not list(tmp_path.glob("*.journal"))


def test_faults_of_the_reading_are_not_silent(
    made: Makes, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    data = made("yolo")
    (data / "valid" / "labels" / "c.txt").write_text(f"{BOX}\nnonsense\n{POLYGON}\n")
    calls = (
        ["doctor", data],
        ["split", data, "--masked", "cat", "--out", tmp_path / "s.json"],
        ["index", data],
        ["evaluate", "baseline:box", data],
        ["complete", "baseline:box", data, "--out", tmp_path / "out"],
        [
            *("predict", "baseline:box", data / "train" / "images", "--data", data),
            *("--out", tmp_path / "found", "--no-overlays"),
        ],
    )
    for arguments in calls:
        done = halfmask_cli(*arguments)
        assert done.code == 1, (arguments, done.err)
        assert "problem: 1 label lines with a word that is not a number" in done.err, arguments
    again = halfmask_cli("complete", "baseline:box", data, "--out", tmp_path / "second")
    assert again.code == 1  # also from the copy


def test_what_is_no_data_set(tmp_path: Path, halfmask_cli: RunsHalfmask) -> None:
    (tmp_path / "empty").mkdir()
    for arguments in (
        ["doctor", tmp_path / "empty"],
        ["split", tmp_path / "empty", "--masked", "voc", "--out", tmp_path / "s.json"],
        ["index", tmp_path / "empty"],
        ["evaluate", "baseline:box", tmp_path / "empty"],
        ["complete", "baseline:box", tmp_path / "empty", "--out", tmp_path / "o"],
        ["review", tmp_path / "empty"],
        [
            "predict",
            "baseline:box",
            tmp_path,
            "--data",
            tmp_path / "empty",
            "--out",
            tmp_path / "p",
        ],
    ):
        done = halfmask_cli(*arguments)
        assert done.code == 2, arguments
        assert "expected a COCO file" in done.line
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_formats_without_photographs_ask_for_them(
    made: Makes, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    for form in ("cvat", "label-studio"):
        done = halfmask_cli("complete", "baseline:box", made(form), "--out", tmp_path / "o")
        assert done.code == 2
        assert "name their folder with --images" in done.line


def test_another_format_on_demand(made: Makes, tmp_path: Path, halfmask_cli: RunsHalfmask) -> None:
    for form in ("coco", *FORMATS):
        out = tmp_path / f"out-{form}"
        done = halfmask_cli(
            *("complete", "baseline:box", made("coco"), "--images", tmp_path / "yolo"),
            *("--out", out, "--out-format", form),
        )
        assert done.code == 0, done.err
        assert out.is_dir() == (form not in ("coco", "cvat"))
    with pytest.raises(halfmask.InputError, match="out-format: expected same, coco"):
        halfmask.complete("baseline:box", made("yolo"), out=tmp_path / "o", out_format="x")


def test_ultralytics_finds_every_label(made: Makes, tmp_path: Path) -> None:
    """The real loader, in an environment of its own; HALFMASK_ULTRALYTICS names its python."""
    python = os.environ.get("HALFMASK_ULTRALYTICS")
    if not python:
        pytest.skip("needs Ultralytics: set HALFMASK_ULTRALYTICS to a python that has it")
    out = tmp_path / "out"
    halfmask.complete("baseline:ellipse", made("yolo"), out=out)
    code = f"""
from ultralytics.data.utils import check_det_dataset
from ultralytics.data.dataset import YOLODataset
data = check_det_dataset({str(out / "data.yaml")!r}, autodownload=False)
for part in ("train", "val"):
    found = YOLODataset(img_path=data[part], data=data, task="segment", augment=False)
    print("FOUND", len(found.labels), sum(len(l["cls"]) for l in found.labels),
          sum(len(l["segments"]) for l in found.labels))
"""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert rows == [["2", "6", "6"], ["1", "3", "3"]]
