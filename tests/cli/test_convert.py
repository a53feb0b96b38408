"""`halfmask convert` from the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import halfmask
from benchmarks.real.visual_genome_data import write_coco, write_visual_genome
from halfmask.formats.registry import READERS, WRITERS

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
        "convert",
        "visual-genome",
        source,
        tmp_path / "vg3k.json",
        "--coco-val",
        val,
        "--test-count",
        4,
        "--synsets",
        3000,
    )
    assert outcome.code == 0, outcome.err
    assert {p.name for p in tmp_path.iterdir()} == {
        "vg3k_train.json",
        "vg3k_val.json",
        "vg3k_test.json",
    }
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
        (
            ("coco", source, out),
            "no format coco; there are: yolo, voc, cvat, label-studio, labelme, via, supervisely, "
            "datumaro, coco-panoptic, lvis, objects365, open-images, visual-genome, "
            "to-coco, to-yolo",
        ),
        (("visual-genome", source, out), "--coco-val FILE is missing"),
        (
            ("visual-genome", tmp_path, out, "--coco-val", val),
            "objects.json and image_data.json, found neither",
        ),
        (
            ("visual-genome", source, out, "--coco-val", tmp_path / "no.json"),
            "no.json: cannot be read",
        ),
        (
            ("visual-genome", source, out, "--coco-val", source / "objects.json"),
            "expected a JSON object",
        ),
    ):
        outcome = halfmask_cli("convert", *arguments)
        assert outcome.code == 2
        assert message in outcome.line
    assert list(tmp_path.iterdir()) == []
    kept = tmp_path / "instances_val.json"
    kept.write_bytes(val.read_bytes())
    own = halfmask_cli(
        "convert", "visual-genome", source, tmp_path / "instances.json", "--coco-val", kept
    )
    assert own.code == 2
    assert "OUT is the input" in own.line
    assert kept.read_bytes() == val.read_bytes()


def _yolo(root: Path, labels: str) -> Path:
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    Image.new("RGB", (100, 50)).save(root / "images" / "a.jpg")
    (root / "labels" / "a.txt").write_text(labels)
    (root / "data.yaml").write_text("names: [cat]\n")
    return root


def test_partial_polygons_from_yolo_and_back(halfmask_cli: Cli, tmp_path: Path) -> None:
    source = _yolo(tmp_path / "y", "0 0.5 0.5 0.2 0.4\n0 0.1 0.1 0.5 0.1 0.3 0.6\n")
    out, report = tmp_path / "new" / "coco.json", tmp_path / "report.json"
    outcome = halfmask_cli("convert", "yolo", source, out)
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip() == f"{out}: 1 images, 2 annotations, 1 of them with masks, 1 classes"
    assert halfmask_cli("doctor", out).code == 0
    outcome = halfmask_cli("convert", "to-yolo", out, tmp_path / "back", "--json", report)
    assert outcome.code == 0, outcome.err
    assert "note: 1 rows that are boxes among polygons" in outcome.out
    assert json.loads(report.read_text())["notes"][0]["count"] == 1
    words = [
        line.split() for line in (tmp_path / "back" / "labels" / "a.txt").read_text().splitlines()
    ]
    assert [[float(w) for w in row] for row in words] == [
        [0, 0.5, 0.5, 0.2, 0.4],
        [0, 0.1, 0.1, 0.5, 0.1, 0.3, 0.6],
    ]


def test_a_problem_is_reported_and_the_exit_code_is_1(halfmask_cli: Cli, tmp_path: Path) -> None:
    source = _yolo(tmp_path / "y", "0 0.5 0.5 0.2 0.4\n7 0.5 0.5 0.2 0.4\n")
    outcome = halfmask_cli("convert", "yolo", source, tmp_path / "coco.json")
    assert outcome.code == 1
    assert outcome.line.startswith(
        "problem: 1 label lines of a class beyond the 1 names: left out (first: "
    )
    assert outcome.line.endswith("a.txt line 2)")
    assert len(json.loads((tmp_path / "coco.json").read_text())["annotations"]) == 1


def test_missing_sources(halfmask_cli: Cli, tmp_path: Path) -> None:
    for arguments, message in (
        (
            ("yolo", tmp_path / "no", tmp_path / "o.json"),
            "no such file or folder; expected a YOLO folder",
        ),
        (
            ("to-voc", tmp_path / "no.json", tmp_path / "o"),
            "no.json: expected a COCO JSON file, cannot read it",
        ),
        (("cvat", tmp_path, tmp_path / "o.json"), "annotations.xml: cannot be read"),
        (("lvis", tmp_path, tmp_path / "o.json"), "cannot be read"),
        (
            ("cvat", tmp_path, tmp_path / "o.json", "--split", "val"),
            "convert cvat: does not use --split; it uses: no options",
        ),
        (
            ("to-voc", tmp_path, tmp_path / "o", "--zero-based"),
            "convert to-voc: does not use --zero-based",
        ),
        (("label-studio", tmp_path, tmp_path / "o.json"), "cannot be read"),
        (
            ("yolo", tmp_path, tmp_path / "o.json", "--images", tmp_path / "no"),
            "expected the folder of the photographs",
        ),
    ):
        outcome = halfmask_cli("convert", *arguments)
        assert outcome.code == 2, arguments
        assert message in outcome.line
    assert list(tmp_path.iterdir()) == []


def test_the_table_and_the_help_agree(halfmask_cli: Cli) -> None:
    text = " ".join(halfmask_cli("convert", "--help").out.split())
    for form in (*READERS, *WRITERS):
        assert form in text


def test_the_library_function(tmp_path: Path) -> None:
    source, out = _yolo(tmp_path / "y", "0 0.5 0.5 0.2 0.4\n7 0.5 0.5 0.2 0.4\n"), tmp_path / "o"
    steps: list[tuple[str, int, int]] = []
    done = halfmask.convert("yolo", source, out, progress=lambda *step: steps.append(step))
    assert steps == [("converting", 1, 1)]
    assert done.counts == {"images": 1, "annotations": 1, "masks": 0, "classes": 1}
    assert not done.ok
    assert done.to_json() == {
        "written": f"{out}: 1 images, 1 annotations, 0 of them with masks, 1 classes",
        "faults": [
            {
                "what": "label lines of a class beyond the 1 names: left out",
                "count": 1,
                "first": f"{source}/labels/a.txt line 2",
            }
        ],
        "notes": [],
    }
