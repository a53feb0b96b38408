"""`complete auto` without training: too few masks, bad input, the same command once more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import halfmask
from halfmask.errors import InputError
from halfmask.training.adapt.request import checked_minutes
from tests.conftest import RunsHalfmask

NAMES = {1: "cat", 2: "dog", 3: "owl"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in (1, 2):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def data(folder: Path, masked: set[int], name: str = "data.json", **changes: Any) -> Path:
    """Writes two photographs with a cat, a dog and an owl each; `masked` classes have masks."""
    rows = []
    for image in (1, 2):
        for category in NAMES:
            x, y = 6 * category, 3 * category
            row: dict[str, Any] = {"id": len(rows) + 1, "image_id": image, "iscrowd": 0}
            row |= {"category_id": category, "bbox": [x, y, 24, 30]}
            if category in masked:
                row |= {"segmentation": [[x, y, x + 24, y + 8, x + 12, y + 30]], "area": 312}
            rows.append(row)
    images = [{"id": i, "file_name": f"{i}.png", "height": 48, "width": 64} for i in (1, 2)]
    categories = [{"id": i, "name": name} for i, name in NAMES.items()]
    document = {"images": images, "annotations": rows, "categories": categories, **changes}
    (folder / name).write_text(json.dumps(document))
    return folder / name


def listing(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.slow
def test_few_masks_fill_with_the_shipped_model(
    halfmask_cli: RunsHalfmask, photos: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "masks.json", tmp_path / "report.json"
    source = data(tmp_path, {1})
    arguments = ["complete", "auto", source, "--images", photos, "--out", out]
    outcome = halfmask_cli(*arguments, "--json", report)
    assert outcome.code == 0, outcome.err
    text = " ".join(outcome.out.split())
    assert text.count("Found 2 masks of 1 class in 2 photographs; 4 objects have only a box") == 1
    assert "2 classes have no mask at all" in text
    assert text.count("Mean IoU in % on 2 masks of the data: box ") == 1
    assert "2 masks are too few to adapt it, at least 50 are needed." in text
    assert outcome.out.splitlines()[-1] == f"Next: halfmask review {out} --images {photos}"
    found = json.loads(report.read_text())
    assert found["filled"] == 4
    learned = found["learned"]
    assert learned["kept"] == "start"
    assert learned["learned_from"]["masks"] == 2
    assert learned["held_out"]["by"] == "nothing"
    assert learned["expected"]["low"] <= learned["expected"]["miou"] <= learned["expected"]["high"]
    run = tmp_path / "masks.json.run"
    assert (run / "report.html").is_file()
    shipped = halfmask.load("box-segmenter").model.state_dict()
    own = halfmask.load(run).model.state_dict()
    assert all((own[k] == v).all() for k, v in shipped.items() if "quality_score" not in k)

    before = {path: path.stat().st_mtime_ns for path in listing(run)}
    first = out.read_bytes()
    out.unlink()
    again = halfmask_cli(*arguments)
    assert again.code == 0
    assert "this run is finished" in again.out
    assert out.read_bytes() == first
    assert {path: path.stat().st_mtime_ns for path in listing(run)} == before


def test_no_mask_at_all(photos: Path, tmp_path: Path) -> None:
    done = halfmask.complete(
        "auto", data(tmp_path, set()), images=photos, out=tmp_path / "masks.json"
    )
    assert done.filled == 6
    assert done.learned is not None
    assert done.learned["held_out"] is None
    assert "Found no mask; 6 objects have only a box, 3 classes have no mask" in done.summary
    assert "0 masks are too few to adapt it" in done.summary


@pytest.mark.slow
def test_masks_that_were_not_given_change_nothing(photos: Path, tmp_path: Path) -> None:
    found = []
    for masked in ({1}, {1, 2, 3}):
        data(tmp_path, masked, "all_masks.json")  # lies beside, and is never read
        out = tmp_path / f"masks{len(masked)}.json"
        halfmask.complete("auto", data(tmp_path, {1}), images=photos, out=out)
        rows = json.loads(out.read_text())["annotations"]
        found.append([(row["segmentation"], row.get("halfmask", {}).get("score")) for row in rows])
    assert found[0] == found[1]


def test_nothing_to_fill_starts_no_run(photos: Path, tmp_path: Path) -> None:
    source = data(tmp_path, set(NAMES))
    done = halfmask.complete("auto", source, images=photos, out=tmp_path / "masks.json")
    assert done.filled == 0
    assert done.learned is None
    assert not done.summary
    assert (tmp_path / "masks.json").read_bytes() == source.read_bytes()
    assert not (tmp_path / "masks.json.run").exists()


def test_dry_run_writes_nothing_and_says_whether_it_would_learn(
    halfmask_cli: RunsHalfmask, photos: Path, tmp_path: Path
) -> None:
    source = data(tmp_path, {1})
    before = listing(tmp_path)
    arguments = ["complete", "auto", source, "--images", photos, "--out", tmp_path / "masks.json"]
    outcome = halfmask_cli(*arguments, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "would fill 4 masks in 2 photographs" in outcome.out
    assert "no model would be adapted: 2 masks, it takes 50" in " ".join(outcome.out.split())
    assert listing(tmp_path) == before


def test_bad_input_is_one_line_and_leaves_nothing(
    halfmask_cli: RunsHalfmask, photos: Path, tmp_path: Path
) -> None:
    source = data(tmp_path, {1})
    boxless = data(tmp_path, set(), "boxless.json", annotations=[])
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    out = tmp_path / "masks.json"
    cases: list[tuple[list[object], str]] = [
        ([tmp_path / "absent", "--out", out], "no such file or folder"),
        ([source, "--out", out], "--images"),
        ([source, "--images", tmp_path / "absent", "--out", out], "no such folder"),
        ([source, "--images", tmp_path / "other", "--out", out], "none of the 2 photographs"),
        ([boxless, "--images", photos, "--out", out], "no box to fill a mask into"),
        ([source, "--images", photos, "--out", taken], "found a folder"),
        (
            [source, "--images", photos, "--out", taken, "--out-format", "yolo"],
            "found a folder with other files",
        ),
        ([source, "--images", photos, "--out", source], "is the input"),
        ([source, "--images", photos, "--out", out, "--minutes", "0"], "more than 0"),
        ([source, "--images", photos, "--out", out, "--minutes", "nan"], "more than 0"),
    ]
    before = listing(tmp_path)
    for arguments, text in cases:
        outcome = halfmask_cli("complete", "auto", *arguments)
        assert outcome.code == 2, arguments
        assert text in outcome.line, arguments
    plain = halfmask_cli(
        "complete", "box-segmenter", source, "--images", photos, "--out", out, "--minutes", "3"
    )
    assert plain.code == 2
    assert "complete auto" in plain.line
    assert listing(tmp_path) == before


@pytest.mark.slow
def test_a_run_of_other_data_is_not_used(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks.json"
    halfmask.complete("auto", data(tmp_path, {1}), images=photos, out=out)
    with pytest.raises(InputError, match="other data or settings; delete it, or name another"):
        halfmask.complete("auto", data(tmp_path, {1, 2}), images=photos, out=out)


def test_minutes_default_to_ten() -> None:
    assert checked_minutes(None) == 10
    assert checked_minutes(0.5) == 0.5
    with pytest.raises(InputError):
        checked_minutes(float("inf"))
