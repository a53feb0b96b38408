"""Photographs are found although `--images` or a name is not quite right, and never outside."""

from __future__ import annotations

import json
import logging
import os
import threading
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import halfmask
from halfmask.coco import locate
from halfmask.coco.doctor.photographs import check_photographs
from halfmask.coco.file import CocoFile
from halfmask.coco.images import check_folder, missing_photographs, photograph_path
from halfmask.coco.locate import files_below, plain_name
from halfmask.coco.photographs.orientation import Ruling
from halfmask.coco.photographs.reader import PhotographReader
from halfmask.errors import InputError
from halfmask.web.inside import path_inside

WIDTH, HEIGHT = 60, 40
SHARED_NAMES = ("backslash", "prefix", "url")


def put(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = abs(hash(path.name)) % 1000
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def coco(*names: str) -> CocoFile:
    images = [
        {"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for i, name in enumerate(names, 1)
    ]
    return CocoFile.from_document({"images": images, "annotations": [], "categories": []}, "f.json")


@pytest.fixture(autouse=True)
def _nothing_listed() -> None:
    locate._tree.cache_clear()


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("a.png", "photos/a.png"),  # --images one level too high
        ("train/a.png", "a.png"),  # too low
        ("images\\sub\\a.png", "sub/a.png"),
        ("C:\\Users\\x\\a.png", "a.png"),
        ("/content/set/a.png", "sub/a.png"),
        ("../images/a.png", "a.png"),
        ("A.PNG", "a.png"),
        ("gone/a.png", "other/a.png"),
        ("https://bucket.example/set/a%20b.png?key=1", "a b.png"),
        (unicodedata.normalize("NFC", "Träd.png"), unicodedata.normalize("NFD", "Träd.png")),
        (unicodedata.normalize("NFD", "x/Träd.png"), unicodedata.normalize("NFC", "Träd.png")),
    ],
)
def test_the_photograph_with_the_same_last_part(
    tmp_path: Path, name: str, there: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "images"
    path = put(folder / there)
    put(folder / "unlike.png")
    if photograph := (folder / name).is_file():  # a file system that ignores case
        assert photograph
        return
    assert photograph_path(folder, name) == folder / there
    assert f"{name} → {there}" in caplog.text
    caplog.clear()
    assert missing_photographs(folder, coco(name, "unlike.png").images) == []
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "1 photograph found by their last part, such as" in record.getMessage()
    assert check_photographs(coco(name), folder) == []
    check_folder(folder, [(1, name)], "f.json")
    assert PhotographReader(folder, Ruling(), "f").read(
        coco(name).images[0], (HEIGHT, WIDTH)
    ).shape == (HEIGHT, WIDTH, 3)
    assert path_inside(folder, name) == path.resolve()


def test_the_longest_common_end_decides(tmp_path: Path) -> None:
    for name in ("x/train/a.png", "x/val/a.png", "x/b.png"):
        put(tmp_path / name)
    assert photograph_path(tmp_path, "val/a.png") == tmp_path / "x/val/a.png"
    assert photograph_path(tmp_path, "TRAIN\\a.png") == tmp_path / "x/train/a.png"


def test_several_are_named_and_none_is_taken(tmp_path: Path) -> None:
    for name in ("train/a.png", "val/a.png", "val/b.png"):
        put(tmp_path / name)
    both = r"train/a\.png, val/a\.png have the same last part"
    with pytest.raises(InputError, match=rf"no photograph 'a\.png' in .*: {both}"):
        photograph_path(tmp_path, "a.png")
    file = coco("a.png", "b.png")
    assert [i["id"] for i in missing_photographs(tmp_path, file.images)] == [1]
    with pytest.raises(InputError, match=rf"1 of the 2 .* first a\.png \({both}\) .image id 1"):
        check_folder(tmp_path, [(1, "a.png"), (2, "b.png")], "f.json")
    [problem] = [p for p in check_photographs(file, tmp_path) if p.ids == (1,)]
    assert str(problem.kind) == "photograph_missing"
    assert "train/a.png, val/a.png" in problem.message
    # What the message proposes:
    assert photograph_path(tmp_path / "val", "a.png") == tmp_path / "val/a.png"
    assert photograph_path(tmp_path, "val/a.png") == tmp_path / "val/a.png"


def test_a_photograph_of_another_image_is_not_taken(tmp_path: Path) -> None:
    put(tmp_path / "train/a.png")
    file = coco("train/a.png", "val/a.png")
    assert [i["id"] for i in missing_photographs(tmp_path, file.images)] == [2]
    with pytest.raises(InputError, match=r"train/a\.png has the same last part and belongs to"):
        photograph_path(tmp_path, "val/a.png")
    neither = coco("x/a.png", "y/a.png")
    assert [i["id"] for i in missing_photographs(tmp_path, neither.images)] == [1, 2]
    same = coco("x/a.png", "x\\a.png", "X/A.png")
    assert missing_photographs(tmp_path, same.images) == []


def test_a_photograph_of_another_size_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "sub/a.png", (30, 20))
    file = coco("a.png")
    with pytest.raises(InputError, match="30 × 20 pixels, f says 60 × 40"):
        PhotographReader(tmp_path, Ruling(), "f").read(file.images[0], (HEIGHT, WIDTH))
    assert [str(p.kind) for p in check_photographs(file, tmp_path)] == ["photograph_size_differs"]


def test_a_written_name_is_of_a_photograph_of_the_same_size(tmp_path: Path) -> None:
    put(tmp_path / "photos/sub/a.png", (30, 20))
    put(tmp_path / "photos/sub/b.png")
    images = coco("gone/a.png", "gone/b.png").images
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}
    document = {"images": images, "annotations": [row], "categories": [{"id": 1, "name": "cup"}]}
    (tmp_path / "f.json").write_text(json.dumps(document))
    out = tmp_path / "yolo"
    done = halfmask.convert("to-yolo", tmp_path / "f.json", out, images=tmp_path / "photos")
    assert not done.ok
    assert "of another size than the file says" in done.problems[0]
    assert {p.relative_to(out / "labels").as_posix() for p in files(out / "labels")} == {
        "gone/a.txt",
        "sub/b.txt",
    }


def test_nothing_is_listed_while_every_name_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("listed")

    put(tmp_path / "sub/a.png")
    monkeypatch.setattr(locate, "files_below", never)
    assert missing_photographs(tmp_path, coco("sub/a.png").images) == []
    assert photograph_path(tmp_path, "sub/a.png") == tmp_path / "sub/a.png"
    monkeypatch.undo()
    calls: list[object] = []
    monkeypatch.setattr(
        locate, "files_below", lambda folder: [calls.append(folder), *files_below(folder)][1:]
    )
    names = [f"x/{k}.png" for k in range(30)]
    threads = [
        threading.Thread(target=lambda: [photograph_path(tmp_path, name) for name in names])
        for _ in range(8)
    ]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(calls) == 1


def test_new_photographs_are_found_by_the_next_verb(tmp_path: Path) -> None:
    assert len(missing_photographs(tmp_path, coco("x/a.png").images)) == 1
    put(tmp_path / "a.png")
    assert missing_photographs(tmp_path, coco("x/a.png").images) == []


def test_links_are_followed_once_and_hidden_folders_are_not_read(tmp_path: Path) -> None:
    put(tmp_path / "photos/a.png")
    put(tmp_path / "photos/.cache/a.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/images").symlink_to(tmp_path / "photos")
    (tmp_path / "set/loop").symlink_to(tmp_path / "set")
    assert list(files_below(tmp_path / "set")) == ["images/a.png"]
    assert photograph_path(tmp_path / "set", "x/a.png") == tmp_path / "set/images/a.png"
    with pytest.raises(InputError, match="lies outside the folder"):
        path_inside(tmp_path / "set", "x/a.png")  # a page follows no link out of the folder


def test_a_disk_is_no_folder_of_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(locate, "MOST_FILES", 2)
    for name in "abc":
        put(tmp_path / "sub" / f"{name}.png")
    assert len(missing_photographs(tmp_path, coco("a.png").images)) == 1
    assert "more than 2 files" in caplog.text


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/passwd", "..\\secret.png", "a\0", "x" * 400]
)
def test_nothing_outside_is_found(tmp_path: Path, name: str) -> None:
    put(tmp_path / "secret.png")
    folder = tmp_path / "images"
    put(folder / "a.png")
    assert len(missing_photographs(folder, coco(name).images)) == 1
    with pytest.raises(InputError):
        path_inside(folder, name)


def test_plain_names() -> None:
    assert plain_name("https://x.example/a/b%20c.jpg?d=1") == "a/b c.jpg"
    assert plain_name("s3://bucket/a.jpg") == "a.jpg"
    assert plain_name("a\\b.jpg") == "a/b.jpg"
    assert plain_name("a/b.jpg") == "a/b.jpg"


def test_a_hundred_thousand_names_are_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{k % 100}/{k}.jpg" for k in range(100_000)]
    monkeypatch.setattr(locate, "files_below", lambda folder: names)
    tree = locate.PhotographTree(os.fspath(tmp_path))
    found = tree.settle([f"gone\\{k}.JPG" for k in range(100_000)], set())
    assert len(found) == 100_000
    assert found["gone\\205.JPG"] == "5/205.jpg"


@pytest.mark.shared
@pytest.mark.parametrize("name", SHARED_NAMES)
@pytest.mark.parametrize("below", ["ph", "ph/images"])
def test_what_real_tools_write(
    shared_data: Path, tmp_path: Path, name: str, below: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shared_data / "real-tools/file_names"
    data, images = folder / f"{name}.json", folder / below
    assert halfmask.doctor(data, images=images).ok
    if (name, below) != ("prefix", "ph"):
        assert "3 photographs found by their last part, such as" in caplog.text
    planned = halfmask.complete(
        "baseline:box", data, images=images, out=tmp_path / "o.json", dry_run=True
    )
    assert planned.plan.total == 9
    done = halfmask.convert("to-yolo", data, tmp_path / "yolo", images=images)
    labels = sorted(
        p.relative_to(tmp_path / "yolo/labels") for p in files(tmp_path / "yolo/labels")
    )
    photographs = sorted(p.relative_to(images) for p in files(images))
    # YOLO's own folder `images` is not there twice.
    assert [str(p) for p in labels] == [f"{p.stem}.txt" for p in photographs]
    assert done.ok
    halfmask.convert("to-label-studio", data, tmp_path / "studio", images=images)
    tasks = json.loads((tmp_path / "studio/tasks.json").read_text())
    addresses = sorted(task["data"]["image"].partition("?d=")[2] for task in tasks)
    assert addresses == [p.as_posix() for p in photographs]
    plain = halfmask.convert("to-yolo", data, tmp_path / "plain")
    assert plain.ok
    assert not list((tmp_path / "plain/labels").glob("http*"))
    halfmask.convert("to-label-studio", data, tmp_path / "addresses")
    first = json.loads((tmp_path / "addresses/tasks.json").read_text())[0]["data"]["image"]
    start = (
        "https://bucket.example/set/images/" if name == "url" else "/data/local-files/?d=images/"
    )
    assert first.startswith(start)


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]
