"""Composites: the same for the same seed, exact masks, all classes alike, nothing
shared between parts, no object without a label.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from benchmarks.composites.bank import Background, Bank
from benchmarks.composites.cutouts import Cutout
from benchmarks.composites.parts import parse_part, photographs_of_part
from benchmarks.composites.render import CompositeSpec, compose, composite_spec
from benchmarks.composites.write import Plan, Written, write_composites
from halfmask.coco.doctor.checks import check
from halfmask.coco.doctor.photographs import check_photographs
from halfmask.coco.edit import strip_masks
from halfmask.coco.file import CocoFile
from halfmask.coco.problems import ProblemKind
from halfmask.data.synthetic.render import WorldInstance
from halfmask.errors import InputError

CATEGORIES = [
    {"id": 3, "name": "red"},
    {"id": 17, "name": "green"},
    {"id": 40, "name": "blue"},
    {"id": 41, "name": "none"},
]
COLOURS = {3: (235, 30, 30), 17: (30, 235, 30), 40: (30, 30, 235)}


def _oval(x: int, y: int, w: int, h: int) -> list[list[float]]:
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = np.stack([x + w / 2 + w / 2 * np.cos(turn), y + h / 2 + h / 2 * np.sin(turn)], 1)
    return [points.reshape(-1).tolist()]


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., tuple[CocoFile, Path]]:
    """A file of grey photographs (320 × 200) with a saturated oval of each class on
    their left half, and the photographs.
    """

    def make(images: int = 6, **changes: Any) -> tuple[CocoFile, Path]:
        folder = tmp_path / "photographs"
        folder.mkdir(exist_ok=True)
        rng, rows = np.random.default_rng(0), []
        for image in range(1, images + 1):
            pixels = np.repeat(rng.integers(110, 140, (200, 320, 1), dtype=np.uint8), 3, 2)
            for k, (category, colour) in enumerate(COLOURS.items()):
                x, y, w, h = 8 + 40 * k, 20 + 10 * k, 40, 60 + 20 * k
                polygon = _oval(x, y, w, h)
                across, down = (
                    (np.arange(320) + 0.5 - x) * 2 / w - 1,
                    (np.arange(200) + 0.5 - y) * 2 / h - 1,
                )
                # Painted a little wider than the mask, so that a cut-out holds its
                # class's colour alone.
                pixels[across[None] ** 2 + down[:, None] ** 2 < 1.15] = colour
                row = {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                }
                rows.append(row | {"segmentation": polygon, "area": 0.78 * w * h, "iscrowd": 0})
            Image.fromarray(pixels).save(folder / f"{image}.png")
        records = [
            {"id": i, "file_name": f"{i}.png", "width": 320, "height": 200}
            for i in range(1, images + 1)
        ]
        document = {"images": records, "annotations": rows, "categories": CATEGORIES}
        return CocoFile.from_document(document | changes, "source.json"), folder

    return make


Source = Callable[..., tuple[CocoFile, Path]]


def _read(written: Written) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(written.path.read_text())
    return document


@pytest.mark.slow
def test_the_same_bytes_whatever_the_workers_and_the_number_of_pictures(
    tmp_path: Path, source: Source
) -> None:
    file, photographs = source()
    one = write_composites(tmp_path / "one", file, photographs, Plan(8, seed=5))
    two = write_composites(tmp_path / "two", file, photographs, Plan(8, seed=5), workers=1)
    few = write_composites(tmp_path / "few", file, photographs, Plan(3, seed=5))
    assert one.path.read_bytes() == two.path.read_bytes()
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == [
        "contact_sheet.png",
        "images",
        "instances.json",
    ]
    for i in range(1, 9):
        name = f"images/{i:06d}.png"
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        if i <= 3:
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "few" / name).read_bytes()
    rows = _read(few)["annotations"]
    assert rows == _read(one)["annotations"][: len(rows)]
    other = write_composites(tmp_path / "other", file, photographs, Plan(3, seed=6))
    assert _read(other)["annotations"] != rows


def test_a_bank_from_disk_is_the_bank(tmp_path: Path, source: Source) -> None:
    bank = _bank({3: [(60, 40)], 17: [(50, 50), (30, 60)]})
    bank.save(tmp_path)
    again = Bank.load(tmp_path)
    for a, b in zip(bank.cutouts, again.cutouts, strict=True):
        assert (a.native, a.category_id, a.annotation_id, a.image_id) == (
            b.native,
            b.category_id,
            b.annotation_id,
            b.image_id,
        )
        assert np.array_equal(a.pixels, b.pixels)
    for c, d in zip(bank.backgrounds, again.backgrounds, strict=True):
        assert c.image_id == d.image_id
        assert np.array_equal(c.pixels, d.pixels)


def test_masks_are_disjoint_boxes_tight_and_doctor_finds_nothing(
    tmp_path: Path, source: Source
) -> None:
    file, photographs = source()
    written = write_composites(tmp_path / "out", file, photographs, Plan(24))
    coco = COCO(str(written.path))
    for image_id, record in coco.imgs.items():
        assert Image.open(tmp_path / "out/images" / record["file_name"]).size == (128, 128)
        taken = np.zeros((128, 128), dtype=int)
        for annotation in coco.imgToAnns[image_id]:
            mask = coco.annToMask(annotation)
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            x, y, w, h = annotation["bbox"]
            assert (x, y, x + w, y + h) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            assert annotation["area"] == mask.sum() > 0
            taken += mask
        assert 0 < taken.max() <= 1
    made = CocoFile.read(written.path)
    found = check(made) + check_photographs(made, tmp_path / "out/images")
    # Two dozen pictures on six grey walls may look the same to a hash; on real
    # photographs they do not (see the shared test).
    assert [
        p for p in found if p.facts.severity == "problem" and p.kind != ProblemKind.PHOTO_TWINS
    ] == []


def test_masks_are_exact_and_nothing_goes_unlabelled(source: Source) -> None:
    """The ground is grey and the objects are of one saturated colour each: the mask
    must be where the colour is, of its class.
    """
    bank = _bank({c: [(100, 73), (67, 100), (96, 96)] for c in COLOURS})
    for index in range(60):
        made = compose(CompositeSpec(), bank, 3, index)
        owner = np.zeros((128, 128), dtype=int)
        for i in made.instances:
            (x, y), (h, w) = i.offset, i.bitmap.shape
            owner[y : y + h, x : x + w][i.bitmap > 0] = i.label
        values = made.picture.astype(int)
        spread = values.max(2) - values.min(2)
        strongest = np.array(list(COLOURS))[values.argmax(2)]
        coloured = spread > 110  # half way from the ground, which has hardly a colour, to an object
        inner = _eroded(owner)
        assert inner.sum() > 0
        assert (strongest[inner] == owner[inner]).all()
        assert coloured[inner].all()
        assert not coloured[_eroded(owner, of=0)].any()


def _eroded(owner: np.ndarray[Any, Any], of: int | None = None) -> np.ndarray[Any, Any]:
    """Pixels whose eight neighbours have the same owner: of nobody (0) or of somebody."""
    padded = np.pad(owner, 1, mode="edge")
    same = np.ones(owner.shape, dtype=bool)
    for y in range(3):
        for x in range(3):
            same &= padded[y : y + owner.shape[0], x : x + owner.shape[1]] == owner
    return same & (owner == 0 if of == 0 else owner > 0)


def _bank(cutouts: dict[int, list[tuple[int, int]]]) -> Bank:
    """Cut-outs of (h, w) in their class's colour, and one grey background."""
    rows = []
    for category, sizes in cutouts.items():
        for h, w in sizes:
            y, x = np.mgrid[:h, :w]
            inside = ((x + 0.5) * 2 / w - 1) ** 2 + ((y + 0.5) * 2 / h - 1) ** 2 < 1
            pixels = np.dstack(
                [
                    np.full((h, w, 3), COLOURS[category], dtype=np.uint8),
                    inside.astype(np.uint8) * 255,
                ]
            )
            rows.append(Cutout(pixels, max(h, w), category, 100 + len(rows), 7))
    return Bank(rows, [Background(np.full((160, 160, 3), 125, dtype=np.uint8), 8)])


def test_pairs_share_a_box_and_both_are_seen() -> None:
    bank = _bank({c: [(100, 73), (67, 100), (96, 96)] for c in COLOURS})
    overlaps, groups = [], 0
    for index in range(80):
        found: dict[int, list[WorldInstance]] = {}
        for i in compose(CompositeSpec(), bank, 1, index).instances:
            found.setdefault(i.group, []).append(i)
        groups += len(found)
        for members in found.values():
            assert len(members) <= 2
            if len(members) == 2:
                assert members[0].label != members[1].label
                overlaps.append(_box_iou(*members))
    assert 0.3 < len(overlaps) / groups < 0.5
    assert (
        np.median(overlaps) > 0.8
    )  # before others covered parts of them; at least 0.7 when pasted


def _box_iou(a: WorldInstance, b: WorldInstance) -> float:
    sides = []
    for axis in (0, 1):
        low = max(a.offset[axis], b.offset[axis])
        high = min(
            a.offset[axis] + a.bitmap.shape[1 - axis], b.offset[axis] + b.bitmap.shape[1 - axis]
        )
        sides.append(max(0, high - low))
    both = sides[0] * sides[1]
    return both / (a.bitmap.size + b.bitmap.size - both)


def test_all_classes_occur_alike_however_many_cutouts_they_have() -> None:
    bank = _bank({3: [(50, 50)], 17: [(48 + k, 52) for k in range(30)], 40: [(60, 44), (44, 60)]})
    counts = dict.fromkeys(COLOURS, 0)
    for index in range(200):
        for i in compose(CompositeSpec(), bank, 2, index).instances:
            counts[i.label] += 1
    assert min(counts.values()) > 0.8 * sum(counts.values()) / 3


def test_one_cutout_is_enough() -> None:
    bank = _bank({17: [(50, 30)]})
    for index in range(10):
        made = compose(CompositeSpec(), bank, 0, index)
        assert made.instances
        assert {i.label for i in made.instances} == {17}
        assert set(made.cutouts) == {100}
        assert made.photographs == [7, 8]


def test_parts_share_neither_photographs_nor_cutouts(tmp_path: Path, source: Source) -> None:
    file, photographs = source(images=7)
    seen = []
    for k in (0, 1):
        document = _read(
            write_composites(tmp_path / str(k), file, photographs, Plan(12, part=(k, 2)))
        )
        owner_of = {a["id"]: a["image_id"] for a in file.document["annotations"]}
        used = {i for image in document["images"] for i in image["photographs"]}
        assert {owner_of[a["cutout"]] for a in document["annotations"]} <= used
        assert {a["category_id"] for a in document["annotations"]} == set(COLOURS)
        seen.append(used)
    assert seen[0] & seen[1] == set()
    assert len(seen[0] | seen[1]) == 7
    parts = [{i["id"] for i in photographs_of_part(file, (k, 3))} for k in range(3)]
    assert set.union(*parts) == set(range(1, 8))
    assert sum(map(len, parts)) == 7


def test_rare_classes_are_in_every_part() -> None:
    rows = []
    for image in range(1, 21):
        # Class 40 is in two photographs, neighbours in the file.
        for category in (3, 40) if image in (4, 6) else (3,):
            polygon = [[0, 0, 40, 0, 20, 50]]
            rows.append(
                {
                    "id": len(rows),
                    "image_id": image,
                    "category_id": category,
                    "bbox": [0, 0, 40, 50],
                    "segmentation": polygon,
                }
            )
    images = [{"id": i, "file_name": f"{i}", "width": 100, "height": 100} for i in range(1, 21)]
    file = CocoFile.from_document(
        {"images": images, "annotations": rows, "categories": CATEGORIES}, "f"
    )
    parts = [{i["id"] for i in photographs_of_part(file, (k, 2))} for k in (0, 1)]
    assert [len(p & {4, 6}) for p in parts] == [1, 1]
    assert [len(p) for p in parts] == [10, 10]


def test_categories_stay_and_those_without_cutouts_are_told(tmp_path: Path, source: Source) -> None:
    file, photographs = source()
    written = write_composites(tmp_path / "out", file, photographs, Plan(4))
    assert _read(written)["categories"] == CATEGORIES
    assert written.cutouts == {3: 6, 17: 6, 40: 6, 41: 0}
    assert written.backgrounds == 6


def test_a_split_of_composites(tmp_path: Path, source: Source) -> None:
    file, photographs = source()
    made = CocoFile.read(write_composites(tmp_path / "out", file, photographs, Plan(12)).path)
    half = CocoFile.from_document(strip_masks(made.document, {3}), "half")
    counts = half.mask_counts()
    assert counts[3] == made.mask_counts()[3] > 0
    assert counts[17] == counts[40] == 0


@pytest.mark.parametrize(
    "flaw", ["crowd", "suspect", "missing", "cut off", "small", "filled", "fragments", "covered"]
)
def test_what_is_not_cut_out(tmp_path: Path, source: Source, flaw: str) -> None:
    """A flaw in all objects of class 3; the other classes have enough good ones."""
    document = source()[0].document
    for annotation in document["annotations"]:
        if annotation["category_id"] == 3:
            _spoil(annotation, flaw)
    if flaw == "covered":
        x = 14
        extra = [
            a
            | {
                "id": a["id"] + 100,
                "bbox": [x, 30, 20, 40],
                "segmentation": _oval(x, 30, 20, 40),
                "category_id": 41,
            }
            for a in document["annotations"]
            if a["category_id"] == 3
        ]
        document["annotations"] += extra
    file = CocoFile.from_document(document, "source.json")
    written = write_composites(tmp_path / "out", file, tmp_path / "photographs", Plan(1))
    # Cut off, fragmented or covered a bit is poor, and poor is better than nothing,
    # four times.
    poor = flaw in ("cut off", "fragments", "covered")
    assert written.cutouts[3] == (4 if poor else 0)
    assert written.cutouts[17] == 6


def _spoil(annotation: dict[str, Any], flaw: str) -> None:
    x, y, w, h = annotation["bbox"]
    if flaw == "crowd":
        annotation["iscrowd"] = 1
    elif flaw == "suspect":
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    elif flaw == "missing":
        del annotation["segmentation"]
    elif flaw == "filled":
        annotation["halfmask"] = {"state": "filled"}
    elif flaw == "cut off":
        annotation |= {"bbox": [0, y, w, h], "segmentation": _oval(0, y, w, h)}
    elif flaw == "small":
        annotation |= {"bbox": [x, y, 12, 12], "segmentation": _oval(x, y, 12, 12)}
    elif flaw == "fragments":
        annotation["segmentation"] = _oval(x, y, w, h // 4) + _oval(x, y + 3 * h // 4, w, h // 4)


def test_without_masks_or_without_photographs(tmp_path: Path, source: Source) -> None:
    file, photographs = source()
    bare = CocoFile.from_document(strip_masks(file.document, set()), "boxes.json")
    with pytest.raises(
        InputError,
        match=r"boxes\.json: expected objects with usable masks .* \(0 usable masks in 6 images\)",
    ):
        write_composites(tmp_path / "out", bare, photographs, Plan(1))
    with pytest.raises(InputError, match="there is no such folder"):
        write_composites(tmp_path / "out", file, tmp_path / "nowhere", Plan(1))
    (photographs / "3.png").unlink()
    with pytest.raises(InputError, match=r"1 of the 6 photographs .* first 3\.png"):
        write_composites(tmp_path / "out", file, photographs, Plan(1))
    Image.new("RGB", (10, 10)).save(photographs / "3.png")
    with pytest.raises(InputError, match="expected 320 × 200 pixels"):
        write_composites(tmp_path / "out", file, photographs, Plan(1))
    assert not (tmp_path / "out").exists()


def test_photographs_full_of_objects_give_blurred_grounds(tmp_path: Path, source: Source) -> None:
    document = source()[0].document
    document["annotations"] += [
        {"id": 100 + i, "image_id": i, "category_id": 41, "bbox": [0, 0, 320, 200], "iscrowd": 1}
        for i in range(1, 7)
    ]
    file = CocoFile.from_document(document, "source.json")
    written = write_composites(tmp_path / "out", file, tmp_path / "photographs", Plan(6))
    assert written.backgrounds == 6
    for record in _read(written)["images"]:
        assert record["photographs"]


def test_wrong_numbers_are_refused_and_nothing_written(tmp_path: Path, source: Source) -> None:
    file, photographs = source(images=1)
    for wrong in (Plan(0), Plan(1, seed=-1), Plan(1, size=32), Plan(1, size=5000)):
        with pytest.raises(InputError):
            write_composites(tmp_path / "out", file, photographs, wrong)
    assert not (tmp_path / "out").exists()
    for text in ("", "1", "2/2", "-1/2", "0/0", "a/b", "0/2/3"):
        with pytest.raises(InputError, match="expected K/N"):
            parse_part(text)
    assert parse_part("1/3") == (1, 3)


def test_nothing_is_written_over_its_source(tmp_path: Path, source: Source) -> None:
    document = source()[0].document
    (tmp_path / "instances.json").write_text(json.dumps(document))
    file = CocoFile.read(tmp_path / "instances.json")
    with pytest.raises(InputError, match="would be written over"):
        write_composites(tmp_path, file, tmp_path / "photographs", Plan(1))
    (tmp_path / "photographs").rename(tmp_path / "images")
    (tmp_path / "instances.json").rename(tmp_path / "data.json")
    with pytest.raises(InputError, match="would be written over"):
        write_composites(
            tmp_path, CocoFile.read(tmp_path / "data.json"), tmp_path / "images", Plan(1)
        )


@pytest.mark.parametrize("size", [64, 100, 256])
def test_sizes(size: int) -> None:
    spec = composite_spec(size)
    made = compose(spec, _bank({3: [(60, 44)], 17: [(50, 50)]}), 0, 0)
    assert made.picture.shape == (size, size, 3)
    assert made.picture.dtype == np.uint8
    longest = max(max(i.bitmap.shape) for i in made.instances)
    assert longest <= spec.group_size[1]


@pytest.mark.slow
@pytest.mark.shared
def test_coco_mini_gives_composites_of_all_classes_that_doctor_passes(
    tmp_path: Path, shared_data: Path
) -> None:
    folder = shared_data / "coco-mini"
    file = CocoFile.read(folder / "instances_train.json")
    written = write_composites(tmp_path / "out", file, folder / "train", Plan(300))
    assert all(written.cutouts.values())
    made = CocoFile.read(written.path)
    found = check(made) + check_photographs(made, tmp_path / "out/images")
    assert [p for p in found if p.facts.severity == "problem"] == []
    counts = made.mask_counts()
    assert len([c for c in counts.values() if c]) == 80
