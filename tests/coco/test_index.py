"""An index says what the file in memory says, is made anew when it has to be, and is
whole or not there.
"""

import copy
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halfmask.coco.annotations import Annotations
from halfmask.coco.file import CocoFile
from halfmask.coco.index import build as index_build
from halfmask.coco.index import place as index_place
from halfmask.coco.index.file import CocoIndex
from halfmask.coco.index.place import FOLDER_VARIABLE, index_path, open_annotations, open_index
from halfmask.coco.scan import lists as json_scan
from halfmask.errors import InputError
from halfmask.inference.complete.count import count_work
from halfmask.inference.complete.plan import Redo, plan

Document = dict[str, Any]
USES = ("annotated", "accepted", "filled")


def write(
    path: Path, document: Document, order: tuple[str, ...] = ("images", "annotations", "categories")
) -> Path:
    rest = {key: value for key, value in document.items() if key not in order}
    path.write_text(json.dumps(rest | {key: document[key] for key in order}), encoding="utf-8")
    return path


def same(ours: Annotations, expected: Annotations) -> None:
    """Every member that training and evaluation use."""
    assert ours.name == expected.name
    assert ours.categories == expected.categories
    assert ours.label_of == expected.label_of
    assert list(ours.images) == list(expected.images)
    assert ours.image_ids == expected.image_ids
    assert ours.objects == expected.objects
    for category in expected.categories:
        assert ours.name_of(category["id"]) == expected.name_of(category["id"])
    for use in USES:
        assert ours.mask_counts(use) == expected.mask_counts(use)
        assert ours.with_masks(use) == expected.with_masks(use)
    for image_id in expected.image_ids:
        assert image_id in ours
        assert ours.size_of(image_id) == expected.size_of(image_id)
        assert ours.file_name_of(image_id) == expected.file_name_of(image_id)
        assert repr(ours.annotations_of(image_id)) == repr(
            expected.annotations_of(image_id)
        )  # nan is not nan
        for use in USES:
            assert ours.states_of(image_id, use) == expected.states_of(image_id, use)
            assert repr(ours.instances_of(image_id, use)) == repr(
                expected.instances_of(image_id, use)
            )
    for annotation in (a for i in expected.image_ids for a in expected.annotations_of(i)):
        assert ours.state_of(annotation) == expected.state_of(annotation)


@pytest.fixture
def odd(document: Document) -> Document:
    """The small file with everything in it that can be wrong, and halfmask's own masks
    in each state.
    """
    whole = copy.deepcopy(document)
    images, annotations = whole["images"], whole["annotations"]
    images.append({"id": -5, "coco_url": "http://somewhere/c.png", "width": 40.0, "height": 30})
    images.append({"id": 99, "file_name": "no size.png"})
    images.append(
        {"id": 0, "file_name": "empty.png", "width": 7, "height": 9, "note": 'ünï \\ " ]}'}
    )
    block, base = annotations[2]["segmentation"], {"category_id": 7, "bbox": [10, 5, 8, 10]}
    for number, state in enumerate(
        ("filled", "accepted", "rejected", "redrawn", "annotated", "confirmed", "?")
    ):
        note = {"halfmask": {"state": state, "score": 0.25 + number / 8}}
        annotations.append(
            {"id": 20 + number, "image_id": 2, **base, "segmentation": block, **note}
        )
    annotations.append(
        {"id": 30, "image_id": -5, **base, "halfmask": {"state": "filled", "score": 0.5}}
    )
    for number, segmentation in enumerate(
        (
            [[]],
            None,
            "x",
            [[1, 2]],
            {"size": [1, 1], "counts": "1"},
            [[10, 5, 18, 5, 18, 15, 10, 15]],
            [[1e308] * 6],
        )
    ):
        annotations.append({"id": 40 + number, "image_id": 1, **base, "segmentation": segmentation})
    annotations += [
        None,
        7,
        "text",
        [1],
        {},
        {"id": "1"},
        {"id": 1e3},
        {"id": True, "image_id": 1},
        {"id": 1 << 63},
    ]
    for number, change in enumerate(
        (
            {"image_id": 99},
            {"image_id": "1"},
            {"image_id": None},
            {"image_id": 1 << 70},
            {"category_id": 8},
            {"category_id": [7]},
            {"bbox": None},
            {"bbox": [1, 2, float("nan"), 4]},
            {"bbox": [1, 2, 0, 4]},
            {"bbox": [500, 2, 3, 4]},
            {"bbox": [-5, -5, 500, 1e9]},
            {"iscrowd": 2},
            {"area": float("inf")},
            {"id": 10},
        )
    ):
        annotations.append({"id": 60 + number, "image_id": 1, **base, **change})
    return whole


@pytest.mark.parametrize("redo", [Redo(), Redo(filled=True), Redo(broken=True)])
def test_counts_what_complete_fills(tmp_path: Path, odd: Document, redo: Redo) -> None:
    path = write(tmp_path / "a.json", odd)
    expected, found = plan(CocoFile.read(path), redo), count_work(open_index(path), path, redo)
    assert found.counts == expected.counts
    assert found.to_fill == expected.to_fill
    assert found.total == expected.total > 0
    assert found.image_count == expected.image_count > 0
    assert found.suspects == expected.suspects
    assert found.broken == expected.broken
    assert found.unusable == expected.unusable
    assert found.unusable


@pytest.mark.parametrize("chunk", [64, 1000, 4 << 20])
@pytest.mark.parametrize(
    "order",
    [
        ("images", "annotations", "categories"),
        ("categories", "images", "annotations"),
        ("annotations", "images", "categories"),
        ("categories", "annotations", "images"),
    ],
)
def test_says_what_the_file_in_memory_says(
    tmp_path: Path,
    odd: Document,
    monkeypatch: pytest.MonkeyPatch,
    order: tuple[str, ...],
    chunk: int,
) -> None:
    path = write(tmp_path / "odd.json", odd, order)
    monkeypatch.setattr(json_scan, "CHUNK", chunk)
    monkeypatch.setattr(index_build, "BYTES_A_PART", chunk)
    expected, ours = CocoFile.read(path), open_index(path)
    assert len(expected.images) == 4
    same(ours, expected)
    for image_id in (99, 12345, "1", None):
        assert image_id not in ours
    left_out = ours.facts["left_out"]
    assert left_out["image_record"] == 1
    assert left_out["annotation_record"] == 7
    assert sum(left_out.values()) == 1 + len(odd["annotations"]) - sum(
        len(expected.annotations_of(i)) for i in expected.image_ids
    )
    assert ours.facts["not_strict"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["odd.json", "odd.json.index.arrow"]


def test_parts_of_it_are_the_same_parts(tmp_path: Path, odd: Document) -> None:
    for image in odd["images"]:  # LVIS's lists, whose ids follow the classes
        image |= {"neg_category_ids": [7, 3, 99], "not_exhaustive_category_ids": [3]}
    path = write(tmp_path / "odd.json", odd)
    expected, ours = CocoFile.read(path), open_index(path)
    renaming = (
        {7: 100, 3: 1},
        [{"id": 1, "name": "dog"}, {"id": 2, "name": "other"}, {"id": 100, "name": "cup"}],
    )
    for image_ids in ([2, 1], [0], [], [-5, 1, 777]):
        for masks_of in (None, [7], [3], []):
            for names in (None, renaming):
                same(
                    ours.part(image_ids, masks_of, names), expected.part(image_ids, masks_of, names)
                )
    part = ours.part([2, 1], [7], renaming)
    assert 0 not in part
    assert 2 in part
    same(part.part([1, 0], [1]), expected.part([2, 1], [7], renaming).part([1, 0], [1]))
    same(pickle.loads(pickle.dumps(part)), part)
    with pytest.raises(KeyError):
        part.annotations_of(0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": [{"id": 1, "width": 4, "height": h} for h in (4, 5)]},
            r"image record 1: id 1 is used twice",
        ),
        (
            {"images": [{"id": 1, "width": 4, "height": 4}, 5]},
            r"image record 1: expected an object, found 5",
        ),
        ({"images": [{"width": 4}]}, r"image record 0: expected a whole number as id"),
        ({"categories": [{"id": 1}]}, r"category record 0 .id 1.: expected a name"),
        (
            {"categories": [{"id": 1, "name": n} for n in "ab"]},
            r"category record 1: id 1 is used twice",
        ),
        ({"categories": {}}, r"categories is missing"),
    ],
)
def test_refuses_what_the_reader_refuses(
    tmp_path: Path, document: Document, change: Any, message: str
) -> None:
    path = write(tmp_path / "bad.json", document | change)
    for reader in (CocoFile.read, open_index):
        with pytest.raises(InputError, match=message):
            reader(path)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.json"]


def test_empty_lists(tmp_path: Path, document: Document) -> None:
    for number, empty in enumerate(
        (["annotations"], ["annotations", "categories"], ["images", "annotations", "categories"])
    ):
        path = write(tmp_path / f"{number}.json", document | {key: [] for key in empty})
        same(open_index(path), CocoFile.read(path))


def test_small_files_stay_in_memory_until_they_have_an_index(
    tmp_path: Path, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.json", document)
    assert isinstance(open_annotations(path), CocoFile)
    monkeypatch.setattr(index_place, "INDEX_ABOVE", path.stat().st_size - 1)
    calls: list[tuple[str, int, int]] = []
    assert isinstance(open_annotations(path, lambda *call: calls.append(call)), CocoIndex)
    assert calls == [(f"reading {path.name} (MiB)", 1, 1)]
    monkeypatch.undo()
    assert isinstance(open_annotations(path), CocoIndex)
    with pytest.raises(InputError, match="cannot read it: No such file"):
        open_annotations(tmp_path / "none.json")


def test_is_made_again_when_the_file_changes_and_only_then(
    tmp_path: Path, document: Document
) -> None:
    path = write(tmp_path / "a.json", document)
    open_index(path)
    made = index_path(path).stat().st_mtime_ns, index_path(path).stat().st_ino
    open_index(path)
    assert made == (index_path(path).stat().st_mtime_ns, index_path(path).stat().st_ino)
    before = path.stat()
    text = path.read_text()
    path.write_text(text.replace('"id": 11', '"id": 91'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time
    assert [a["id"] for a in open_index(path).annotations_of(1)] == [10, 91]
    path.write_text(text + " " * 100)
    same(open_index(path), CocoFile.read(path))


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"junk" * 100])
def test_an_index_that_is_none_is_replaced(
    tmp_path: Path, document: Document, content: bytes
) -> None:
    path = write(tmp_path / "a.json", document)
    index_path(path).write_bytes(content)
    same(open_index(path), CocoFile.read(path))
    whole = index_path(path).read_bytes()
    index_path(path).write_bytes(whole[: len(whole) // 2])
    same(open_index(path), CocoFile.read(path))


def test_a_file_that_changes_in_use_is_told(tmp_path: Path, document: Document) -> None:
    path = write(tmp_path / "a.json", document)
    ours = open_index(path)
    with path.open("r+b") as file:  # in place, as few programs write
        file.write(b" " * path.stat().st_size)
    with pytest.raises(InputError, match=r"a.json: changed while it was in use"):
        ours.annotations_of(1)


def test_a_folder_of_its_own(
    tmp_path: Path, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.json", document)
    folder = tmp_path / "indexes"
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    with pytest.raises(
        InputError, match=r"cannot write the index of a.json here: .*HALFMASK_INDEX_FOLDER=FOLDER"
    ):
        open_index(path)
    folder.mkdir()
    (tmp_path / "other").mkdir()
    twin = write(tmp_path / "other" / "a.json", document | {"annotations": []})
    assert open_index(path).objects == 3
    assert open_index(twin).objects == 0
    assert len(list(folder.iterdir())) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "indexes", "other"]


CHILD = "import sys, pathlib; from halfmask.coco.index.place import open_index; print(open_index(pathlib.Path(sys.argv[1])).objects)"


def many(path: Path, annotations: int) -> Path:
    rng = np.random.default_rng(0)
    boxes = rng.uniform(1, 90, (annotations, 4)).round(1).tolist()
    rows = [
        {"id": k, "image_id": k % 50, "category_id": 1, "bbox": box} for k, box in enumerate(boxes)
    ]
    images = [{"id": k, "width": 200, "height": 200, "file_name": f"{k}.png"} for k in range(50)]
    return write(
        path, {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "a"}]}
    )


@pytest.mark.slow
def test_a_kill_leaves_no_half_index_and_the_next_sweeps_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = many(tmp_path / "a.json", 15_000)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE)
    while child.poll() is None and not list(tmp_path.glob(".*.part.d")):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not index_path(path).exists()
    assert list(tmp_path.glob(".*.part.d"))
    same_number = CocoFile.read(path).objects
    assert open_index(path).objects == same_number == 15_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.json.index.arrow"]


def test_two_at_once_make_one(tmp_path: Path) -> None:
    path = many(tmp_path / "a.json", 20_000)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    results = [child.communicate() for child in children]
    assert [out for out, _ in results] == ["20000\n"] * 2, results
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.json.index.arrow"]


def test_without_locks_two_do_not_spoil_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = many(tmp_path / "a.json", 2_000)
    monkeypatch.setattr(index_place, "_locked", lambda *_: False)
    numbers = iter(range(10**6, 10**6 + 99))
    monkeypatch.setattr(
        index_place.os, "getpid", lambda: next(numbers)
    )  # threads stand for processes
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(open_index(path, anew=True).objects))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2000] * 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.json.index.arrow"]


def test_other_programs_read_it(tmp_path: Path, document: Document) -> None:
    import pyarrow as pa

    path = write(tmp_path / "a.json", document)
    open_index(path)
    rows = pa.ipc.open_file(str(index_path(path))).read_all().to_pylist()
    assert [row["file_name"] for row in rows] == ["a.png", "b.png"]
    assert [a["id"] for row in rows for a in row["annotations"]] == [10, 11, 12, 13]
    assert rows[0]["annotations"][1]["box"] == [1.5, 2.5, 13.5, 11.5]
    place = rows[1]["annotations"][0]
    text = path.read_bytes()[place["offset"] : place["offset"] + place["length"]]
    assert json.loads(text) == document["annotations"][2]


FLIPS = """
import json, random, sys
from pathlib import Path
from halfmask.coco.index.file import CocoIndex
from halfmask.coco.index.format import Source, is_of
from halfmask.coco.index.place import index_path
from halfmask.coco.index.store import facts_of, open_arrow
path, wrong = Path(sys.argv[1]), 0
index = index_path(path)
whole, source = index.read_bytes(), Source.of(path)
draw = random.Random(int(sys.argv[2]))

def said(index):
    ids = index.image_ids
    return repr([
        (index.size_of(i), index.file_name_of(i), index.instances_of(i), index.annotations_of(i))
        for i in ids
    ]), index.categories

expected, damaged, told = said(CocoIndex(path, index)), index.with_name("b.arrow"), 0
for _ in range(int(sys.argv[3])):
    changed = bytearray(whole)
    for _ in range(int(sys.argv[4])):
        place = draw.randrange(8 * len(whole))
        changed[place // 8] ^= 1 << place % 8
    damaged.write_bytes(changed)
    try:
        if is_of(facts_of(open_arrow(damaged)), source):
            wrong += said(CocoIndex(path, damaged)) != expected
        else:
            told += 1
    except (OSError, ValueError):
        told += 1
print(json.dumps([wrong, told]))
"""


def flipped(path: Path, seed: int, count: int, bits: int) -> list[int]:
    """[read as something else, found to be damaged] of `count` damaged copies of an index."""
    command = [sys.executable, "-c", FLIPS, str(path), str(seed), str(count), str(bits)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[int] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("count", "bits"), [(100, 1), pytest.param(1000, 1, marks=pytest.mark.slow), (50, 200)]
)
def test_no_flipped_bit_is_read_as_something_else(tmp_path: Path, count: int, bits: int) -> None:
    """In a process of its own: Arrow would end it if it trusted a damaged length."""
    path = many(tmp_path / "a.json", 60)
    open_index(path)
    wrong, told = flipped(path, count, count, bits)
    assert wrong == 0
    assert told > count / 3


def test_a_damaged_index_is_told_and_written_again(
    tmp_path: Path, document: Document, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.json", document)
    open_index(path)
    index = index_path(path)
    whole = index.read_bytes()
    place = whole.index(b"a.pngb.png")
    index.write_bytes(whole[:place] + b"A" + whole[place + 1 :])
    same(open_index(path), CocoFile.read(path))
    assert "damaged" in caplog.text
    assert index.read_bytes() == whole
