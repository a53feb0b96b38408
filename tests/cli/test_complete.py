"""`halfmask complete` end to end."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)

Cli = Callable[..., Any]


def test_fills_and_says_so(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    data, out = coco_file(), tmp_path / "new" / "out.json"
    arguments = (
        "complete",
        tiny_segmenter,
        data,
        "--images",
        photos,
        "--out",
        out,
        "--json",
        tmp_path / "done.json",
    )
    outcome = halfmask_cli(*arguments)
    assert outcome.code == 0, outcome.err
    assert "6 masks filled, mean score" in outcome.out
    assert "left alone: 6 masks" in outcome.out
    assert "does not know the class: owl" in outcome.out
    rows = json.loads(out.read_text())["annotations"]
    assert all(isinstance(a["segmentation"], dict if "halfmask" in a else list) for a in rows)
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["filled"] == 6
    assert done["counts"] == {"kept": 6, "missing": 6}
    assert done["skipped"] == []
    again = halfmask_cli(
        "complete", tiny_segmenter, out, "--images", photos, "--out", tmp_path / "again.json"
    )
    assert again.code == 0
    assert "nothing was filled" in again.out
    assert (tmp_path / "again.json").read_bytes() == out.read_bytes()


def test_a_sheet_of_the_new_masks_by_score(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    from PIL import Image

    out, sheet = tmp_path / "out.json", tmp_path / "new" / "sheet.png"
    outcome = halfmask_cli(
        "complete", tiny_segmenter, coco_file(), "--images", photos, "--out", out, "--sheet", sheet
    )
    assert outcome.code == 0, outcome.err
    assert str(sheet) in outcome.out
    with Image.open(sheet) as picture:
        assert picture.height > 3 * 232, "three blocks"
    again = halfmask_cli(
        "complete",
        tiny_segmenter,
        coco_file(),
        "--images",
        photos,
        "--out",
        out,
        "--sheet",
        tmp_path / "s.txt",
    )
    assert again.code == 2
    assert "does not end like a picture" in again.line


def test_no_sheet_where_nothing_was_filled(
    tmp_path: Path, coco_file: Callable[..., Path], photos: Path
) -> None:
    from halfmask.errors import InputError
    from halfmask.pictures.filled_sheet import draw_filling_sheet

    with pytest.raises(InputError, match="no sheet, since halfmask filled no mask"):
        draw_filling_sheet(tmp_path / "s.png", coco_file(), photos)
    assert not (tmp_path / "s.png").exists()


def test_polygons_and_redo(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    out, redone = tmp_path / "out.json", tmp_path / "redone.json"
    assert (
        halfmask_cli("complete", tiny_segmenter, coco_file(), "--images", photos, "--out", out).code
        == 0
    )
    outcome = halfmask_cli(
        "complete",
        tiny_segmenter,
        out,
        "--images",
        photos,
        "--out",
        redone,
        "--polygons",
        "--redo-filled",
    )
    assert "6 masks filled" in outcome.out
    assert all(
        isinstance(a["segmentation"], list) for a in json.loads(redone.read_text())["annotations"]
    )


def test_a_dry_run_writes_nothing(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    data, out = coco_file(), tmp_path / "out.json"
    before = sorted(tmp_path.rglob("*"))
    outcome = halfmask_cli(
        "complete", tiny_segmenter, data, "--images", photos, "--out", out, "--dry-run"
    )
    assert outcome.code == 0
    assert "would fill 6 masks in 3 photographs" in outcome.out
    assert "dog" in outcome.out
    assert "owl" in outcome.out
    assert "cat" not in outcome.out.split("would fill")[1].split("would")[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_what_was_skipped_is_counted(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    (photos / "2.jpg").write_bytes((photos / "2.jpg").read_bytes()[:400])
    outcome = halfmask_cli(
        "complete", tiny_segmenter, coco_file(), "--images", photos, "--out", tmp_path / "out.json"
    )
    assert outcome.code == 1
    assert "1 photograph skipped, 2 masks still missing" in outcome.err
    assert "image id 2" in outcome.err
    assert "4 masks filled" in outcome.out


def test_boxes_that_cannot_be_used_are_counted(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
) -> None:
    rows = [
        {"id": i, "image_id": 1, "category_id": 2, "bbox": b}
        for i, b in enumerate([[3, 3, 20, 20], [900, 3, 5, 5], [3, 3, -1, 5]])
    ]
    for flags in ((), ("--dry-run",)):
        outcome = halfmask_cli(
            "complete",
            tiny_segmenter,
            coco_file(annotations=rows),
            "--images",
            photos,
            "--out",
            tmp_path / "out.json",
            *flags,
        )
        assert outcome.code == 1
        assert "annotation 1, annotation 2" in outcome.err


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_input_that_cannot_be_used(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
    flags: tuple[str, ...],
) -> None:
    empty, text, absent, out = (
        tmp_path / "empty",
        tmp_path / "text.json",
        tmp_path / "absent",
        tmp_path / "out.json",
    )
    empty.mkdir()
    text.write_text("{}")
    good = coco_file()

    def line(model: object, data: object, images: object, target: object = out) -> str:
        outcome = halfmask_cli("complete", model, data, "--images", images, "--out", target, *flags)
        assert outcome.code == 2
        assert not out.exists()
        return str(outcome.line)

    assert "--out is the input" in line(tiny_segmenter, good, photos, good)
    assert "none of the 3 photographs" in line(tiny_segmenter, good, empty)
    assert "no such folder" in line(tiny_segmenter, good, absent)
    assert "expected a COCO instances file" in line(tiny_segmenter, text, photos)
    assert "no such checkpoint" in line(absent, good, photos)
    assert "no box to fill" in line(tiny_segmenter, coco_file(annotations=[]), photos)


def test_ctrl_c_says_how_to_go_on(
    halfmask_cli: Cli,
    tiny_segmenter: Path,
    coco_file: Callable[..., Path],
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from halfmask.inference.complete import draw as drawing
    from halfmask.inference.complete import plan

    monkeypatch.setattr(plan, "BATCH_BOXES", 2)
    real, calls = drawing.fillings, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(drawing, "fillings", interrupted)
    arguments = (
        "complete",
        tiny_segmenter,
        coco_file(),
        "--images",
        photos,
        "--out",
        tmp_path / "out.json",
    )
    outcome = halfmask_cli(*arguments)
    assert outcome.code == 130
    assert "continues from there" in outcome.err
    assert not (tmp_path / "out.json").exists()
    outcome = halfmask_cli(*arguments)
    assert outcome.code == 0
    assert "6 masks filled (2 of them by the run before)" in outcome.out
