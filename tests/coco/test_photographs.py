"""Photographs are read in any mode; what is wrong with them is said by image id."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from halfmask.coco.doctor.photographs import TWIN_BITS, check_photographs, perceptual_hash
from halfmask.coco.file import CocoFile
from halfmask.coco.images import check_folder, photograph_path, read_photograph, to_rgb
from halfmask.coco.photographs.orientation import Ruling
from halfmask.coco.photographs.reader import PhotographReader
from halfmask.errors import InputError

WIDTH, HEIGHT = 60, 40


def picture(seed: int) -> np.ndarray[Any, Any]:
    """A smooth colour picture, uint8 [40, 60, 3], that is like no other seed's."""
    small = Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    )
    return np.array(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def coco(names: list[str]) -> CocoFile:
    images = [
        {"id": i + 1, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for i, name in enumerate(names)
    ]
    return CocoFile.from_document({"images": images, "annotations": [], "categories": []}, "f.json")


def test_every_fault_of_photographs_is_found(tmp_path: Path) -> None:
    Image.fromarray(picture(1)).save(tmp_path / "good.png")
    (tmp_path / "sub").mkdir()
    Image.fromarray(picture(2)).save(tmp_path / "sub" / "below.jpg")
    Image.fromarray(picture(3)).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    Image.fromarray(picture(4)).resize((30, 20)).save(tmp_path / "small.png")
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(picture(5).transpose(1, 0, 2)).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(picture(6)).convert("L").save(tmp_path / "gray.png")
    Image.fromarray(picture(7)).convert("L").convert("RGB").save(tmp_path / "gray_as_rgb.png")
    Image.fromarray(picture(1)).save(tmp_path / "good_again.jpg", quality=60)
    names = [
        "good.png",
        "sub/below.jpg",
        "cut.jpg",
        "text.jpg",
        "small.png",
        "turned.jpg",
        "gray.png",
        "gray_as_rgb.png",
        "good_again.jpg",
    ]
    steps: list[tuple[str, int, int]] = []
    found = check_photographs(
        coco([*names, "absent.jpg", "x" * 300, "nul\0"]), tmp_path, lambda *call: steps.append(call)
    )
    assert [(str(p.kind), p.ids) for p in found] == [
        ("photograph_missing", (10,)),
        ("photograph_missing", (11,)),
        ("photograph_missing", (12,)),
        ("photograph_unreadable", (3,)),
        ("photograph_unreadable", (4,)),
        ("photograph_size_differs", (5,)),
        ("photograph_turned_by_exif", (6,)),
        ("photograph_grayscale", (7,)),
        ("photograph_grayscale", (8,)),
        ("near_duplicate_photographs", (1, 9)),
    ]
    assert "EXIF orientation 6: read turned, as its size says" in found[6].message
    assert "absent.jpg" in found[0].message
    assert [done for _, done, total in steps if total == 9] == list(range(1, 10))


def test_twins_are_found_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfmask.coco.doctor.photographs._BLOCK", 2)
    for i, seed in enumerate([1, 2, 3, 4, 1, 3]):
        Image.fromarray(picture(seed)).save(tmp_path / f"{i}.png")
    found = check_photographs(coco([f"{i}.png" for i in range(6)]), tmp_path)
    assert [p.ids for p in found] == [(1, 5), (3, 6)]


def test_hash_survives_scaling_and_compression_and_tells_pictures_apart(tmp_path: Path) -> None:
    codes = []
    for seed in range(40):
        first = perceptual_hash(picture(seed))
        Image.fromarray(picture(seed)).resize((150, 100)).save(tmp_path / "a.jpg", quality=50)
        second = perceptual_hash(read_photograph(tmp_path / "a.jpg"))
        assert first is not None
        assert second is not None
        assert int((first != second).sum()) <= TWIN_BITS
        codes.append(first)
    distances = [int((a != b).sum()) for i, a in enumerate(codes) for b in codes[:i]]
    assert min(distances) > TWIN_BITS
    assert perceptual_hash(np.full((9, 9, 3), 7, dtype=np.uint8)) is None


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        check_photographs(coco([]), tmp_path / "nowhere")


def test_check_folder_names_the_folder_and_counts(tmp_path: Path) -> None:
    named = [(1, "a.png"), (2, "b.png"), (3, "c.png")]
    with pytest.raises(
        InputError,
        match=r"none of the 3 photographs that f.json names is in this folder, first a.png "
        r".image id 1",
    ):
        check_folder(tmp_path, named, "f.json")
    Image.fromarray(picture(1)).save(tmp_path / "a.png")
    with pytest.raises(
        InputError, match=r"2 of the 3 .* are not in this folder, first b.png .image id 2"
    ):
        check_folder(tmp_path, named, "f.json")
    Image.fromarray(picture(1)).save(tmp_path / "b.png")
    Image.fromarray(picture(1)).save(tmp_path / "c.png")
    check_folder(tmp_path, named, "f.json")


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(picture(1))
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    pixels = to_rgb(image)
    assert image.mode == mode
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels.dtype == np.uint8
    assert abs(pixels.mean() - picture(1).mean()) < 12


def test_deep_grays_are_scaled_not_cut() -> None:
    deep = np.linspace(0, 65535, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH)
    expected = (deep / 257).round()
    for image in (
        Image.fromarray(deep.astype(np.uint16)),
        Image.fromarray(deep.astype(np.int32)),
        Image.fromarray((deep / 65535).astype(np.float32)),
        Image.fromarray((deep / 257).astype(np.float32)),
    ):
        pixels = to_rgb(image)
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        assert np.abs(pixels[..., 1] - expected).max() <= 1


@pytest.mark.shared
def test_grayscale_photographs_of_coco_mini(shared_data: Path) -> None:
    file = CocoFile.read(shared_data / "coco-mini/instances_val.json")
    found = [str(p.kind) for p in check_photographs(file, shared_data / "coco-mini/val")]
    assert found == ["photograph_grayscale"] * 7


@pytest.mark.parametrize(
    "name", ["../secret.png", "sub/../../secret.png", "/secret.png", "ABSOLUTE"]
)
def test_a_file_name_that_leads_out_of_the_folder_is_no_photograph(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(picture(1)).save(tmp_path / "secret.png")
    name = str(tmp_path / "secret.png") if name == "ABSOLUTE" else name
    with pytest.raises(
        InputError, match=r"image id 7: file_name .*secret\.png' leads out of .*images"
    ):
        photograph_path(folder, name, "image id 7")
    with pytest.raises(
        InputError, match=r"none of the 1 photographs .*leads out of it \(image id 1\)"
    ):
        check_folder(folder, [(1, name)], "f.json")
    assert [str(p.kind) for p in check_photographs(coco([name]), folder)] == ["photograph_missing"]
    with pytest.raises(InputError, match="leads out of"):
        PhotographReader(folder, Ruling(), "f.json").read(
            {"id": 1, "file_name": name}, (HEIGHT, WIDTH)
        )


def test_a_name_may_take_any_way_into_the_folder_and_a_link_of_the_users_any_way_out(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(picture(1)).save(folder / "a..b.png")
    Image.fromarray(picture(2)).save(tmp_path / "elsewhere.png")
    (folder / "link.png").symlink_to(tmp_path / "elsewhere.png")
    for name in (
        "a..b.png",
        "sub/../a..b.png",
        "../images/a..b.png",
        str(folder / "a..b.png"),
        "link.png",
    ):
        check_folder(folder, [(1, name)], "f.json")
        assert read_photograph(photograph_path(folder, name)).shape == (HEIGHT, WIDTH, 3)


def test_a_record_without_a_name_has_no_photograph(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image id 3: the record has no file_name"):
        photograph_path(tmp_path, "", "image id 3")


def test_a_photograph_of_too_many_pixels_is_refused_unread_with_another_mend_than_a_broken_one(
    tmp_path: Path,
) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")  # some kilobytes, 1.2 GB as RGB
    with pytest.raises(
        InputError,
        match=r"huge\.png \(image id 9\): a photograph of more than 178 million pixels.*tiles",
    ):
        read_photograph(tmp_path / "huge.png", "image id 9")


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_one_pixel_of_every_mode_is_three_bytes(tmp_path: Path, mode: str) -> None:
    assert to_rgb(Image.new(mode, (1, 1))).shape == (1, 1, 3)
