"""Files that are written beside their place: what is left over is taken over, what is
in use is left alone.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from halfmask.files.atomic import PartFile, write_text, written_beside

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")


def test_commit_and_drop(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    part = PartFile(target)
    part.file.write(b"new")
    assert not target.exists()
    part.flush()
    part.commit()
    part.drop()
    assert target.read_bytes() == b"new"
    other = PartFile(target)
    other.file.write(b"half")
    other.drop()
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


KILLED = """
import os, signal, sys
from halfmask.files.atomic import written_beside
with written_beside(sys.argv[1]) as file:
    file.write(b"x" * 1000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("before")
    assert subprocess.run([sys.executable, "-c", KILLED, str(target)]).returncode == -signal.SIGKILL
    assert target.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 2
    write_text(target, "after")
    assert target.read_text() == "after"
    assert list(tmp_path.iterdir()) == [target]


def test_two_writers_at_once_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    with written_beside(target) as first:
        first.write(b"first")
        held = {path.name for path in tmp_path.iterdir()}
        second = PartFile(target)  # a lock is the open file's, not the process's
        second.file.write(b"second")
        assert len(list(tmp_path.iterdir())) == len(held) + 1
        second.flush()
        second.commit()
        assert target.read_bytes() == b"second"
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]


def _write_often(target: str, word: str) -> None:
    for _ in range(200):
        write_text(target, word * 5000)


@pytest.mark.slow
def test_four_writers_leave_one_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=_write_often, args=(str(target), word)) for word in "abcd"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if target.exists():
            text = target.read_text()
            assert len(text) == 5000
            assert len(set(text)) == 1
    assert [writer.exitcode for writer in writers] == [0] * 4
    assert list(tmp_path.iterdir()) == [target]
