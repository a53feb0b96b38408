"""People's masks in the order of their doubt: the audit's scores, while the page is served."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import halfmask
from halfmask.cli.demo.photographs import PHOTOGRAPHS
from halfmask.labelling.audit.result import WRONG
from halfmask.web import schema
from halfmask.web.review.app import queue_page, review_app
from halfmask.web.review.filters import Filter
from halfmask.web.review.people import doubts as doubting
from halfmask.web.review.people import photographs
from halfmask.web.review.queue import Order
from halfmask.web.review.review import Review
from halfmask.web.segmenting import Segmenter

from .conftest import Case

Cases = Callable[..., Case]
DOUBT = Order(sort="disagreement")


def own(number: int, image: int = 1, x: int = 8, **more: Any) -> dict[str, Any]:
    """A person's mask that does not fill its box."""
    ring = [x, 5.0, x + 20, 5.0, x + 22, 21.0, x + 10, 27.0, x, 25.0]
    row = {"id": number, "image_id": image, "category_id": 5, "bbox": [x, 5.0, 22.0, 22.0]}
    return row | {"iscrowd": 0, "area": 400, "segmentation": [ring]} | more


Opens = Callable[..., Review]


@pytest.fixture
def opens(tiny_segmenter: Path, tmp_path: Path) -> Iterator[Opens]:
    """Opens a review of a file; closed at the end of the test."""
    opened: list[Review] = []

    def start(data: Path, photos: Path, model: object = tiny_segmenter) -> Review:
        places = {"journal": tmp_path / "journal.jsonl", "out": tmp_path / "out.json"}
        segmenter = Segmenter(str(model), device="cpu")
        opened.append(Review(data, segmenter, images=photos, **places))
        return opened[-1]

    yield start
    for review in opened:
        review.close()


def finished(review: Review, seconds: float = 60.0) -> Any:
    """Waits until the thread has ended by itself."""
    end = time.monotonic() + seconds
    while review.doubts.view().state == "looking":
        assert time.monotonic() < end, review.doubts.view()
        time.sleep(0.02)
    return review.doubts.view()


def values(review: Review) -> dict[int, float | None]:
    queue, table = review.queue, review.table
    return {table.id_of(p): queue.value("disagreement", p) for p in range(table.file_count)}


def test_the_scores_are_those_of_audit(opens: Opens, tiny_segmenter: Path) -> None:
    data = PHOTOGRAPHS / "photos.json"
    review = opens(data, PHOTOGRAPHS)
    assert review.doubts.view().state == "off"
    review.doubts.start()
    now = finished(review)
    assert (now.state, now.fault, now.skipped) == ("done", "", 0)
    assert now.looked_at == now.total == len(review.queue)
    found = halfmask.audit(data, images=PHOTOGRAPHS, model=tiny_segmenter, device="cpu")
    expected = {mask.annotation_id: mask.score for mask in found.masks}
    assert len(expected) > 40
    known = {number: value for number, value in values(review).items() if value is not None}
    assert known.keys() == expected.keys()
    above = [number for number, score in known.items() if abs(score - expected[number]) > 2e-3]
    assert all(known[number] == WRONG > expected[number] for number in above), "suspects"
    order = [
        review.queue.value("disagreement", p) or -1 for p in review.queue.ordered(Filter(), DOUBT)
    ]
    assert order == sorted(order, reverse=True)


def test_without_a_model_what_is_plainly_wrong_comes_first(case: Cases, opens: Opens) -> None:
    box = [[8.0, 5.0, 30.0, 5.0, 30.0, 27.0, 8.0, 27.0]]
    written = case(
        [
            own(1),
            own(2, image=2),
            own(3, image=2, x=9),  # nearly annotation 2
            own(4, image=3, segmentation=box),  # repeats its box
            own(5, image=1, x=30, segmentation=[[1.0, 2.0]]),  # cannot be read
        ]
    )
    review = opens(written.data, written.photos, "absent.safetensors")
    review.doubts.start()
    now = finished(review)
    assert now.state == "no model"
    assert "absent.safetensors" in now.fault
    assert values(review) == {1: None, 2: WRONG, 3: WRONG, 4: WRONG, 5: 1.0}
    page = TestClient(review_app(review))
    ids = [e["id"] for e in page.get("/api/queue?sort=disagreement").json()["items"]]
    assert ids == [5, 2, 3, 4, 1]
    assert [e["id"] for e in page.get("/api/queue").json()["items"]] == [1, 2, 3, 4, 5]
    assert page.get("/api/doubts").json()["state"] == "no model"


def test_a_file_with_filled_masks_has_no_such_order(case: Cases, opens: Opens) -> None:
    written = case()
    review = opens(written.data, written.photos)
    review.doubts.start()
    assert review.doubts.view().state == "off"
    assert "disagreement" not in review.session().sorts


def test_what_cannot_be_looked_at_is_counted(
    case: Cases, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubting, "MOST_MASKS", 2)
    crowded = [own(k, image=3, x=k) for k in (4, 5, 6)]
    written = case([own(1), own(2, image=2), own(3, image=2, x=30), *crowded])
    (written.photos / "2.jpg").write_bytes(b"no photograph")
    review = opens(written.data, written.photos)
    review.doubts.start()
    now = finished(review)
    assert (now.state, now.looked_at, now.total, now.skipped) == ("done", 1, 6, 5)
    assert [number for number, value in values(review).items() if value is not None] == [1]


def test_a_photograph_that_is_too_large_is_left_out(
    case: Cases, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photographs, "MOST_PIXELS", 3000)
    written = case([own(1)])
    review = opens(written.data, written.photos)
    review.doubts.start()
    assert finished(review).skipped == 1


def test_decided_masks_are_not_looked_at_again(case: Cases, opens: Opens) -> None:
    written = case([own(1), own(2, image=2)])
    review = opens(written.data, written.photos)
    review.editor.decide(0, 0, "Anna", state="accepted", mask=None)
    review.doubts.start()
    now = finished(review)
    assert (now.looked_at, now.total) == (1, 1)
    assert values(review)[1] is None


def test_odd_records_do_not_end_it(case: Cases, opens: Opens) -> None:
    """Repeated ids, a class without a name, a crowd, a mask of another size."""
    rle = {"size": [9, 9], "counts": [0, 81]}
    written = case(
        [own(1), own(1, x=30), own(3, image=2, iscrowd=1), own(4, image=2, segmentation=rle)],
        categories=[{"id": 5}, {"id": 2, "name": "cat"}],
    )
    review = opens(written.data, written.photos)
    review.doubts.start()
    now = finished(review)
    assert (now.state, now.looked_at) == ("done", 3)
    assert review.queue.value("disagreement", 3) == 1.0


def test_it_stops_with_the_review(case: Cases, opens: Opens) -> None:
    written = case([own(k, image=1 + k % 3, x=k % 30) for k in range(600)])
    review = opens(written.data, written.photos)
    review.doubts.start()
    time.sleep(0.2)
    before = time.monotonic()
    review.close()
    assert time.monotonic() - before < 20
    assert "halfmask-doubts" not in [thread.name for thread in threading.enumerate()]
    assert review.doubts.view().state in ("stopped", "done")
    review.doubts.stop()


def test_a_file_that_changes_ends_it_with_a_reason(case: Cases, opens: Opens) -> None:
    written = case([own(1)])
    review = opens(written.data, written.photos)
    written.data.write_text(written.data.read_text().replace("400", "401"))
    review.doubts.start()
    now = finished(review)
    assert now.state == "stopped"
    assert "was changed during the review" in now.fault


def test_visitors_of_the_model_come_first(tiny_segmenter: Path) -> None:
    segmenter, stopped = Segmenter(str(tiny_segmenter), device="cpu"), threading.Event()
    asked: list[str] = []

    def ask() -> None:
        asked.append(str(segmenter.when_idle(lambda predictor: predictor.name, stopped)))

    def waiting() -> threading.Thread:
        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.2)
        return thread

    with segmenter._place():
        first = waiting()
        assert not asked
    first.join()
    assert asked == ["tiny"]
    with segmenter._place():
        second = waiting()
        stopped.set()
        second.join()
    assert asked == ["tiny", "None"]
    segmenter.close()


def page_of(review: Review, beyond: int, client: str = "a", count: int = 12) -> list[int]:
    asked = schema.QueueRequest(sort="disagreement", beyond=beyond, client=client, count=count)
    return queue_page(review.queue, asked)


@pytest.fixture
def six(case: Cases, opens: Opens) -> Review:
    written = case([own(k, image=1 + k % 3) for k in range(1, 7)])
    return opens(written.data, written.photos)


def sort(review: Review, *doubts: float | None) -> None:
    review.queue.order_by("disagreement", np.array([np.nan if d is None else d for d in doubts]))


def test_new_scores_hide_nothing_and_bring_nothing_again(six: Review) -> None:
    assert page_of(six, -1) == [0, 1, 2, 3, 4, 5]
    assert page_of(six, 0) == [1, 2, 3, 4, 5]
    assert page_of(six, 1, count=2) == [2, 3]
    sort(six, 0.1, None, 0.2, 0.3, 0.9, None)
    assert page_of(six, 1) == [4, 3, 2, 5], "1 is on the stage, and 0 was there"
    assert page_of(six, 4) == [3, 2, 5]
    sort(six, 0.1, None, 0.2, 0.3, 0.9, 0.95)
    assert page_of(six, 4) == [5, 3, 2]
    assert page_of(six, 0) == [1, 4, 5, 3, 2], "after Back: what was seen, in that order"
    assert page_of(six, 2) == [5, 3], "a jump"
    assert page_of(six, -1) == [5, 4, 3, 2, 0, 1], "whoever starts anew"
    assert page_of(six, 5) == [4, 3, 2, 0, 1]


def test_two_reviewers_are_not_led_to_one_mask(six: Review) -> None:
    page_of(six, 0, "a", 2)
    assert page_of(six, -1, "b", 1) == [3], "0 is looked at, 1 and 2 are next"
    page_of(six, 3, "b", 2)
    sort(six, None, 0.5, 0.6, None, 0.9, 0.8)
    assert page_of(six, 0, "a", 2) == [2, 1], "3, 4 and 5 are held for b"
    assert page_of(six, 3, "b", 1) == [4]


def test_the_grid_has_the_plain_order(six: Review) -> None:
    page_of(six, 0)
    sort(six, 0.1, None, 0.2, 0.3, 0.9, None)
    assert six.queue.ordered(Filter(), DOUBT).tolist() == [4, 3, 2, 0, 1, 5]
    turned = Order(sort="disagreement", reverse=True)
    assert six.queue.ordered(Filter(), turned).tolist() == [0, 2, 3, 4, 5, 1]


def test_scores_may_come_while_reviewers_ask(six: Review) -> None:
    """Each mask is shown once, whatever the order is in between."""
    rng, stop = np.random.default_rng(0), threading.Event()

    def shuffle() -> None:
        while not stop.is_set():
            sort(six, *rng.random(6).tolist())

    thread = threading.Thread(target=shuffle)
    thread.start()
    try:
        for _ in range(20):
            seen = page_of(six, -1, count=1)
            while found := page_of(six, seen[-1], count=1):
                seen += found
            assert sorted(seen) == [0, 1, 2, 3, 4, 5], seen
    finally:
        stop.set()
        thread.join()
