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
from halfmask.web.inside import open_inside, path_inside
from halfmask.web.photographs import decoded, orientation_of, shown

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


@pytest.mark.parametrize("frame", list(Frame))
@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG"])
def test_a_part_is_the_part_of_the_whole(kind: str, turn: int, frame: Frame) -> None:
    data = jpeg((40, 30), turn, kind=kind)
    whole = decoded(data, "x", frame=frame)
    height, width = whole.shape[:2]
    for window in ((0, 0, width, height), (3, 5, 20, 28), (width - 1, height - 2, width, height)):
        x0, y0, x1, y1 = window
        part = decoded(data, "x", frame=frame, window=window)
        assert np.array_equal(part, whole[y0:y1, x0:x1])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("turn", [1, 6, 7])
@pytest.mark.parametrize("size", [(60, 80), (30, 40), (33, 21), (15, 19)])
def test_a_smaller_part_is_near_a_crop_of_pillow(
    mode: str, turn: int, size: tuple[int, int]
) -> None:
    grey = Image.linear_gradient("L").resize((400, 300))
    picture = Image.merge("RGB", (grey, grey.rotate(180), grey.transpose(Image.Transpose(0))))
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = turn
    picture.convert(mode).save(out, "JPEG", exif=exif, quality=95)
    whole = Image.fromarray(decoded(out.getvalue(), "x"))
    window = (31, 17, 271, 197)
    expected = np.asarray(whole.crop(window).resize(size[::-1])).astype(int)
    found = decoded(out.getvalue(), "x", window=window, size=size)
    assert found.shape == (*size, 3)
    assert np.abs(found - expected).mean() < 1.5
    assert np.abs(found - expected).max() < 16


def test_the_first_view_of_a_huge_jpeg_has_fewer_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "HUGE_PIXELS", 100_000)
    monkeypatch.setattr(photographs, "LARGEST_SHOWN", 200)
    monkeypatch.setattr(photographs, "LEAST_SHOWN", 100)
    sizes = {
        kind: Image.open(io.BytesIO(shown(jpeg((800, 400), kind=kind), "x").data)).size
        for kind in ("JPEG", "PNG")
    }
    assert sizes == {"JPEG": (100, 50), "PNG": (200, 100)}


def test_sides_that_eight_does_not_divide_are_decoded_at_an_eighth_too() -> None:
    data = jpeg((804, 404))
    eighth = Image.open(io.BytesIO(data))
    eighth.draft("RGB", (100, 50))
    assert eighth.size == (101, 51)
    found = decoded(data, "x", size=(51, 101))
    np.testing.assert_array_equal(found, np.asarray(eighth.convert("RGB")))


@pytest.mark.parametrize(
    "data",
    [b"", b"text", jpeg()[:200], b"\xff\xd8\xff\xe1\x00", b"\xff\xd8" + b"\xff\xe1\xff\xff" * 9],
)
def test_what_is_no_photograph_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(InputError, match="3\\.jpg: expected a photograph"):
        shown(data, "3.jpg")


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    out = io.BytesIO()
    Image.new("1", (17_000, 10_500)).save(out, "PNG")
    with pytest.raises(InputError, match="17000 × 10500 pixels, more than 178 million"):
        orientation_of(out.getvalue(), "x")
    assert orientation_of(jpeg(), "x").stored == (30, 40)


def content(folder: Path, name: str) -> bytes:
    with open_inside(folder, {"id": 1, "file_name": name}) as file:
        return file.read()


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
    assert content(folder, "alias.jpg") == jpeg()
    linked = tmp_path / "linked"
    linked.symlink_to(folder)
    assert content(linked, "sub/in.jpg") == jpeg()
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
            content(folder, name)
