"""`bench annotations` at a small size: what it generates, measures and leaves behind."""

import json
from pathlib import Path

import pytest

from benchmarks.child import in_child, sizes
from benchmarks.peer_table import peer_row, peer_table
from benchmarks.result import Options
from benchmarks.scale import annotations, evaluation
from benchmarks.scale.annotations_data import write_annotations
from benchmarks.scale.evaluation_data import made_up_images
from halfmask.coco.file import CocoFile
from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError


def test_the_generated_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert write_annotations(path, 700) == 100
    file = CocoFile.read(path)
    assert not file.structure
    assert len(file.images) == 100
    rows = json.loads(path.read_text())["annotations"]
    assert [a["id"] for a in rows] == list(range(1, 701))
    images = [a["image_id"] for a in rows]
    assert images != sorted(images)
    states = [state for i in file.image_ids for state in file.states_of(i)]
    assert set(states) == {MaskState.MASK, MaskState.MISSING}
    assert 250 < states.count(MaskState.MASK) < 450


@pytest.mark.slow
def test_measures_both_files_and_removes_them(tmp_path: Path) -> None:
    settings = ("annotations=3000", "peer=1500", "reads=20", "workers=2", "repeats=1")
    result = annotations.run(Options(tmp_path, 1, 0, 1, overrides=settings, say=lambda _: None))
    assert list(tmp_path.iterdir()) == []
    rows = {row["name"]: row for row in result.rows}
    assert len(rows) == 19
    assert all(row["value"] > 0 for row in rows.values())
    assert [row["peer"] for row in rows.values()].count("pycocotools.COCO") == 5
    assert rows["3,000 annotations: opening, peak memory of the process"]["ok"]
    assert "1,500 annotations: opening" in result.tables["annotations"]


def test_evaluation_is_pycocotools_to_the_last_bit(tmp_path: Path) -> None:
    settings = ("images=20", "truth=150", "detections=1000", "repeats=1")
    result = evaluation.run(Options(tmp_path, 1, 0, 1, overrides=settings, say=lambda _: None))
    assert list(tmp_path.iterdir()) == []
    rows = {row["name"]: row for row in result.rows}
    for kind in ("box", "mask"):
        assert rows[f"{kind} AP"]["value"] == rows[f"{kind} AP"]["peer_value"] > 1
        assert rows[f"{kind}: largest difference in precision or recall"]["ok"]
    assert rows["both together, times as fast"]["value"] > 1


def test_made_up_images_have_what_they_should() -> None:
    images = list(made_up_images(30, 200, 3000))
    assert sum(len(i.truth) for i in images) == 200
    assert all(len(i.found) == 100 for i in images)
    assert any(a["iscrowd"] for i in images for a in i.truth)
    scores = [d["score"] for d in images[0].found]
    assert scores == sorted(scores, reverse=True)


def test_settings_and_children_that_fail(tmp_path: Path) -> None:
    assert sizes(("a=5",), {"a": 1, "b": 2}) == {"a": 5, "b": 2}
    for wrong in ("c=1", "a=x", "a=0", "a"):
        with pytest.raises(InputError, match="expected one of a=1"):
            sizes((wrong,), {"a": 1})
    with pytest.raises(InputError, match=r"annotations_probe open .* failed: .*InputError"):
        in_child("benchmarks.scale.annotations_probe", "open", tmp_path / "none.json", 1)
    with pytest.raises(InputError, match="MiB are needed"):
        annotations.run(
            Options(
                tmp_path, 1, 0, 1, overrides=("annotations=99999999999999",), say=lambda _: None
            )
        )
    assert list(tmp_path.iterdir()) == []


def test_bars_from_above_and_below() -> None:
    assert [peer_row("a", 2.0, "s", at_most=bar)["ok"] for bar in (1, 2, 3)] == [False, True, True]
    assert [peer_row("a", 2.0, "s", at_least=bar)["ok"] for bar in (1, 2, 3)] == [True, True, False]
    row = peer_row("b", 2.0, "s", ("other", 8.0))
    assert (row["ratio"], row["bar"], row["ok"]) == (0.25, None, None)
    assert peer_row("b", 2.0, "s", ("other", 0.0))["ratio"] is None
    table = peer_table([row, peer_row("c", 1234.5, "MiB", at_most=1024)], "other", "Note.")
    assert "| b | 2 s | 8 s |" in table
    assert "| c | 1,234 MiB | – |" in table


@pytest.mark.slow
def test_memory_does_not_grow_with_the_annotations(tmp_path: Path) -> None:
    peaks = []
    for count in (100_000, 400_000):
        path = tmp_path / f"{count}.json"
        write_annotations(path, count)
        measured = in_child("benchmarks.scale.annotations_probe", "index", path)
        assert measured is not None
        peaks.append(measured["peak"])
    assert peaks[1] < peaks[0] + 50, (
        peaks
    )  # MiB; four times the annotations are 70 MiB more of JSON, and 500 MiB of Python objects
    assert peaks[1] < 300
