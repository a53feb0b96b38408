"""`halfmask tighten`: loose boxes become their masks', and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import halfmask
from halfmask.coco.file import CocoFile
from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError
from halfmask.masks.rle import compressed
from tests.conftest import RunsHalfmask

SQUARE = [[10, 10, 30, 10, 30, 25, 10, 25.25]]
TIGHT = [10, 10, 20, 15.25]
LOOSE = [4.5, 6, 30, 24]
RLE = compressed(SQUARE, (40, 60))


def row(number: int, bbox: list[float], segmentation: Any = None, **more: Any) -> dict[str, Any]:
    keys = {"id": number, "image_id": 1, "category_id": 1 + number % 2, "bbox": bbox, "area": 302.5}
    return keys | ({} if segmentation is None else {"segmentation": segmentation}) | more


ROWS = [
    row(1, LOOSE, SQUARE, note="ü"),  # the file's own
    row(2, [10.4, 9.6, 20, 15.4], SQUARE),  # within a pixel
    row(3, LOOSE, RLE, halfmask={"model": "m", "score": 0.5, "state": "accepted"}),
    row(4, LOOSE, RLE, halfmask={"model": "m", "score": 0.5, "state": "filled"}),
    row(5, LOOSE, RLE, halfmask={"model": "m", "score": 0.5, "state": "rejected"}),
    row(6, LOOSE, SQUARE, iscrowd=1),
    row(7, LOOSE),
    row(8, LOOSE, [[1, 2]]),
    row(9, [8, 8, 24, 19], RLE, halfmask={"state": "redrawn", "box": [1, 2, 3, 4]}),
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    images = [{"id": 1, "file_name": "a.png", "width": 60, "height": 40, "licence": 1.5}]
    categories = [{"id": 1, "name": "cup"}, {"id": 2, "name": "[dog]"}]
    path = tmp_path / "data.json"
    document = {"info": {"x": 1}, "images": images, "annotations": ROWS, "categories": categories}
    path.write_text(json.dumps(document))
    return path


def test_the_report_and_the_file(data: Path, tmp_path: Path, halfmask_cli: RunsHalfmask) -> None:
    before, out, report = data.read_bytes(), tmp_path / "out.json", tmp_path / "report.json"
    dry = halfmask_cli("tighten", data)
    assert dry.code == 0, dry.err
    assert "3 of 4 boxes with a mask are loose" in dry.out
    assert "nothing was written" in dry.out
    assert list(tmp_path.iterdir()) == [data]
    done = halfmask_cli("tighten", data, "--out", out, "--json", report)
    assert done.code == 0, done.err
    assert "loosest first: annotations 3, 1, 9" in done.out
    assert "[dog]" in done.out
    assert "1 broken, 1 crowd, 1 filled, 1 missing, 1 rejected" in done.out
    assert data.read_bytes() == before
    old, new = json.loads(before), json.loads(out.read_text())
    assert list(new) == list(old)
    changes = {
        1: {"bbox": TIGHT, "halfmask": {"box": LOOSE}},
        3: {"bbox": [10, 10, 20, 15], "halfmask": {**ROWS[2]["halfmask"], "box": LOOSE}},
        9: {"bbox": [10, 10, 20, 15]},  # it keeps the reviewer's box
    }
    old["annotations"] = [one | changes.get(one["id"], {}) for one in old["annotations"]]
    assert new == old
    said = json.loads(report.read_text())
    assert [said[key] for key in ("out", "boxes", "loose")] == [str(out), 4, 3]
    assert [one["id"] for one in said["worst"]] == [3, 1, 9]
    first = said["worst"][1]
    assert first["iou"] == pytest.approx(20 * 15.25 / (30 * 24), abs=1e-3)
    assert (first["box"], first["mask_box"]) == (LOOSE, TIGHT)
    assert [(c["name"], c["boxes"], c["loose"]) for c in said["classes"]] == [
        ("cup", 1, 0),
        ("[dog]", 3, 3),
    ]


def test_filled_masks_count_if_asked(data: Path, tmp_path: Path) -> None:
    assert halfmask.tighten(data).loose == 3
    done = halfmask.tighten(data, filled=True, out=tmp_path / "out.json")
    assert done.loose == 4
    rows = {a["id"]: a for a in json.loads((tmp_path / "out.json").read_text())["annotations"]}
    assert rows[4]["bbox"] == [10, 10, 20, 15]
    assert rows[4]["halfmask"]["state"] == "filled"


def test_a_mask_of_the_file_stays_one_and_a_second_run_changes_nothing(
    data: Path, tmp_path: Path
) -> None:
    once, twice = tmp_path / "once.json", tmp_path / "twice.json"
    halfmask.tighten(data, out=once)
    file = CocoFile.read(once)
    states = dict(zip((a["id"] for a in file.annotations_of(1)), file.states_of(1), strict=True))
    assert states[1] is MaskState.MASK, "the note of its old box makes it no mask of halfmask's"
    assert halfmask.tighten(once, out=twice).loose == 0
    assert json.loads(once.read_text()) == json.loads(twice.read_text())


def test_what_cannot_be_used_is_counted(data: Path, halfmask_cli: RunsHalfmask) -> None:
    document = json.loads(data.read_text())
    document["annotations"].append(row(10, [1, 2, 0, 4], SQUARE))
    data.write_text(json.dumps(document))
    done = halfmask_cli("tighten", data)
    assert done.code == 1
    assert "without a usable box, image or class" in done.err
    assert "annotation 10" in done.err


def test_it_never_writes_over_its_input(data: Path, halfmask_cli: RunsHalfmask) -> None:
    before = data.read_bytes()
    with pytest.raises(InputError, match="--out is the input"):
        halfmask.tighten(data, out=data)
    assert halfmask_cli("tighten", data, "--out", data).code == 2
    assert data.read_bytes() == before


@pytest.mark.shared
@pytest.mark.parametrize("name", ["coco-mini", "facade"])
def test_boxes_of_careful_annotation_are_tight(shared_data: Path, name: str) -> None:
    done = halfmask.tighten(shared_data / name / "instances_val.json")
    assert done.boxes > 1000
    assert done.loose == 0
