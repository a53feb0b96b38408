"""The curve of masks: which files are made, which runs, and what the table says."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.real.adapt import run
from benchmarks.result import Options

NAMES = ["window", "vegetation", "car", "fence", "shop", "street"]
EACH = 60


def write_facade(shared: Path) -> None:
    """Writes `facade` with 60 masks of each of six classes, of which four are masked."""
    folder = shared / "data" / "facade"
    folder.mkdir(parents=True)
    rows = [
        {
            "id": 1 + k,
            "image_id": 1,
            "category_id": 1 + k % len(NAMES),
            "bbox": [0, 0, 4, 5],
            "segmentation": [[0, 0, 4, 0, 4, 5]],
            "area": 10,
            "iscrowd": 0,
        }
        for k in range(EACH * len(NAMES))
    ]
    categories = [{"id": 1 + k, "name": name} for k, name in enumerate(NAMES)]
    images = [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 9}]
    document = {"images": images, "categories": categories, "annotations": rows}
    for part in ("train", "val"):
        (folder / f"instances_{part}.json").write_text(json.dumps(document))


class FakeHalfmask:
    """Measures 70 % as it is, and a point more for each doubling of the masks."""

    def __init__(self, kept: str = "adapted") -> None:
        self.kept = kept
        self.trained: list[dict[str, Any]] = []
        self.measured: list[dict[str, Any]] = []

    def __call__(self, arguments: list[str]) -> None:
        values = {a: b for a, b in itertools.pairwise(arguments) if a[0] == "-"}
        if arguments[0] == "train":
            out = Path(values["--out"])
            out.mkdir(parents=True)
            document = json.loads((out.parent / "data.json").read_text())
            masks = [a for a in document["annotations"] if a["segmentation"]]
            self.trained.append({"arguments": arguments, "masks": masks})
            state = {"kept": self.kept, "masks": len(masks)}
            (out / "adaptation.json").write_text(json.dumps(state))
            return
        truth = json.loads(Path(arguments[2]).read_text())
        self.measured.append(truth)
        gain = 0.0
        if arguments[1] != "box-segmenter":
            found = json.loads((Path(arguments[1]) / "adaptation.json").read_text())
            gain = found["masks"] / 1000
        blocks = {"given_boxes": {"all": {"miou": 0.7 + gain}}}
        Path(values["--json"]).write_text(json.dumps(blocks))


@pytest.fixture
def facade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_facade(tmp_path / "shared")
    monkeypatch.setenv("HALFMASK_SHARED", str(tmp_path / "shared"))
    return tmp_path


def options(out: Path, *settings: str) -> Options:
    return Options(out, 2, 0, 1, "world", None, settings, None, lambda line: None)


def test_each_number_of_masks_is_adapted_to_once_a_seed(facade: Path) -> None:
    fake = FakeHalfmask()
    result = run(options(facade / "out", "minutes=3"), fake)
    assert [len(t["masks"]) for t in fake.trained] == [50, 50, 200, 200, 240, 240, 240, 240]
    masked = {a["category_id"] for t in fake.trained for a in t["masks"]}
    assert masked == {1, 2, 3, 4}, "no mask of the other classes is ever given"
    drawn = [{a["id"] for a in t["masks"]} for t in fake.trained[:2]]
    assert drawn[0] != drawn[1], "each seed draws its own masks"
    for truth in fake.measured:
        assert {a["category_id"] for a in truth["annotations"]} == {5, 6}
    assert all(t["arguments"][-2:] == ["--minutes", "3"] for t in fake.trained)
    lines = result.tables["adapt"].splitlines()[2:]
    assert lines[0] == "| 0 | 70.0 ± 0.0 | +0.0 |"
    assert lines[1] == "| 50 | 75.0 ± 0.0 | +5.0 |"
    assert lines[-1] == "| all | 94.0 ± 0.0 | +24.0 |"
    assert result.command == "python -m benchmarks adapt --seeds 2 --set minutes=3"


def test_a_kept_start_is_not_measured_again(facade: Path) -> None:
    fake = FakeHalfmask(kept="start")
    result = run(options(facade / "out", "masks=50"), fake)
    assert len(fake.measured) == 1
    assert result.tables["adapt"].splitlines()[2:] == ["| 50 | 70.0 ± 0.0 | +0.0 |"]


def test_steps_alone_hold_nothing_out(facade: Path) -> None:
    fake = FakeHalfmask()
    run(options(facade / "out", "steps=7", "masks=all"), fake)
    [first, _] = [t["arguments"] for t in fake.trained]
    assert first[:2] == ["train", "adapt"]
    assert "stages.0.steps=7" in first
    assert "--minutes" not in first
