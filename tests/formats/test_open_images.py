"""Open Images: relative boxes, masks by class and box, groups, faults by line; hotcoco."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from halfmask.errors import InputError
from halfmask.masks.rle import crop_of

Convert = Callable[..., Any]

HEAD = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
ROWS = (
    "aa01,xclick,/m/cat,1,0.25,0.75,0.2,0.6,1,0,0,0,0\n"
    "aa01,xclick,/m/dog,1,0.1,0.3,0.1,0.9,0,0,1,0,0\n"
    "bb02,xclick,/m/cat,1,0,1,0,0.5,0,-1,0,0,0\n"
    "aa01,xclick,/m/cat,1,0.25,0.7,0.2,0.6,0,0,0,0,0\n"
)
MASK_HEAD = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks\n"
MASKS = "aa01_cat_1.png,aa01,/m/cat,1,0.250001,0.7499,0.2,0.6,0.9,\nbb02_cat_2.png,bb02,/m/cat,2,0.000000,1.000000,0.0,0.5,0.8,\n"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (80, 40)).save(folder / "aa01.jpg")
    Image.new("RGB", (20, 30)).save(folder / "bb02.jpg")
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "oi"
    (root / "masks").mkdir(parents=True)
    (root / "train-annotations-bbox.csv").write_text(HEAD + ROWS)
    (root / "class-descriptions-boxable.csv").write_text("/m/cat,Cat\n/m/dog,Dog\n/m/owl,Owl\n")
    (root / "train-annotations-object-segmentation.csv").write_text(MASK_HEAD + MASKS)
    half = np.zeros((20, 40), dtype=bool)  # half the size of the photograph
    half[5:10, 12:28] = True
    Image.fromarray(half).save(root / "masks" / "aa01_cat_1.png")
    whole = np.zeros((30, 20), dtype=np.uint8)
    whole[0:15, 3:] = 255
    Image.fromarray(whole).save(root / "masks" / "bb02_cat_2.png")
    return root


def test_boxes_and_masks(convert: Convert, source: Path, photos: Path) -> None:
    done = convert("open-images", source, images=photos)
    assert [c["name"] for c in done.document["categories"]] == ["Cat", "Dog", "Owl"]
    assert [(i["file_name"], i["width"], i["height"]) for i in done.document["images"]] == [
        ("aa01.jpg", 80, 40),
        ("bb02.jpg", 20, 30),
    ]
    cat, dog, other, near = done.rows
    assert cat["bbox"] == [20, 8, 40, 16]
    assert cat["attributes"] == {"IsOccluded": 1}
    crop = crop_of(cat["segmentation"], (40, 80))
    assert crop is not None
    assert crop[1] == (24, 10)
    assert crop[0].shape == (10, 32)
    assert dog["iscrowd"] == 1
    assert "segmentation" not in dog
    assert other["image_id"] == 2
    assert other["area"] == 15 * 17
    assert near["image_id"] == 1
    assert "segmentation" not in near
    assert not done.report.faults


@pytest.mark.parametrize(
    ("flag", "crowd", "odd"),
    [
        *((text, True, 0) for text in ("1", "1.0", "True", " true ")),
        *((text, False, 0) for text in ("0", "0.0", "False", "-1", "")),
        *((text, False, 1) for text in ("2", "yes", "group")),
    ],
)
def test_groups_are_crowds_and_told(
    convert: Convert, source: Path, photos: Path, flag: str, crowd: bool, odd: int
) -> None:
    row = f"aa01,xclick,/m/dog,1,0.1,0.3,0.1,0.9,0,0,{flag},0,0\n"
    (source / "train-annotations-bbox.csv").write_text(HEAD + ROWS.splitlines()[0] + "\n" + row)
    done = convert("open-images", source, images=photos)
    dog = next(a for a in done.rows if a["category_id"] == 2)
    assert dog["iscrowd"] == int(crowd)
    assert done.count_of("boxes of groups (IsGroupOf): read as crowds") == int(crowd)
    assert done.count_of("flags that are not 0, 1 or -1") == odd


def test_a_group_with_a_mask_and_without_its_column(
    convert: Convert, source: Path, photos: Path
) -> None:
    """The mask of a group stays with the crowd; a file without the column has no groups."""
    path = source / "train-annotations-bbox.csv"
    head, rows = HEAD, ROWS.replace("0.6,1,0,0,0,0", "0.6,1,0,1,0,0")
    path.write_text(head + rows)
    crowd = convert("open-images", source, images=photos).rows[0]
    assert crowd["iscrowd"] == 1
    assert crowd["area"] == 10 * 32
    path.write_text("ImageID,LabelName,XMin,XMax,YMin,YMax\naa01,/m/dog,0.1,0.3,0.1,0.9\n")
    done = convert("open-images", source, images=photos)
    assert [a["iscrowd"] for a in done.rows] == [0, 0, 0]
    assert not done.report.faults


def test_masks_without_a_box_become_annotations(
    convert: Convert, source: Path, photos: Path
) -> None:
    (source / "train-annotations-bbox.csv").write_text(HEAD + ROWS.splitlines()[1] + "\n")
    done = convert("open-images", source, images=photos)
    assert done.count_of("masks without a row") == 2
    assert [("segmentation" in a) for a in done.rows] == [False, True, True]


def test_bad_rows_and_masks(convert: Convert, source: Path, photos: Path) -> None:
    rows = (
        ROWS
        + "aa01,x,/m/cat,1,0.2,x,0.2,0.6,0,0,0,0,0\naa01,x,/m/cat,1,0.5,0.2,0.2,0.6,0,0,0,0,0\nnope,x,/m/cat,1,0,1,0,1,0,0,0,0,0\nnope\n"
    )
    (source / "train-annotations-bbox.csv").write_text(
        HEAD + rows + "../../etc/passwd,x,/m/cat,1,0,1,0,1,0,0,0,0,0\n"
    )
    (source / "train-annotations-object-segmentation.csv").write_text(
        MASK_HEAD + MASKS + "m.png,aa01,/m/cat,9,a,b,c,d,,\n"
    )
    (source / "masks" / "aa01_cat_1.png").write_bytes(b"no image")
    (source / "masks" / "bb02_cat_2.png").unlink()
    done = convert("open-images", source, images=photos)
    assert len(done.rows) == 4
    assert not any("segmentation" in a for a in done.rows)
    assert done.count_of("rows of boxes without four numbers") == 1
    assert done.count_of("annotations with a bad box") == 1
    assert done.count_of("rows of images without a photograph") == 3
    assert done.count_of("rows of masks without a box") == 1
    assert done.count_of("mask PNGs that cannot be read") == 1
    assert done.count_of("masks without a PNG") == 1
    assert "line 6" in done.report.first["rows of boxes without four numbers: left out"]


def test_paths_in_the_table_of_masks_stay_in_the_folder(
    convert: Convert, source: Path, photos: Path
) -> None:
    table = source / "train-annotations-object-segmentation.csv"
    table.write_text(table.read_text().replace("aa01_cat_1.png", "../masks/aa01_cat_1.png"))
    assert convert("open-images", source, images=photos).count_of("masks without a PNG") == 1


def test_missing_files(convert: Convert, source: Path, photos: Path) -> None:
    with pytest.raises(InputError, match="name the folder of the photographs, --images"):
        convert("open-images", source)
    (source / "val-annotations-bbox.csv").write_text(HEAD + ROWS)
    with pytest.raises(InputError, match=r"2 files .*choose with --split"):
        convert("open-images", source, images=photos)
    assert len(convert("open-images", source, images=photos, split="train").rows) == 4
    assert len(convert("open-images", source / "val-annotations-bbox.csv", images=photos).rows) == 4
    (source / "val-annotations-bbox.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not there: ImageID, LabelName, XMax"):
        convert("open-images", source / "val-annotations-bbox.csv", images=photos)
    with pytest.raises(InputError, match="there is none"):
        convert("open-images", photos, images=photos)


def test_hotcoco_reads_the_same_boxes(convert: Convert, source: Path, photos: Path) -> None:
    import hotcoco

    done = convert("open-images", source, images=photos)
    names = str(source / "class-descriptions-boxable.csv")
    theirs = hotcoco.COCO.from_oid(
        str(source / "train-annotations-bbox.csv"), names, str(photos)
    ).dataset["annotations"]
    found = sorted(tuple(round(v, 3) for v in a["bbox"]) for a in theirs)
    assert found == sorted(tuple(a["bbox"]) for a in done.rows)
