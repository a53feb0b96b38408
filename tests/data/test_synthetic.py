"""The procedural world: the same for the same seed, exact masks, boxes that do not tell
the mask, fair splits.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from halfmask.data.synthetic.classes import attribute_split, world_categories, world_classes
from halfmask.data.synthetic.render import WorldSpec, render
from halfmask.data.synthetic.write import synth, world_spec
from halfmask.errors import InputError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    synth(folder, image_count=60, seed=7)
    return folder


def test_a_picture_depends_on_seed_and_index_only() -> None:
    spec = WorldSpec()
    render(spec, 3, 1)  # drawing others first changes nothing
    picture, instances = render(spec, 3, 5)
    again, instances_again = render(WorldSpec(), 3, 5)
    assert np.array_equal(picture, again)
    assert [(i.label, i.offset, i.group) for i in instances] == [
        (i.label, i.offset, i.group) for i in instances_again
    ]
    assert all(
        np.array_equal(a.bitmap, b.bitmap) for a, b in zip(instances, instances_again, strict=True)
    )
    assert not np.array_equal(picture, render(spec, 3, 6)[0])
    assert not np.array_equal(picture, render(spec, 4, 5)[0])


@pytest.mark.slow
def test_workers_and_number_of_pictures_change_nothing(tmp_path: Path, world: Path) -> None:
    synth(tmp_path / "two", image_count=60, seed=7, workers=2)
    assert (tmp_path / "two/instances.json").read_bytes() == (world / "instances.json").read_bytes()
    synth(tmp_path / "few", image_count=4, seed=7)
    for name in ("000001.png", "000004.png"):
        assert (tmp_path / "few/images" / name).read_bytes() == (
            world / "images" / name
        ).read_bytes()
    few = json.loads((tmp_path / "few/instances.json").read_text())["annotations"]
    assert few == json.loads((world / "instances.json").read_text())["annotations"][: len(few)]


def test_masks_are_disjoint_and_boxes_tight(world: Path) -> None:
    coco = COCO(str(world / "instances.json"))
    for image_id, record in coco.imgs.items():
        picture = Image.open(world / "images" / record["file_name"])
        assert picture.size == (record["width"], record["height"])
        taken = np.zeros((record["height"], record["width"]), dtype=int)
        for annotation in coco.imgToAnns[image_id]:
            mask = coco.annToMask(annotation)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            x, y, w, h = annotation["bbox"]
            assert (x, y, x + w, y + h) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert annotation["area"] == mask.sum() > 0
            taken += mask
        assert taken.max() <= 1


def test_masks_are_exact() -> None:
    """Where no object was drawn the picture is the ground: grey, never the saturated
    colours of the classes.
    """
    spec = WorldSpec(noise=0.0)
    for index in range(20):
        picture, instances = render(spec, 1, index)
        inside = np.zeros(picture.shape[:2], dtype=bool)
        for i in instances:
            (x, y), (h, w) = i.offset, i.bitmap.shape
            inside[y : y + h, x : x + w] |= i.bitmap > 0
        spread = picture.max(2).astype(int) - picture.min(2)
        assert spread[~inside].max() <= 2
        assert np.median(spread[inside]) > 60


def test_groups_share_boxes_as_promised() -> None:
    spec = WorldSpec()
    groups, shared, instances, overlaps = 0, 0, 0, []
    for index in range(400):
        found: dict[int, list[tuple[int, int, int, int]]] = {}
        for i in render(spec, 11, index)[1]:
            (x, y), (h, w) = i.offset, i.bitmap.shape
            found.setdefault(i.group, []).append((x, y, x + w, y + h))
            instances += 1
        assert 3 <= len(found) <= 4
        groups += len(found)
        for boxes in found.values():
            assert len(boxes) <= 2
            if len(boxes) == 2:
                shared += 1
                overlaps.append(_box_iou(*boxes))
    assert 0.40 <= shared / groups <= 0.50
    assert 4.5 <= instances / 400 <= 5.5
    assert np.mean(overlaps) > 0.85


def _box_iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0, across) * max(0, down)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_all_classes_occur_alike() -> None:
    spec = WorldSpec()
    counts = np.zeros(33)
    for index in range(400):
        for i in render(spec, 2, index)[1]:
            counts[i.label] += 1
    assert counts[0] == 0
    assert counts[1:].min() > 0.5 * counts[1:].mean()


@pytest.mark.parametrize("count", [1, 2, 24, 32, 80, 256, 3001, 6144])
def test_classes_are_different(count: int) -> None:
    classes = world_classes(count)
    assert len(classes) == len(set(classes)) == len({c.name for c in classes}) == count
    most = max(
        len({getattr(c, a) for c in classes})
        for a in ("hue", "texture", "tone", "ink", "outline", "aspect")
    )
    assert most <= (4 if count <= 256 else 12)


def test_a_world_of_3001_classes(tmp_path: Path) -> None:
    coco = COCO(str(synth(tmp_path, image_count=3, class_count=3001, size=96).path))
    assert len(coco.cats) == 3001
    assert {a["category_id"] for a in coco.anns.values()} <= set(coco.cats)
    assert len(coco.anns) >= 9


@pytest.mark.parametrize("size", [32, 64, 96, 128, 200])
def test_sizes(size: int) -> None:
    picture, instances = render(world_spec(size=size), 0, 0)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    assert len({i.group for i in instances}) >= 3


@pytest.mark.parametrize("count", [16, 24])
def test_splits_cover_each_attribute_value(count: int) -> None:
    categories = world_categories(world_classes(32))
    everything = {item for c in categories for item in c["attributes"].items()}
    splits = [attribute_split(categories, count, seed) for seed in range(10)]
    for split in splits:
        assert len(split) == count
        assert {
            item for c in categories if c["id"] in split for item in c["attributes"].items()
        } == everything
    assert len({frozenset(s) for s in splits}) == 10
    assert attribute_split(list(reversed(categories)), count, 4) == splits[4]


def test_a_split_that_cannot_be() -> None:
    categories = world_categories(world_classes(32))
    with pytest.raises(ValueError, match="found no 3 of 32"):
        attribute_split(categories, 3, 0)
    with pytest.raises(ValueError, match="between 1 and 32"):
        attribute_split(categories, 33, 0)


def test_wrong_numbers_are_refused_and_nothing_written(tmp_path: Path) -> None:
    for wrong in (
        {"image_count": 0},
        {"seed": -1},
        {"class_count": 0},
        {"class_count": 7000},
        {"size": 8},
    ):
        with pytest.raises(InputError):
            synth(tmp_path / "world", **({"image_count": 1} | wrong))
    assert not (tmp_path / "world").exists()


def test_somebodys_own_file_is_not_written_over(tmp_path: Path) -> None:
    for text in ('{"info": {"description": "my data"}, "images": []}', "[1]", "no json"):
        (tmp_path / "instances.json").write_text(text)
        with pytest.raises(InputError, match="found another file; name another place"):
            synth(tmp_path, image_count=1)
        assert [p.name for p in tmp_path.iterdir()] == ["instances.json"]
        assert (tmp_path / "instances.json").read_text() == text
    (tmp_path / "instances.json").unlink()
    synth(tmp_path, image_count=1)
    synth(tmp_path, image_count=2)  # its own earlier world may be made anew
