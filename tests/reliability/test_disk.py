"""A full disk, a folder that cannot be written, a clock that was set back: one clear
error or none, and inputs that stay.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from halfmask.coco.index.place import FOLDER_VARIABLE

World = Any
RunsHalfmask = Callable[..., Any]
resource = pytest.importorskip("resource")  # Windows has none


@contextmanager
def files_no_longer_than(count: int) -> Iterator[None]:
    """The system refuses to write past so many bytes of a file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def commands(world: World, model: Path, out: Path) -> dict[str, list[object]]:
    return {
        "train": ["train", world.recipe, "--out", out / "run"],
        "complete": [
            "complete",
            model,
            world.data,
            "--images",
            world.photos,
            "--out",
            out / "masks.json",
        ],
        "index": ["index", world.data, "--folder", out],
        "yolo": ["convert", "yolo", world.yolo, out / "coco.json"],
        "to-voc": ["convert", "to-voc", world.data, out / "voc"],
    }


FINAL = ("model.safetensors", "resume.ckpt", "masks.json", "coco.json", "voc")


@pytest.mark.parametrize("command", ["train", "complete", "index", "yolo", "to-voc"])
@pytest.mark.parametrize("room", [150, 2500])
def test_a_full_disk(
    world: World, tiny_segmenter: Path, tmp_path: Path, halfmask_cli: RunsHalfmask, monkeypatch: pytest.MonkeyPatch,
    command: str, room: int,
) -> None:  # fmt: skip
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "out"))
    if (command, room) == ("to-voc", 2500):
        pytest.skip("its files are all shorter")
    before, out = world.contents(), tmp_path / "out"
    arguments = commands(world, tiny_segmenter, out)[command]
    with files_no_longer_than(room):
        done = halfmask_cli(*arguments)
    assert done.code == 2
    assert len(done.errors) == 1, done.errors
    assert "File too large" in done.errors[0] or "is the disk full?" in done.errors[0]
    assert str(out) in done.errors[0], "it names the place"
    assert world.contents() == before
    assert not [p for p in out.rglob("*") if p.name in FINAL or p.suffix in (".part", ".arrow")]
    assert halfmask_cli(*arguments).code == 0, "with room again the same command is done"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A tmpfs of that size; skips where none can be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        fault = subprocess.run(mount, capture_output=True, text=True, check=False).stderr
    except OSError as error:
        fault = str(error)
    if not folder.is_mount():
        pytest.skip(f"no file system can be mounted here: {fault.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("command", ["train", "complete", "index", "yolo", "to-voc"])
def test_a_small_disk_that_fills_up(
    world: World, tiny_segmenter: Path, tmp_path: Path, halfmask_cli: RunsHalfmask, monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:  # fmt: skip
    before = world.contents()
    with small_disk(tmp_path / "disk", "16k") as disk:
        out = disk / "out"
        monkeypatch.setenv(FOLDER_VARIABLE, str(out))
        (disk / "full").write_bytes(
            b"x" * 8_000
        )  # four pages of 4 KiB: one is left for a folder's or a file's first bytes
        (disk / "fuller").write_bytes(b"x" * 4_096)
        arguments = commands(world, tiny_segmenter, out)[command]
        done = halfmask_cli(*arguments)
        assert done.code == 2
        assert len(done.errors) == 1, done.errors
        assert "No space left on device" in done.errors[0] or "is the disk full?" in done.errors[0]
        assert str(out) in done.errors[0], "it names the place"
        assert world.contents() == before
        assert not [p for p in out.rglob("*") if p.name in FINAL or p.suffix in (".part", ".arrow")]
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert halfmask_cli(*arguments).code == 0, "with room again the same command is done"


def test_the_last_resume_point_outlives_a_full_disk(
    world: World, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    import halfmask.training.loop.callback as keeper

    run = tmp_path / "run"
    write = keeper.write_resume_point

    def fills_up(path: Path, content: dict[str, object]) -> None:
        with files_no_longer_than(10_000):
            write(path, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper, "write_resume_point", fills_up)
        done = halfmask_cli("train", world.recipe, "--out", run)
    written = (run / "resume.ckpt").stat().st_size
    assert done.code == 2
    assert "cannot write the resume point: File too large" in done.errors[0]
    assert "the last good state is kept" in done.errors[0]
    assert written > 10_000, "the point of step 2"
    assert halfmask_cli("train", world.recipe, "--out", run, "--resume").code == 0
    assert (run / "model.safetensors").is_file()
    assert not (run / "resume.ckpt").exists()


@pytest.mark.parametrize("command", ["train", "complete", "index", "yolo", "to-voc"])
def test_a_folder_that_cannot_be_written(
    world: World, tiny_segmenter: Path, read_only: Path, halfmask_cli: RunsHalfmask, monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(FOLDER_VARIABLE, str(read_only))
    before = world.contents()
    done = halfmask_cli(*commands(world, tiny_segmenter, read_only)[command])
    assert done.code == 2
    assert len(done.errors) == 1, done.errors
    assert "Read-only file system" in done.errors[0] or "Permission denied" in done.errors[0]
    assert str(read_only) in done.errors[0]
    assert world.contents() == before


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder without write permission; for root, whom permissions do not bind, a
    mount that is read-only.
    """
    folder = tmp_path / "locked"
    folder.mkdir()
    if os.geteuid() != 0:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "none", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("permissions do not bind root, and this root may not mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_clock_set_back_changes_no_result(
    world: World, tmp_path: Path, halfmask_cli: RunsHalfmask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(name: str) -> bytes:
        assert halfmask_cli("train", world.recipe, "--out", tmp_path / name).code == 0
        return (tmp_path / name / "model.safetensors").read_bytes()

    whole, now = train("a"), time.time
    calls = iter(range(10**9))
    monkeypatch.setattr(
        time, "time", lambda: now() - 3600 * next(calls)
    )  # an hour back at each look
    assert train("b") == whole
    # A photograph file that is older than its index, or from the future, is judged by
    # its content.
    assert halfmask_cli("index", world.data).code == 0
    os.utime(world.data, (0, 2**33))
    assert halfmask_cli("index", world.data).code == 0
