"""Each message about a COCO file that says what to do: done, the finding is gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import halfmask
from halfmask.coco.doctor.checks import check, duplicate_keys
from halfmask.coco.doctor.diagnosis import diagnose
from halfmask.coco.edit import matching_ids
from halfmask.coco.file import CocoFile
from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError
from tests.coco.test_conventions import PHOTOS

Document = dict[str, Any]


def small() -> Document:
    """An image of 64 × 48 with two masks and a box."""
    base = {"image_id": 1, "category_id": 1, "bbox": [4, 5, 20, 30], "area": 300, "iscrowd": 0}
    rows = [
        base | {"id": 1, "segmentation": [[4, 5, 24, 5, 14, 35]]},
        base | {"id": 2, "segmentation": [[30, 5, 50, 5, 40, 35]], "bbox": [30, 5, 20, 30]},
        base | {"id": 3, "bbox": [5, 10, 11, 12], "category_id": 2},
    ]
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": rows,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def diagnosed(document: Document) -> Any:
    file = CocoFile.from_document(document, "data.json")
    return diagnose(file, check(file))


def refused(document: Document) -> str:
    with pytest.raises(InputError) as caught:
        CocoFile.from_document(document, "data.json")
    return str(caught.value)


REFUSED: dict[str, tuple[Callable[[Document], object], str, Callable[[Document], object]]] = {
    "an image id twice": (
        lambda d: d["images"].append(d["images"][0] | {"file_name": "b.png"}),
        "give every image its own id",
        lambda d: d["images"][1].update(id=2),
    ),
    "a category id twice": (
        lambda d: d["categories"][1].update(id=1),
        "give every category its own id",
        lambda d: d["categories"][1].update(id=2),
    ),
    "no id": (
        lambda d: d["images"][0].pop("id"),
        "give each record one",
        lambda d: d["images"][0].update(id=1),
    ),
    "names beside numbers, numbers": (
        lambda d: d["images"].append({"id": "b", "file_name": "b", "width": 9, "height": 9}),
        "give every image a whole number",
        lambda d: d["images"][1].update(id=2),
    ),
    "names beside numbers, names": (
        lambda d: d["images"].append({"id": "b", "file_name": "b", "width": 9, "height": 9}),
        "or every one a name",
        lambda d: (
            d["images"][0].update(id="a"),
            [row.update(image_id="a") for row in d["annotations"]],
        ),
    ),
}


@pytest.mark.parametrize("title", REFUSED)
def test_a_refused_file_is_read_once_the_remedy_is_done(title: str) -> None:
    spoil, remedy, mend = REFUSED[title]
    document = small()
    spoil(document)
    assert remedy in refused(document)
    mend(document)
    file = CocoFile.from_document(document, "data.json")
    assert file.structure == []
    assert file.objects == 3


def test_a_list_of_detections_says_which_file_to_give() -> None:
    assert "give the annotation file it belongs to" in refused(small()["annotations"])  # type: ignore[arg-type]
    assert CocoFile.from_document(small(), "data.json").objects == 3


def test_saved_as_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    document = small()
    document["categories"][0]["name"] = "café"
    path.write_bytes(json.dumps(document, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(InputError, match="save it as UTF-8"):
        CocoFile.read(path)
    path.write_text(path.read_bytes().decode("latin-1"), encoding="utf-8")
    assert CocoFile.read(path).categories[0]["name"] == "café"


def test_a_key_twice_and_a_value_that_is_not_strict(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    text = json.dumps(small()).replace('"id": 3', '"id": 9, "id": 3').replace("300", "NaN", 1)
    path.write_text(text)
    assert duplicate_keys(path)
    assert "not_strict_json" in [p.kind for p in check(CocoFile.read(path))]
    path.write_text(text.replace('"id": 9, ', "").replace("NaN", "null"))
    assert not duplicate_keys(path)
    assert "not_strict_json" not in [p.kind for p in check(CocoFile.read(path))]


def test_alike_names_get_one_name_and_one_id() -> None:
    document = small()
    document["categories"][1]["name"] = "Cat "
    assert "category_names_alike" in diagnosed(document).counts
    document["categories"].pop()
    document["annotations"][2]["category_id"] = 1
    assert "category_names_alike" not in diagnosed(document).counts


def test_a_placeholder_without_its_segmentation_is_filled(photos: Path, tmp_path: Path) -> None:
    document = small()
    document["annotations"][0]["segmentation"] = [[4, 5, 24, 5, 24, 35, 4, 35]]
    [line] = [a for a in diagnosed(document).advice if "only repeat their box" in a]
    assert "delete their `segmentation`, and `complete` fills them in" in line
    del document["annotations"][0]["segmentation"]
    rows = completed(document, photos, tmp_path)
    assert rows[0]["halfmask"]["state"] == "filled"


def test_a_broken_mask_is_filled_with_replace_broken(photos: Path, tmp_path: Path) -> None:
    document = small()
    document["annotations"][0]["segmentation"] = "polygon"
    [line] = [a for a in diagnosed(document).advice if "broken mask" in a]
    assert "`complete --replace-broken` fills them and keeps the old values" in line
    assert completed(document, photos, tmp_path)[0]["segmentation"] == "polygon"
    [row, *_] = completed(document, photos, tmp_path, replace_broken=True)
    assert row["halfmask"]["replaced"] == "polygon"
    file = CocoFile.from_document(document | {"annotations": [row]}, "data.json")
    assert file.states_of(1, "filled") in ([MaskState.MASK], [MaskState.SUSPECT])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (64, 48), "gray").save(folder / "a.png")
    return folder


def completed(document: Document, photos: Path, folder: Path, **options: Any) -> list[Any]:
    source, out = folder / "data.json", folder / "out.json"
    source.write_text(json.dumps(document))
    halfmask.complete("baseline:box", source, images=photos, out=out, workers=0, **options)
    rows: list[Any] = json.loads(out.read_text())["annotations"]
    return rows


def test_tighten_ends_the_advice_about_loose_boxes(tmp_path: Path) -> None:
    document = json.loads(PHOTOS.read_text())
    for row in document["annotations"]:
        x, y, w, h = row["bbox"]
        row["bbox"] = [x - w / 4, y - h / 4, 1.5 * w, 1.5 * h]
    path = tmp_path / "data.json"
    path.write_text(json.dumps(document))
    advice = " ".join(diagnosed(document).advice)
    assert "`halfmask tighten` lists them and writes the masks' boxes" in advice
    halfmask.tighten(path, out=tmp_path / "tight.json")
    tight = json.loads((tmp_path / "tight.json").read_text())
    assert "Boxes are loose" not in " ".join(diagnosed(tight).advice)


def test_a_class_that_a_model_lacks_is_renamed_or_removed() -> None:
    target = [{"id": 5, "name": "cat"}, {"id": 6, "name": "dog"}]
    own = [{"id": 1, "name": "cats"}, {"id": 2, "name": "dog"}]
    with pytest.raises(InputError, match="rename it in this file, or remove it"):
        matching_ids(own, target, "data.json")
    assert matching_ids([own[0] | {"name": "cat"}, own[1]], target, "data.json") == {1: 5, 2: 6}
    assert matching_ids(own[1:], target, "data.json") == {2: 6}
    with pytest.raises(InputError, match="rename all but one"):
        matching_ids([own[1], {"id": 3, "name": "dog"}], target, "data.json")


def test_an_unreadable_part_that_is_taken_out_is_not_reported() -> None:
    document = small()
    document["annotations"][0]["segmentation"].append([1, 2, 3, 4])
    assert diagnosed(document).counts["unreadable_part_of_mask"] == 1
    document["annotations"][0]["segmentation"].pop()
    assert "unreadable_part_of_mask" not in diagnosed(document).counts
