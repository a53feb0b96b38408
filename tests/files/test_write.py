"""Files appear whole or not at all."""

import json
import os
from pathlib import Path

import pytest

from halfmask.errors import InputError
from halfmask.files.atomic import lock, path_beside, write_json


def test_values_survive(tmp_path: Path) -> None:
    document = {"a": [0.1, 1e-300, 1 / 3, 12345678901234567890, "é\ud800\n", None, True], "b": {}}
    path = tmp_path / "new" / "folder" / "f.json"
    write_json(path, document)
    assert json.loads(path.read_text(encoding="utf-8")) == document
    assert [p.name for p in path.parent.iterdir()] == ["f.json"]


def test_a_failure_leaves_the_old_file_and_no_scraps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.json"
    write_json(path, [1])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write_json(path, [2])
    assert path.read_text() == "[1]"
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_what_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    write_json(path, [1])
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == "[1]"
    assert [p.name for p in tmp_path.iterdir()] == ["f.json"]


def test_a_place_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write here"):
        write_json(tmp_path, [1])


@pytest.mark.parametrize("target", ["real.json", "new.json", "folder"])
def test_a_link_is_refused_and_its_target_stays(tmp_path: Path, target: str) -> None:
    write_json(tmp_path / "real.json", [1])
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / target)
    with pytest.raises(InputError, match="it is a link to"):
        write_json(link, [2])
    with pytest.raises(OSError, match="it is a link to"), path_beside(link):
        pass
    assert link.is_symlink()
    assert (tmp_path / "real.json").read_text() == "[1]"
    assert {p.name for p in tmp_path.iterdir()} == {"real.json", "folder", "link.json"}


def stopped_half_way(target: Path) -> None:
    with path_beside(target) as beside:
        beside.write_bytes(b"half")
        raise ValueError("stop")


def test_a_path_beside_replaces_the_target_or_vanishes(tmp_path: Path) -> None:
    target = tmp_path / "new" / "f.bin"
    with path_beside(target) as beside:
        beside.write_bytes(b"one")
        assert not target.exists()
    with pytest.raises(ValueError, match="stop"):
        stopped_half_way(target)
    assert target.read_bytes() == b"one"
    assert list(target.parent.iterdir()) == [target]


def test_a_lock_is_held_until_the_file_is_closed(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    path = tmp_path / "lock"
    with path.open("wb") as first, path.open("wb") as second:
        assert lock(first)
        assert not lock(second)
        first.close()
        assert lock(second, wait=True)
