"""The review page's application: requests as the page sends them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from halfmask.errors import InputError
from halfmask.masks.rle import compressed
from halfmask.web.review import queue as queueing
from halfmask.web.review.app import review_app

from .conftest import Case, filled, rectangle

Cases = Callable[..., Case]
Ask = Callable[..., TestClient]


@pytest.fixture
def ask(case: Cases, open_review: Callable[[Case], Any]) -> Ask:
    def start(rows: list[Any] | None = None, **changes: Any) -> TestClient:
        return TestClient(review_app(open_review(case(rows, **changes))))

    return start


def queue(asked: TestClient, **query: Any) -> list[int]:
    return [entry["id"] for entry in asked.get("/api/queue", params=query).json()["items"]]


def test_session_and_item(ask: Ask) -> None:
    client = ask()
    session = client.get("/api/session").json()
    assert (session["file"], session["total"]) == ("filled.json", 5)
    assert [(c["name"], c["label"], c["count"]) for c in session["categories"]] == [
        ("cät", 1, 3),
        ("dog", 2, 2),
    ]
    item = client.get("/api/items/0").json()
    assert item["mask"] == compressed(rectangle(5, 5, 20, 30), (48, 64))
    assert (item["box"], item["others"]) == ([5, 5, 20, 30], [[6, 5, 20, 30], [1, 1, 9, 9]])
    assert (item["state"], item["version"], item["rank"]) == ("filled", 0, 4)
    own = client.get("/api/items/2").json()
    assert (own["state"], own["origin"], own["score"]) == ("annotated", "person", None)
    for position in (6, 10**9):
        assert client.get(f"/api/items/{position}").status_code == 404


def test_the_queue_is_filtered_and_paged(ask: Ask) -> None:
    client = ask()
    assert queue(client) == [4, 2, 3, 5, 1]
    assert queue(client, count=2) == [4, 2]
    assert queue(client, after=1, count=2) == [3, 5]
    assert queue(client, after=2, backwards=True) == [2, 4]
    assert queue(client, category=5) == [4, 2]
    assert queue(client, category=[5, 2]) == [4, 2, 3, 5, 1]
    assert queue(client, low=0.3, high=0.7) == [2, 3, 5]
    assert queue(client, state="accepted") == []
    client.post("/api/items/4/decision", json={"version": 0, "state": "accepted", "by": "A"})
    assert queue(client, state="accepted") == [4]
    assert queue(client, state="filled") == [2, 3, 5, 1]
    assert queue(client, state=["filled", "accepted"]) == [4, 2, 3, 5, 1]
    progress = client.get("/api/progress", params={"category": 5}).json()
    assert {k: v for k, v in progress["states"].items() if v} == {"filled": 1, "accepted": 1}
    assert progress["all_states"]["filled"] == 4
    assert {k: v for k, v in progress["reviewers"]["A"].items() if v} == {"accepted": 1}


def test_reviewers_are_offered_different_masks_for_a_while(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ask()
    assert queue(client, client="a", count=3) == [4, 2, 3]
    assert queue(client, client="b", count=3) == [3, 5, 1]
    assert queue(client, client="a", count=3) == [4, 2, 1]
    assert queue(client, client="a", after=1) == [
        1
    ]  # b holds 3 and 5; a goes on from 2 and lets go of 4
    assert queue(client, client="c") == [4]
    assert queue(client, client="d", low=0.3, high=0.4) == [
        2
    ]  # a looks at it, but there is no other
    monkeypatch.setattr(queueing.time, "monotonic", lambda: 1e12)
    assert queue(client, client="e") == [4, 2, 3, 5, 1]


def test_a_late_decision_gets_the_current_state(ask: Ask) -> None:
    client = ask()
    first = client.post(
        "/api/items/0/decision", json={"version": 0, "state": "accepted", "by": "Anna"}
    )
    assert first.json()["version"] == 1
    late = client.post(
        "/api/items/0/decision", json={"version": 0, "state": "rejected", "by": "Bob"}
    )
    assert late.status_code == 409
    assert late.json()["detail"] == "Anna decided first: the mask is accepted now"
    assert (late.json()["current"]["state"], late.json()["current"]["version"]) == ("accepted", 1)
    assert client.post("/api/items/0/undo", json={"version": 0, "by": "Bob"}).status_code == 409
    assert (
        client.post("/api/items/0/undo", json={"version": 1, "by": "Bob"}).json()["state"]
        == "filled"
    )
    assert client.post("/api/items/0/undo", json={"version": 2, "by": "Bob"}).status_code == 409


BAD = [
    {"state": "filled"},
    {"state": "redrawn"},
    {"state": "accepted", "mask": rectangle(1, 1, 2, 2)},
    {"state": "rejected", "draft": "x"},
    {"state": "accepted", "draft": "unknown"},
    {"state": "redrawn", "mask": {"size": [64, 48], "counts": [3072]}},
    {"state": "redrawn", "mask": {"size": [48, 64], "counts": [3072]}},
    {"state": "redrawn", "mask": {"size": [48, 64], "counts": [1, 1]}},
    {"state": "redrawn", "mask": {"size": [48, 64], "counts": [-1, 3073]}},
    {"state": "accepted", "version": -1},
    {"state": "accepted", "version": 1.5},
    {"state": "accepted", "by": ""},
    {"state": "accepted", "by": " \t"},
    {"state": "accepted", "by": "a\u0000b"},
    {"state": "accepted", "by": "\ud800"},
    {"state": "accepted", "by": "x" * 81},
    {"state": "accepted", "more": 1},
]


@pytest.mark.parametrize("body", BAD, ids=str)
def test_a_contradictory_request_is_refused_and_changes_nothing(
    ask: Ask, body: dict[str, Any]
) -> None:
    client = ask()
    text = json.dumps({"version": 0, "by": "A"} | body)
    answer = client.post(
        "/api/items/0/decision", content=text, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 422, answer.text
    assert len(answer.json()["detail"]) < 300
    assert client.get("/api/items/0").json()["version"] == 0


@pytest.mark.parametrize(
    "text", ["", "{", "[" * 100_000, '{"version": NaN}', "\udcff", "null", "5"]
)
def test_no_json_is_no_crash(ask: Ask, text: str) -> None:
    content = text.encode("utf-8", "surrogateescape")
    answer = ask().post(
        "/api/items/0/decision", content=content, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)


def test_a_broken_mask_is_shown_as_such_and_cannot_be_accepted(ask: Ask) -> None:
    client = ask(
        [filled(1, segmentation={"size": [48, 64], "counts": "!!"}), filled(2, segmentation=None)]
    )
    for position in (0, 1):
        item = client.get(f"/api/items/{position}").json()
        assert item["mask"] is None
        assert item["fault"]
        body = {"version": 0, "state": "accepted", "by": "A"}
        assert (
            "no mask to accept"
            in client.post(f"/api/items/{position}/decision", json=body).json()["detail"]
        )
        redrawn = body | {"state": "redrawn", "mask": rectangle(1, 1, 2, 2)}
        assert client.post(f"/api/items/{position}/decision", json=redrawn).status_code == 200
        assert client.get(f"/api/items/{position}").json()["fault"] is None


def test_photographs_come_or_say_why_not(ask: Ask, tmp_path: Path) -> None:
    client, photos = ask(), tmp_path / "photos"
    assert client.get("/api/photos/0").headers["content-type"] == "image/jpeg"
    Image.new("RGB", (64, 47)).save(photos / "1.jpg")
    (photos / "2.jpg").write_bytes(b"no picture")
    (photos / "3.jpg").unlink()
    expected = [
        "64 × 47 pixels, the file says 64 × 48",
        "expected a photograph, cannot read it",
        "there is no such file",
    ]
    for row, text in enumerate(expected):
        answer = client.get(f"/api/photos/{row}")
        assert answer.status_code == 404
        assert text in answer.json()["detail"]
        assert str(photos.parent) not in answer.text  # no path of the server's disk
    assert client.get("/api/photos/3").status_code == 404
    assert "segment" not in client.post("/api/items/0/segment", json={"box": [1, 1, 5, 5]}).json()


def test_segment_answers_a_mask_in_the_box(ask: Ask) -> None:
    client = ask()
    answer = client.post("/api/items/0/segment", json={"box": [10, 8, 20, 22]}).json()
    assert 0 <= answer["score"] <= 1
    assert answer["area"] > 0
    assert answer["mask"]["size"] == [48, 64]
    accepted = {"version": 0, "state": "accepted", "by": "A", "draft": answer["draft"]}
    assert client.post("/api/items/1/decision", json=accepted).status_code == 422  # of another mask
    assert client.post("/api/items/0/decision", json=accepted).status_code == 200
    assert client.get("/api/items/0").json()["mask"] == answer["mask"]
    for box in ([100, 100, 5, 5], [1, 1, 0, 5], [1, 1, "x", 5], [1, 1, 5]):
        assert client.post("/api/items/0/segment", json={"box": box}).status_code == 422


def test_page_and_files(ask: Ask) -> None:
    client = ask()
    assert "halfmask review" in client.get("/").text
    assert client.get("/static/review.js").headers["content-type"].startswith("text/javascript")
    for path in (
        "/static/../review.py",
        "/static/%2e%2e/review.py",
        "/static/..%2freview.py",
        "/docs",
        "/redoc",
    ):
        assert client.get(path).status_code == 404


def test_a_file_without_filled_masks_is_refused(
    case: Cases, open_review: Callable[[Case], Any]
) -> None:
    with pytest.raises(InputError, match="nothing to review"):
        open_review(case([]))
