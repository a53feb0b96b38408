"""Folders appear whole, and what killed runs leave is taken over."""

import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from halfmask.errors import InputError
from halfmask.files import folders
from halfmask.files.atomic import PartFile, path_beside, write_text
from halfmask.files.folders import new_folder, put_text, replaced_folder, sweep_parts
from halfmask.files.held import HeldFolder, open_below, open_in_place

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks and links")

KILLED = """
import os, signal, sys
from pathlib import Path
from halfmask.files.folders import new_folder, put_text, replaced_folder
how, target = sys.argv[1:]
with {"new": new_folder, "replaced": replaced_folder}[how](Path(target)) as folder:
    put_text(folder / "below" / "a.txt", "half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def stopped_half_way(making: AbstractContextManager[Path]) -> None:
    with making as folder:
        put_text(folder / "a.txt", "half")
        raise ValueError("stop")


@pytest.mark.parametrize("how", ["new", "replaced"])
def test_what_a_killed_run_left_is_taken_over(tmp_path: Path, how: str) -> None:
    target = tmp_path / "yolo"
    for _ in range(2):
        command = [sys.executable, "-c", KILLED, how, str(target)]
        assert subprocess.run(command).returncode == -signal.SIGKILL
        assert [path.name for path in tmp_path.iterdir()] == [".yolo.part"]
    with {"new": new_folder, "replaced": replaced_folder}[how](target) as folder:
        assert list(folder.iterdir()) == []
        put_text(folder / "b.txt", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["yolo"]
    assert (target / "b.txt").read_text() == "whole"


def test_two_runs_at_once_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "yolo"
    with new_folder(target) as first:
        put_text(first / "a.txt", "first")
        with pytest.raises(ValueError, match="stop"):
            stopped_half_way(new_folder(target))
        assert (first / "a.txt").read_text() == "first"
    assert (target / "a.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["yolo"]


@pytest.mark.parametrize("exchange", [True, False])
def test_an_older_folder_is_replaced_as_a_whole_or_not_at_all(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(folders, "_exchanged", lambda *_: False)
    target = tmp_path / "graph"
    put_text(target / "old.onnx", "old")
    with pytest.raises(ValueError, match="stop"):
        stopped_half_way(replaced_folder(target))
    assert [path.name for path in target.iterdir()] == ["old.onnx"]
    with replaced_folder(target) as folder:
        put_text(folder / "new.onnx", "new")
        assert [path.name for path in target.iterdir()] == ["old.onnx"]
    assert [path.name for path in target.iterdir()] == ["new.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["graph"]


@pytest.mark.parametrize("target_is_there", [True, False])
def test_a_kill_between_two_renames_loses_nothing(tmp_path: Path, target_is_there: bool) -> None:
    put_text(tmp_path / ".graph.old" / "old.onnx", "old")
    if target_is_there:
        put_text(tmp_path / "graph" / "new.onnx", "new")
    with pytest.raises(ValueError, match="stop"), replaced_folder(tmp_path / "graph"):
        raise ValueError("stop")
    kept = "new.onnx" if target_is_there else "old.onnx"
    assert [path.name for path in (tmp_path / "graph").iterdir()] == [kept]
    assert [path.name for path in tmp_path.iterdir()] == ["graph"]


def test_links_in_the_place_of_parts_are_left_alone(tmp_path: Path) -> None:
    mine, their = tmp_path / "mine", tmp_path / "their"
    put_text(mine / "thesis.txt", "three years")
    their.mkdir()
    links = {".a.json.part": mine / "thesis.txt", ".yolo.part": mine, ".b.json.9.part": mine}
    for name, target in links.items():
        (their / name).symlink_to(target)
    os.mkfifo(their / ".c.json.part")
    for name in ("a.json", "c.json"):
        write_text(their / name, "text")
    with new_folder(their / "yolo") as folder:
        put_text(folder / "a.txt", "a")
    with path_beside(their / "b.json") as beside:
        beside.write_text("b")
    sweep_parts(their)
    sweep_parts(their, "b.json")
    with pytest.raises(InputError, match="already exists"), new_folder(their / ".yolo.part"):
        pass
    with pytest.raises(InputError, match="is a link"), replaced_folder(their / ".yolo.part"):
        pass
    assert (mine / "thesis.txt").read_text() == "three years"
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    names = {path.name for path in their.iterdir()}
    assert names == {*links, ".c.json.part", "a.json", "b.json", "c.json", "yolo"}


def test_a_sweep_removes_what_nobody_holds_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".a.json.1.part").write_text("left by a killed run")
    (tmp_path / ".a.json.1.part.d").mkdir()
    (tmp_path / ".b.json.1.part").write_text("of another file")
    held = PartFile(tmp_path / "a.json"), PartFile(tmp_path / "a.json")
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 5
    sweep_parts(tmp_path, "a.json")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == names - {".a.json.1.part", ".a.json.1.part.d"}
    with path_beside(tmp_path / "a.json") as beside:
        beside.write_text("a")
        sweep_parts(tmp_path, "a.json")
        assert beside.read_text() == "a"
    for part in held:
        part.drop()
    sweep_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_is_changed_in_place_has_one_name_and_is_a_file(tmp_path: Path) -> None:
    mine = tmp_path / "thesis.txt"
    mine.write_text("three years")
    os.link(mine, tmp_path / "hard.journal")
    (tmp_path / "link.journal").symlink_to(mine)
    os.mkfifo(tmp_path / "pipe.journal")
    for name in ("hard", "link", "pipe"):
        with pytest.raises(OSError, match=r".+"), open_in_place(tmp_path / f"{name}.journal"):
            pass
    with open_in_place(tmp_path / "own.journal") as file:
        file.write(b"line\n")
    with open_in_place(tmp_path / "own.journal") as file:
        assert file.read() == b"line\n"
    assert mine.read_text() == "three years"


def test_a_held_folder_stays_the_same(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "mine").mkdir()
    target = tmp_path / "a" / "f.json"
    part = PartFile(target)
    (tmp_path / "a").rename(tmp_path / "aside")
    (tmp_path / "a").symlink_to(tmp_path / "mine")
    part.file.write(b"text")
    part.flush()
    part.commit()
    assert list((tmp_path / "mine").iterdir()) == []
    assert (tmp_path / "aside" / "f.json").read_bytes() == b"text"
    with HeldFolder(tmp_path / "aside") as held:
        assert held.lookup("f.json") is not None
        assert held.lookup("absent") is None


def test_a_file_below_a_folder_is_read_without_links(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    put_text(root / "day" / "1.jpg", "photograph")
    put_text(tmp_path / "mine" / "1.jpg", "secret")
    with open_below(root, root / "day" / "1.jpg") as file:
        assert file.read() == b"photograph"
    (root / "link").symlink_to(tmp_path / "mine")
    (root / "day" / "link.jpg").symlink_to(tmp_path / "mine" / "1.jpg")
    for path in (root / "link" / "1.jpg", root / "day" / "link.jpg", root / "absent.jpg"):
        with pytest.raises(OSError, match=r".+"):
            open_below(root, path)
    with pytest.raises(InputError, match="lies outside"):
        open_below(root, tmp_path / "mine" / "1.jpg")
