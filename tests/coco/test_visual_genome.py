"""Visual Genome's files to COCO's: the paper's class rule, the splits, every box,
bounded memory.
"""

import json
import re
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from benchmarks.real.visual_genome_data import (
    MICE,
    SIDE,
    synset_counts,
    write_coco,
    write_visual_genome,
)
from halfmask.coco.categories import COCO_NAMES
from halfmask.coco.doctor.checks import check
from halfmask.coco.file import CocoFile
from halfmask.coco.problems import ProblemKind
from halfmask.errors import InputError
from halfmask.formats.visual_genome.classes import MANUAL_SYNSETS, choose_classes
from halfmask.formats.visual_genome.convert import SPLITS, VisualGenomeSplits, convert_visual_genome

IMAGES, TEST = 60, 5


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vg")
    write_visual_genome(folder, IMAGES)
    write_coco(folder / "coco", images=20)
    return folder


def convert(source: Path, out: Path, **options: Any) -> VisualGenomeSplits:
    val = source / "coco" / "annotations" / "instances_val2017.json"
    return convert_visual_genome(source, out, val, **{"test": TEST, **options})


@pytest.fixture(scope="module")
def converted(
    source: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[VisualGenomeSplits, dict[str, CocoFile]]:
    done = convert(source, tmp_path_factory.mktemp("out") / "vg3k.json")
    return done, {split: CocoFile.read(file) for split, file in done.files.items()}


def raw(source: Path, name: str) -> Any:
    return json.loads((source / name).read_text())


def test_the_paper_s_count_of_classes(
    converted: tuple[VisualGenomeSplits, dict[str, CocoFile]], source: Path
) -> None:
    """3000 most frequent, 80 of COCO, 79 of them among the 3000: 3001, K = 3002 (paper.md, 5.1)."""
    done, files = converted
    categories = done.classes.categories
    assert len(categories) == 3001
    assert done.classes.added == ["hand_blower.n.01"]
    assert done.classes.unmatched == []
    assert [c["id"] for c in categories] == list(range(1, 3002))
    assert [c["name"] for c in categories[:80]] == list(COCO_NAMES.values())
    assert [c["coco_category_id"] for c in categories[:80]] == list(COCO_NAMES)
    others = [c["name"] for c in categories[80:]]
    assert others == sorted(others) == [c["synset"] for c in categories[80:]]
    assert len({c["name"] for c in categories}) == len({c["synset"] for c in categories}) == 3001
    mentions = Counter(
        s for e in raw(source, "objects.json") for o in e["objects"] for s in o["synsets"]
    )
    outside = [s for s in mentions if s not in done.classes.id_of]
    assert max(mentions[s] for s in outside) == 1
    assert all(file.categories == categories for file in files.values())


def test_coco_s_classes_are_found(
    converted: tuple[VisualGenomeSplits, dict[str, CocoFile]],
) -> None:
    synset = {c["name"]: c["synset"] for c in converted[0].classes.categories}
    assert synset["mouse"] == MICE[0], "the most frequent synset of the word"
    assert synset[MICE[1]] == MICE[1], "the other stays a class of its own"
    assert (synset["traffic light"], synset["tv"], synset["suitcase"]) == (
        "traffic_light.n.01",
        "television.n.01",
        "bag.n.06",
    )
    assert len(MANUAL_SYNSETS) == 18
    assert set(MANUAL_SYNSETS) <= set(COCO_NAMES.values())
    assert all(re.fullmatch(r"[a-z_]+\.n\.\d\d", s) for s in MANUAL_SYNSETS.values())
    assert all(synset[name] == s for name, s in MANUAL_SYNSETS.items())


def test_splits(converted: tuple[VisualGenomeSplits, dict[str, CocoFile]], source: Path) -> None:
    _, files = converted
    records = raw(source, "image_data.json")
    ids = {split: [i["id"] for i in file.images] for split, file in files.items()}
    assert ids["val"] == [
        r["image_id"] for r in records if r["coco_id"] is not None and r["coco_id"] <= 1030
    ]
    assert ids["test"] == [r["image_id"] for r in records if r["coco_id"] is None][-TEST:]
    assert len(ids["val"]) == 10
    assert sorted(i for rows in ids.values() for i in rows) == [r["image_id"] for r in records]
    assert any(image["coco_id"] for image in files["train"].images), (
        "COCO's other pictures are learnt from"
    )
    assert {i["file_name"] for f in files.values() for i in f.images} == {
        str(p.relative_to(source)) for p in source.glob("VG_100K*/*.jpg")
    }


def test_every_box(converted: tuple[VisualGenomeSplits, dict[str, CocoFile]], source: Path) -> None:
    """Against the raw file, object by object."""
    done, files = converted
    expected: dict[int, list[tuple[str, list[int]]]] = {}
    for entry in raw(source, "objects.json"):
        rows = expected.setdefault(entry["image_id"], [])
        for o in entry["objects"]:
            x1, y1 = min(o["x"] + o["w"], SIDE), min(o["y"] + o["h"], SIDE)
            good = len(o["synsets"]) == 1 and o["synsets"][0] in done.classes.id_of
            if good and x1 > o["x"] and y1 > o["y"]:
                rows.append((o["synsets"][0], [o["x"], o["y"], x1 - o["x"], y1 - o["y"]]))
    numbers = []
    for file in files.values():
        for image in file.images:
            found = file.annotations_of(image["id"])
            synsets = [
                file.categories[file.label_of[a["category_id"]] - 1]["synset"] for a in found
            ]
            assert (
                list(zip(synsets, [a["bbox"] for a in found], strict=True)) == expected[image["id"]]
            )
            assert all(a["area"] == a["bbox"][2] * a["bbox"][3] for a in found)
            assert not any("segmentation" in a for a in found)
            numbers += [a["id"] for a in found]
        assert {p.kind for p in check(file)} <= {ProblemKind.CATEGORY_EMPTY}
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert done.boxes == {s: sum(len(expected[i["id"]]) for i in files[s].images) for s in SPLITS}
    rare = sum(s.startswith("rarity") for s in synset_counts())
    assert done.skipped == {
        "of a rarer synset": rare,
        "with a box that cannot be used": 2,
        "without a synset": 1,
        "with several synsets": 1,
    }


def test_pycocotools_reads_it(converted: tuple[VisualGenomeSplits, dict[str, CocoFile]]) -> None:
    reference = COCO(str(converted[0].files["train"]))
    assert len(reference.getCatIds()) == 3001
    assert len(reference.getAnnIds()) == converted[0].boxes["train"]


def test_fewer_classes_keep_all_of_coco_s(source: Path, tmp_path: Path) -> None:
    done = convert(source, tmp_path / "few", classes=10)
    assert len(done.classes.categories) == 10 + len(done.classes.added)
    assert [c["name"] for c in done.classes.categories[:80]] == list(COCO_NAMES.values())
    assert {p.name for p in tmp_path.iterdir()} == {
        "few_train.json",
        "few_val.json",
        "few_test.json",
    }


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(list(synset_counts())[:120]), st.integers(1, 9), min_size=1),
    st.integers(1, 100),
)
def test_class_rule(counts: dict[str, int], classes: int) -> None:
    chosen = choose_classes(Counter(counts), classes)
    synsets = [c["synset"] for c in chosen.categories]
    assert len(set(synsets)) == len(synsets) == min(classes, len(counts)) + len(chosen.added)
    assert set(synsets) <= set(counts)
    assert len({c["name"] for c in chosen.categories}) == len(synsets)
    aligned = [c for c in chosen.categories if "coco_category_id" in c]
    assert chosen.categories[: len(aligned)] == aligned
    assert {c["name"] for c in aligned} | set(chosen.unmatched) == set(COCO_NAMES.values())
    assert set(chosen.added) <= {c["synset"] for c in aligned}
    left = [counts[s] for s in counts if s not in synsets]
    kept = [counts[s] for s in synsets if s not in chosen.added]
    assert not left or not kept or max(left) <= min(kept)


def test_memory_does_not_follow_the_file(source: Path, tmp_path: Path) -> None:
    """objects.json with much that is not asked for."""
    for name in ("image_data.json", "coco"):
        (tmp_path / name).symlink_to(source / name)
    entries = raw(source, "objects.json")[:6]
    for number, thing in enumerate(o for e in entries for o in e["objects"]):
        thing["names"] = [f"{number} " * 5000]
    (tmp_path / "objects.json").write_text(json.dumps(entries))
    size = (tmp_path / "objects.json").stat().st_size
    assert size > 10e6
    del entries
    tracemalloc.start()
    try:
        convert(tmp_path, tmp_path / "vg")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size / 2, "one image of six at a time, and the records"


BAD_IMAGES: list[tuple[dict[str, Any], str]] = [
    ({"image_id": "1"}, "entry 1: expected image_id, url, width and height"),
    ({"url": None}, "entry 1: expected image_id, url"),
    ({"width": 0}, "entry 1: expected image_id"),
    ({"coco_id": "7"}, r"entry 1 \(image_id 2\): expected a whole number or null as coco_id"),
    ({"image_id": 1}, "entry 1: image_id 1 is used twice"),
]


@pytest.mark.parametrize(("change", "message"), BAD_IMAGES)
def test_image_data_that_is_wrong(
    source: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    records = raw(source, "image_data.json")
    records[1] |= change
    for name in ("objects.json", "coco"):
        (tmp_path / name).symlink_to(source / name)
    (tmp_path / "image_data.json").write_text(json.dumps(records))
    with pytest.raises(InputError, match=message):
        convert(tmp_path, tmp_path / "out" / "vg.json")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([{"id": 1, "objects": []}], "entry 0: expected an object with image_id and objects"),
        ([{"image_id": 1, "objects": [{"synsets": []}, 3]}], "no object has a synset"),
        ({}, "expected a JSON list"),
    ],
)
def test_objects_that_are_wrong(source: Path, tmp_path: Path, objects: Any, message: str) -> None:
    for name in ("image_data.json", "coco"):
        (tmp_path / name).symlink_to(source / name)
    (tmp_path / "objects.json").write_text(json.dumps(objects))
    with pytest.raises(InputError, match=message):
        convert(tmp_path, tmp_path / "out" / "vg.json")
    assert not (tmp_path / "out").exists()


def test_other_things_that_are_wrong(source: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"none of its 60 images is left to learn from: lower --test-count \(60\)"
    ):
        convert(_without_coco(source, tmp_path), tmp_path / "out" / "vg", test=60)
    with pytest.raises(InputError, match="found no image in it"):
        convert_visual_genome(
            source, tmp_path / "vg", source / "coco" / "annotations" / "empty.json"
        )


def _without_coco(source: Path, folder: Path) -> Path:
    (source / "coco" / "annotations" / "empty.json").write_text('{"images": []}')
    for name in ("objects.json", "coco"):
        (folder / name).symlink_to(source / name)
    records = [record | {"coco_id": None} for record in raw(source, "image_data.json")]
    (folder / "image_data.json").write_text(json.dumps(records))
    return folder


def test_objects_of_unknown_images_are_counted(source: Path, tmp_path: Path) -> None:
    for name in ("objects.json", "coco"):
        (tmp_path / name).symlink_to(source / name)
    (tmp_path / "image_data.json").write_text(json.dumps(raw(source, "image_data.json")[1:]))
    first = raw(source, "objects.json")[0]
    done = convert(tmp_path, tmp_path / "vg")
    assert done.skipped["on an image that image_data.json does not have"] == len(first["objects"])
    assert sum(done.images.values()) == IMAGES - 1
