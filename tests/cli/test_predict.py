"""`halfmask predict` end to end."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as reference

torch.set_num_threads(1)

Cli = Callable[..., Any]


def results(out: Path) -> list[dict[str, Any]]:
    return json.loads((out / "results.json").read_text())


def test_a_detector_on_files_and_folders(
    halfmask_cli: Cli, tiny_detector: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = halfmask_cli(
        "predict", tiny_detector, photos, photos / "1.jpg", "--out", out, "--score", "0.1"
    )
    assert outcome.code == 0, outcome.err
    found = results(out)
    assert {r["image_id"] for r in found} <= {1, 2, 3, 4}
    assert {r["category_id"] for r in found} <= {2, 5, 7}
    assert {r["file_name"] for r in found} == {"1.jpg", "2.jpg", "3.jpg"}
    assert all(reference.decode(r["segmentation"]).shape == (48, 64) for r in found)
    assert all(0 <= r["score"] <= 1 and 0 <= r["mask_score"] <= 1 for r in found)
    names = sorted(p.name for p in (out / "overlays").iterdir())
    assert names == ["0001_1.jpg", "0004_1.jpg", "2.jpg", "3.jpg"]
    with Image.open(out / "overlays" / "2.jpg") as picture:
        picture.load()


def test_boxes_of_a_file_are_filled(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    out, data = tmp_path / "out", coco_file()
    outcome = halfmask_cli("predict", tiny_segmenter, photos, "--out", out, "--data", data)
    assert outcome.code == 0, outcome.err
    rows = json.loads(data.read_text())["annotations"]
    assert [(r["image_id"], r["category_id"], r["bbox"]) for r in results(out)] == [
        (a["image_id"], a["category_id"], a["bbox"]) for a in rows
    ]
    plain = halfmask_cli(
        "predict",
        tiny_segmenter,
        photos / "3.jpg",
        "--out",
        tmp_path / "bare",
        "--data",
        data,
        "--no-overlays",
    )
    assert plain.code == 0
    written = sorted(p.name for p in (tmp_path / "bare").iterdir())
    assert written == ["instances.json", "results.json"]
    assert {r["image_id"] for r in results(tmp_path / "bare")} == {3}


def test_a_segmenter_with_a_detector(
    halfmask_cli: Cli, tiny_segmenter: Path, tiny_detector: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert (
        halfmask_cli(
            "predict", tiny_segmenter, photos, "--out", out, "--detector", tiny_detector
        ).code
        == 0
    )
    alone = tmp_path / "alone"
    assert halfmask_cli("predict", tiny_detector, photos, "--out", alone).code == 0
    assert [r["bbox"] for r in results(out)] == [r["bbox"] for r in results(alone)]


def test_photographs_that_cannot_be_read_are_skipped(
    halfmask_cli: Cli, tiny_detector: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "2.jpg").write_bytes((photos / "2.jpg").read_bytes()[:400])
    outcome = halfmask_cli("predict", tiny_detector, photos, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "1 photograph skipped" in outcome.err
    assert "2.jpg" in outcome.err
    assert {r["file_name"] for r in results(tmp_path / "out")} == {"1.jpg", "3.jpg"}


def test_input_that_cannot_be_used(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    empty, other, out = tmp_path / "empty", tmp_path / "other", tmp_path / "out"
    empty.mkdir()
    other.mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(other / "no_such_name.png")

    def line(*arguments: object) -> str:
        outcome = halfmask_cli("predict", *arguments, "--out", out)
        assert outcome.code == 2
        assert not out.exists()
        return str(outcome.err.strip().splitlines()[-1])

    assert "a folder without images" in line(tiny_detector, empty)
    assert "finds no boxes itself" in line(tiny_segmenter, photos)
    assert "none of the 1 photographs can be used" in line(tiny_detector, tmp_path / "absent.jpg")
    assert "names none of the 1 photographs" in line(tiny_segmenter, other, "--data", coco_file())
    lies = [{"id": i, "file_name": f"{i}.jpg", "height": 48, "width": 65} for i in (1, 2, 3)]
    assert "65 × 48" in line(tiny_segmenter, photos, "--data", coco_file(images=lies))


def test_nested_folders_are_walked_without_the_output(
    halfmask_cli: Cli, tiny_detector: Path, photos: Path, tmp_path: Path
) -> None:
    nested = tmp_path / "nested"
    (nested / "day" / "one").mkdir(parents=True)
    (nested / ".cache").mkdir()
    (nested / "night").mkdir()
    shutil.copy(photos / "1.jpg", nested / "night" / "1.jpg")
    shutil.copy(photos / "2.jpg", nested / "day" / "1.jpg")
    shutil.copy(photos / "3.jpg", nested / "day" / "one" / "3.JPG")
    shutil.copy(photos / "3.jpg", nested / ".cache" / "3.jpg")
    for _ in range(2):  # the second run meets the pictures of the first
        outcome = halfmask_cli(
            "predict", tiny_detector, nested, "--out", nested / "out", "--score", 0
        )
        assert outcome.code == 0, outcome.err
        assert "in 3 photographs" in outcome.out
    names = {r["file_name"] for r in results(nested / "out")}
    assert names == {"night/1.jpg", "day/1.jpg", "day/one/3.JPG"}
    assert len(list((nested / "out" / "overlays").iterdir())) == 3


def test_boxes_are_matched_by_the_names_ends(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    document = json.loads(coco_file().read_text())
    names = {1: "SET\\a\\1.JPG", 2: "https://x.example/2.jpg", 3: "3.jpg"}
    for image in document["images"]:
        image["file_name"] = names[image["id"]]
    data = tmp_path / "odd.json"
    data.write_text(json.dumps(document))
    nested = tmp_path / "nested"
    for name, source in (
        ("a/1.jpg", 1),
        ("b/1.jpg", 1),
        ("2.jpg", 2),
        ("a/3.jpg", 3),
        ("b/3.jpg", 3),
    ):
        (nested / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / f"{source}.jpg", nested / name)
    outcome = halfmask_cli(
        "predict", tiny_segmenter, nested, "--data", data, "--out", tmp_path / "o"
    )
    assert outcome.code == 0, outcome.err
    assert {r["file_name"] for r in results(tmp_path / "o")} == {"a/1.jpg", "2.jpg"}
    assert outcome.err.count("another photograph has the same name in") == 3


def test_two_models_for_the_same_boxes(
    halfmask_cli: Cli, tiny_segmenter: Path, tiny_detector: Path, photos: Path, tmp_path: Path
) -> None:
    alone, pair, same = (tmp_path / name for name in ("alone", "pair", "same"))
    base = ("predict", tiny_detector, photos / "1.jpg", "--score", 0, "--colour-by", "supervision")
    assert halfmask_cli(*base, "--out", alone).code == 0
    outcome = halfmask_cli(*base, "--out", pair, "--beside", tiny_segmenter)
    assert outcome.code == 0, outcome.err
    assert halfmask_cli(*base, "--out", same, "--beside", tiny_detector).code == 0
    assert results(pair) == results(alone), "the files hold the first model's masks"
    sides = {}
    for out in (alone, pair, same):
        with Image.open(out / "overlays" / "1.jpg") as picture:
            sides[out] = np.asarray(picture.convert("RGB")).astype(int)
    height, width = sides[alone].shape[:2]
    for out in (pair, same):
        left = sides[out][-height:, :width]
        assert np.abs(left - sides[alone]).mean() < 3, "JPEG only"
    right = {out: sides[out][-height:, -width:] for out in (pair, same)}
    assert np.abs(right[same] - sides[alone]).mean() < 3
    assert np.abs(right[pair] - sides[alone]).mean() > 3, "the other model's masks"


def test_pictures_that_cannot_be_drawn(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    out, data = tmp_path / "out", coco_file()

    def line(model: object, *arguments: object) -> str:
        outcome = halfmask_cli("predict", model, photos, "--data", data, "--out", out, *arguments)
        assert outcome.code == 2
        assert not out.exists()
        return str(outcome.err.strip().splitlines()[-1])

    colours = ("--colour-by", "supervision")
    assert "baseline:box does not know which classes" in line("baseline:box", *colours)
    assert "baseline:box does not" in line(tiny_segmenter, *colours, "--beside", "baseline:box")
    assert "leave out --no-overlays" in line(tiny_segmenter, *colours, "--no-overlays")
    beside = ("--beside", "baseline:box")
    assert "--beside is about" in line(tiny_segmenter, *beside, "--no-overlays")
    assert "no such" in line(tiny_segmenter, "--beside", tmp_path / "absent")
