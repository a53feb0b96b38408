"""Photographs of 10, 12 and 14 bits are as bright as their 8-bit twins."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from halfmask.coco.doctor.photographs import check_photographs
from halfmask.coco.file import CocoFile
from halfmask.coco.images import read_photograph, to_rgb
from halfmask.coco.photographs.depth import range_of
from halfmask.web.photographs import decoded, shown

H, W = 48, 72


def unit(seed: int = 1, colours: bool = False) -> np.ndarray[Any, Any]:
    """Values in [0, 1] that use the whole range, [H, W] or [H, W, 3]."""
    values = np.random.default_rng(seed).random((H, W, 3) if colours else (H, W))
    values.reshape(-1)[:2] = 0, 1
    return values


def write(values: np.ndarray[Any, Any], path: Path) -> Path:
    """Writes uint16 by OpenCV, which counts colours the other way round."""
    assert cv2.imwrite(str(path), values[..., ::-1] if values.ndim == 3 else values)
    return path


def rgb(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_each_depth_in_16_bits_is_scaled_by_its_own_range(
    tmp_path: Path, bits: int, colours: bool, ending: str
) -> None:
    values = unit(bits, colours)
    path = write((values * (2**bits - 1)).round().astype(np.uint16), tmp_path / f"a.{ending}")
    pixels = read_photograph(path)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels - rgb(values * 255)).max() <= 1
    data = path.read_bytes()
    assert (decoded(data, "x") == pixels).all()
    assert (np.asarray(Image.open(io.BytesIO(shown(data, "x").data))) == pixels).all()


@pytest.mark.parametrize("compression", [1, 5, 8])
def test_compressed_colours_of_12_bits(tmp_path: Path, compression: int) -> None:
    values = unit(2, colours=True)
    deep = (values * 4095).round().astype(np.uint16)
    cv2.imwrite(
        str(tmp_path / "a.tif"), deep[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression]
    )
    assert np.abs(read_photograph(tmp_path / "a.tif") - values * 255).max() <= 1


def test_transparency_of_12_bits_is_dropped(tmp_path: Path) -> None:
    values = unit(3, colours=True)
    deep = np.concatenate([values * 4095, np.full((H, W, 1), 4095)], 2).round().astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., [2, 1, 0, 3]])
    assert np.abs(read_photograph(tmp_path / "a.png") - values * 255).max() <= 1


@pytest.mark.parametrize("turn", [3, 6])
def test_a_turned_photograph_of_12_bits(tmp_path: Path, turn: int) -> None:
    values = (unit(4) * 4095).round().astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(values).save(tmp_path / "a.tif", exif=exif)
    expected = np.rot90(values / 4095 * 255, {3: 2, 6: -1}[turn])
    for name in ("a.png", "a.tif"):
        assert np.abs(read_photograph(tmp_path / name) - rgb(expected)).max() <= 1


@pytest.mark.parametrize(
    ("values", "high"),
    [
        (np.array([[0, 4095]], dtype=np.int32), 4095),
        (np.array([[0, 1000]], dtype=np.int32), 1023),
        (np.array([[0, 200]], dtype=np.int32), 255),
        (np.array([[0, 4000]], dtype=np.float32), 4095),
        (np.array([[0, 1]], dtype=np.float32), 1),
        (np.array([[0.5, 200.25]], dtype=np.float32), 255),
    ],
)
def test_plain_ranges_of_whole_and_other_numbers(values: np.ndarray[Any, Any], high: float) -> None:
    image = Image.fromarray(values)
    found = range_of(np.asarray(values, dtype=np.float64), image)
    assert (found.low, found.high, found.plain) == (0, high, True)


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        (np.array([[-1024, 3071]], dtype=np.int32), -1024, 3071),  # computed tomography
        (np.array([[0, 1 << 20]], dtype=np.int32), 0, 1 << 20),
        (np.array([[0, 7.5]], dtype=np.float32), 0, 7.5),  # high dynamic range
        (np.array([[-0.5, 0.5]], dtype=np.float32), -0.5, 0.5),
        (np.array([[0.25, np.nan]], dtype=np.float32), 0, 1),
        (np.array([[1.5, np.inf]], dtype=np.float32), 0, 1.5),
    ],
)
def test_ranges_that_are_not_plain_are_their_own_and_reported(
    tmp_path: Path, values: np.ndarray[Any, Any], low: float, high: float
) -> None:
    image = Image.fromarray(values)
    found = range_of(np.asarray(values, dtype=np.float64), image)
    assert (found.low, found.high, found.plain) == (low, high, False)
    assert to_rgb(image)[0, int(np.nanargmax(values)), 0] >= 64
    image.save(tmp_path / "a.tif")
    assert [str(p.kind) for p in findings(tmp_path)][:1] == ["photograph_range_unclear"]


def findings(folder: Path, name: str = "a.tif") -> list[Any]:
    with Image.open(folder / name) as image:
        record = {"id": 1, "file_name": name, "width": image.width, "height": image.height}
    file = CocoFile.from_document({"images": [record], "annotations": [], "categories": []}, "f")
    return check_photographs(file, folder)


def test_a_scaled_photograph_is_a_note(tmp_path: Path) -> None:
    write((unit() * 4095).astype(np.uint16), tmp_path / "a.tif")
    (found, gray) = findings(tmp_path)
    assert found.facts.severity == gray.facts.severity == "info"
    assert found.message == "image 1: read by the range 12 bits"
    write((unit(5, colours=True) * 65535).astype(np.uint16), tmp_path / "a.png")
    (found,) = findings(tmp_path, "a.png")
    assert found.message == "image 1: read by the range 16 bits"


@pytest.mark.parametrize("name", ["hot.png", "dim.tif", "dim_colours.png", "fractions.tif"])
def test_a_photograph_that_stays_dark_is_a_problem_until_it_is_saved_with_8_bits(
    tmp_path: Path, name: str
) -> None:
    colours = name == "dim_colours.png"
    values = unit(6, colours)
    deep = (values * 3000).astype(np.uint16)
    deep.reshape(-1)[5] = 65535  # a pixel that is always lit
    if name == "fractions.tif":
        Image.fromarray((values * 0.06).astype(np.float32)).save(tmp_path / name)
    else:
        write(deep, tmp_path / name)
    assert read_photograph(tmp_path / name).mean() < 20
    found = findings(tmp_path, name)[0]
    assert (str(found.kind), found.facts.severity) == ("photograph_range_unclear", "problem")
    assert "hardly a value in its upper three quarters" in found.message
    assert "save them with 8 bits" in found.facts.consequence
    mended = np.clip(deep / 3000 * 255, 0, 255).astype(np.uint8)
    Image.fromarray(mended).save(tmp_path / name)
    assert "photograph_range_unclear" not in {str(p.kind) for p in findings(tmp_path, name)}
    assert read_photograph(tmp_path / name).mean() > 100


def test_a_tiff_may_say_its_highest_value(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 4095
    values = (unit() * 900).astype(np.uint16)  # a dark photograph of 12 bits
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo=tags)
    expected = values / 4095 * 255
    assert np.abs(read_photograph(tmp_path / "a.tif") - rgb(expected)).max() <= 1
    assert "0 to 4095, as the file says" in findings(tmp_path)[0].message


def test_8_bits_stay_as_they_are(tmp_path: Path) -> None:
    dark = (unit(colours=True) * 9).astype(np.uint8)
    Image.fromarray(dark).save(tmp_path / "a.png")
    assert (read_photograph(tmp_path / "a.png") == dark).all()
    assert not [p for p in findings(tmp_path, "a.png") if p.facts.severity == "problem"]
