"""A closed list of decoders, and files that are no files: told, never run, never waited for."""

import io
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halfmask.coco.images import opened, photograph_path, read_photograph
from halfmask.errors import InputError
from halfmask.files.pictures import DECODERS, MOST_SCANS, picture_of
from halfmask.files.regular import NotRegularError, open_regular, read_regular
from halfmask.formats.source_files import photographs_in
from halfmask.inference.images import images_in, read_image
from halfmask.integrations.label_studio_images import ImageSource
from halfmask.web.photographs import decoded, orientation_of, shown

PACKAGE = Path(__file__).parents[2] / "halfmask"
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
FITS = b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800)
SGI = b"\x01\xda\x00\x01" + bytes(508)
FOREIGN = {"EPS": EPS, "FITS": FITS, "SGI": SGI, "XPM": b"/* XPM */\n", "text": b"hello", "": b""}


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (9, 7)) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, 200).save(out, kind)
    return out.getvalue()


def progressive(scans: int) -> bytes:
    """A JPEG whose last scan is repeated."""
    out = io.BytesIO()
    Image.new("L", (64, 64), 90).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    there = data.count(b"\xff\xda")
    return data[:-2] + data[data.rfind(b"\xff\xc4") : -2] * (scans - there) + data[-2:]


READERS: dict[str, Callable[[Path], object]] = {
    "read_photograph": read_photograph,
    "opened": lambda path: opened(path).__enter__(),
    "read_image": read_image,
    "read_image of bytes": lambda path: read_image(path.read_bytes()),
    "orientation_of": lambda path: orientation_of(path.read_bytes(), "x"),
    "decoded": lambda path: decoded(path.read_bytes(), "x"),
    "shown": lambda path: shown(path.read_bytes(), "x"),
    "label studio": lambda path: ImageSource("http://x", folder=str(path.parent)).open(
        f"/data/local-files/?d={path.name}"
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_picture_is_refused_and_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, reader: str
) -> None:
    mark, program = tmp_path / "started", tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    photograph = tmp_path / "a.jpg"
    photograph.write_bytes(FOREIGN[kind])
    with pytest.raises(InputError, match=r"expected (a photograph|a picture|JPEG)"):
        READERS[reader](photograph)
    assert not mark.exists()


@pytest.mark.parametrize("kind", DECODERS)
def test_a_documented_format_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(encoded(kind))
    assert read_photograph(path).shape == (7, 9, 3)
    assert decoded(encoded(kind), "x").shape == (7, 9, 3)


def test_no_other_code_of_the_package_opens_a_picture() -> None:
    asks = re.compile(r"\bImage\.open\(|\bimread\(|torchvision\.io|\bopen_picture\(")
    found = {
        str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py") if asks.search(p.read_text())
    }
    assert found == {"files/pictures.py"}


def test_a_progressive_jpeg_of_many_scans_is_refused_before_it_is_decoded() -> None:
    assert decoded(progressive(MOST_SCANS), "x").shape == (64, 64, 3)
    with pytest.raises(InputError, match=f"{MOST_SCANS + 1} scans"):
        decoded(progressive(MOST_SCANS + 1), "x")


def test_a_large_ppm_in_text_is_refused_and_a_small_one_read() -> None:
    with pytest.raises(InputError, match="plain-text PPM"):
        decoded(b"P3 3000 3000 9 " + b"9 " * 99, "x")
    assert decoded(b"P3 1 1 9 9 9 9", "x").tolist() == [[[255, 255, 255]]]


def irregular(path: Path, kind: str) -> str:
    """Puts something at a path; returns the word by which it must be told."""
    if kind == "fifo":
        os.mkfifo(path)
        return "a pipe"
    if kind == "folder":
        path.mkdir()
        return "directory"
    if kind == "link to a device":
        path.symlink_to("/dev/zero")
        return "a device"
    path.symlink_to(path.with_name("nothing"))
    return "[Nn]o such file"


KINDS = ("fifo", "folder", "link to a device", "link to nothing")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    word = irregular(tmp_path / "a.jpg", kind)
    for read in (open_regular, picture_of):
        with pytest.raises(OSError) as caught, read(tmp_path / "a.jpg"):
            pass
        assert re.search(word, caught.value.strerror or ""), (read, caught.value)
    with pytest.raises(InputError, match=word):
        read_photograph(tmp_path / "a.jpg", "image id 9")


def test_a_file_that_becomes_a_pipe_after_it_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    there = (tmp_path / "file").stat()
    monkeypatch.setattr(Path, "stat", lambda *_: there)
    with pytest.raises(NotRegularError, match="a pipe"):
        open_regular(tmp_path / "pipe")


def test_a_pipe_among_the_photographs_is_found_and_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.jpg")
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG"))
    assert [path.name for path in images_in(tmp_path)] == ["a.jpg", "c.jpg"]
    assert sorted(path.name for path in photographs_in(tmp_path)) == ["a.jpg", "c.jpg"]
    path = photograph_path(tmp_path, "c.jpg")
    assert stat.S_ISFIFO(path.stat().st_mode)
    with pytest.raises(InputError, match=r"c\.jpg: .*a pipe, not a regular file"):
        read_photograph(path)


def test_read_regular_stops_at_its_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(2048))
    assert len(read_regular(tmp_path / "x", 2048)) == 2048
    with pytest.raises(OSError, match="larger than 1 kB"):
        read_regular(tmp_path / "x", 2047)


def test_pixels_are_as_pillow_decodes_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    for ending in ("png", "bmp", "tiff", "ppm"):
        Image.fromarray(pixels).save(tmp_path / f"a.{ending}")
        assert (read_photograph(tmp_path / f"a.{ending}") == pixels).all()
