"""The append-only file beneath journals."""

import errno
import json
import os
from pathlib import Path

import pytest

from halfmask.errors import InputError
from halfmask.files import json_lines
from halfmask.files.json_lines import JsonLines


def test_lines_come_back_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    lines = JsonLines(path, "busy")
    lines.cut(0)
    places = [lines.append({"n": n, "text": "ä" * n}) for n in range(5)]
    assert [lines.read(*place)["n"] for place in places] == list(range(5))
    lines.close()
    again = JsonLines(path, "busy")
    assert [(start, end) for start, end, _ in again.lines()] == places
    again.close()


def test_what_is_no_whole_line_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a":1}\n[2]\nnonsense\n{"a":3}\n{"a":4')
    lines = JsonLines(path, "busy")
    assert [record for _, _, record in lines.lines()] == [{"a": 1}, None, None, {"a": 3}, None]
    lines.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = JsonLines(tmp_path / "a", "somebody has it")
    with pytest.raises(InputError, match="somebody has it"):
        JsonLines(tmp_path / "a", "somebody has it")
    first.close()
    JsonLines(tmp_path / "a", "somebody has it").close()


def test_a_full_disk_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    lines = JsonLines(path, "busy")
    lines.cut(0)
    lines.append({"n": 1})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(json_lines.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        lines.append({"n": 2})
    monkeypatch.undo()
    lines.append({"n": 3})
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 3]
    lines.close()
