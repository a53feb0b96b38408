"""`--provider`: another source of masks beside the model, in `complete` (as a teacher)
and in `evaluate` (to compare).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

torch.set_num_threads(1)

Cli = Callable[..., Any]
MASK = pytest.importorskip("pycocotools.mask")


def filled(path: Path) -> dict[int, dict[str, Any]]:
    return {
        row["id"]: row for row in json.loads(path.read_text())["annotations"] if "halfmask" in row
    }


@pytest.mark.parametrize("polygons", [False, True])
def test_the_provider_draws_and_the_model_says_how_far_it_agrees(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
    polygons: bool,
) -> None:
    data = (coco_file(), "--images", photos, "--device", "cpu")
    form = ("--polygons",) if polygons else ()
    outs = {name: tmp_path / f"{name}.json" for name in ("both", "rule", "own")}
    rule = ("baseline:ellipse", *data)
    outcome = halfmask_cli(
        "complete", tiny_segmenter, *data, *form, "--provider", "baseline:ellipse", "--out", outs["both"],
        "--json", tmp_path / "did.json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "mean IoU with the model's own masks" in outcome.out
    assert halfmask_cli("complete", *rule, *form, "--out", outs["rule"]).code == 0
    assert halfmask_cli("complete", tiny_segmenter, *data, "--out", outs["own"]).code == 0
    both, alone, own = (filled(path) for path in outs.values())
    assert both.keys() == alone.keys() == own.keys()
    for number, row in both.items():
        note = row["halfmask"]
        assert note["model"] == "baseline:ellipse"
        assert row["segmentation"] == alone[number]["segmentation"], "what the provider alone draws"
        assert "agreement" not in alone[number]["halfmask"]
        if not polygons:
            pair = [MASK.decode(r[number]["segmentation"]).astype(bool) for r in (both, own)]
            union = np.logical_or(*pair).sum()
            assert note["agreement"] == pytest.approx(np.logical_and(*pair).sum() / union, abs=1e-4)
    did = json.loads((tmp_path / "did.json").read_text())
    assert did["mean_agreement"] == pytest.approx(
        np.mean([r["halfmask"]["agreement"] for r in both.values()])
    )
    same = halfmask_cli(
        "complete",
        "baseline:box",
        *data,
        "--provider",
        "baseline:box",
        "--out",
        tmp_path / "s.json",
    )
    assert same.code == 0
    assert {row["halfmask"]["agreement"] for row in filled(tmp_path / "s.json").values()} == {1.0}


def test_evaluate_measures_both_on_the_same_boxes(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    data = (coco_file(), "--images", photos, "--device", "cpu", "--masked", "cat")
    path = tmp_path / "r.json"
    outcome = halfmask_cli(
        "evaluate", tiny_segmenter, *data, "--provider", "baseline:box", "--json", path
    )
    assert outcome.code == 0, outcome.err
    result = json.loads(path.read_text())
    for name, block in (("baseline:box", result["provider"]), (tiny_segmenter, result)):
        assert halfmask_cli("evaluate", name, *data, "--json", tmp_path / "one.json").code == 0
        one = json.loads((tmp_path / "one.json").read_text())
        assert one["given_boxes"] == block["given_boxes"]
        assert one["quality"] == block["quality"]
        assert one["model"] == block["model"]
    assert "provider: baseline:box" in outcome.out
    assert "Mask IoU on given boxes, the provider" in outcome.out


def test_evaluate_a_detector_beside_a_provider_needs_given_boxes(
    halfmask_cli: Cli, tiny_detector: Path, coco_file: Callable[..., Path], photos: Path
) -> None:
    arguments = (
        "evaluate",
        tiny_detector,
        coco_file(),
        "--images",
        photos,
        "--provider",
        "baseline:box",
    )
    outcome = halfmask_cli(*arguments)
    assert outcome.code == 2
    assert "add --given-boxes" in outcome.line
    assert halfmask_cli(*arguments, "--given-boxes").code == 0


def test_sam_through_the_verbs(
    halfmask_cli: Cli,
    sam_folders: Path,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    data = (coco_file(), "--images", photos, "--device", "cpu")
    name, out = f"sam2:{sam_folders / 'sam2'}", tmp_path / "out.json"
    outcome = halfmask_cli("complete", tiny_segmenter, *data, "--provider", name, "--out", out)
    assert outcome.code == 0, outcome.err
    document = json.loads(out.read_text())
    assert document["info"]["halfmask"]["model"].startswith("sam2:sam2@")
    assert str(sam_folders) not in out.read_text()
    for row in filled(out).values():
        assert set(row["halfmask"]) == {"model", "score", "state", "agreement"}
        x, y, w, h = MASK.toBbox(row["segmentation"])
        bx, by, bw, bh = row["bbox"]
        assert bx <= x
        assert by <= y
        assert x + w <= bx + bw
        assert y + h <= by + bh
    first = out.read_bytes()
    assert (
        halfmask_cli(
            "complete", tiny_segmenter, *data, "--provider", name, "--out", out, "--workers", 0
        ).code
        == 0
    )
    assert out.read_bytes() == first
    path = tmp_path / "r.json"
    outcome = halfmask_cli("evaluate", tiny_segmenter, *data, "--provider", name, "--json", path)
    assert outcome.code == 0, outcome.err
    assert json.loads(path.read_text())["provider"]["given_boxes"]["all"]["instances"] == 6


def test_a_provider_that_is_none(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    for verb, *more in (("evaluate",), ("complete", "--out", tmp_path / "out.json")):
        arguments = (tiny_segmenter, coco_file(), "--images", photos, "--provider", "sam3:x", *more)
        outcome = halfmask_cli(verb, *arguments)
        assert outcome.code == 2
        assert "sam3:x: no such checkpoint" in outcome.line
        assert "sam2:facebook/sam2.1-hiera-tiny" in outcome.line
