"""Undo and redo of each reviewer, batches, others' changes and statistics."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from halfmask.web.review.index import STATES

from .conftest import annotations, filled, rectangle
from .test_editing import Page, page

__all__ = ["page"]
Pages = Callable[..., Page]
CALM = ("version", "rank", "others")
"""What undo does not restore: the version grows."""


def seen(on: Page) -> list[dict[str, Any]]:
    """Every annotation as the page shows it."""
    count = len(on.review.table)
    items = [on.review.item(p).model_dump() for p in range(count)]
    return [{k: v for k, v in item.items() if k not in CALM} for item in items]


def some_action(on: Page, rng: random.Random, by: str) -> None:
    """One action of any kind that changes something."""
    count = len(on.review.table)
    states = on.review.table.states
    at = rng.choice([p for p in range(count) if STATES[states[p]] != "deleted"])
    item = on.get(f"items/{at}")
    kind = rng.choice(
        ["class", "box", "redraw", "accept", "reject", "delete", "add", "batch", "say"]
    )
    if kind == "class":
        on.edit(at, "class", by, category=5 if item["category"]["id"] == 2 else 2)
    elif kind == "box":
        on.edit(at, "box", by, box=[rng.randint(0, 20), 3, 9, rng.randint(3, 30)])
    elif kind == "redraw":
        mask = rectangle(rng.randint(1, 40), 4, 9, 9)
        on.edit(at, "decision", by, state="redrawn", mask=mask)
    elif kind in ("accept", "reject") and item["can_accept"]:
        on.edit(at, "decision", by, state=f"{kind}ed")
    elif kind == "delete":
        on.edit(at, "delete", by)
    elif kind == "batch":
        on.post("batch", by=by, action="class", category=5, filter={"origin": ["all"]})
        on.edit(at, "box", by, box=[1, 1, 5, 5])
    elif kind == "say":
        on.post(f"items/{at}/comments", by=by, text="hm")
    else:
        on.post("photos/0/add", by=by, category=2, mask=rectangle(2, 2, 4, 4))


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(k, marks=pytest.mark.slow) for k in range(1, 8))]
)
def test_ten_steps_go_back_and_forth_over_restarts(page: Pages, seed: int) -> None:
    on, rng = page(), random.Random(seed)
    stages = [seen(on)]
    while len(stages) < 11:
        some_action(on, rng, "Anna")
        if on.get("undo", by="Anna")["can_undo"] and seen(on) != stages[-1]:
            stages.append(seen(on))
    steps = 0
    while on.get("undo", by="Anna")["can_undo"]:
        on.post("undo", by="Anna")
        steps += 1
        if steps % 4 == 0:
            on.reopen()
    now = seen(on)
    assert now[: len(annotations())] == stages[0]
    assert all(item["state"] == "deleted" for item in now[len(annotations()) :])
    on.post("export")
    assert on.written.out.read_bytes() == on.written.data.read_bytes()
    on.post("undo", 422, by="Anna")
    for step in range(steps):
        on.post("redo", by="Anna")
        if step % 5 == 0:
            on.reopen()
    assert seen(on) == stages[-1]
    assert not on.get("undo", by="Anna")["can_redo"]


def test_a_new_action_clears_the_redo_of_its_reviewer_alone(page: Pages) -> None:
    on = page()
    for by, at in (("Anna", 0), ("Bob", 1)):
        on.edit(at, "class", by, category=5 if at == 0 else 2)
        on.post("undo", by=by)
    on.edit(3, "delete", "Anna")
    assert on.get("undo", by="Anna") == {
        "can_undo": True,
        "can_redo": False,
        "undo": "delete",
        "redo": None,
    }
    assert on.get("undo", by="Bob")["redo"] == "class"
    on.post("redo", 422, by="Anna")
    assert on.post("redo", by="Bob")["what"] == "class"


def test_what_another_changed_since_is_not_undone_unasked(page: Pages) -> None:
    on = page()
    on.edit(1, "delete", "Anna")
    on.edit(0, "class", "Anna", category=5)
    on.edit(0, "decision", "Bob", state="accepted")
    late = on.post("undo", 409, by="Anna")
    assert late["detail"].startswith("Bob changed annotation 1 since (accept)")
    assert [(c["position"], c["by"]) for c in late["conflicts"]] == [(0, "Bob")]
    assert on.get("items/0")["state"] == "accepted"
    assert on.post("undo", by="Anna", skip=True)["count"] == 0
    on.reopen()
    assert on.post("undo", by="Anna")["what"] == "delete", "the skipped step is gone for good"
    on.post("undo", by="Bob")
    assert (on.get("items/0")["state"], on.get("items/0")["category"]["id"]) == ("filled", 5)


def test_another_who_took_back_his_change_is_no_conflict(page: Pages) -> None:
    on = page()
    on.edit(0, "class", "Anna", category=5)
    on.edit(0, "decision", "Bob", state="accepted")
    on.post("undo", by="Bob")
    assert on.post("undo", by="Anna")["positions"] == [0]
    assert on.get("items/0")["category"]["id"] == 2


def test_a_batch_is_one_step_and_names_what_it_leaves_out(page: Pages) -> None:
    on = page([*annotations(), filled(9, segmentation=None)])
    on.edit(0, "decision", "Bob", state="rejected")
    done = on.post(
        "batch", by="Anna", action="accept", positions=[0, 1, 3, 6], versions=[0, 0, 0, 0]
    )
    assert (done["changed"], done["conflict_count"], done["unchanged"]) == (2, 2, 0)
    assert [(c["position"], c["by"]) for c in done["conflicts"]] == [(0, "Bob"), (6, None)]
    assert "no mask to accept" in done["conflicts"][1]["detail"]
    on.reopen()
    back = on.post("undo", by="Anna")
    assert (back["what"], back["count"], back["positions"]) == ("accept", 2, [1, 3])
    assert [on.get(f"items/{p}")["state"] for p in (0, 1, 3)] == ["rejected", "filled", "filled"]
    on.post("redo", by="Anna")
    again = on.post("batch", by="Anna", action="accept", filter={"state": ["accepted"]})
    assert (again["changed"], again["unchanged"]) == (0, 2)
    for body in (
        {"action": "accept"},
        {"action": "accept", "positions": [1], "filter": {}},
        {"action": "class", "positions": [1]},
        {"action": "accept", "positions": [1, 1]},
        {"action": "accept", "positions": [77]},
        {"action": "accept", "positions": [1], "versions": []},
    ):
        on.post("batch", 422, by="Anna", **body)


def test_a_batch_partly_changed_since_is_undone_for_the_rest(page: Pages) -> None:
    on = page()
    on.post("batch", by="Anna", action="delete", positions=[0, 1, 3])
    on.edit(1, "undo", "Bob")
    assert on.post("undo", 409, by="Anna")["count"] == 1
    back = on.post("undo", by="Anna", skip=True)
    assert (back["count"], back["left_out"]) == (2, 1)
    on.post("redo", by="Anna")
    assert [on.get(f"items/{p}")["state"] for p in (0, 1, 3)] == ["deleted", "filled", "deleted"]


def test_the_expected_number_of_bad_masks(page: Pages) -> None:
    on = page()
    some = on.get("batch/preview", low=0.6)
    assert (some["count"], some["threshold"]) == (3, 0.5)
    assert 0.1 < some["expected_bad"] < 1
    every = on.get("batch/preview", origin="all")
    assert (every["count"], every["without_score"]) == (6, 1)
    assert every["expected_bad"] > some["expected_bad"]
    assert on.get("batch/preview", origin="person")["expected_bad"] is None


def test_others_changes_are_told_once(page: Pages) -> None:
    on = page()
    seq = on.get("session")["seq"]
    on.edit(0, "decision", "Bob", state="accepted")
    on.edit(1, "class", "Anna", category=2)
    on.post("items/3/comments", by="Bob", text="?")
    found = on.get("changes", since=seq, by="Anna")
    assert [(c["position"], c["what"], c["by"]) for c in found["changes"]] == [
        (0, "accept", "Bob"),
        (3, "comment", "Bob"),
    ]
    on.reopen()
    assert on.get("changes", since=found["seq"], by="Anna")["changes"] == []
    on.post("undo", by="Bob")
    on.post("undo", by="Bob")
    last = on.get("changes", since=found["seq"], by="Anna")["changes"][-1]
    assert (last["what"], last["by"], last["state"]) == ("undo", "Bob", "filled")
    assert on.get("changes", since=seq + 1)["reset"]
    assert on.get("changes", since=10**9)["reset"]


def test_the_history_of_an_annotation(page: Pages) -> None:
    on = page()
    on.edit(0, "class", "Anna", category=5)
    on.edit(0, "decision", "Bob", state="redrawn", mask=rectangle(6, 6, 5, 5))
    on.post("undo", by="Bob")
    on.post("batch", by="Cem", action="accept", positions=[0, 1])
    on.post("items/0/comments", by="Anna", text="ok")
    on.reopen()
    entries = on.get("items/0/history")["entries"]
    told = [(e["what"], e["by"], e["together"], e["mask_changed"]) for e in entries]
    assert sorted(told) == sorted(
        [
            ("comment", "Anna", 1, False),
            ("accept", "Cem", 2, False),
            ("undo", "Bob", 1, True),
            ("redraw", "Bob", 1, True),
            ("class", "Anna", 1, False),
        ]
    )
    assert {e["category"] for e in entries if e["what"] != "comment"} == {"dog"}


def test_statistics(page: Pages) -> None:
    on = page()
    on.edit(0, "decision", "Anna", state="accepted")
    on.edit(0, "decision", "Bob", state="rejected")
    on.edit(1, "decision", "Bob", state="accepted")
    on.edit(1, "decision", "Anna", state="accepted")
    on.post("items/1/comments", by="Cem", text="?")
    told = on.get("statistics")
    assert {k: told["agreement"][k] for k in ("second_decisions", "same", "differs")} == {
        "second_decisions": 2,
        "same": 1,
        "differs": 1,
    }
    assert [(r["name"], r["actions"]) for r in told["reviewers"]] == [
        ("Anna", 2),
        ("Bob", 2),
        ("Cem", 1),
    ]
    assert sum(sum(hour["by"].values()) for hour in told["hours"]) == 5
    assert told["comments"] == {"open": 1, "closed": 0}
    dogs = next(row for row in told["classes"] if row["name"] == "dog")
    assert dogs["states"] == {"filled": 1, "accepted": 1, "annotated": 1}
    assert on.get("statistics") == told, "each line counts once"


def test_the_queue_is_sorted_and_steps_to_class_and_photograph(page: Pages) -> None:
    on = page()

    def ids(**query: Any) -> list[int]:
        return [e["id"] for e in on.get("queue", **query)["items"]]

    assert ids(sort="file") == [1, 2, 3, 4, 5]
    assert ids(sort="file", reverse=True) == [5, 4, 3, 2, 1]
    assert ids(sort="class") == [3, 5, 1, 4, 2]
    assert ids(sort="file", origin="all") == [1, 2, 7, 3, 4, 5]
    assert ids(sort="file", beyond=0, step="class") == [3, 5]
    assert ids(sort="file", beyond=0, step="photo") == [3, 4, 5]
    assert ids(sort="file", text="DO") == [2, 4]
    assert ids(image=2, sort="file") == [4, 5]
    on.edit(5, "box", box=[1, 1, 2, 2])
    assert ids(sort="size")[0] == 5
    assert ids(most_area=10) == [5]
    assert ids(least_area=10, sort="file") == [1, 2, 3, 4]
    on.edit(0, "decision", "Bob", state="accepted")
    assert ids(by_reviewer="Bob") == [1]
    assert ids(by_reviewer="nobody") == []
    assert on.client.get("/api/queue", params={"srot": "class"}).status_code == 422
    assert on.client.get("/api/queue", params={"sort": "disagreement"}).status_code == 422


def test_a_group_of_lines_that_was_cut_short_never_was(page: Pages) -> None:
    on = page()
    on.edit(0, "decision", "Bob", state="accepted")
    whole = on.written.journal.read_bytes()
    on.post("batch", by="Anna", action="reject", positions=[1, 3, 4])
    lines = on.written.journal.read_bytes()[len(whole) :].splitlines(keepends=True)
    assert len(lines) == 3
    for kept, cut in ((0, 20), (1, 0), (2, 20)):
        on.review.close()
        on.written.journal.write_bytes(whole + b"".join(lines[:kept]) + lines[kept][:cut])
        on.reopen()
        assert [on.get(f"items/{p}")["state"] for p in (1, 3, 4)] == ["filled"] * 3
        assert on.get("items/0")["state"] == "accepted"
        assert on.written.journal.read_bytes() == whole
    on.review.close()
    on.written.journal.write_bytes(whole + b"".join(lines))
    on.reopen()
    assert [on.get(f"items/{p}")["state"] for p in (1, 3, 4)] == ["rejected"] * 3


@pytest.mark.parametrize("hit", [0, 1, 2])
def test_a_damaged_line_of_a_batch_costs_itself_alone(page: Pages, hit: int) -> None:
    on = page()
    on.post("batch", by="Anna", action="reject", positions=[0, 1, 3])
    on.edit(4, "decision", "Bob", state="accepted")
    on.review.close()
    lines = on.written.journal.read_bytes().splitlines(keepends=True)
    lines[1 + hit] = lines[1 + hit].replace(b"reject", b"rejeet", 1)
    on.written.journal.write_bytes(b"".join(lines))
    on.reopen()
    states = [on.get(f"items/{p}")["state"] for p in (0, 1, 3)]
    assert states == ["filled" if k == hit else "rejected" for k in range(3)]
    assert on.get("items/4")["state"] == "accepted"
    assert on.get("statistics")["damaged_lines"] == 1
    assert "damaged" in on.post("undo", 422, by="Anna")["detail"]
    assert on.post("undo", by="Anna", skip=True)["count"] == 2


def test_a_journal_of_the_first_format_is_read_and_undone(page: Pages) -> None:
    """Lines as halfmask 0.x wrote them: no `what`, an undo copies what it restores."""
    from halfmask.files.json_lines import line_of

    on = page()
    of, digest = on.review.decisions.journal.of, on.review.index.digest
    on.review.close()
    text = line_of({"review": 1, "input": digest, "version": "0"})
    common = {"of": of, "by": "Anna", "when": "2026-01-01T00:00:00Z"}

    def add(**line: Any) -> list[int]:
        nonlocal text
        start = len(text)
        text += line_of(common | line)
        return [start, len(text)]

    first = add(at=0, id=1, version=1, state="accepted", before=None)
    add(at=1, id=2, version=1, state="rejected", before=None)
    add(at=0, id=1, version=2, state="rejected", before=first)
    undone = {"by": "Anna", "when": "2026-01-01T00:00:00Z"}
    add(at=0, id=1, version=3, state="accepted", before=None, undone=undone)
    on.written.journal.write_bytes(text)
    on.reopen()
    assert [on.get(f"items/{p}")["state"] for p in (0, 1)] == ["accepted", "rejected"]
    assert on.post("undo", by="Anna")["positions"] == [1]
    assert json.loads(on.written.journal.read_bytes().splitlines()[0])["review"] == 1
    on.edit(0, "undo", "Bob")
    assert on.get("items/0")["state"] == "filled"
