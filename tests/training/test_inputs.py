"""What a run learns from is noted, and a change is named before the run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from halfmask.errors import InputError
from halfmask.files.prints import has_changed, print_of, prints_of
from halfmask.training.loop import inputs
from halfmask.training.loop.callback import RESUME_FILE
from halfmask.training.loop.inputs import INPUTS, alone_in, check_inputs, note_inputs

Files = dict[str, list[Path]]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a.json", "1.png", "2.png"):
        (data / name).write_text(name)
    return {"annotations": [data / "a.json"], "photographs": [data / "1.png", data / "2.png"]}


@pytest.fixture
def run(tmp_path: Path, files: Files) -> Path:
    out = tmp_path / "run"
    out.mkdir()
    note_inputs(files, out)
    (out / RESUME_FILE).touch()
    return out


def test_the_same_data_are_taken_without_a_word(run: Path, files: Files) -> None:
    assert not check_inputs(files, run, accept_changes=False)
    for path in files["photographs"]:
        os.utime(path, ns=(1, 1))  # touched, not changed
    assert not check_inputs(files, run, accept_changes=False)


def test_data_may_move(run: Path, files: Files, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = {what: [tmp_path / "moved" / p.name for p in paths] for what, paths in files.items()}
    assert not check_inputs(moved, run, accept_changes=False)


def put(name: str, text: str) -> Callable[[Files], None]:
    def change(files: Files) -> None:
        (files["annotations"][0].parent / name).write_text(text)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("a.json", "b.json"), r"the annotations changed: .*a\.json"),
        (put("2.png", "2.pnG"), r"the photographs changed: .*2\.png"),
        (put("1.png", "longer"), r"the photographs changed: .*1\.png"),
        (lambda files: files["photographs"][1].unlink(), r"the photographs changed: .*2\.png"),
        (lambda files: files["photographs"].pop(), "the photographs became 1 file, from 2"),
    ],
)
def test_a_change_is_named_and_goes_on_only_if_accepted(
    run: Path, files: Files, change: Callable[[Files], None], said: str
) -> None:
    for paths in files.values():
        for path in paths:
            os.utime(path, ns=(1, 1))
    change(files)
    before = (run / INPUTS).read_bytes()
    with pytest.raises(InputError, match=f"since the run began, {said}.*--accept-changes"):
        check_inputs(files, run, accept_changes=False)
    assert (run / INPUTS).read_bytes() == before
    assert check_inputs(files, run, accept_changes=True)
    note_inputs(files, run)
    assert not check_inputs(files, run, accept_changes=False)


def test_another_version_of_pytorch_is_named(
    run: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "_versions", lambda: {"halfmask": "9", "torch": "9"})
    with pytest.raises(InputError, match=r"halfmask became 9, it was .*; torch became 9"):
        check_inputs(files, run, accept_changes=False)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"versions": {}, "annotations": []}'])
def test_a_damaged_note_is_refused(run: Path, files: Files, text: str) -> None:
    (run / INPUTS).write_text(text)
    with pytest.raises(InputError, match=r"inputs\.json: damaged"):
        check_inputs(files, run, accept_changes=False)


def test_a_new_run_and_one_without_a_note_are_noted(files: Files, tmp_path: Path) -> None:
    assert check_inputs(files, tmp_path, accept_changes=False)
    (tmp_path / RESUME_FILE).touch()
    assert check_inputs(files, tmp_path, accept_changes=False)


def test_of_large_data_sizes_and_times_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halfmask.files.prints.READ_AT_MOST", 3)
    for name in "abc":
        (tmp_path / name).write_text("12")
    found = prints_of(tmp_path / name for name in "abc")
    assert [known[2] is None for known in found.values()] == [False, False, True]
    assert not has_changed(tmp_path / "c", found[str(tmp_path / "c")])
    os.utime(tmp_path / "c", ns=(1, 1))
    assert has_changed(tmp_path / "c", found[str(tmp_path / "c")])
    assert print_of(tmp_path / "none") == []
    assert not has_changed(tmp_path / "none", [])


HOLD = """
import sys
from pathlib import Path
from halfmask.training.loop.inputs import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_belongs_to_one_training_at_a_time(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    out = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(out)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another training runs in this folder"), alone_in(out):
            pass
        other.communicate("")
    assert not out.exists(), "it was new, and nothing was written"
    with alone_in(out):
        (out / "x").touch()
    assert json.dumps([p.name for p in out.iterdir()]) == '["x"]'
