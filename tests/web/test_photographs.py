"""Photographs for browsers: one frame, and nothing from outside the folder."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from halfmask.coco.images import read_photograph
from halfmask.coco.photographs.orientation import Frame
from halfmask.errors import InputError
from halfmask.web import photographs
from halfmask.web.photographs import (
    bytes_inside,
    decoded,
    orientation_of,
    path_inside,
    shown,
    shrink_for,
)

EXIF_TURN = 6


def jpeg(
    size: tuple[int, int] = (40, 30), turn: int = 1, mode: str = "RGB", kind: str = "JPEG"
) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    if turn != 1:
        exif[0x0112] = turn
        exif[0x010F] = "camera"
    out = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(out, kind, exif=exif)
    return out.getvalue()


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_jpeg_keeps_its_stored_pixels_and_loses_its_turn(tmp_path: Path, turn: int) -> None:
    data = jpeg(turn=turn)
    assert orientation_of(data, "x").turn == turn
    result = shown(data, "x", Frame.STORED)
    assert result.media_type == "image/jpeg"
    image = Image.open(io.BytesIO(result.data))
    assert not image.getexif()
    assert b"camera" not in result.data
    (tmp_path / "x.jpg").write_bytes(jpeg())
    assert np.array_equal(np.asarray(image), read_photograph(tmp_path / "x.jpg"))
    assert np.array_equal(decoded(data, "x", frame=Frame.STORED), np.asarray(image))


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_photograph_is_shown_as_it_is_read(tmp_path: Path, turn: int) -> None:
    data = jpeg(turn=turn)
    (tmp_path / "x.jpg").write_bytes(data)
    expected = read_photograph(tmp_path / "x.jpg")
    image = Image.open(io.BytesIO(shown(data, "x").data))
    assert not image.getexif()
    assert np.array_equal(np.asarray(image.convert("RGB")), expected)
    assert np.array_equal(decoded(data, "x"), expected)
    assert orientation_of(data, "x").turned == expected.shape[:2]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("RGB", "TIFF"), ("RGB", "BMP")],
)
def test_formats_that_browsers_might_turn_or_not_know_become_lossless_png(
    tmp_path: Path, mode: str, kind: str
) -> None:
    path = tmp_path / "x"
    if mode == "I;16":
        Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50).save(path, kind)
    else:
        path.write_bytes(jpeg(turn=EXIF_TURN if kind == "PNG" else 1, mode=mode, kind=kind))
    result = shown(path.read_bytes(), "x")
    assert result.media_type == "image/png"
    image = Image.open(io.BytesIO(result.data))
    assert not image.getexif()
    assert np.array_equal(np.asarray(image), read_photograph(path))


def test_cmyk_and_large_photographs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Image.open(io.BytesIO(shown(jpeg(mode="CMYK"), "x").data)).mode == "RGB"
    monkeypatch.setattr(photographs, "LARGEST_SHOWN", 50)
    small = Image.open(io.BytesIO(shown(jpeg((400, 300), EXIF_TURN), "x").data))
    assert small.size == (38, 50)
    assert not small.getexif()


def test_a_jpeg_is_decoded_smaller_where_that_is_enough() -> None:
    assert [shrink_for(w, h) for w, h in ((10, 10), (2047, 5), (5, 2048), (9000, 5))] == [
        1,
        1,
        2,
        8,
    ]
    data = jpeg((401, 300), EXIF_TURN)
    shapes = [decoded(data, "x", shrink).shape for shrink in (1, 2, 3, 4)]
    assert shapes == [(401, 300, 3), (201, 150, 3), (201, 150, 3), (101, 75, 3)]
    assert decoded(jpeg((401, 300), kind="PNG"), "x", 4).shape == (300, 401, 3)


@pytest.mark.parametrize(
    "data",
    [b"", b"text", jpeg()[:200], b"\xff\xd8\xff\xe1\x00", b"\xff\xd8" + b"\xff\xe1\xff\xff" * 9],
)
def test_what_is_no_photograph_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(InputError, match="3\\.jpg: expected a photograph"):
        shown(data, "3.jpg")


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    out = io.BytesIO()
    Image.new("1", (20_000, 6_000)).save(out, "PNG")
    with pytest.raises(InputError, match="20000 × 6000 pixels, more than 89 million"):
        orientation_of(out.getvalue(), "x")
    assert orientation_of(jpeg(), "x").stored == (30, 40)


def test_only_files_below_the_folder_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg())
    (folder / "sub" / "in.jpg").write_bytes(jpeg())
    (folder / "out.jpg").symlink_to(secret)
    (folder / "dir").symlink_to(tmp_path)
    (folder / "alias.jpg").symlink_to(folder / "sub" / "in.jpg")
    (folder / "loop").symlink_to(folder / "loop")
    os.mkfifo(folder / "pipe")
    assert path_inside(folder, "sub/in.jpg") == folder / "sub" / "in.jpg"
    assert path_inside(folder, "sub/../alias.jpg") == folder / "sub" / "in.jpg"
    assert bytes_inside(folder, {"id": 1, "file_name": "alias.jpg"}) == jpeg()
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    assert bytes_inside(linked, {"id": 1, "file_name": "sub/in.jpg"}) == jpeg()
    names = [
        "../secret.jpg",
        str(secret),
        "out.jpg",
        "dir/secret.jpg",
        "sub",
        ".",
        "",
        "pipe",
        "loop",
        "a\0b",
        "absent",
        "x" * 5000,
    ]
    for name in names:
        with pytest.raises(InputError):
            bytes_inside(folder, {"id": 1, "file_name": name})
