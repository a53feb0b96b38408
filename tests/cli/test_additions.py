"""`complete --add-objects`: objects that the file lacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import halfmask
from halfmask.errors import InputError
from halfmask.inference.complete import fill
from halfmask.inference.complete.finding import found_journal_of
from halfmask.models.detectors.base import BoxDetector, ScoredBoxes

torch.set_num_threads(1)

BOXES = {
    "in place of the cat": ([8, 8, 28, 28], 1, 0.95),
    "a new dog": ([40, 4, 60, 20], 2, 0.9),
    "the same dog": ([41, 4, 61, 20], 2, 0.8),
    "in the crowd": ([2, 36, 20, 46], 1, 0.85),
    "a car": ([30, 30, 60, 46], 3, 0.7),
    "too weak": ([30, 22, 50, 30], 1, 0.3),
}


class Fixed(BoxDetector):
    """Finds the boxes above in each photograph, and counts the photographs."""

    seen = 0

    def __init__(self) -> None:
        super().__init__("fixed", "1", ["Cat", "dog", "car"])

    def find(self, image: torch.Tensor) -> ScoredBoxes:
        self.seen += 1
        boxes, labels, scores = zip(*BOXES.values(), strict=True)
        rows = torch.tensor(labels) - 1
        return ScoredBoxes(torch.tensor(boxes, dtype=torch.float32), rows, torch.tensor(scores))


@pytest.fixture
def data(coco_file: Callable[..., Path]) -> Path:
    box = {"id": 41, "image_id": 1, "category_id": 2, "bbox": [9, 9, 20, 20], "iscrowd": 0}
    crowd = {"id": 7, "image_id": 1, "category_id": 2, "bbox": [0, 32, 30, 16], "iscrowd": 1}
    return coco_file(annotations=[box, crowd])


def added(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["annotations"][2:]


def test_new_objects_are_added_marked_and_filled(
    tiny_segmenter: Path, data: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    done = halfmask.complete(
        tiny_segmenter, data, images=photos, out=out, detector=Fixed(), add_objects=True
    )
    first, *others = added(out)
    assert (first["id"], first["image_id"], first["category_id"]) == (42, 1, 5)
    assert first["bbox"] == [40, 4, 20, 16]
    assert first["segmentation"]["counts"]
    note = first["halfmask"]
    assert (note["added"], note["detector"], note["detector_score"]) == (True, "fixed@1", 0.9)
    assert note["state"] == "filled"
    assert note["model"].startswith("tiny@")
    # The other photographs have no box and no crowd: the cats there are new, too.
    assert [a["id"] for a in others] == list(range(43, 43 + len(others)))
    assert {a["image_id"] for a in others} == {2, 3}
    report = done.to_json()["additions"]
    assert report["added"] == {"dog": 3, "cat": 4}
    assert report["unknown_classes"] == {"car": 3}
    assert report["in_crowd"] == 1
    assert report["known_already"] == 1 + 3
    before, after = (json.loads(p.read_text())["annotations"] for p in (data, out))
    assert after[1] == before[1], "the crowd"
    assert done.filled == 8


def test_an_interrupted_run_continues_to_the_same_bytes(
    tiny_segmenter: Path, data: Path, photos: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    def run(out: Path, detector: BoxDetector, score: float = 0.5) -> bytes:
        halfmask.complete(
            tiny_segmenter,
            data,
            images=photos,
            out=out,
            detector=detector,
            add_objects=True,
            add_score=score,
            device="cpu",
        )
        return out.read_bytes()

    whole, out = run(tmp_path / "whole.json", Fixed()), tmp_path / "out.json"

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fill, "write_completed", stop)
        with pytest.raises(KeyboardInterrupt):
            run(out, Fixed())
    assert found_journal_of(out).exists()
    again = Fixed()
    assert run(out, again) == whole
    assert again.seen == 0, "the detections were noted"
    assert not found_journal_of(out).exists()
    weaker = run(tmp_path / "weaker.json", Fixed(), 0.2)
    assert len(json.loads(weaker)["annotations"]) > len(json.loads(whole)["annotations"])


def test_a_results_file(tiny_segmenter: Path, data: Path, photos: Path, tmp_path: Path) -> None:
    found, out = tmp_path / "found.json", tmp_path / "out.json"
    rows = [{"image_id": 2, "category_id": 5, "bbox": [3, 4, 20, 10], "score": 0.8}]
    found.write_text(json.dumps(rows))
    done = halfmask.complete(
        tiny_segmenter, data, images=photos, out=out, detections=found, add_objects=True
    )
    assert [a["category_id"] for a in added(out)] == [5]
    assert done.additions is not None
    assert done.additions.detector == "found.json"
    dry = halfmask.complete(
        tiny_segmenter,
        data,
        images=photos,
        out=tmp_path / "dry.json",
        detector=Fixed(),
        add_objects=True,
        dry_run=True,
    )
    assert dry.additions is not None
    assert sum(dry.additions.added.values()) == 7
    assert not (tmp_path / "dry.json").exists()
    assert not found_journal_of(tmp_path / "dry.json").exists()


def test_unreadable_photographs_are_named(
    tiny_segmenter: Path, data: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "2.jpg").write_bytes(b"no image")
    done = halfmask.complete(
        tiny_segmenter,
        data,
        images=photos,
        out=tmp_path / "out.json",
        detector=Fixed(),
        add_objects=True,
    )
    assert [line for line in done.skipped if "2.jpg" in line] == list(done.skipped) != []
    for name in ("1.jpg", "3.jpg"):
        (photos / name).unlink()
    with pytest.raises(InputError, match="none of the 3 photographs"):
        halfmask.complete(
            tiny_segmenter,
            data,
            images=photos,
            out=tmp_path / "none.json",
            detector=Fixed(),
            add_objects=True,
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detector": "x"}, "only with --add-objects"),
        ({"detections": "x"}, "only with --add-objects"),
        ({"add_objects": True}, "needs what finds them"),
        ({"detector": "x", "detections": "y", "add_objects": True}, "give only one"),
        ({"classes": "cat"}, "--classes names the classes of a --detector"),
        ({"detector": "x", "add_objects": True, "add_score": 2}, r"a score in \[0, 1\]"),
    ],
)
def test_options_that_do_not_fit(
    options: dict[str, Any], message: str, data: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        halfmask.complete("baseline:box", data, images=photos, out=tmp_path / "out.json", **options)
    assert not (tmp_path / "out.json").exists()
