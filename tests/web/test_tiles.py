"""Regions of photographs on the review page: equal to crops, bounded, and guarded."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from halfmask.errors import InputError
from halfmask.web.decoding import tiles as module
from halfmask.web.decoding.levels import LEVELS, bytes_of_levels, read_part, write_levels
from halfmask.web.decoding.tiles import Tiles
from halfmask.web.photographs import QUALITY, decoded
from halfmask.web.review.app import review_app

from .conftest import HEIGHT, WIDTH, Case


def smooth(width: int, height: int, waves: int = 4) -> Image.Image:
    noise = np.random.default_rng(1).integers(0, 256, (waves, waves, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def as_jpeg(picture: Image.Image) -> Image.Image:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY)
    return Image.open(out)


def error(found: Image.Image, expected: Image.Image) -> float:
    """Mean difference of two pictures' values."""
    assert found.size == expected.size
    return float(np.abs(np.asarray(found, dtype=int) - np.asarray(expected, dtype=int)).mean())


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 90), st.integers(1, 70)),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
    scale=st.floats(0.02, 1),
)
def test_a_part_of_the_levels_is_the_part_of_the_photograph(
    tmp_path_factory: pytest.TempPathFactory,
    sides: tuple[int, int],
    corners: tuple[float, ...],
    scale: float,
) -> None:
    width, height = sides
    picture = smooth(width, height, waves=2)
    x0, x1 = sorted(round(c * width) for c in corners[:2])
    y0, y1 = sorted(round(c * height) for c in corners[2:])
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    window = (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
    size = tuple(
        max(1, round(scale * side)) for side in (window[3] - window[1], window[2] - window[0])
    )
    with (tmp_path_factory.getbasetemp() / "levels").open("w+b") as file:
        write_levels(picture, file)
        assert file.seek(0, io.SEEK_END) == bytes_of_levels((height, width))
        found = read_part(file, (height, width), window=window, size=(size[0], size[1]))
    expected = picture.resize(size[::-1], box=window, reducing_gap=2.0)
    if size == (window[3] - window[1], window[2] - window[0]):
        assert np.array_equal(np.asarray(found), np.asarray(picture.crop(window)))
    # In the smallest level, a pixel is eight across.
    assert error(found, expected) < (8 if min(sides) > 1 << LEVELS else 80)


@pytest.fixture
def page(
    case: Callable[..., Case], open_review: Callable[[Case], Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TestClient]:
    """A review page whose first photograph is replaced; every one counts as large."""
    monkeypatch.setattr(module, "SMALL_PIXELS", 100)

    def start(name: str = "1.jpg", data: bytes | None = None, **size: int) -> TestClient:
        images = [
            {"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in (1, 2, 3)
        ]
        images[0] |= {"file_name": name, **size}
        written = case(images=images)
        if data is not None:
            (written.photos / name).write_bytes(data)
        return TestClient(review_app(open_review(written)), raise_server_exceptions=False)

    return start


def ask(client: TestClient, *window: int, width: int = 4096, row: int = 0) -> Any:
    keys = ("left", "top", "right", "bottom")
    query = dict(zip(keys, window, strict=True)) | {"width": width}
    return client.get(f"/api/photos/{row}/region", params=query)


def picture_of(answer: Any) -> Image.Image:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/jpeg"
    return Image.open(io.BytesIO(answer.content))


@pytest.mark.parametrize(
    ("kind", "mode", "turn"),
    [
        ("JPEG", "RGB", 1),
        ("JPEG", "RGB", 6),
        ("JPEG", "CMYK", 1),
        ("JPEG", "L", 3),
        ("PNG", "RGBA", 1),
        ("PNG", "P", 1),
        ("PNG", "I;16", 1),
        ("TIFF", "RGB", 8),
    ],
)
def test_a_region_is_near_a_crop_of_pillow(
    kind: str, mode: str, turn: int, page: Callable[..., TestClient]
) -> None:
    picture, out, exif = smooth(80, 60), io.BytesIO(), Image.Exif()
    exif[0x0112] = turn
    if mode == "I;16":
        grey = np.asarray(picture.convert("L"), dtype=np.uint16) * 257
        Image.fromarray(grey).save(out, kind)
    else:
        picture.convert(mode).save(
            out, kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {})
        )
    whole = Image.fromarray(decoded(out.getvalue(), "x"))
    client = page("a." + kind.lower(), out.getvalue(), width=whole.width, height=whole.height)
    for window, width in (((10, 8, 50, 48), 40), ((10, 8, 50, 48), 13), ((0, 0, 60, 60), 20)):
        answer = picture_of(ask(client, *window, width=width))
        x1, y1 = min(window[2], whole.width), min(window[3], whole.height)
        box = (*window[:2], x1, y1)
        wide = min(width, x1 - window[0])
        high = max(1, round((y1 - window[1]) * wide / (x1 - window[0])))
        expected = whole.resize((wide, high), box=box, reducing_gap=2.0)
        assert error(answer, as_jpeg(expected)) < (8 if mode == "P" else 4)  # dithered


def test_what_lies_outside_is_cut_off_and_nothing_is_enlarged(
    page: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = page()
    assert picture_of(ask(client, 60, 40, 5000, 5000)).size == (4, 8)
    assert picture_of(ask(client, 0, 0, 10, 10, width=4000)).size == (10, 10)
    assert picture_of(ask(client, 0, 0, 64, 48, width=1)).size == (1, 1)
    monkeypatch.setattr(module, "LARGEST_REGION", 24)
    assert picture_of(ask(client, 0, 0, 20, 48, width=20)).size == (10, 24)


def test_malformed_regions_are_refused(page: Callable[..., TestClient]) -> None:
    client = page()
    for window in ((64, 0, 70, 10), (0, 48, 9, 50), (5, 5, 5, 9), (9, 9, 5, 5), (-1, 0, 5, 5)):
        assert ask(client, *window).status_code == 422, window
    for width in (0, -3, 4097):
        assert ask(client, 0, 0, 9, 9, width=width).status_code == 422
    assert client.get("/api/photos/0/region?left=a").status_code == 422
    assert ask(client, 0, 0, 9, 9, row=3).status_code == 404


@pytest.mark.parametrize("name", ["gone.jpg", "../secret.jpg"])
def test_there_is_no_photograph(name: str, page: Callable[..., TestClient]) -> None:
    assert ask(page(name), 0, 0, 9, 9).status_code == 404


def test_a_photograph_is_decoded_once_and_again_after_it_changed(
    case: Callable[..., Case], open_review: Callable[[Case], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL_PIXELS", 100)
    written = case()
    review, tiles, asked = open_review(written), Tiles(), []
    real = review.file.photo(0).decoders.ask

    def note(task: str, *arguments: Any, **more: Any) -> Any:
        asked.append(task)
        return real(task, *arguments, **more)

    monkeypatch.setattr(review.file.photo(0).decoders, "ask", note)
    for _ in range(2):
        tiles.region(0, review.file.photo(0), window=(0, 0, 9, 9), width=9)
    assert asked == ["size", "levels", "tile", "size", "tile"]
    smooth(WIDTH, HEIGHT).save(written.photos / "1.jpg", quality=95)
    found = tiles.region(0, review.file.photo(0), window=(0, 0, WIDTH, HEIGHT), width=WIDTH)
    assert error(Image.open(io.BytesIO(found.data)), smooth(WIDTH, HEIGHT)) < 4


def test_the_disk_has_a_bound(
    case: Callable[..., Case], open_review: Callable[[Case], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL_PIXELS", 100)
    review, one = open_review(case()), bytes_of_levels((HEIGHT, WIDTH))
    tiles = Tiles(2 * one)
    for row in (0, 1, 0, 2):
        tiles.region(row, review.file.photo(row), window=(0, 0, 9, 9), width=9)
    assert [key[0] for key in tiles._held] == [0, 2]
    assert tiles._used() == 2 * one
    small = Tiles(one - 1)  # no room at all: decoded for each region
    found = small.region(0, review.file.photo(0), window=(0, 0, 9, 9), width=9)
    assert Image.open(io.BytesIO(found.data)).size == (9, 9)
    assert small._used() == 0
    with pytest.raises(InputError, match="has no pixel of the photograph, which is 64 × 48"):
        tiles.region(0, review.file.photo(0), window=(64, 0, 65, 9), width=9)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_only_costs_time(
    case: Callable[..., Case], open_review: Callable[[Case], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL_PIXELS", 100)
    monkeypatch.setattr(module.tempfile, "TemporaryFile", lambda: FullDisk())
    review, tiles = open_review(case()), Tiles()
    for _ in range(2):
        found = tiles.region(0, review.file.photo(0), window=(0, 0, 9, 9), width=9)
        assert Image.open(io.BytesIO(found.data)).size == (9, 9)


class FullDisk(io.FileIO):
    """A file that takes nothing."""

    def __init__(self) -> None:
        super().__init__("/dev/full", "r+")

    def truncate(self, size: int | None = None) -> int:
        return 0


def test_no_file_is_left(
    page: Callable[..., TestClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path / "photos"))
    client = page()
    before = sorted((tmp_path / "photos").iterdir())
    picture_of(ask(client, 0, 0, 9, 9))
    assert sorted((tmp_path / "photos").iterdir()) == before
