"""`halfmask audit`: what stands at the head of its list, and what it leaves alone."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import halfmask
from benchmarks.real.damage import KINDS, damage
from halfmask.cli.demo.photographs import PHOTOGRAPHS
from halfmask.coco.doctor.checks import SAME_MASK
from halfmask.coco.file import CocoFile
from halfmask.errors import InputError
from halfmask.labelling.audit.look import Looker
from halfmask.labelling.audit.measures import MEASURES
from halfmask.labelling.audit.result import WRONG, Audit
from halfmask.labelling.audit.score import WEIGHTS, wrongness
from tests.conftest import RunsHalfmask

PHOTOS = PHOTOGRAPHS / "photos.json"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, str]]:
    """COCO photographs of the package, an eighth of their masks strongly damaged, and
    the kind of damage by annotation id.
    """
    made = damage(CocoFile.read(PHOTOS), 0.125, seed=1, strengths=(2.0,))
    path = tmp_path_factory.mktemp("audit") / "damaged.json"
    path.write_text(json.dumps(made.document))
    rows = made.document["annotations"]
    return path, {rows[k]["id"]: kind for k, kind in made.kinds.items()}


@pytest.fixture(scope="module")
def found(world: tuple[Path, dict[int, str]]) -> Audit:
    return halfmask.audit(world[0], images=PHOTOGRAPHS, device="cpu")


def test_damaged_masks_stand_first(found: Audit, world: tuple[Path, dict[int, str]]) -> None:
    damaged = world[1]
    assert {*damaged.values()} == {*KINDS}
    head = [mask.annotation_id for mask in found.masks[: 2 * len(damaged)]]
    assert len({*head} & {*damaged}) >= 0.75 * len(damaged)
    scores = [mask.score for mask in found.masks]
    assert scores == sorted(scores, reverse=True)
    assert [mask.rank for mask in found.masks] == list(range(1, len(scores) + 1))
    assert found.doubtful == sum(score >= WRONG for score in scores) > 0
    assert sum(found.by_class().values()) == found.doubtful
    assert not found.ok


def test_reasons_name_the_damage(found: Audit, world: tuple[Path, dict[int, str]]) -> None:
    """In words that a labeller can act on, for what is seen without a model."""
    told = {mask.annotation_id: " ".join(mask.reasons) for mask in found.masks}
    words = {
        "swapped": ("fits the box of annotation",),
        "holes": ("holes take", "of the object is missing"),  # a hole may reach the border
    }
    for annotation, kind in world[1].items():
        if kind in words:
            assert any(one in told[annotation] for one in words[kind]), (kind, told[annotation])
    assert all(1 <= len(mask.reasons) <= 3 for mask in found.masks)


def test_every_mask_is_counted_once(found: Audit) -> None:
    states = [
        str(state) for file in [CocoFile.read(PHOTOS)] for i in file.image_ids
        for state in file.states_of(i)
    ]  # fmt: skip
    assert found.looked_at == states.count("mask") + states.count("suspect") == len(found.masks)
    assert found.looked_at + sum(found.left_out.values()) == len(states)


def test_the_list_is_the_same_in_any_order_of_the_file(
    found: Audit, world: tuple[Path, dict[int, str]], tmp_path: Path
) -> None:
    document = json.loads(world[0].read_text())
    document["annotations"].reverse()
    other = tmp_path / "reversed.json"
    other.write_text(json.dumps(document))
    again = halfmask.audit(other, images=PHOTOGRAPHS, device="cpu")
    score = {mask.annotation_id: mask.score for mask in found.masks}
    assert {m.annotation_id: m.score for m in again.masks} == pytest.approx(score, abs=1e-3)


def test_one_object_twice_is_doubtful_where_the_model_agrees(found: Audit, tmp_path: Path) -> None:
    """The best mask of the file, and its copy."""
    best = found.masks[-1]
    assert best.score < WRONG / 2
    document = json.loads(PHOTOS.read_text())
    [row] = [a for a in document["annotations"] if a["id"] == best.annotation_id]
    images = [i for i in document["images"] if i["id"] == best.image_id]
    path = tmp_path / "twice.json"
    path.write_text(
        json.dumps({**document, "images": images, "annotations": [row, row | {"id": 1 << 40}]})
    )
    twice = halfmask.audit(path, images=PHOTOGRAPHS, device="cpu")
    assert [mask.iou for mask in twice.masks] == pytest.approx([best.iou] * 2, abs=1e-3)
    assert all(mask.score >= WRONG for mask in twice.masks)
    assert {mask.twin for mask in twice.masks} == {best.annotation_id, 1 << 40}
    assert twice.doubtful == 2


def test_near_duplicates_begin_where_those_of_doctor_do() -> None:
    usual = np.array([WEIGHTS[name][0] for name in MEASURES], dtype=np.float32)
    measures = np.tile(usual, (3, 1))
    measures[:, MEASURES.index("twin")] = 0, SAME_MASK - 0.01, SAME_MASK + 0.01
    none, below, above = wrongness(measures)
    assert none < 0.2
    assert below < WRONG <= above


# What follows needs no good model.
Writes = Callable[..., Path]


def square(number: int, image: int, x: float, **more: Any) -> dict[str, Any]:
    ring = [x, 8.0, x + 20, 8.0, x + 22, 24.0, x + 10, 30.0, x, 28.0]
    return {
        "id": number, "image_id": image, "category_id": 5, "bbox": [x, 8.0, 22.0, 22.0],
        "segmentation": [ring], "area": 400.0, "iscrowd": 0, **more,
    }  # fmt: skip


@pytest.fixture
def writes(tmp_path: Path) -> Writes:
    """Writes photos/ with two photographs, and a COCO file of the given annotations."""
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for k in (1, 2):
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.png")

    def write(*rows: dict[str, Any]) -> Path:
        images = [{"id": k, "file_name": f"{k}.png", "width": 64, "height": 48} for k in (1, 2)]
        classes = [{"id": 5, "name": "dog"}]
        path = tmp_path / "in.json"
        path.write_text(
            json.dumps({"images": images, "annotations": [*rows], "categories": classes})
        )
        return path

    return write


def test_what_nobody_drew_is_left_out_and_counted(writes: Writes, tiny_segmenter: Path) -> None:
    note = {"state": "filled", "model": "tiny@1", "score": 0.5}
    data = writes(
        square(1, 1, 4),
        square(2, 1, 34, halfmask=note),
        square(3, 2, 4, segmentation=[]),
        square(4, 2, 4, halfmask=note | {"state": "redrawn"}),
        square(5, 2, 34, segmentation=[[1.0, 2.0]]),
        square(6, 99, 4),
    )
    before = hashlib.sha256(data.read_bytes()).hexdigest()
    done = halfmask.audit(data, images=data.parent / "photos", model=tiny_segmenter, device="cpu")
    assert {mask.annotation_id for mask in done.masks} == {1, 4, 5}
    first = done.masks[0]
    assert (first.annotation_id, first.score, first.iou) == (5, 1.0, None)
    assert first.reasons[0].startswith("its mask cannot be read")
    assert done.looked_at == 2
    assert sum(done.left_out.values()) == 2
    assert done.unusable == ["annotation 6"]
    assert hashlib.sha256(data.read_bytes()).hexdigest() == before


def test_no_mask_of_a_person_is_a_plain_error(
    writes: Writes, tiny_segmenter: Path, halfmask_cli: RunsHalfmask
) -> None:
    data = writes(square(1, 1, 4, segmentation=[]))
    said = halfmask_cli(
        "audit", data, "--images", data.parent / "photos", "--model", tiny_segmenter
    )
    assert said.code == 2
    assert "no mask in it that a person drew" in said.line


def test_a_photograph_that_cannot_be_read_is_named(
    writes: Writes, tiny_segmenter: Path, halfmask_cli: RunsHalfmask
) -> None:
    data = writes(square(1, 1, 4), square(2, 2, 4))
    photos = data.parent / "photos"
    (photos / "2.png").write_bytes(b"no picture")
    call = ("audit", data, "--images", photos, "--model", tiny_segmenter)
    said = halfmask_cli(*call)
    assert said.code == 1
    assert "2.png" in said.err
    assert "photograph unread (1)" in said.out
    (photos / "1.png").write_bytes(b"no picture")
    none = halfmask_cli(*call)
    assert none.code == 2
    assert "no photograph can be read" in none.line


@pytest.mark.parametrize("model", ["segmenter", "detector", "baseline:box"])
def test_any_model_that_draws_in_boxes_will_do(
    model: str, writes: Writes, tiny_segmenter: Path, tiny_detector: Path
) -> None:
    data = writes(square(1, 1, 4), square(2, 2, 34))
    named = {"segmenter": tiny_segmenter, "detector": tiny_detector}.get(model, model)
    done = halfmask.audit(data, images=data.parent / "photos", model=named, device="cpu")
    assert done.looked_at == 2
    assert all(0 <= mask.score <= 1 for mask in done.masks)


def test_an_effort_is_as_it_was_after_an_audit(writes: Writes, tiny_segmenter: Path) -> None:
    data = writes(square(1, 1, 4))
    model = halfmask.load(tiny_segmenter, device="cpu")
    halfmask.audit(data, images=data.parent / "photos", model=model)
    assert model.effort.usual == "best"


def test_limit_lists_fewer_and_counts_all(
    writes: Writes, tiny_segmenter: Path, tmp_path: Path, halfmask_cli: RunsHalfmask
) -> None:
    data = writes(*(square(1 + k, 1 + k % 2, 4 + 6 * k) for k in range(5)))
    listed = tmp_path / "list.json"
    halfmask_cli(
        *("audit", data, "--images", data.parent / "photos", "--model", tiny_segmenter),
        *("--limit", 2, "--json", listed),
    )
    report = json.loads(listed.read_text())
    assert [mask["rank"] for mask in report["masks"]] == [1, 2]
    assert report["looked_at"] == 5
    with pytest.raises(InputError, match="--limit: expected at least 1, found 0"):
        halfmask.audit(data, images=data.parent / "photos", model=tiny_segmenter, limit=0)


def test_another_format_gives_the_same_list(
    writes: Writes, tiny_segmenter: Path, tmp_path: Path
) -> None:
    data = writes(square(1, 1, 4), square(2, 2, 34))
    photos = data.parent / "photos"
    halfmask.convert("to-yolo", data, tmp_path / "yolo", images=photos)
    plain = halfmask.audit(data, images=photos, model=tiny_segmenter, device="cpu")
    yolo = halfmask.audit(tmp_path / "yolo", model=tiny_segmenter, device="cpu")
    assert [Path(m.file_name).name for m in yolo.masks] == [m.file_name for m in plain.masks]
    assert [m.iou for m in yolo.masks] == pytest.approx([m.iou for m in plain.masks], abs=0.05)


def test_the_page_is_whole_and_escapes_names(
    writes: Writes, tiny_segmenter: Path, tmp_path: Path
) -> None:
    data = writes(square(1, 1, 4), square(2, 2, 34, segmentation=[[1.0, 2.0]]))
    document = json.loads(data.read_text())
    document["categories"][0]["name"] = "<script>alert(1)</script>"
    data.write_text(json.dumps(document))
    page = tmp_path / "page.html"
    halfmask.audit(data, images=data.parent / "photos", model=tiny_segmenter, html=page)
    text = page.read_text()
    assert "<script" not in text
    assert text.count("data:image/jpeg;base64,") == 1
    assert "its mask cannot be read" in text
    assert "http" not in re.sub("http(:|%3A)//www.w3.org/2000/svg", "", text)


def test_masks_are_looked_at_in_batches(writes: Writes, tiny_segmenter: Path) -> None:
    """No more photographs at once than a batch, however many there are."""
    from halfmask.coco.photographs.reader import reader_of

    data = writes(*(square(1 + k, 1 + k % 2, 4) for k in range(4)))
    file = CocoFile.read(data)
    model = halfmask.load(tiny_segmenter, device="cpu")
    looker = Looker(predictor=model, file=file, reader=reader_of(file, data.parent / "photos"))
    read: list[int] = []
    whole = looker.reader.read

    def counted(image: dict[str, Any], *more: Any) -> Any:
        read.append(image["id"])
        return whole(image, *more)

    object.__setattr__(looker.reader, "read", counted)
    batches = [[piece] for batch in looker.batches() for piece in batch]
    batches *= 20
    looking = looker.look(batches)
    next(looking)
    assert len(read) <= 10
