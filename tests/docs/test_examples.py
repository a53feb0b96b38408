"""The programs of examples/ and the notebook, run; deploy_onnx.py is run by its page
(test_pages.py) and checked in tests/inference.
"""

import json
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import halfmask

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))
Run = Callable[..., str]
BOXES = ["58,159,279,622", "234,194,327,481"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a program in a folder and returns what it prints. In this process: torch is
    loaded once.
    """

    def run_program(name: str, *arguments: str, folder: Path) -> str:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        capsys.readouterr()
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run_program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With `photos/` and `boxes.json`: 12 photographs, masks on people only."""
    from halfmask.coco.edit import strip_masks

    shutil.copytree(Path(halfmask.__file__).parent / "assets" / "photos", tmp_path / "photos")
    document = json.loads((tmp_path / "photos" / "photos.json").read_text(encoding="utf-8"))
    (tmp_path / "boxes.json").write_text(
        json.dumps(strip_masks(document, keep={1})), encoding="utf-8"
    )
    return tmp_path


def test_five_programs_of_at_most_60_lines() -> None:
    assert len(PROGRAMS) == 5
    for program in PROGRAMS:
        text = program.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 60, program.name
        assert f"python examples/{program.name} " in text, (
            f"{program.name}: say at its head how to call it"
        )


def test_a_report_of_a_completed_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = runpy.run_path(str(EXAMPLES / "complete_coco.py"))["report"]
    document = json.loads((folder / "boxes.json").read_text(encoding="utf-8"))
    boxes_only = [a for a in document["annotations"] if "segmentation" not in a]
    for k, annotation in enumerate(boxes_only[:3]):
        annotation["halfmask"] = {"state": "filled", "score": 0.9 - 0.3 * k}
    (folder / "masks.json").write_text(json.dumps(document), encoding="utf-8")
    report(folder / "masks.json", worst=2)
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[1].rstrip(",") for line in lines if line.startswith("  annotation")]
    assert listed == [str(boxes_only[2]["id"]), str(boxes_only[1]["id"])]


@pytest.mark.slow
def test_segment_photo(folder: Path, run: Run) -> None:
    masks = json.loads(
        run("segment_photo.py", "photos/000000377575.jpg", "drawn.png", *BOXES, folder=folder)
    )
    assert [m["segmentation"]["size"] for m in masks] == [[640, 426]] * 2
    assert all(0 <= m["score"] <= 1 for m in masks)
    assert Image.open(folder / "drawn.png").size == (426, 640)


@pytest.mark.slow
def test_complete_coco(folder: Path, run: Run) -> None:
    out = run("complete_coco.py", "boxes.json", "photos", "masks.json", folder=folder)
    assert "43 masks filled, 0 still missing" in out
    assert out.count("  annotation ") == 10


@pytest.mark.slow
def test_yolo_masks(folder: Path, run: Run) -> None:
    from halfmask.cli.main import app

    there = [
        "convert",
        "to-yolo",
        str(folder / "boxes.json"),
        str(folder / "yolo"),
        "--images",
        str(folder / "photos"),
    ]
    app(args=there, standalone_mode=False)
    before = [
        line
        for file in (folder / "yolo/labels").iterdir()
        for line in file.read_text().splitlines()
    ]
    run("yolo_masks.py", "yolo/data.yaml", "yolo/images", "completed", folder=folder)
    after = [
        line
        for file in (folder / "completed/labels").iterdir()
        for line in file.read_text().splitlines()
    ]
    assert len(before) == len(after) == 69
    assert sum(len(line.split()) == 5 for line in before) == 43
    assert all(len(line.split()) > 6 for line in after)


@pytest.mark.slow
def test_partial_world(tmp_path: Path, run: Run) -> None:
    out = run("partial_world.py", "world", folder=tmp_path)
    assert "classes with masks: mask IoU" in out
    assert "classes with boxes only: mask IoU" in out
    result = json.loads((tmp_path / "world" / "result.json").read_text(encoding="utf-8"))
    assert result["given_boxes"]["A"]["instances"] > 0
    assert result["given_boxes"]["B"]["instances"] > 0


def test_the_notebook_is_stored_without_outputs() -> None:
    document = json.loads((EXAMPLES / "partial_masks.ipynb").read_text(encoding="utf-8"))
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            assert cell["execution_count"] is None


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.reads((EXAMPLES / "partial_masks.ipynb").read_text(encoding="utf-8"), 4)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    printed = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert "43 masks filled" in printed
    assert "B mask IoU on given boxes" in printed
    assert "the first two classes unchanged: True" in printed
