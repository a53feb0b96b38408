"""`halfmask evaluate` end to end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)

Cli = Callable[..., Any]


def evaluated(cli: Cli, path: Path, *arguments: object, code: int = 0) -> dict[str, Any]:
    outcome = cli("evaluate", *arguments, "--json", path, "--device", "cpu")
    assert outcome.code == code, outcome.err
    return json.loads(path.read_text())


def test_a_detector_with_everything(
    halfmask_cli: Cli, tiny_detector: Path, coco_file: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    result = evaluated(
        halfmask_cli,
        tmp_path / "r.json",
        tiny_detector,
        coco_file(),
        "--images",
        photos,
        "--given-boxes",
        "--per-category",
    )
    blocks = ["box", "mask", "given_boxes", "quality", "ambiguous"]
    assert list(result) == [*blocks, "per_category", "images", "seconds", "model", "version"]
    assert result["images"] == 3
    assert result["model"].startswith(f"{tiny_detector.name}@")
    assert result["box"]["all"]["AP"] is not None
    assert result["mask"]["A"]["AP"] is not None
    assert result["mask"]["B"]["AP"] is None, "no B class has a mask in the truth"
    assert [row["masked"] for row in result["per_category"]] == [True, True, False], "cat and dog had masks in training"
    assert result["given_boxes"]["A"]["instances"] == 6
    assert result["given_boxes"]["B"]["instances"] == 0
    assert 0 <= result["given_boxes"]["all"]["polygon"] <= 1


def test_a_segmenter_alone_gets_the_boxes_of_the_file(
    halfmask_cli: Cli, tiny_segmenter: Path, coco_file: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    arguments = (tiny_segmenter, coco_file(), "--images", photos, "--masked", "dog")
    result = evaluated(halfmask_cli, tmp_path / "r.json", *arguments)
    assert set(result["box"]["all"].values()) == {None}
    assert result["given_boxes"]["B"]["instances"] == 6
    assert result["given_boxes"]["A"]["instances"] == 0
    one = evaluated(halfmask_cli, tmp_path / "s.json", *arguments, "--workers", "0")
    assert one["given_boxes"] == result["given_boxes"]


def test_the_models_own_score_beside_the_truth(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    arguments = (coco_file(), "--images", photos, "--masked", "dog", "--reliability", tmp_path / "a" / "r.png")
    result = evaluated(halfmask_cli, tmp_path / "r.json", tiny_segmenter, *arguments)
    block = result["quality"]["B"]
    assert block["instances"] == 6
    assert block["miou"] == pytest.approx(result["given_boxes"]["B"]["miou"])
    assert 0 < block["mean_score"] < 1
    assert len(block["bins"]) == 6
    assert [row["share"] for row in block["coverage"]] == pytest.approx([k / 10 for k in range(1, 11)])
    assert result["quality"]["A"]["instances"] == 0
    assert (tmp_path / "a" / "r.png").stat().st_size > 10000
    refused = halfmask_cli("evaluate", tiny_detector, *arguments)
    assert refused.code == 2
    assert "add --given-boxes" in refused.line


def test_loose_boxes_cost_something_and_the_same_each_time(
    halfmask_cli: Cli, tiny_detector: Path, coco_file: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    arguments = ("baseline:box", coco_file(), "--images", photos, "--masked", "cat")
    results = [
        evaluated(halfmask_cli, tmp_path / f"{k}.json", *arguments, "--loosen", share)
        for k, share in enumerate(("0", "0.2", "0.2"))
    ]
    tight, loose, again = (result["given_boxes"]["A"]["miou"] for result in results)
    assert [result.get("loosen") for result in results] == [None, 0.2, 0.2], "such a figure says of itself what it is"
    assert loose == again
    assert 0.5 * tight < loose < tight
    refused = halfmask_cli("evaluate", tiny_detector, coco_file(), "--images", photos, "--loosen", "0.1")
    assert refused.code == 2
    assert "add --given-boxes" in refused.line


def test_a_detectors_boxes_and_a_segmenters_masks(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    both = (tiny_segmenter, coco_file(), "--images", photos, "--detector", tiny_detector)
    result = evaluated(halfmask_cli, tmp_path / "r.json", *both)
    alone = evaluated(halfmask_cli, tmp_path / "s.json", tiny_detector, coco_file(), "--images", photos)
    assert result["box"] == alone["box"]
    assert result["given_boxes"]["all"]["miou"] is None, "not asked for"
    assert " on boxes of " in result["model"]


@pytest.mark.parametrize(("name", "low", "high"), [("box", 0.42, 0.45), ("ellipse", 0.42, 0.6), ("grabcut", 0.0, 1.0)])
def test_baselines(
    halfmask_cli: Cli, coco_file: Callable[..., Path], photos: Path, tmp_path: Path, name: str, low: float, high: float
) -> None:
    if name == "grabcut":
        pytest.importorskip("cv2")
    result = evaluated(
        halfmask_cli, tmp_path / "r.json", f"baseline:{name}", coco_file(), "--images", photos, "--masked", "cat"
    )
    assert low <= result["given_boxes"]["A"]["miou"] <= high, "the triangle fills 43 % of its box"
    assert result["model"] == f"baseline:{name}"


def test_photographs_that_cannot_be_read_are_counted(
    halfmask_cli: Cli, tiny_detector: Path, coco_file: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    (photos / "2.jpg").write_bytes((photos / "2.jpg").read_bytes()[:400])
    arguments = (
        "evaluate",
        tiny_detector,
        coco_file(),
        "--images",
        photos,
        "--given-boxes",
        "--json",
        tmp_path / "r.json",
    )
    outcome = halfmask_cli(*arguments)
    assert outcome.code == 1
    assert "1 photographs skipped" in outcome.err
    assert "2.jpg" in outcome.err
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["images"] == 2
    assert result["given_boxes"]["all"]["instances"] == 4


def test_input_that_cannot_be_used(
    halfmask_cli: Cli, tiny_segmenter: Path, coco_file: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "text.json"
    text.write_text("[1, 2]")
    absent = tmp_path / "absent"
    good = coco_file()

    def line(*arguments: object) -> str:
        outcome = halfmask_cli("evaluate", *arguments)
        assert outcome.code == 2
        return str(outcome.line)

    assert "none of the 3 photographs" in line(tiny_segmenter, good, "--images", empty)
    assert "no such folder" in line(tiny_segmenter, good, "--images", absent)
    assert "expected a COCO instances file" in line(tiny_segmenter, text, "--images", photos)
    assert "cannot read it" in line(tiny_segmenter, absent, "--images", photos)
    assert "no such checkpoint" in line(absent, good, "--images", photos)
    assert "no such baseline" in line("baseline:magic", good, "--images", photos)
    assert "'zebra' is no class" in line(tiny_segmenter, good, "--images", photos, "--masked", "zebra")
    assert "has to find boxes" in line(tiny_segmenter, good, "--images", photos, "--detector", tiny_segmenter)
    assert "no usable annotation" in line(tiny_segmenter, coco_file(annotations=[]), "--images", photos)
    lies = [{"id": i, "file_name": f"{i}.jpg", "height": 48, "width": 65} for i in (1, 2, 3)]
    assert "none of the photographs can be read" in line(tiny_segmenter, coco_file(images=lies), "--images", photos)


def test_no_masks_at_all(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    tiny_detector: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    data = coco_file(annotations=[{"id": 1, "image_id": 1, "category_id": 2, "bbox": [3, 3, 20, 20]}])
    outcome = halfmask_cli("evaluate", tiny_segmenter, data, "--images", photos)
    assert outcome.code == 2
    assert "no annotation has a usable mask" in outcome.line
    result = evaluated(halfmask_cli, tmp_path / "r.json", tiny_detector, data, "--images", photos)
    assert result["box"]["A"]["AP"] is not None
    assert result["mask"]["all"]["AP"] is None
