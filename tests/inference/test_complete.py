"""The contract of `complete`: what is kept, what is filled, the same bytes however it
was interrupted.
"""

import datetime
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as reference

from halfmask.coco.file import CocoFile
from halfmask.coco.index.place import open_index
from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError
from halfmask.inference.complete import plan as planning
from halfmask.inference.complete.journal import journal_of
from halfmask.inference.complete.report import Completion
from halfmask.inference.predictor import Predictor, load
from halfmask.labelling.complete import complete
from halfmask.models.box_segmenter.crops import Jitter

WritesFile = Callable[..., Path]

FILLED = {"missing", "null", "empty", "broken", "unknown to the model", "thin"}


@pytest.fixture(scope="module")
def model(tiny_segmenter: Path) -> Predictor:
    return load(tiny_segmenter, device="cpu")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "BATCH_BOXES", 4)


def run(
    model: Predictor, source: Path, out: str = "out.json", **options: Any
) -> tuple[Completion, dict[str, Any]]:
    """Fills broken masks too, unless `options` say otherwise."""
    target = source.parent / out
    options = {"replace_broken": True} | options
    before = hashlib.sha256(source.read_bytes()).hexdigest()
    done = complete(model, source, images=source.parent / "photos", out=target, **options)
    assert hashlib.sha256(source.read_bytes()).hexdigest() == before, "the input was written to"
    assert not list(target.parent.glob("*.journal"))
    assert not list(target.parent.glob(".*.part"))
    return done, json.loads(target.read_text())


def of_kind(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for row in document["annotations"]:
        kinds.setdefault(row["kind"], []).append(row)
    return kinds


@pytest.mark.parametrize("redo", [{}, {"redo_filled": True}, {"replace_broken": True}])
def test_a_dry_run_counts_alike_through_an_index(
    model: Predictor, write_file: WritesFile, redo: dict[str, Any]
) -> None:
    source = write_file()
    photos, out = source.parent / "photos", source.parent / "out.json"
    expected = complete(model, source, images=photos, out=out, dry_run=True, **redo)
    open_index(source)
    found = complete(model, source, images=photos, out=out, dry_run=True, **redo)
    assert expected.plan.batches
    assert not found.plan.batches
    assert found.to_json() == expected.to_json()
    assert found.classes == expected.classes
    assert found.plan.image_count == expected.plan.image_count > 0
    for photograph in photos.glob("*.*"):
        photograph.unlink()
    with pytest.raises(InputError, match=r"none of the .* photographs"):
        complete(model, source, images=photos, out=out, dry_run=True, **redo)


def test_what_is_kept_and_what_is_filled(model: Predictor, write_file: WritesFile) -> None:
    source = write_file()
    before = json.loads(source.read_text())
    done, after = run(model, source, replace_broken=True)
    assert list(after) == list(before)
    assert [a["id"] for a in after["annotations"]] == [a["id"] for a in before["annotations"]]
    for key in ("licenses", "images", "categories", "more"):
        assert after[key] == before[key]
    for old, new in zip(before["annotations"], after["annotations"], strict=True):
        if old["kind"] not in FILLED:
            assert json.dumps(new) == json.dumps(old)
            continue
        assert list(new)[: len(old)] == list(old), "keys were moved"
        assert {k: v for k, v in new.items() if k not in ("segmentation", "area", "halfmask")} == {
            k: v for k, v in old.items() if k not in ("segmentation", "area")
        }
        mask = reference.decode(new["segmentation"])
        assert mask.shape == (48, 64)
        assert new["area"] == mask.sum() > 0
        note = new["halfmask"]
        assert note["model"] == f"tiny@{model.digest}"
        assert note["state"] == "filled"
        assert 0 <= note["score"] <= 1
        assert note.get("replaced") == (old["segmentation"] if old["kind"] == "broken" else None)
    assert done.filled == 3 * len(FILLED) == len(of_kind(after)["missing"]) * len(FILLED)
    assert done.suspects == [
        a["id"] for a in sorted(of_kind(before)["suspect"], key=lambda a: a["image_id"])
    ]
    assert len(done.unusable) == 12
    assert done.counts["crowd"] == 6
    assert done.counts["earlier"] == 3
    assert done.counts["rejected"] == 3
    assert done.counts["replaced"] == 3
    assert done.broken == []
    assert done.unknown_classes == ["zebra"]
    assert not done.skipped
    assert done.unfilled == 0


def test_a_broken_mask_stays_unless_it_is_to_be_replaced(
    model: Predictor, write_file: WritesFile
) -> None:
    source = write_file()
    before = of_kind(json.loads(source.read_text()))
    done, after = run(model, source, replace_broken=False)
    assert of_kind(after)["broken"] == before["broken"]
    assert sorted(done.broken) == sorted(row["id"] for row in before["broken"])
    assert done.counts["broken"] == 3
    assert done.to_json()["broken"] == done.broken
    again, redone = run(model, source.parent / "out.json", out="2.json", replace_broken=True)
    assert again.filled == again.counts["replaced"] == 3
    for old, new in zip(before["broken"], of_kind(redone)["broken"], strict=True):
        assert new["halfmask"]["replaced"] == old["segmentation"]


def test_masks_stay_in_their_boxes(model: Predictor, write_file: WritesFile) -> None:
    _, after = run(model, write_file())
    for row in after["annotations"]:
        if row["kind"] in FILLED:
            x, y, w, h = row["bbox"]
            mx, my, mw, mh = reference.toBbox(row["segmentation"])
            assert mx >= np.floor(x)
            assert my >= np.floor(y)
            assert mx + mw <= np.ceil(x + w)
            assert my + mh <= np.ceil(y + h)


def test_info_says_once_which_model(model: Predictor, write_file: WritesFile) -> None:
    _, after = run(model, write_file())
    note = after["info"]["halfmask"]
    assert after["info"]["description"] == "kept"
    assert note["model"] == f"tiny@{model.digest}"
    assert note["version"]
    assert len(note["date"]) == 10
    missing = [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 20, 20]}]
    _, bare = run(model, write_file(missing, info=None))
    assert bare["info"] == {"halfmask": note}
    other = {"model": "other@0", "version": "0.0", "date": "2020-01-01"}
    _, again = run(model, write_file(missing, info={"halfmask": other}))
    assert again["info"]["halfmask"] == note | {"earlier": [other]}


def test_polygons_are_the_same_masks(model: Predictor, write_file: WritesFile) -> None:
    source = write_file()
    _, as_rle = run(model, source)
    _, as_polygons = run(model, source, out="polygons.json", polygons=True, tolerance=0)
    for one, other in zip(as_rle["annotations"], as_polygons["annotations"], strict=True):
        if one["kind"] in FILLED:
            shapes = reference.frPyObjects(
                [[float(v) for v in p] for p in other["segmentation"]], 48, 64
            )
            assert np.array_equal(
                reference.decode(reference.merge(shapes)), reference.decode(one["segmentation"])
            )
            assert one["area"] == other["area"]
            assert one["halfmask"] == other["halfmask"]


def test_polygons_have_few_points_and_nearly_the_same_pixels(
    model: Predictor, write_file: WritesFile
) -> None:
    source = write_file()
    _, as_rle = run(model, source)
    _, exact = run(model, source, out="exact.json", polygons=True, tolerance=0)
    _, edited = run(model, source, out="edited.json", polygons=True)
    points = [0, 0]
    for one, full, few in zip(*(d["annotations"] for d in (as_rle, exact, edited)), strict=True):
        if one["kind"] not in FILLED:
            assert one == full == few, "other masks are never touched"
            continue
        shapes = reference.frPyObjects([[float(v) for v in p] for p in few["segmentation"]], 48, 64)
        pair = [reference.decode(s) > 0 for s in (reference.merge(shapes), one["segmentation"])]
        assert np.logical_and(*pair).sum() >= 0.97 * np.logical_or(*pair).sum()
        assert few["area"] == one["area"], "of the mask that the model drew"
        points[0] += sum(map(len, full["segmentation"]))
        points[1] += sum(map(len, few["segmentation"]))
    assert points[1] < points[0]


def test_a_tolerance_is_pixels(model: Predictor, write_file: WritesFile) -> None:
    with pytest.raises(InputError, match="tolerance: expected pixels of at least 0, found -1"):
        run(model, write_file(), polygons=True, tolerance=-1)


def test_a_second_run_changes_nothing(model: Predictor, write_file: WritesFile) -> None:
    source = write_file()
    run(model, source)
    first = source.parent / "out.json"
    done, _ = run(model, first, out="again.json")
    assert done.filled == 0
    assert (source.parent / "again.json").read_bytes() == first.read_bytes()
    file = CocoFile.read(first)
    states = [file.state_of(a) for i in file.images for a in file.annotations_of(i["id"])]
    assert MaskState.MISSING not in states
    assert MaskState.BROKEN not in states


def test_a_file_without_anything_to_fill_is_copied_byte_for_byte(
    model: Predictor, write_file: WritesFile
) -> None:
    rows = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 2,
            "bbox": [1, 1, 20, 20],
            "segmentation": [[1, 1, 20, 2, 9, 20]],
        }
    ]
    source = write_file(rows)
    assert run(model, source)[0].filled == 0
    assert (source.parent / "out.json").read_bytes() == source.read_bytes()


def test_redo_fills_what_nobody_accepted(model: Predictor, write_file: WritesFile) -> None:
    source = write_file()
    before = of_kind(json.loads(source.read_text()))
    run(model, source, replace_broken=True)
    done, redone = run(model, source.parent / "out.json", out="redone.json", redo_filled=True)
    kinds = of_kind(redone)
    for kind in ("filled", "rejected"):
        assert all(a["halfmask"]["model"].startswith("tiny@") for a in kinds[kind])
    for kind in ("accepted", "redrawn", "suspect", "crowd", "polygon"):
        assert kinds[kind] == before[kind]
    assert kinds["broken"][0]["halfmask"]["replaced"] == before["broken"][0]["segmentation"]
    assert done.counts["refilled"] == done.filled == 3 * (len(FILLED) + 2)


@pytest.mark.usefixtures("small_batches")
def test_the_same_bytes_whatever_the_number_of_workers(
    model: Predictor, write_file: WritesFile
) -> None:
    source = write_file(images=7)
    for workers in (0, 1, 2, 5):
        run(model, source, out=f"{workers}.json", workers=workers)
    contents = {(source.parent / f"{workers}.json").read_bytes() for workers in (0, 1, 2, 5)}
    assert len(contents) == 1


class Killed(BaseException):
    """Not even `except Exception` sees it."""


def interrupt_after(count: int) -> Callable[[str, int, int], None]:
    calls = []

    def progress(title: str, done: int, total: int) -> None:
        calls.append((done, total))
        if len(calls) > count:
            raise Killed

    return progress


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("kills", [[0], [1], [3], [1, 1, 2]])
def test_the_same_bytes_after_interruptions(
    model: Predictor, write_file: WritesFile, kills: list[int]
) -> None:
    source = write_file(images=5)
    run(model, source, out="whole.json")
    out = source.parent / "out.json"
    for count in kills:
        with pytest.raises(Killed):
            run(model, source, progress=interrupt_after(count))
        assert not out.exists()
    assert journal_of(out).exists() == (sum(kills) > 0), "a header alone is of no use"
    done, _ = run(model, source)
    assert done.resumed > 0 or kills == [0]
    assert out.read_bytes() == (source.parent / "whole.json").read_bytes()


NOW = datetime.datetime.now


class Tomorrow(datetime.datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return NOW(tz) + datetime.timedelta(days=1)


@pytest.mark.usefixtures("small_batches")
def test_the_same_bytes_when_another_day_goes_on(
    model: Predictor, write_file: WritesFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_file()
    _, whole = run(model, source, "whole.json")
    with pytest.raises(Killed):
        run(model, source, progress=interrupt_after(2))
    monkeypatch.setattr("halfmask.inference.complete.fill.datetime.datetime", Tomorrow)
    run(model, source)
    folder = source.parent
    assert (folder / "out.json").read_bytes() == (folder / "whole.json").read_bytes()
    _, later = run(model, source, "later.json")
    assert later["info"]["halfmask"]["date"] > whole["info"]["halfmask"]["date"]


@pytest.mark.usefixtures("small_batches")
def test_finished_batches_are_not_drawn_again(model: Predictor, write_file: WritesFile) -> None:
    source = write_file(images=5)
    source.parent / "out.json"
    with pytest.raises(Killed):
        run(model, source, progress=interrupt_after(2))
    seen: list[tuple[int, int]] = []
    done, _ = run(model, source, progress=lambda _, count, total: seen.append((count, total)))
    assert seen[0] == (done.resumed, 30)
    assert done.resumed == 6
    assert seen[-1] == (30, 30)
    assert done.filled == 30


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("cut", [1, 7, 60])
def test_a_torn_last_line_is_dropped(model: Predictor, write_file: WritesFile, cut: int) -> None:
    source = write_file(images=5)
    run(model, source, out="whole.json")
    out = source.parent / "out.json"
    with pytest.raises(Killed):
        run(model, source, progress=interrupt_after(3))
    journal = journal_of(out)
    journal.write_bytes(journal.read_bytes()[:-cut])
    done, _ = run(model, source)
    assert done.resumed == 6
    assert out.read_bytes() == (source.parent / "whole.json").read_bytes()


@pytest.mark.usefixtures("small_batches")
def test_a_run_of_another_job_is_named_and_replaced_only_if_asked(
    model: Predictor, write_file: WritesFile
) -> None:
    source = write_file(images=4)
    journal = journal_of(source.parent / "out.json")
    with pytest.raises(Killed):
        run(model, source, progress=interrupt_after(2))
    before = journal.read_bytes()
    with pytest.raises(InputError, match=r"a run with other tolerance began here.*accept-changes"):
        run(model, source, polygons=True)
    assert journal.read_bytes() == before
    done, after = run(model, source, polygons=True, accept_changes=True)
    assert done.resumed == 0
    assert all(
        isinstance(a["segmentation"], list) for a in after["annotations"] if a["kind"] in FILLED
    )


@pytest.mark.usefixtures("small_batches")
def test_a_photograph_that_changed_is_named_and_done_again_if_asked(
    model: Predictor, write_file: WritesFile
) -> None:
    source = write_file(images=4)
    with pytest.raises(Killed):
        run(model, source, progress=interrupt_after(3))
    photograph = source.parent / "photos" / "1.png"
    os.utime(photograph, ns=(1, 1))
    whole = photograph.read_bytes()
    Image.new("RGB", Image.open(photograph).size, "red").save(photograph)
    with pytest.raises(InputError, match=r"1 photograph changed since the run began.*1\.png"):
        run(model, source)
    done, _ = run(model, source, accept_changes=True)
    assert 0 < done.resumed < 18
    photograph.write_bytes(whole)


@pytest.mark.usefixtures("small_batches")
def test_a_photograph_that_was_only_touched_is_the_same(
    model: Predictor, write_file: WritesFile
) -> None:
    source = write_file(images=4)
    with pytest.raises(Killed):
        run(model, source, progress=interrupt_after(3))
    for photograph in (source.parent / "photos").iterdir():
        os.utime(photograph, ns=(1, 1))
    assert run(model, source)[0].resumed > 0


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("line", [0, 2])
def test_a_damaged_line_of_the_journal_is_told_and_costs_its_batch_alone(
    model: Predictor, write_file: WritesFile, line: int, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_file(images=4)
    run(model, source, out="whole.json")
    with pytest.raises(Killed):
        run(model, source, progress=interrupt_after(4))
    journal = journal_of(source.parent / "out.json")
    lines = journal.read_bytes().splitlines(keepends=True)
    count = len(lines) - 1
    lines[line] = lines[line].replace(b"1", b"2", 1)
    journal.write_bytes(b"".join(lines))
    done, after = run(model, source)
    assert f"line {line + 1} is damaged" in caplog.text
    assert done.resumed > 0
    assert count > 1
    whole = json.loads((source.parent / "whole.json").read_text())
    assert after["annotations"] == whole["annotations"]


def test_what_is_no_journal_is_refused(model: Predictor, write_file: WritesFile) -> None:
    source = write_file()
    journal = journal_of(source.parent / "out.json")
    for text in ('{"job": 1}\n', "[]\n", "nonsense\n", '{"job": {}, "batch": []}\n'):
        journal.write_text(text)
        with pytest.raises(InputError, match="journal"):
            run(model, source)
        assert journal.read_text() == text


def test_two_runs_into_one_output_are_refused(model: Predictor, write_file: WritesFile) -> None:
    pytest.importorskip("fcntl")
    source = write_file()
    with pytest.raises(InputError, match="another run"):
        run(model, source, progress=lambda *_: run(model, source))


def test_photographs_that_cannot_be_read_are_skipped_and_filled_later(
    model: Predictor, write_file: WritesFile
) -> None:
    source = write_file(images=4)
    photos = source.parent / "photos"
    whole = {name: (photos / name).read_bytes() for name in ("1.png", "2.png", "3.png")}
    (photos / "1.png").write_bytes(whole["1.png"][:300])
    (photos / "2.png").unlink()
    Image.new("RGB", (60, 48)).save(photos / "3.png")
    done, after = run(model, source)
    assert len(done.skipped) == 3
    assert done.filled == 6
    assert done.unfilled == 18
    text = "\n".join(done.skipped)
    assert "image id 1" in text
    assert "image id 2" in text
    assert "the photograph is 60 × 48 pixels" in text
    assert "says 64 × 48" in text
    assert {
        a["image_id"] for a in after["annotations"] if a["kind"] in FILLED and "halfmask" in a
    } == {4}
    for name, content in whole.items():
        (photos / name).write_bytes(content)
    later, mended = run(model, source.parent / "out.json", out="later.json")
    assert later.filled == 18
    assert not later.skipped
    assert all("halfmask" in a for a in mended["annotations"] if a["kind"] in FILLED)


@pytest.mark.usefixtures("small_batches")
def test_a_photograph_mended_between_interruptions_is_used(
    model: Predictor, write_file: WritesFile
) -> None:
    source = write_file(images=4)
    run(model, source, out="whole.json")
    photo = source.parent / "photos" / "1.png"
    content = photo.read_bytes()
    photo.write_bytes(content[:300])
    with pytest.raises(Killed):
        run(model, source, progress=interrupt_after(3))
    photo.write_bytes(content)
    done, _ = run(model, source)
    assert done.resumed > 0
    assert not done.skipped
    assert (source.parent / "out.json").read_bytes() == (source.parent / "whole.json").read_bytes()


def test_more_boxes_than_a_batch_holds(model: Predictor, write_file: WritesFile) -> None:
    rows = [
        {"id": i, "image_id": 1, "category_id": 2, "bbox": [i % 40, i % 30, 9 + i % 7, 12]}
        for i in range(200)
    ]
    done, after = run(model, write_file(rows))
    assert done.filled == 200
    one, _ = run(model, write_file(rows), out="one.json", workers=0)
    assert one.filled == 200
    assert after == json.loads((write_file(rows).parent / "one.json").read_text())


def test_places_and_files_that_cannot_be_used(
    model: Predictor, write_file: WritesFile, tmp_path: Path
) -> None:
    source = write_file()
    photos, out = tmp_path / "photos", tmp_path / "out.json"
    link = tmp_path / "link.json"
    link.symlink_to(source)
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "text.json"
    text.write_text("hello")
    cases: list[tuple[tuple[Path, Path, Path], str]] = [
        ((source, photos, source), "is the input"),
        ((source, photos, link), "found a link"),
        ((source, photos, photos), "is the input"),
        ((source, empty, out), "none of the 3 photographs"),
        ((source, tmp_path / "absent", out), "no such folder"),
        ((text, photos, out), "expected a COCO JSON file"),
        ((tmp_path / "absent.json", photos, out), "cannot read it"),
    ]
    for (data, images, target), message in cases:
        with pytest.raises(InputError, match=message):
            complete(model, data, images=images, out=target)
    with pytest.raises(InputError, match="no box to fill a mask into: no annotation"):
        complete(model, write_file([]), images=photos, out=out)
    with pytest.raises(InputError, match="no box to fill a mask into: 1 annotations, none usable"):
        complete(
            model,
            write_file([{"id": 1, "image_id": 1, "category_id": 2, "bbox": [500, 500, 3, 3]}]),
            images=photos,
            out=out,
        )
    assert not out.exists()
    assert not journal_of(out).exists()


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5000)
    | st.floats(allow_nan=False)
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["size", "counts", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ANNOTATION = st.fixed_dictionaries(
    {"id": st.integers(0, 9)},
    optional={
        "image_id": st.integers(1, 2),
        "category_id": st.sampled_from([2, 5, 9]),
        "bbox": st.lists(st.floats(-10, 60), min_size=4, max_size=4) | ANY_JSON,
        "segmentation": ANY_JSON,
        "iscrowd": st.sampled_from([0, 0, 1, None]),
        "halfmask": ANY_JSON,
        "area": ANY_JSON,
    },
)
SOUND = {"id": 77, "image_id": 1, "category_id": 2, "bbox": [1, 1, 20, 20]}


def once(rows: list[Any]) -> list[Any]:
    """The rows without those that repeat the first one of their id."""
    kept, first = [], dict[Any, Any]()
    for row in rows:
        key = (row.get("image_id"), row["id"]) if isinstance(row, dict) and "id" in row else None
        if key is None or first.setdefault(key, row) is row or first[key] != row:
            kept.append(row)
    return kept


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example([{"id": 0}, {"id": 0}])
@given(st.lists(ANNOTATION | ANY_JSON, max_size=5))
def test_whatever_the_annotations_are(
    model: Predictor, write_file: WritesFile, rows: list[Any]
) -> None:
    source = write_file([*rows, SOUND], images=2)
    before = json.loads(source.read_text())
    done, after = run(model, source)
    changed = [
        (old, new)
        for old, new in zip(once(before["annotations"]), after["annotations"], strict=True)
        if json.dumps(old) != json.dumps(new)
    ]
    assert len(changed) == done.filled >= 1
    for _, new in changed:
        assert reference.decode(new["segmentation"]).sum() == new["area"] > 0
    again, _ = run(model, source.parent / "out.json", out="again.json")
    assert again.filled == 0


@pytest.mark.slow  # a second Python imports torch; the interruptions above need none
def test_killed_by_the_system_it_goes_on(
    tiny_segmenter: Path, model: Predictor, write_file: WritesFile
) -> None:
    rows = [
        {
            "id": i,
            "image_id": 1 + i // 16,
            "category_id": 2,
            "bbox": [i % 30, i % 20, 9 + i % 30, 25],
        }
        for i in range(640)
    ]
    source = write_file(rows, images=40)
    run(model, source, out="whole.json")
    out = source.parent / "out.json"
    code = (
        "import sys, torch; torch.set_num_threads(1); from "
        "halfmask.labelling.complete import complete;"
        "complete(*sys.argv[1:3], images=sys.argv[3], out=sys.argv[4], replace_broken=True)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        str(tiny_segmenter),
        str(source),
        str(source.parent / "photos"),
        str(out),
    ]
    with subprocess.Popen(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}) as process:
        journal = journal_of(out)
        limit = time.monotonic() + 200
        while time.monotonic() < limit and process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") > 2:
                break
            time.sleep(0.005)
        assert process.poll() is None, "it was done before it could be killed"
        process.send_signal(signal.SIGKILL)
    assert journal.exists()
    assert not out.exists()
    done, _ = run(model, source)
    assert 0 < done.resumed < 640
    assert out.read_bytes() == (source.parent / "whole.json").read_bytes()


@pytest.mark.parametrize(
    ("boxes", "bbox", "loose"),
    [
        ("auto", [4, 4, 26, 36], False),  # the polygon's own box
        ("auto", [4, 4, 50, 40], True),
        ("tight", [4, 4, 50, 40], False),
        ("loose", [4, 4, 26, 36], True),
    ],
)
def test_loose_boxes_are_seen_in_the_masks_that_exist(
    model: Predictor,
    write_file: WritesFile,
    monkeypatch: pytest.MonkeyPatch,
    boxes: Any,
    bbox: list[int],
    loose: bool,
) -> None:
    polygon = [[3.5, 4.25, 30, 5, 28, 40, 4, 38]]
    rows = [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 2,
            "bbox": bbox,
            "segmentation": polygon,
            "area": 900,
            "iscrowd": 0,
        },
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [5, 5, 20, 20], "iscrowd": 0},
    ]
    source = write_file(rows, images=1)
    monkeypatch.setattr(model.model.sampler, "jitter", Jitter(box=0.1))
    told: list[bool] = []
    before = Predictor.segment_batch

    def noted(
        self: Predictor,
        images: Any,
        boxes: Any,
        labels: Any = None,
        loose: bool = False,
        **more: Any,
    ) -> Any:
        told.append(loose)
        return before(self, images, boxes, labels, loose=loose, **more)

    monkeypatch.setattr(Predictor, "segment_batch", noted)
    done = complete(
        model, source, images=source.parent / "photos", out=source.parent / "out.json", boxes=boxes
    )
    assert (done.loose, told) == (loose, [loose])
    assert done.tightness is not None
    assert (done.tightness > 0.9) == (bbox[2] == 26)
    # To a model that never saw a loose box it makes no difference what is said of them.
    monkeypatch.setattr(model.model.sampler, "jitter", Jitter())
    again = complete(
        model,
        source,
        images=source.parent / "photos",
        out=source.parent / "again.json",
        boxes=boxes,
    )
    assert (again.loose, told) == (False, [loose, False])
