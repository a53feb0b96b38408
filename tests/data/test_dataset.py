"""From a COCO file to targets: what teaches, what is left out, and that stripped masks
leave no trace.
"""

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as reference

from halfmask.coco.edit import strip_masks
from halfmask.coco.file import CocoFile
from halfmask.data.dataset import CocoInstances, build_target, development_split
from halfmask.errors import InputError
from halfmask.structures import Target

H, W = 30, 40
TRIANGLE = [2.0, 3.0, 20.0, 3.0, 11.0, 21.0]


def rle(x0: int, y0: int, x1: int, y1: int) -> dict[str, Any]:
    mask = np.zeros((H, W), dtype=np.uint8, order="F")
    mask[y0:y1, x0:x1] = 1
    return {"size": [H, W], "counts": reference.encode(mask)["counts"].decode()}


def document() -> dict[str, Any]:
    def row(number: int, category: int, bbox: list[float], **more: Any) -> dict[str, Any]:
        return {
            "id": number,
            "image_id": 1,
            "category_id": category,
            "bbox": bbox,
            "area": 9.0,
            "iscrowd": 0,
            **more,
        }

    return {
        "images": [
            {"id": 1, "file_name": "a.png", "width": W, "height": H},
            {"id": 2, "file_name": "b.png", "width": W, "height": H},
        ],
        "categories": [{"id": 7, "name": "cup"}, {"id": 3, "name": "dog"}],
        "annotations": [
            row(10, 3, [2.0, 3.0, 18.0, 18.0], segmentation=[TRIANGLE]),
            row(11, 7, [-3.0, 2.5, 12.0, 9.0]),
            row(12, 7, [10, 5, 8, 10], segmentation=rle(10, 5, 18, 15)),
            row(13, 3, [0, 0, 2, 30], segmentation=rle(0, 0, 2, 30), iscrowd=1),
            row(14, 3, [5, 5, 0, 4], segmentation=[TRIANGLE]),
            row(15, 3, [5, 5, 9, 4], segmentation=[[5, 5, 14, 5, 14, 9, 5, 9]]),
            row(16, 7, [5, 5, 9, 4], segmentation={"size": [H, W], "counts": "oops"}),
        ],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "ab":
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (H, W, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


def same(first: Target, second: Target) -> bool:
    return (
        all(
            torch.equal(getattr(first, key), getattr(second, key))
            for key in ("boxes", "labels", "has_mask", "annotation_ids")
        )
        and all(
            torch.equal(getattr(first.masks, k), getattr(second.masks, k))
            for k in ("pixels", "sizes", "offsets")
        )
        and (first.image_id, first.masks.image_size) == (second.image_id, second.masks.image_size)
    )


def test_target(folder: Path) -> None:
    data = CocoInstances(CocoFile.from_document(document(), "f.json"), folder)
    image, target = data[0]
    assert len(data) == 2
    assert image.shape == (3, H, W)
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    assert torch.equal(
        image, torch.from_numpy(np.array(Image.open(folder / "a.png"))).permute(2, 0, 1) / 255
    )
    assert target.annotation_ids.tolist() == [10, 11, 12, 15, 16]
    assert target.labels.tolist() == [1, 2, 2, 1, 2]
    assert target.has_mask.tolist() == [True, False, True, False, False]
    assert target.boxes[1].tolist() == [0, 2.5, 9, 11.5]  # clipped
    assert target.boxes.dtype == torch.float32
    assert target.image_id == 1
    dense = target.masks.dense()
    expected = reference.decode(reference.merge(reference.frPyObjects([TRIANGLE], H, W)))
    assert torch.equal(dense[0], torch.from_numpy(expected).bool())
    assert torch.equal(dense[1], torch.from_numpy(reference.decode(rle(10, 5, 18, 15))).bool())


def test_an_image_without_annotations(folder: Path) -> None:
    _, target = CocoInstances(CocoFile.from_document(document(), "f.json"), folder)[1]
    assert len(target) == 0
    assert target.boxes.shape == (0, 4)
    assert target.boxes.dtype == torch.float32
    assert target.labels.dtype == torch.int64
    assert len(target.masks) == 0


def test_image_ids_choose_and_order(folder: Path) -> None:
    file = CocoFile.from_document(document(), "f.json")
    data = CocoInstances(file, folder, [2, 1])
    assert [data[i][1].image_id for i in range(2)] == [2, 1]
    assert data.with_masks() == [1]
    (folder / "a.png").unlink()
    assert len(CocoInstances(file, folder, [2])) == 1  # only the chosen ones must be there
    with pytest.raises(InputError, match="found 99"):
        CocoInstances(file, folder, [1, 99])


def test_filled_masks_do_not_teach_unless_told(folder: Path) -> None:
    bent = document()
    bent["annotations"][2]["halfmask"] = {"state": "filled"}
    file = CocoFile.from_document(bent, "f.json")
    assert CocoInstances(file, folder)[0][1].has_mask.tolist() == [True, False, False, False, False]
    assert CocoInstances(file, folder, use="filled")[0][1].has_mask.tolist() == [
        True,
        False,
        True,
        False,
        False,
    ]


def test_cache_gives_the_same_without_reading_again(folder: Path) -> None:
    file = CocoFile.from_document(document(), "f.json")
    fresh, cached = CocoInstances(file, folder), CocoInstances(file, folder, cache=True)
    expected = fresh[0][0]
    first = cached[0][0]
    first.zero_()  # what a reader does to its image must not reach the cache
    (folder / "a.png").unlink()
    assert torch.equal(cached[0][0], expected)
    with pytest.raises(InputError, match="no such file"):
        fresh[0]


def test_photographs_that_cannot_be_used(folder: Path) -> None:
    file = CocoFile.from_document(document(), "f.json")
    data = CocoInstances(file, folder)
    whole = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        InputError, match=r"a.png .image id 1.: expected a photograph, cannot read it"
    ):
        data[0]
    Image.new("RGB", (W, H + 1)).save(folder / "b.png")
    with pytest.raises(
        InputError,
        match=r"b.png .image id 2.: the photograph is 40 × 31 pixels, f.json says 40 × 30",
    ):
        data[1]
    with pytest.raises(InputError, match="there is no such folder"):
        CocoInstances(file, folder / "nowhere")
    (folder / "empty").mkdir()
    with pytest.raises(
        InputError, match=r"none of the 2 photographs that f.json names is in this folder"
    ):
        CocoInstances(file, folder / "empty")


BROKEN = [
    None,
    [],
    [[]],
    "x",
    {},
    [[1, 2, 3]],
    [[float("nan")] * 6],
    {"size": [H, W], "counts": "~~"},
    {"size": [W, H], "counts": [H * W]},
    [[0, 0, 40, 0, 40, 30, 0, 30]],
    rle(0, 0, 40, 30),
    [[0.5, 1, 22, 1, 13, 19.5], [1, 2]],
]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(BROKEN) | st.just("delete"), min_size=3, max_size=3), st.integers(0, 9)
)
def test_no_mask_of_a_stripped_class_leaves_a_trace(masks: list[Any], area: int) -> None:
    keep = {3}
    expected = build_target(CocoFile.from_document(strip_masks(document(), keep), "f"), 1)
    bent = document()
    for annotation, mask in zip(
        [a for a in bent["annotations"] if a["category_id"] == 7], masks, strict=True
    ):
        annotation["area"] = area
        if mask == "delete":
            annotation.pop("segmentation", None)
        else:
            annotation["segmentation"] = mask
    target = build_target(CocoFile.from_document(strip_masks(bent, keep), "f"), 1)
    assert same(target, expected)
    assert target.has_mask.tolist() == [True, False, False, False, False]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(BROKEN))
def test_a_mask_touches_no_other_object(mask: Any) -> None:
    """What one annotation's mask is decides about its own row alone."""
    bent = document()
    bent["annotations"][2]["segmentation"] = mask
    before, after = (build_target(CocoFile.from_document(d, "f"), 1) for d in (document(), bent))
    assert torch.equal(before.boxes, after.boxes)
    assert torch.equal(before.labels, after.labels)
    others = [0, 1, 3, 4]
    assert torch.equal(before.has_mask[others], after.has_mask[others])
    assert torch.equal(before.masks.dense()[0], after.masks.dense()[0])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**31), st.integers(0, 12))
def test_masks_equal_pycocotools(seed: int, count: int) -> None:
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        polygon = [rng.uniform(0, W if k % 2 == 0 else H) for k in range(2 * rng.randint(3, 8))]
        rows.append(
            {
                "id": number,
                "image_id": 1,
                "category_id": 3,
                "bbox": [1, 1, 9, 9],
                "segmentation": [polygon],
            }
        )
    bent = {**document(), "annotations": rows}
    target = build_target(CocoFile.from_document(bent, "f"), 1)
    dense = iter(target.masks.dense())
    for row, has_mask in zip(rows, target.has_mask.tolist(), strict=True):
        expected = reference.decode(
            reference.merge(reference.frPyObjects(row["segmentation"], H, W))
        )
        assert has_mask == bool(expected.any())
        if has_mask:
            assert np.array_equal(next(dense).numpy(), expected)


def test_development_split() -> None:
    ids = list(range(1000, 3000))
    train, development = development_split(ids, 0.2)
    assert sorted(train + development) == ids
    assert not set(train) & set(development)
    assert 330 < len(development) < 470
    shuffled = copy.copy(ids)
    random.Random(0).shuffle(shuffled)
    # Order and company do not matter.
    assert set(development_split(shuffled, 0.2)[1]) == set(development)
    assert set(development_split(ids[:500], 0.2)[1]) == set(development) & set(ids[:500])
    # A larger share takes nothing back.
    assert set(development) <= set(development_split(ids, 0.3)[1])


def test_folds_share_no_image() -> None:
    ids = list(range(1000, 3000))
    folds = [set(development_split(ids, 0.333, fold)[1]) for fold in range(3)]
    assert folds[0] == set(development_split(ids, 0.333)[1])
    assert sum(map(len, folds)) == len(set().union(*folds))
    assert len(set().union(*folds)) > 0.98 * len(ids)
    assert all(550 < len(fold) < 780 for fold in folds)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_neither_part_is_empty(share: float, count: int) -> None:
    train, development = development_split(list(range(count)), share)
    assert train
    assert development
    assert len(train) + len(development) == count


def test_development_split_of_nothing() -> None:
    assert development_split([], 0.5) == ([], [])
    assert development_split([1, 2], 0.0) == ([1, 2], [])


@pytest.mark.shared
def test_coco_mini_masks_equal_pycocotools(shared_data: Path) -> None:
    file = CocoFile.read(shared_data / "coco-mini/instances_val.json")
    rows = {a["id"]: a for a in file.document["annotations"]}
    masks = 0
    for image_id in [image["id"] for image in file.images][::6]:
        target = build_target(file, image_id)
        assert target.has_mask.all()
        height, width = file.size_of(image_id)
        for number, mask in zip(target.annotation_ids.tolist(), target.masks.dense(), strict=True):
            segmentation = rows[number]["segmentation"]
            if isinstance(segmentation, list):
                segmentation = reference.merge(reference.frPyObjects(segmentation, height, width))
            assert np.array_equal(mask.numpy(), reference.decode(segmentation))
            masks += 1
    assert masks > 150
