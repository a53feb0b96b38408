"""`halfmask convert visual-genome` from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfmask.bench.visual_genome_data import write_coco, write_visual_genome

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vg")
    write_visual_genome(folder, images=40)
    write_coco(folder / "coco", images=20)
    return folder


def test_three_files(halfmask_cli: Cli, source: Path, tmp_path: Path) -> None:
    val = source / "coco" / "annotations" / "instances_val2017.json"
    outcome = halfmask_cli(
        "convert", "visual-genome", source, tmp_path / "vg3k.json", "--coco-val", val, "--test", 4, "--classes", 3000
    )
    assert outcome.code == 0, outcome.err
    assert {p.name for p in tmp_path.iterdir()} == {"vg3k_train.json", "vg3k_val.json", "vg3k_test.json"}
    images = {p.stem: len(json.loads(p.read_text())["images"]) for p in tmp_path.iterdir()}
    assert images == {"vg3k_train": 26, "vg3k_val": 10, "vg3k_test": 4}
    assert "3001 classes (K = 3002 with background), 3000 of them frequent" in outcome.out
    assert "hand_blower.n.01" in outcome.out
    assert "left out: 2 objects with a box that cannot be used" in outcome.out
    found = halfmask_cli("doctor", tmp_path / "vg3k_val.json")
    assert found.code == 0, found.out + found.err


def test_wrong_use(halfmask_cli: Cli, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "vg.json"
    val = source / "coco" / "annotations" / "instances_val2017.json"
    for arguments, message in (
        (("voc", source, out), "no format voc; there are: visual-genome"),
        (("visual-genome", source, out), "--coco-val FILE is missing"),
        (("visual-genome", tmp_path, out, "--coco-val", val), "objects.json and image_data.json, found neither"),
        (("visual-genome", source, out, "--coco-val", tmp_path / "no.json"), "no.json: cannot be read"),
        (("visual-genome", source, out, "--coco-val", source / "objects.json"), "expected a JSON object"),
    ):
        outcome = halfmask_cli("convert", *arguments)
        assert outcome.code == 2
        assert message in outcome.line
    assert list(tmp_path.iterdir()) == []
    kept = tmp_path / "instances_val.json"
    kept.write_bytes(val.read_bytes())
    own = halfmask_cli("convert", "visual-genome", source, tmp_path / "instances.json", "--coco-val", kept)
    assert own.code == 2
    assert "would be written over, it is --coco-val" in own.line
    assert kept.read_bytes() == val.read_bytes()
