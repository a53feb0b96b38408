"""Sample masks of a run that holds nothing out, and tables instead of two bars."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from halfmask.coco.file import CocoFile
from halfmask.data.dataset import CocoInstances
from halfmask.evaluation.samples import training_samples
from halfmask.pictures.report import TEMPLATE, Bars, Page, ReportSection, Table, write_report
from halfmask.structures import Detection
from halfmask.training.held_out import segment_with

PHOTOS = TEMPLATE.parent / "photos"


class Half(nn.Module):
    """Fills the left half of each box. Its score is the box's share of the image's width."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def segment(
        self, images: list[Tensor], boxes: list[Tensor], labels: list[Tensor]
    ) -> list[Detection]:
        probs = torch.zeros(8, 8)
        probs[:, :4] = 1
        found = []
        for image, own, of_class in zip(images, boxes, labels, strict=True):
            height, width = image.shape[-2:]
            found.append(
                Detection(
                    boxes=own,
                    labels=of_class,
                    scores=torch.ones(len(own)),
                    mask_probs=probs.expand(len(own), 8, 8),
                    regions=own,
                    quality=(own[:, 2] - own[:, 0]) / width,
                    image_size=(height, width),
                )
            )
        return found


def photographs(folder: Path, masked: set[str], images: Path = PHOTOS) -> CocoInstances:
    """The shipped photographs with the masks of some classes."""
    document = json.loads((PHOTOS / "photos.json").read_text())
    names = {c["id"]: c["name"] for c in document["categories"]}
    for row in document["annotations"]:
        if names[row["category_id"]] not in masked:
            del row["segmentation"]
    path = folder / "some.json"
    path.write_text(json.dumps(document))
    return CocoInstances(CocoFile.read(path), images)


def captions(section: ReportSection | None) -> list[list[str]]:
    assert section is not None
    return [[caption for _, caption in strip.pictures] for strip in section.strips]


def test_samples_are_of_objects_without_masks_ranked_by_score(tmp_path: Path) -> None:
    section = training_samples(photographs(tmp_path, {"person"}), segment_with(Half()))
    best, median, worst = captions(section)
    assert [len(best), len(median), len(worst)] == [6, 6, 6]
    assert not [text for text in best + median + worst if text.startswith("person")]
    scores = [float(text.split(" ")[-1]) for text in best + worst[::-1]]
    assert scores == sorted(scores, reverse=True)
    assert section is not None
    assert "without a mask, on 12 photographs" in section.text[0]
    assert "White line" not in section.text[0]
    assert section.strips[0].caption.startswith("Best by score: 0.")


@pytest.mark.slow
def test_with_a_mask_for_each_object_the_masks_in_the_file_are_shown_too(tmp_path: Path) -> None:
    names = {c["name"] for c in CocoFile.read(PHOTOS / "photos.json").categories}
    dataset = photographs(tmp_path, names)
    section = training_samples(dataset, segment_with(Half()))
    assert section is not None
    assert "whose masks it learned from" in section.text[0]
    assert "White line: the mask in the file." in section.text[0]
    start = training_samples(dataset, segment_with(Half()), learned=False)
    assert start is not None
    assert "with a mask, on" in start.text[0]
    assert "learned" not in start.text[0]


def test_an_unreadable_photograph_is_counted(tmp_path: Path) -> None:
    images = tmp_path / "photos"
    shutil.copytree(PHOTOS, images)
    dataset = photographs(tmp_path, set(), images)
    dataset.path_of(dataset.image_ids[0]).write_bytes(b"no photograph")
    section = training_samples(dataset, segment_with(Half()))
    assert section is not None
    assert "on 11 photographs" in section.text[0]
    assert section.text[1] == "1 photograph could not be read and stayed out."


def test_a_file_without_boxes_has_no_samples(tmp_path: Path) -> None:
    document = json.loads((PHOTOS / "photos.json").read_text()) | {"annotations": []}
    path = tmp_path / "none.json"
    path.write_text(json.dumps(document))
    assert (
        training_samples(CocoInstances(CocoFile.read(path), PHOTOS), segment_with(Half())) is None
    )


def test_two_groups_are_a_table_and_three_are_bars(tmp_path: Path) -> None:
    def page(groups: int) -> str:
        rows = [(f"class {k}", "", [0.25 * k]) for k in range(groups)]
        section = ReportSection(title="x", bars=Bars(["IoU, %"], rows, "a note"))
        whole = Page(title="t", lead="", headlines=[], sections=[section])
        return write_report(whole, tmp_path / "page.html").read_text()

    two, three = page(2), page(3)
    assert '<ul class="bars' not in two
    assert "<td>class 1</td><td>25</td>" in two
    assert '<ul class="bars short">' in three
    assert "<table>" not in three
    assert two.count("a note") == three.count("a note") == 1


def test_a_table_without_columns_has_no_head(tmp_path: Path) -> None:
    section = ReportSection(title="x", table=Table([], [("masks", "1,200")]))
    whole = Page(title="t", lead="", headlines=[], sections=[section])
    html = write_report(whole, tmp_path / "page.html").read_text()
    assert "<thead>" not in html
    assert "<td>masks</td><td>1,200</td>" in html
