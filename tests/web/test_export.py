"""The reviewed file: decisions change annotations, all other bytes stay."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfmask.coco.doctor.checks import check
from halfmask.coco.file import CocoFile
from halfmask.coco.supervision import MaskState, classify
from halfmask.errors import InputError
from halfmask.labelling.complete import complete
from halfmask.masks.crops import decode
from halfmask.masks.rle import compressed
from halfmask.web.schema import DecisionRequest, Runs

from .conftest import Case, annotations, filled, rectangle

Cases = Callable[..., Case]


def decide(review: Any, position: int, state: str, version: int = 0, **more: Any) -> None:
    review.decide(position, DecisionRequest(version=version, state=state, by="Anna", **more))


def test_nothing_decided_gives_the_same_bytes(
    case: Cases, open_review: Callable[[Case], Any]
) -> None:
    written = case()
    review = open_review(written)
    assert review.export().counts == {}
    assert written.out.read_bytes() == written.data.read_bytes()


def test_only_what_was_decided_changes(case: Cases, open_review: Callable[[Case], Any]) -> None:
    written = case()
    before, review = written.data.read_bytes(), open_review(written)
    decide(review, 0, "accepted")
    decide(review, 1, "rejected")
    decide(review, 5, "redrawn", mask=Runs(**rectangle(3, 4, 5, 6)))
    decide(review, 3, "accepted")
    review.decisions.undo(3, 1, "Anna")
    assert review.export().counts == {"accepted": 1, "rejected": 1, "redrawn": 1}
    assert written.data.read_bytes() == before
    result = json.loads(written.out.read_text())
    old = annotations()
    assert {k: v for k, v in result.items() if k != "annotations"} == {
        k: v for k, v in json.loads(before).items() if k != "annotations"
    }
    rows = result["annotations"]
    assert [rows[p] for p in (2, 3, 4)] == [old[p] for p in (2, 3, 4)]
    moved = rows[5]["halfmask"]
    assert (rows[5]["bbox"], moved.pop("was")) == ([3, 4, 5, 6], {"bbox": [9, 5, 20, 30]})
    assert [(c["what"], c["by"]) for c in moved.pop("changes")] == [("redraw", "Anna")]
    for position, state in ((0, "accepted"), (1, "rejected"), (5, "redrawn")):
        note = rows[position]["halfmask"]
        assert note == old[position]["halfmask"] | {
            "state": state,
            "by": "Anna",
            "when": note["when"],
        }
        assert note["when"].endswith("Z")
    assert {k: v for k, v in rows[0].items() if k != "halfmask"} == {
        k: v for k, v in old[0].items() if k != "halfmask"
    }
    assert rows[5]["area"] == 30
    assert rows[5]["segmentation"] == compressed(rectangle(3, 4, 5, 6), (48, 64))
    states = [classify(row, (48, 64)) for row in rows]
    assert states[5] == MaskState.MASK  # a person's mask teaches
    assert states[:2] == [MaskState.FILLED, MaskState.REJECTED]


def test_a_file_that_took_the_name_of_the_reviewed_one_is_not_mixed_with_it(
    case: Cases, open_review: Callable[[Case], Any]
) -> None:
    written = case()
    review = open_review(written)
    decide(review, 0, "accepted")
    other = written.folder / "other.json"
    other.write_bytes(written.data.read_bytes()[::-1])
    other.replace(written.data)
    assert review.item(1).id == 2  # the opened file is there still
    with pytest.raises(InputError, match="was changed during the review"):
        review.export()
    assert not written.out.exists()


def test_polygons_stay_polygons(case: Cases, open_review: Callable[[Case], Any]) -> None:
    written = case([filled(1, segmentation=[[5, 5, 25, 5, 25, 35, 5, 35]])])
    review = open_review(written)
    runs = rectangle(10, 10, 7, 9)
    decide(review, 0, "redrawn", mask=Runs(**runs))
    review.export()
    row = json.loads(written.out.read_text())["annotations"][0]
    assert isinstance(row["segmentation"], list)
    bitmap, place = decode(row["segmentation"], (48, 64))
    assert (place, tuple(bitmap.shape), int(bitmap.sum())) == ((10, 10), (9, 7), 63)


def test_the_models_answer_says_which_model_and_box(
    case: Cases, open_review: Callable[[Case], Any]
) -> None:
    written = case()
    review = open_review(written)
    answer = review.segment(0, (6.0, 7.0, 20.0, 21.5))
    decide(review, 0, "accepted", draft=answer.draft)
    review.export()
    row = json.loads(written.out.read_text())["annotations"][0]
    assert row["segmentation"] == answer.mask.model_dump(mode="json") | {"size": [48, 64]}
    assert row["halfmask"]["box"] == [6.0, 7.0, 20.0, 21.5]
    assert row["halfmask"]["model"].startswith("tiny@")
    assert row["halfmask"]["score"] == answer.score
    # The mask reaches beyond the annotation's box, so that the box goes with it.
    bitmap, (x, y) = decode(row["segmentation"], (48, 64))
    assert row["bbox"] == [x, y, bitmap.shape[1], bitmap.shape[0]]
    assert row["halfmask"]["was"] == {"bbox": annotations()[0]["bbox"]}


def test_a_reviewed_file_is_reviewed_on_and_completed_on(
    case: Cases, open_review: Callable[[Case], Any], tiny_segmenter: Path
) -> None:
    written = case()
    review = open_review(written)
    decide(review, 0, "accepted")
    decide(review, 1, "rejected")
    review.export()
    second = Case(
        written.folder,
        written.out,
        written.photos,
        written.folder / "j2",
        written.folder / "again.json",
    )
    later = open_review(second)
    item = later.item(0)
    assert (item.state, item.by, item.version) == ("accepted", "Anna", 0)
    later.export()
    assert second.out.read_bytes() == written.out.read_bytes()
    done = complete(
        str(tiny_segmenter), written.out, images=written.photos, out=written.folder / "full.json"
    )
    assert done.filled == 0
    assert (written.folder / "full.json").read_bytes() == written.out.read_bytes()
    assert len(check(CocoFile.read(written.out))) == len(check(CocoFile.read(written.data)))


def test_out_is_never_the_input_or_the_journal(
    case: Cases, open_review: Callable[[Case], Any]
) -> None:
    written = case()
    link = written.folder / "link.json"
    link.symlink_to(written.data)
    for out in (written.data, written.journal, written.folder, link):
        with pytest.raises(InputError, match="--out"):
            open_review(Case(written.folder, written.data, written.photos, written.journal, out))
