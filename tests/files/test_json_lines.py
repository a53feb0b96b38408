"""The append-only file beneath journals."""

import errno
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfmask.errors import InputError
from halfmask.files import json_lines
from halfmask.files.json_lines import JsonLines, line_of


def test_lines_come_back_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    lines = JsonLines(path, "busy")
    lines.cut(0)
    places = [lines.append({"n": n, "text": "ä" * n}) for n in range(5)]
    assert [lines.read(*place)["n"] for place in places] == list(range(5))
    lines.close()
    again = JsonLines(path, "busy")
    assert [(line.start, line.end) for line in again.lines()] == places
    again.close()


def test_what_is_no_whole_line_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    whole = [line_of({"a": n}) for n in (1, 3, 4)]
    path.write_bytes(whole[0] + b"[2]\nnonsense\n" + whole[1] + whole[2][:-5])
    lines = JsonLines(path, "busy")
    found = list(lines.lines())
    assert [line.record for line in found] == [{"a": 1}, None, None, {"a": 3}, None]
    assert [line.damaged for line in found] == [False, True, True, False, False]
    assert [line.cut_off for line in found] == [False] * 4 + [True]
    lines.close()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_flipped_bit_costs_one_line_and_is_told(data: st.DataObject) -> None:
    records = [{"n": n, "text": "ä\\n}" * n} for n in range(4)]
    whole = bytearray(b"".join(map(line_of, records)))
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[place // 8] ^= 1 << place % 8
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes(whole)
        lines = JsonLines(path, "busy")
        found = list(lines.lines())
        lines.cut(found[-1].end)
        lines.append({"n": "new"})
        after = [line.record for line in lines.lines() if line.record]
        lines.close()
    there = [line.record for line in found if line.record]
    assert any(line.damaged for line in found)
    assert [r for r in records if r in there] == there  # none is another
    assert len(there) >= len(records) - 1
    assert after == [*there, {"n": "new"}]


@pytest.mark.parametrize("change", ["unlinked", "replaced", "cut", "longer"])
def test_a_file_that_something_else_changes_takes_no_more_lines(
    tmp_path: Path, change: str
) -> None:
    path = tmp_path / "a"
    lines = JsonLines(path, "busy", "do this")
    lines.cut(0)
    place = lines.append({"n": 1})
    whole = path.read_bytes()
    if change in ("unlinked", "replaced"):
        path.unlink()
    if change != "unlinked":
        path.write_bytes({"replaced": whole, "cut": b"", "longer": whole * 2}[change])
    with pytest.raises(InputError, match="while it was in use; do this"):
        lines.append({"n": 2})
    if change != "cut":
        assert lines.read(*place) == {"n": 1}
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
