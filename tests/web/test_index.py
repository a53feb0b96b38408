"""The index of a review."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from halfmask.coco.records import clip_box
from halfmask.errors import InputError
from halfmask.web.review.index import STATES, build_index
from halfmask.web.review.source import SourceFile

from .conftest import Case, annotations, filled

Cases = Callable[..., Case]


def test_the_queue_is_worst_first_and_holds_only_what_halfmask_filled(case: Cases) -> None:
    index = build_index(case().data)
    assert index.ids[index.queue].tolist() == [4, 2, 3, 5, 1]
    assert [c["name"] for c in index.categories] == ["cät", "dog"]
    assert index.of_image(0).tolist() == [0, 1, 2]


def test_items_are_read_alone_by_their_place(case: Cases) -> None:
    written = case()
    index = build_index(written.data)
    source = SourceFile(written.data, index.digest)
    rows = annotations()
    assert [source.read(*span) for span in index.spans.tolist()] == rows
    assert index.digest == hashlib.sha256(written.data.read_bytes()).hexdigest()
    source.close()


def test_a_file_that_changes_under_the_review_is_noticed(case: Cases) -> None:
    written = case()
    index = build_index(written.data)
    source = SourceFile(written.data, index.digest)
    with written.data.open("ab") as file:
        file.write(b" ")
    with pytest.raises(InputError, match="was changed during the review"):
        source.read(*index.spans[0].tolist())
    source.close()


HOSTILE = [
    "text",
    None,
    {},
    filled(1, score=None),
    filled(2, score="high"),
    filled(3, score=float("nan")),
    filled(4, score=10**400),
    filled(5, bbox=[0, 0, 10**400, 5]),
    filled(6, bbox=[500, 0, 5, 5]),
    filled(7, bbox=None),
    filled(8, image=99),
    filled(9, category=99),
    filled(10, iscrowd=1),
    filled(11, state="unheard of"),
    filled(12, image_id="1"),
    filled(13) | {"halfmask": "yes"},
    filled(5) | {"id": 1 << 70},
    filled(14, state="rejected"),
]


def test_hostile_annotations_are_left_out_or_come_first(case: Cases) -> None:
    index = build_index(case(HOSTILE).data)
    assert len(index.ids) == len(HOSTILE)
    reviewed = set(index.queue.tolist())
    assert reviewed == {3, 4, 5, 6, 13, 16, 17}
    assert index.scores[index.queue][:4].tolist() == [0, 0, 0, 0]
    assert STATES[index.states[13]] == "filled"
    assert STATES[index.states[17]] == "rejected"


def test_boxes_are_clipped_as_everywhere_else(case: Cases) -> None:
    rng = np.random.default_rng(0)
    rows: list[Any] = [
        filled(k, bbox=rng.uniform(-40, 80, 4).round(1).tolist()) for k in range(200)
    ]
    index = build_index(case(rows).data)
    for row, box, state in zip(rows, index.boxes.tolist(), index.states, strict=True):
        expected = clip_box(row["bbox"], (48, 64)) if min(row["bbox"][2:]) > 0 else None
        assert (state > 0) == (expected is not None), row["bbox"]
        if expected:
            assert box == pytest.approx(expected)


def test_a_file_without_images_or_annotations(case: Cases) -> None:
    assert len(build_index(case([], images=[]).data).queue) == 0
    assert len(build_index(case(images=[]).data).queue) == 0
    assert (
        len(
            build_index(
                case(images=[7, {"id": 1}, {"id": 2, "height": 1e30, "width": 5}]).data
            ).queue
        )
        == 0
    )


def test_memory_holds_numbers_not_annotations(case: Cases) -> None:
    row = json.dumps(filled(1, 0.5))
    index = build_index(case([json.loads(row)] * 2000).data)
    held = sum(a.nbytes for a in vars(index).values() if isinstance(a, np.ndarray))
    assert held < 2000 * 100
