"""Overlays, sheets, charts and the report page."""

import csv
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from halfmask.coco.file import CocoFile
from halfmask.coco.supervision import MaskState
from halfmask.errors import InputError
from halfmask.masks.crops import MaskCrops
from halfmask.pictures import (
    ab_bars,
    attribution_of,
    before_after,
    colour_of,
    names_by_label,
    overlay,
    read_scene,
    training_curves,
)
from halfmask.pictures.report import (
    TEMPLATE,
    Bars,
    Chart,
    Compare,
    Headline,
    Link,
    Page,
    ReportSection,
    Strip,
    Table,
    write_report,
)
from halfmask.pictures.style import PALETTE, ink_on

PHOTOS = TEMPLATE.parent / "photos"


def _grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def _square(size: tuple[int, int], x: int, y: int, side: int) -> MaskCrops:
    return MaskCrops.from_bitmaps([torch.ones(side, side, dtype=torch.uint8)], [(x, y)], size)


def test_overlay_tints_the_inside_outlines_the_edge_and_leaves_the_rest() -> None:
    drawn = np.asarray(
        overlay(
            _grey(600, 800),
            None,
            _square((600, 800), 300, 200, 200),
            labels=torch.tensor([3]),
            names={},
        )
    )
    assert drawn.shape == (600, 800, 3)
    colour = np.asarray(colour_of(3), float)
    np.testing.assert_allclose(drawn[300, 400], 0.6 * 128 + 0.4 * colour, atol=2)
    np.testing.assert_allclose(
        drawn[300, 300], colour, atol=40
    )  # on the edge the class's own colour
    assert (drawn[300, 100] == 128).all()
    assert (drawn[:150] == 128).all()


def test_box_mask_and_label_each_only_where_asked() -> None:
    masks, boxes, label = (
        _square((600, 800), 300, 200, 200),
        torch.tensor([[100.0, 100, 700, 500]]),
        torch.tensor([1]),
    )
    only_box = np.asarray(overlay(_grey(600, 800), boxes, None, labels=label, names={}))
    assert (only_box[300, 400] == 128).all()
    assert tuple(only_box[100, 400]) == colour_of(1)
    named = np.asarray(overlay(_grey(600, 800), boxes, masks, labels=label, names={1: "cat"}))
    plain = np.asarray(overlay(_grey(600, 800), boxes, masks, labels=label, names={}))
    changed = np.argwhere((named != plain).any(-1))
    assert len(changed) > 100  # the chip …
    assert changed[:, 0].max() < 100  # … above the box


@pytest.mark.parametrize("side", [1, 8, 96, 500, 2400])
def test_labels_are_legible_at_any_size(side: int) -> None:
    image = _grey(side, side)
    box = torch.tensor([[0.0, 0, side, side]])
    plain = overlay(image, box, None, labels=torch.tensor([1]), names={})
    named = overlay(image, box, None, labels=torch.tensor([1]), names={1: "dog"})
    assert max(named.size) >= 480
    assert named.width % side == 0
    rows = np.flatnonzero((np.asarray(named) != np.asarray(plain)).any((1, 2)))
    assert rows[-1] - rows[0] >= max(12, named.width / 60)


def test_labels_do_not_cover_each_other_and_a_speck_gets_none() -> None:
    boxes = torch.tensor([[200.0, 200, 400, 400]] * 3 + [[600.0, 500, 604, 504]])
    labels = torch.tensor([1, 2, 3, 4])
    names = {1: "one", 2: "two", 3: "three", 4: "speck"}
    drawn = np.asarray(overlay(_grey(600, 800), boxes, None, labels=labels, names=names)).reshape(
        -1, 3
    )
    sizes = [int((drawn == np.asarray(colour_of(k))).all(-1).sum()) for k in (1, 2, 3, 4)]
    bare = np.asarray(
        overlay(_grey(600, 800), boxes[3:], None, labels=labels[3:], names={})
    ).reshape(-1, 3)
    assert min(sizes[:2]) > 200
    assert sizes[3] == int((bare == np.asarray(colour_of(4))).all(-1).sum())


def test_a_small_object_shows_between_thin_lines_and_beside_its_label() -> None:
    side, masks = 14, _square((600, 800), 400, 300, 14)
    box = torch.tensor([[400.0, 300, 400 + side, 300 + side]])
    near = torch.cat([box, box + 20])
    both = MaskCrops.from_bitmaps([masks.bitmaps()[0]] * 2, [(400, 300), (420, 320)], (600, 800))
    picture = _grey(600, 800)
    names = {1: "cup", 2: "cup"}
    labels = torch.tensor([1, 2])
    plain = np.asarray(overlay(picture, near, both, labels=labels, names={}))
    named = np.asarray(overlay(picture, near, both, labels=labels, names=names))
    tint = 0.6 * 128 + 0.4 * np.asarray(colour_of(1), float)
    np.testing.assert_allclose(plain[307, 407], tint, atol=2)
    assert (named != plain).any(), "there is a label"
    for x, y in ((400, 300), (420, 320)):
        part = slice(y, y + side), slice(x, x + side)
        assert (named[part] == plain[part]).all(), "it hides neither object"


def test_edges_empty_grey_out_of_image_and_unlabelled() -> None:
    none = overlay(
        _grey(500, 500),
        torch.zeros(0, 4),
        MaskCrops.empty((500, 500)),
        labels=torch.zeros(0, dtype=torch.int64),
        names={},
    )
    assert (np.asarray(none) == 128).all()
    grey = overlay(
        np.full((500, 600), 9, np.uint8),
        torch.tensor([[-50.0, -50, 900, 900]]),
        None,
        labels=torch.tensor([0]),
        names={},
    )
    assert grey.mode == "RGB"
    assert grey.size == (600, 500)
    corner = overlay(
        _grey(500, 500),
        None,
        _square((500, 500), 480, 480, 20),
        labels=torch.tensor([99]),
        names={99: "x"},
    )
    assert (np.asarray(corner)[490, 490] != 128).any()
    with pytest.raises(AssertionError):
        overlay(_grey(5, 5), None, None, labels=torch.tensor([1]), names={})


def test_signs_and_accents_have_letters_of_their_own() -> None:
    from halfmask.pictures.style import font

    shapes = {
        sign: font(24).getmask(sign).getbbox() and bytes(font(24).getmask(sign)) for sign in "×é–Жλ"
    }
    assert len(set(shapes.values())) == 5, (
        "the box that stands for a missing letter is the same for all"
    )


def test_scores_and_attribution_are_printed() -> None:
    box, label = torch.tensor([[100.0, 200, 300, 400]]), torch.tensor([1])
    plain = overlay(_grey(600, 800), box, None, labels=label, names={1: "cat"})
    scored = overlay(
        _grey(600, 800), box, None, labels=label, names={1: "cat"}, scores=torch.tensor([0.87])
    )
    assert (np.asarray(plain) != np.asarray(scored)).any()
    signed = overlay(
        _grey(600, 800),
        box,
        None,
        labels=label,
        names={1: "cat"},
        attribution="Photo: somebody " * 20,
    )
    assert signed.width == 800
    assert signed.height > 640  # the text wraps
    assert (np.asarray(signed)[:600] == np.asarray(plain)).all()


def test_colours_are_stable_and_neighbours_differ() -> None:
    assert colour_of(7) == colour_of(7)
    assert all(len({colour_of(k + j) for j in range(5)}) == 5 for k in range(1, 90))
    assert {colour_of(k) for k in range(1, 200)} == set(PALETTE)


def test_the_first_colours_are_told_apart_by_colour_blind_eyes() -> None:
    """Simulated as Machado, Oliveira and Fernandes (2009) do at full severity, in linear RGB."""
    simulations = {
        "protan": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deutan": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        "tritan": [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    }
    linear = (np.asarray(PALETTE[:7]) / 255) ** 2.2
    for name, matrix in simulations.items():
        seen = np.clip(linear @ np.asarray(matrix).T, 0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 9 * np.eye(7)
        assert apart.min() > 0.14, (name, apart.round(2))


def test_ink_contrasts_with_every_colour() -> None:
    def luminance(colour: tuple[int, int, int]) -> float:
        return float(((np.asarray(colour) / 255) ** 2.2) @ [0.2126, 0.7152, 0.0722])

    for colour in PALETTE:
        low, high = sorted((luminance(colour), luminance(ink_on(colour))))
        assert (high + 0.05) / (low + 0.05) > 4.0, colour


def test_before_after_boxes_what_never_had_a_mask() -> None:
    masks = MaskCrops.from_bitmaps(
        [torch.ones(100, 100, dtype=torch.uint8)] * 2, [(50, 300), (450, 300)], (600, 600)
    )
    boxes = torch.tensor([[50.0, 300, 150, 400], [450.0, 300, 550, 400]])
    labels, had = torch.tensor([1, 2]), torch.tensor([True, False])
    both = np.asarray(
        before_after(_grey(600, 600), boxes, masks, labels=labels, names={}, had_mask=had)
    )
    left, right = both[:, :600], both[:, -600:]
    assert both.shape[1] > 1200
    assert (left[350, 100] != 128).any(), "a given mask is drawn on the left"
    assert (left[350, 500] == 128).all(), "a missing one is not"
    assert tuple(left[300, 500]) == colour_of(2), "its box is"
    assert (right[350, 500] != 128).any()
    assert (right[350, 100] == left[350, 100]).all()


def test_attribution_names_source_and_licence() -> None:
    licenses = [
        {
            "id": 4,
            "url": "http://creativecommons.org/licenses/by/2.0/",
            "name": "Attribution License",
        }
    ]
    text = attribution_of({"flickr_url": "http://farm.example/1.jpg", "license": 4}, licenses)
    assert (
        text == "Photo: farm.example/1.jpg · Licence: creativecommons.org/licenses/by/2.0 · drawn "
        "on by halfmask"
    )
    assert attribution_of({"file_name": "mine.jpg"}, []) is None


def test_names_by_label_starts_at_one() -> None:
    assert names_by_label([{"id": 3, "name": "a"}, {"id": 90, "name": "b"}]) == {1: "a", 2: "b"}


def _run_folder(folder: Path, rows: list[dict[str, object]], metrics: object = None) -> Path:
    (folder / "logs").mkdir(parents=True)
    with (folder / "logs" / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "epoch", "loss_mask", "loss_box", "lr"])
        writer.writeheader()
        writer.writerows(rows)
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_training_curves_with_and_without_scores(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {
            "step": k,
            "epoch": 0,
            "loss_mask": 1 / (k + 1),
            "loss_box": "" if k % 2 else 0.5,
            "lr": 0.1,
        }
        for k in range(50)
    ]
    evaluations = [
        {"step": 50, "epoch": 0, "box": {"all": {"AP": 30.0}}, "mask": {"B": {"AP": None}}}
    ]
    bare = Image.open(training_curves(_run_folder(tmp_path / "a", rows)))
    scored = Image.open(training_curves(_run_folder(tmp_path / "b", rows, evaluations)))
    assert scored.height > bare.height * 1.5
    assert (tmp_path / "b" / "curves.png").is_file()


def test_training_curves_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.csv: no such file"):
        training_curves(tmp_path)
    with pytest.raises(InputError, match="holds no losses"):
        training_curves(_run_folder(tmp_path / "r", []))
    one_step = _run_folder(
        tmp_path / "one", [{"step": 0, "epoch": 0, "loss_mask": "nan", "loss_box": 0.0, "lr": 1}]
    )
    assert training_curves(one_step).is_file()


def test_ab_bars_cope_with_nulls(tmp_path: Path) -> None:
    full = {
        "mask": {"A": {"AP": 40.0}, "B": {"AP": 20.0}},
        "given_boxes": {"A": {"miou": 0.8}, "B": {"miou": 0.6}},
    }
    hollow = {"mask": {"A": {"AP": None}}, "given_boxes": {"A": {"miou": 0.8}}}
    with Image.open(ab_bars({"full": full, "hollow": hollow}, tmp_path / "ab.png")) as picture:
        assert picture.width > 800


def test_a_scene_has_every_box_and_the_masks_that_are_there(tmp_path: Path) -> None:
    Image.new("L", (40, 30), 7).save(tmp_path / "a.png")
    square = [[2, 2, 12, 2, 12, 12, 5, 12]]
    note = {"model": "m", "score": 0.5}
    rows = [
        {"bbox": [2, 2, 10, 10], "segmentation": square, "category_id": 9},
        {"bbox": [20, 10, 30, 10], "category_id": 4},
        {
            "bbox": [2, 2, 10, 10],
            "segmentation": square,
            "category_id": 4,
            "halfmask": note | {"state": "filled"},
        },
        {
            "bbox": [2, 2, 10, 10],
            "segmentation": square,
            "category_id": 4,
            "halfmask": note | {"state": "rejected"},
        },
        {
            "bbox": [0, 0, 9, 9],
            "segmentation": {"size": [30, 40], "counts": [0, 9, 1191]},
            "category_id": 4,
            "iscrowd": 1,
        },
    ]
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 9, "name": "nine"}, {"id": 4, "name": "four"}],
        "annotations": [row | {"id": k + 1, "image_id": 1} for k, row in enumerate(rows)],
    }
    file = CocoFile.from_document(document, "test")
    scene = read_scene(file, file.images[0], tmp_path)
    assert scene.image.shape == (30, 40, 3)
    assert scene.labels.tolist() == [2, 1, 1, 1]
    assert scene.boxes[1].tolist() == [20, 10, 40, 20]  # clipped
    assert scene.has_mask.tolist() == [True, False, True, False]
    assert (scene.masks.areas() > 0).tolist() == scene.has_mask.tolist()
    assert [row["id"] for row in scene.annotations] == [1, 2, 3, 4]
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match="image id 1"):
        read_scene(file, file.images[0], tmp_path)


class _Sources(HTMLParser):
    """Everything that a browser would load by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "srcset", "data")]
        self.loaded += [value or "" for name, value in attrs if name == "href" and tag == "link"]
        if tag not in ("img", "meta", "link", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


def test_report_is_self_contained_and_escapes(tmp_path: Path) -> None:
    picture = Image.new("RGB", (1400, 700), (200, 40, 40))
    chart = ab_bars({"m": {}}, tmp_path / "chart.png")
    page = Page(
        title="<b>bold</b>",
        lead="A & B",
        headlines=[Headline("51 → 69", "%", "IoU", "a note")],
        hero=Compare(picture, picture, "hero"),
        sections=[
            ReportSection(
                title="One",
                text=["text"],
                compares=[
                    Compare(
                        picture, picture, "cat", [Link("source", "https://example.org/a?b=1&c=2")]
                    )
                ],
                table=Table(["model", "AP"], [["x", "1.0"], ["y", "–"]], "note", [1]),
                strips=[Strip([(picture, "boxes"), (picture, "masks")], "scene")],
                bars=Bars(
                    ["a", "b"], [("cat", "A", [0.5, None]), ("dog", "B", [0.0, 1.0])], "percent"
                ),
                charts=[Chart(chart, "curve")],
            ),
            ReportSection(title="Two"),
        ],
        facts=[("version", "1")],
    )
    html = write_report(page, tmp_path / "report.html").read_text(encoding="utf-8")
    parser = _Sources()
    parser.feed(html)
    assert parser.open == []
    assert len(parser.loaded) == 8  # hero 2, compare 2, strip 2, chart, icon
    assert all(source.startswith("data:") for source in parser.loaded)
    assert "url(" not in html
    assert "@import" not in html
    assert "<b>bold</b>" not in html
    assert "&lt;b&gt;bold&lt;/b&gt;" in html
    assert 'class="strong"' in html


def test_demo_photographs_are_what_their_file_says() -> None:
    file = CocoFile.read(PHOTOS / "photos.json")
    assert len(file.images) == 12
    rows = [a for image in file.images for a in file.annotations_of(image["id"])]
    assert len(rows) == len(file.document["annotations"])
    assert all(file.state_of(a) == MaskState.MASK for a in rows)
    assert {image["license"] for image in file.images} <= {4, 5, 7}
    attribution = (PHOTOS / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for image in file.images:
        line = next(row for row in attribution.splitlines() if f"[`{image['file_name']}`]" in row)
        assert image["flickr_url"] in line
        assert ("by-sa/2.0" if image["license"] == 5 else "/by/2.0") in line
        digest = hashlib.sha256((PHOTOS / image["file_name"]).read_bytes()).hexdigest()
        assert re.search(r"`([0-9a-f]{12})` \|$", line).group(1) == digest[:12]  # type: ignore[union-attr]
        with Image.open(PHOTOS / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])
        assert file.annotations_of(image["id"])
    assert {p.name for p in PHOTOS.glob("*.jpg")} == {image["file_name"] for image in file.images}


@pytest.mark.shared
def test_demo_photographs_are_coco_minis_unchanged(shared_data: Path) -> None:
    source = shared_data / "coco-mini"
    val = json.loads((source / "instances_val.json").read_text())
    mine = json.loads((PHOTOS / "photos.json").read_text())
    images = {image["id"]: image for image in val["images"]}
    assert all(images[image["id"]] == image for image in mine["images"])
    expected = [
        a for a in val["annotations"] if a["image_id"] in {image["id"] for image in mine["images"]}
    ]
    assert mine["annotations"] == expected
    for path in PHOTOS.glob("*.jpg"):
        assert path.read_bytes() == (source / "val" / path.name).read_bytes()
