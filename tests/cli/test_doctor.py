"""`halfmask doctor`: what it prints and writes, its exit codes, and that it changes nothing."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

import halfmask
from halfmask.cli import doctor
from halfmask.coco.categories import COCO_NAMES
from halfmask.coco.doctor.published import PUBLISHED_COUNTS, compare_counts
from halfmask.errors import InputError

TRIANGLE = [2.0, 3.0, 20.0, 3.0, 11.0, 21.0]


def invoke(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(doctor.run)
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "150"})


def clean() -> dict[str, Any]:
    row = {"image_id": 1, "iscrowd": 0, "area": 162.0, "bbox": [2.0, 3.0, 18.0, 18.0]}
    return {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "[red]dog[/] <b>\ud800"}],
        "annotations": [
            {**row, "id": 10, "category_id": 1, "segmentation": [TRIANGLE]},
            {**row, "id": 11, "category_id": 2, "bbox": [22, 3, 9, 9]},
        ],
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.json"
    path.write_text(json.dumps(clean()))
    return path


def bend(path: Path, **changes: Any) -> None:
    document = json.loads(path.read_text())
    document["annotations"][0] |= changes
    path.write_text(json.dumps(document))


def test_a_clean_file_exits_with_0_and_is_not_changed(data: Path) -> None:
    before = data.read_bytes()
    result = invoke(data)
    assert result.exit_code == 0, result.output
    assert "clean" in result.stdout
    assert "1 mask. Boxes without a mask: 1." in " ".join(result.stdout.split())
    assert r"[red]dog[/] <b>\ud800" in result.stdout
    assert data.read_bytes() == before
    assert [p.name for p in data.parent.iterdir()] == ["data.json"]


def test_problems_exit_with_1_and_are_named(data: Path, tmp_path: Path) -> None:
    bend(data, segmentation=[[1, 2, 3]])
    out = tmp_path / "out" / "r.json"
    result = invoke(data, "--json", out)
    assert result.exit_code == 1
    assert "1  broken mask " in result.stdout
    assert "10" in result.stdout
    found = json.loads(out.read_text())
    assert found["ok"] is False
    assert found["annotations"]["broken"] == 1
    assert found["counts"] == {"broken_mask": 1}
    assert found["problems"] == [
        {
            "kind": "broken_mask",
            "severity": "problem",
            "about": "annotation",
            "ids": [10],
            "message": "annotation 10: the polygon has 3 numbers, expected an even count (x, y "
            "in turn)",
        }
    ]


def test_the_library_function_returns_what_the_verb_writes(data: Path, tmp_path: Path) -> None:
    bend(data, segmentation=[[1, 2, 3]])
    calls: list[tuple[str, int, int]] = []
    found = halfmask.doctor(str(data), progress=lambda *call: calls.append(call))
    assert calls == [("checking annotations", 1, 1)]
    assert not found.ok
    assert [facts.heading for facts, _ in found.by_kind()] == ["broken masks"]
    invoke(data, "--json", tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == found.to_json()


def test_notes_alone_exit_with_0(data: Path) -> None:
    bend(data, area=12.0)
    result = invoke(data)
    assert result.exit_code == 0
    assert "instance under 30 square pixels" in result.stdout
    assert "1 note" in result.stdout


def test_the_page_is_whole_and_escapes_what_the_user_wrote(data: Path, tmp_path: Path) -> None:
    bend(data, bbox=[30, 3, 18, 18])
    result = invoke(data, "--html", tmp_path / "r.html")
    assert result.exit_code == 1
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "dog[/] &lt;b&gt;" in page
    assert "annotation 10: its box reaches 8.0 pixels beyond the image of 40 × 30" in page
    others = re.sub("http(:|%3A)//www.w3.org/2000/svg", "", page)  # the namespace of the logo
    assert "http" not in others
    assert page.rstrip().endswith("</html>")


def test_after_filling_nothing_is_missing_and_our_own_masks_are_no_problem(
    data: Path, tmp_path: Path
) -> None:
    document = json.loads(data.read_text())
    # Smaller than its box by more than a person's mask may be.
    document["annotations"][1] |= {
        "segmentation": [[24, 5, 27, 5, 26, 8]],
        "halfmask": {"model": "m", "score": 0.7, "state": "filled"},
    }
    data.write_text(json.dumps(document))
    result = invoke(data, "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.stdout
    found = json.loads((tmp_path / "r.json").read_text())
    assert {k: v for k, v in found["annotations"].items() if v} == {
        "total": 2,
        "mask": 1,
        "filled": 1,
    }
    assert found["provenance"]["filled"] == 1
    assert "filled" in result.stdout


def test_photographs_are_looked_at_when_asked(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    assert "1  missing photograph " in invoke(data, "--images", folder).stdout
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    assert invoke(data, "--images", folder).exit_code == 0
    Image.fromarray(pixels[:20]).save(folder / "a.png")
    result = invoke(data, "--images", folder)
    assert result.exit_code == 1
    assert "photograph whose size differs" in result.stdout


def test_input_errors_pass_through(tmp_path: Path, data: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    result = invoke(tmp_path / "list.json")
    assert isinstance(result.exception, InputError)
    assert isinstance(invoke(data, "--images", tmp_path / "nowhere").exception, InputError)


def crowded(masks: dict[str, int], boxes: dict[str, int]) -> dict[str, Any]:
    """A file with so many triangles and bare boxes of each class."""
    document = clean()
    names = list(masks | boxes)
    document["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    rows: list[dict[str, Any]] = []
    for i, name in enumerate(names):
        base = {
            "image_id": 1,
            "category_id": i + 1,
            "iscrowd": 0,
            "area": 162.0,
            "bbox": [2.0, 3.0, 18.0, 18.0],
        }
        rows += [base | {"segmentation": [TRIANGLE]} for _ in range(masks.get(name, 0))]
        rows += [dict(base) for _ in range(boxes.get(name, 0))]
    document["annotations"] = [row | {"id": k} for k, row in enumerate(rows)]
    return document


def test_advice_estimate_and_sizes_are_told(data: Path, tmp_path: Path) -> None:
    masks = {"cup": 12, "fork": 11, "bowl": 10, "jug": 10, "pot": 10, "pan": 10, "knife": 3}
    data.write_text(json.dumps(crowded(masks, {"knife": 409})))
    result = invoke(data, "--json", tmp_path / "r.json", "--html", tmp_path / "r.html")
    text = " ".join(result.stdout.split())
    assert "`knife` has 3 masks and 412 boxes: it will be segmented by transfer." in text
    assert "halfmask train RECIPE hide=2 --out RUN" in text
    assert "Boxes: 475 S, 0 M, 0 L; half of them smaller than 18 × 18 pixels." in text
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["estimate"]["hideable"] == [1, 2, 3, 4, 5, 6]
    assert found["sizes"]["masks"]["count"] == 66
    assert found["sizes"]["masks"]["fill"] == pytest.approx(0.5, abs=0.06)  # a triangle in its box
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<code>knife</code> has 3 masks and 412 boxes" in page
    assert "hide=2" in page
    kinds = re.findall(r'<b class="dot (\w+)">[^<]*</b><span class="n">([^<]*)</span>', page)
    assert kinds == [("many", "6 classes"), ("few", "1 class"), ("no_masks", "0 classes")]
    assert page.index("boxes only B") < page.index("What this means")
    rows = re.findall(r'<td class="dot (\w+)">(\w+)</td><td class="n">(\d+)</td>', page)
    assert ("few", "knife", "412") in rows
    counts = [int(count) for _, _, count in rows]
    assert counts == sorted(counts, reverse=True)
    assert len(rows) == len([c for c in found["categories"] if c["annotations"]])
    assert min(counts) > 0


def test_why_there_can_be_no_estimate_is_told(data: Path) -> None:
    data.write_text(json.dumps(crowded({"cup": 12, "fork": 11}, {"knife": 30})))
    text = " ".join(invoke(data).stdout.split())
    assert (
        "It cannot be measured: a hidden class needs at least 10 masks and at most a third of all 23"
        in text
    )
    assert "hide=" not in text


def test_a_key_that_stands_twice_is_reported(data: Path, tmp_path: Path) -> None:
    data.write_text(data.read_text().replace('"id": 11,', '"id": 11, "x": 1, "x": 2,', 1))
    result = invoke(data, "--json", tmp_path / "r.json")
    assert result.exit_code == 1
    (problem,) = json.loads((tmp_path / "r.json").read_text())["problems"]
    assert (problem["kind"], problem["ids"]) == ("duplicate_key", [11])
    assert problem["message"].startswith("annotation 11: the key 'x' occurs 2 times")


def test_many_classes_fit_one_screen(data: Path) -> None:
    document = clean()
    document["categories"] += [{"id": 10 + i, "name": f"class number {i}"} for i in range(1200)]
    row = {"image_id": 1, "area": 81, "iscrowd": 0}
    document["annotations"] += [
        row | {"id": 100 + i, "category_id": 10 + i, "bbox": [i % 10, i // 10, 9, 9]}
        for i in range(100)
    ]
    data.write_text(json.dumps(document))
    result = invoke(data)
    assert "rarer classes" in result.stdout
    assert "cup" in result.stdout
    assert "1,100 classes without an annotation not shown" in result.stdout
    assert "class number 500" not in result.stdout
    assert len(result.stdout.splitlines()) < 60


def test_a_file_without_anything(data: Path) -> None:
    data.write_text('{"images": [], "annotations": [], "categories": []}')
    result = invoke(data)
    assert result.exit_code == 0, result.output


@pytest.mark.shared
def test_coco_mini(shared_data: Path, tmp_path: Path) -> None:
    result = invoke(
        shared_data / "coco-mini/instances_train.json",
        "--json",
        tmp_path / "r.json",
        "--html",
        tmp_path / "r.html",
    )
    assert result.exit_code == 1
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["counts"]["box_disagrees_with_mask"] == 15
    assert found["counts"]["near_duplicate_annotation"] == 13
    assert len(found["problems"]) == sum(found["counts"].values()) == 99
    assert (tmp_path / "r.html").stat().st_size < 200_000


def coco_like(images: int, annotations: int, empty: int) -> dict[str, Any]:
    """COCO's 80 classes; boxes of the classes in turn; the first `empty` images have none."""
    ids, used = list(COCO_NAMES), images - empty
    return {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 30} for i in range(images)
        ],
        "categories": [{"id": i, "name": name} for i, name in COCO_NAMES.items()],
        "annotations": [
            {
                "id": i,
                "image_id": empty + i % used,
                "category_id": ids[i // used % 80],
                "iscrowd": 0,
            }
            | {"bbox": [i // used % 20, i // used // 20, 9, 9], "area": 81.0}
            for i in range(annotations)
        ],
    }


def test_a_file_with_the_counts_of_val2017_is_as_expected(tmp_path: Path) -> None:
    path = tmp_path / "renamed.json"
    path.write_text(json.dumps(coco_like(5_000, 36_781, 48)))
    result = invoke(path, "--expect", "coco2017", "--json", tmp_path / "r.json")
    assert result.exit_code == 0, result.output
    counted = json.loads((tmp_path / "r.json").read_text())["counted"]
    assert (counted["part"], counted["differences"]) == ("val", [])
    published = counted["published"]
    assert published == {name: counted["found"][name] for name in published}
    printed = " ".join(result.stdout.split())
    assert "As in coco2017 val: images, annotations, images without annotations, cla" in printed
    assert "annotations of VOC classes 34664, not checked: unpublished" in printed


def test_each_difference_from_coco_is_a_line_with_both_numbers(tmp_path: Path) -> None:
    path = tmp_path / "instances_train2017.json"
    document = coco_like(6, 9, 2)
    document["categories"].pop()  # toothbrush, which is not of VOC
    path.write_text(json.dumps(document))
    assert invoke(path).exit_code == 0
    result = invoke(path, "--expect", "coco2017", "--html", tmp_path / "r.html")
    assert result.exit_code == 1
    assert [line for line in result.stdout.splitlines() if "expected " in line] == [
        "coco2017 train: images 6, expected 118287",
        "coco2017 train: annotations 9, expected 860001",
        "coco2017 train: images without annotations 2, expected 1021",
        "coco2017 train: classes 79, expected 80",
        "coco2017 train: non-VOC classes 59, expected 60",
    ]
    assert "0 problems, 5 counts not as expected" in result.stdout
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count('<span class="bad">differs</span>') == 5
    assert page.count(">not checked<") == 2
    assert "Problems found" in page


@pytest.mark.parametrize(
    ("name", "images", "part"),
    [
        ("instances_val2017.json", 118_287, "val"),
        ("train", 3, "train"),
        ("train_and_val.json", 5_000, "val"),
        ("evaluation.json", 118_287, "train"),
        ("minival.json", 3, None),
    ],
)
def test_the_part_is_named_or_recognised_by_its_images(
    name: str, images: int, part: str | None
) -> None:
    document = {"images": [{"id": 1}] * images, "annotations": [None], "categories": [[]]}
    if part is None:
        with pytest.raises(InputError, match=r"which part.*5000 \(val\)"):
            compare_counts(document, data_set="coco2017", name=name)
        return
    found = compare_counts(document, data_set="coco2017", name=name)
    assert found.part == part
    assert found.published is PUBLISHED_COUNTS["coco2017"][part]


def test_an_unknown_data_set_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expect coco2014: no published counts.*coco2017"):
        halfmask.doctor(tmp_path / "no.json", expect="coco2014")
