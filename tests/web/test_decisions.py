"""Decisions: none is lost, none overwrites another unseen."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from halfmask.errors import InputError
from halfmask.files.json_lines import line_of
from halfmask.web.review.index import STATES, build_index
from halfmask.web.review.log.decision import ConflictError, Decision
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.table import AnnotationTable

from .conftest import Case, filled

Cases = Callable[..., Case]
MASK = {"segmentation": {"size": [48, 64], "counts": "x"}, "area": 7}


def opened(written: Case) -> Decisions:
    index = build_index(written.data)
    return Decisions(
        written.journal,
        AnnotationTable(index),
        lambda p: Decision(version=0, state=STATES[index.states[p]]),
    )


def test_a_decision_is_found_again(case: Cases) -> None:
    written = case()
    log = opened(written)
    log.decide(0, 0, "accepted", by="Anna")
    log.decide(1, 0, "redrawn", by="Bö", mask=MASK)
    log.decide(0, 1, "rejected", by="Bö")
    log.close()
    again = opened(written)
    now = again.current(0)
    assert (now.version, now.state, now.by) == (2, "rejected", "Bö")
    assert now.when is not None
    assert again.current(1).mask == MASK
    assert again.current(3) == Decision(version=0, state="filled")
    none = {"accepted": 0, "confirmed": 0, "deleted": 0}
    assert again.reviewers() == {"Bö": none | {"redrawn": 1, "rejected": 1}}
    assert [(p, d.state) for p, d in again.decided()] == [(0, "rejected"), (1, "redrawn")]
    again.close()


def test_only_the_first_of_two_decisions_about_the_same_mask_counts(case: Cases) -> None:
    log = opened(case())
    log.decide(0, 0, "accepted", by="Anna")
    with pytest.raises(ConflictError) as raised:
        log.decide(0, 0, "rejected", by="Bob")
    assert raised.value.current == log.current(0)
    assert log.current(0).by == "Anna"
    log.close()


def test_undo_goes_back_step_by_step_across_a_restart(case: Cases) -> None:
    written = case()
    log = opened(written)
    log.decide(0, 0, "redrawn", by="Anna", mask=MASK)
    log.decide(0, 1, "accepted", by="Bob")
    assert log.current(0).mask == MASK
    log.decide(0, 2, "rejected", by="Cem")
    assert log.undo(0, 3, "Cem").state == "accepted"
    log.close()
    log = opened(written)
    assert (log.undo(0, 4, "Cem").state, log.current(0).by) == ("redrawn", "Anna")
    assert log.undo(0, 5, "Cem") == Decision(version=6, state="filled")
    assert list(log.decided()) == []
    assert log.reviewers() == {}
    with pytest.raises(ConflictError):
        log.undo(0, 6, "Cem")
    log.decide(0, 6, "accepted", by="Dee")
    assert log.undo(0, 7, "Dee") == Decision(version=8, state="filled")
    log.close()


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_torn_last_line_is_dropped(case: Cases, cut: int) -> None:
    written = case()
    log = opened(written)
    log.decide(0, 0, "accepted", by="Anna")
    log.decide(1, 0, "accepted", by="Anna")
    log.close()
    written.journal.write_bytes(written.journal.read_bytes()[:-cut])
    log = opened(written)
    assert (log.current(0).version, log.current(1).version) == (1, 0)
    log.decide(1, 0, "rejected", by="Anna")
    log.close()
    assert opened(written).current(1).state == "rejected"


def test_a_damaged_line_costs_its_decision_alone_and_is_told(
    case: Cases, caplog: pytest.LogCaptureFixture
) -> None:
    written = case()
    log = opened(written)
    for position in (0, 1, 3):
        log.decide(position, 0, "accepted", by="Anna")
    log.close()
    lines = written.journal.read_bytes().splitlines(keepends=True)
    before = b"".join([*lines[:2], b"\0\0\0\n", *lines[3:]])
    written.journal.write_bytes(before)
    log = opened(written)
    assert [log.current(position).version for position in (0, 1, 3)] == [1, 0, 1]
    assert "damaged: line 3" in caplog.text
    log.decide(1, 0, "rejected", by="Anna")
    log.close()
    assert written.journal.read_bytes().startswith(before), "the damaged line stays"
    log = opened(written)
    assert [log.current(p).state for p in (0, 1, 3)] == ["accepted", "rejected", "accepted"]
    log.close()


def test_decisions_after_a_damaged_one_of_the_same_mask_hold(case: Cases) -> None:
    written = case()
    log = opened(written)
    for version, state in enumerate(("accepted", "rejected", "accepted")):
        log.decide(0, version, state, by="Anna")
    log.close()
    lines = written.journal.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"rejected", b"rejectee")
    written.journal.write_bytes(b"".join(lines))
    log = opened(written)
    assert (log.current(0).version, log.current(0).state) == (3, "accepted")
    with pytest.raises(InputError, match="is damaged"):
        log.undo(0, 3, "Anna")  # what came before is lost
    log.decide(0, 3, "rejected", by="Anna")
    log.close()


@pytest.mark.parametrize("line", [0, 1])
def test_a_damaged_header_or_a_single_line_loses_nothing_else(case: Cases, line: int) -> None:
    written = case()
    log = opened(written)
    log.decide(0, 0, "accepted", by="Anna")
    log.decide(1, 0, "accepted", by="Anna")
    log.close()
    lines = written.journal.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b"e", b"f", 1)
    written.journal.write_bytes(b"".join(lines))
    log = opened(written)
    assert [log.current(position).version for position in (0, 1)] == [int(line != 1), 1]
    log.close()


@pytest.mark.parametrize(
    "change",
    [
        {"at": 99},
        {"at": -1},
        {"id": 8},
        {"of": "another file"},
        {"version": 2},
        {"state": "good"},
        {"by": None},
        {"at": True},
    ],
)
def test_a_line_that_does_not_fit_is_refused(case: Cases, change: dict[str, Any]) -> None:
    written = case()
    log = opened(written)
    log.decide(0, 0, "accepted", by="Anna")
    log.close()
    header, line = written.journal.read_text().splitlines()
    record = json.loads(line)
    del record["crc32"]
    written.journal.write_bytes(f"{header}\n".encode() + line_of(record | change))
    with pytest.raises(InputError, match="line 2 is not a decision about this file"):
        opened(written)


def test_the_journal_of_another_file_is_refused_and_kept(case: Cases) -> None:
    written = case()
    log = opened(written)
    log.decide(0, 0, "accepted", by="Anna")
    log.close()
    before = written.journal.read_bytes()
    other = case([filled(1, 0.2)])
    with pytest.raises(InputError, match="another version of this file"):
        opened(other)
    assert written.journal.read_bytes() == before
    written.journal.write_text('{"job": 1}\n')
    with pytest.raises(InputError, match="not the journal of a review"):
        opened(other)


def test_one_review_at_a_time(case: Cases) -> None:
    written = case()
    log = opened(written)
    with pytest.raises(InputError, match="another review of the same file is running"):
        opened(written)
    log.close()


def test_many_reviewers_at_once_lose_no_decision(case: Cases) -> None:
    written = case([filled(k) for k in range(1, 30)])
    log = opened(written)
    won: list[tuple[int, int, str]] = []

    def review(name: str) -> None:
        for position in range(29):
            for _ in range(3):
                seen = log.current(position).version
                try:
                    now = log.decide(position, seen, "accepted", by=name)
                except ConflictError:
                    continue
                won.append((position, now.version, name))

    threads = [threading.Thread(target=review, args=(f"r{k}",)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    lines = [json.loads(line) for line in written.journal.read_text().splitlines()[1:]]
    assert sorted((line["at"], line["version"], line["by"]) for line in lines) == sorted(won)
    assert len({(position, version) for position, version, _ in won}) == len(won)
    opened(written).close()


KILLED = """
import sys
from pathlib import Path
from halfmask.web.review.log.decision import Decision
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.index import build_index
from halfmask.web.review.table import AnnotationTable
index = build_index(Path(sys.argv[1]))
log = Decisions(Path(sys.argv[2]), AnnotationTable(index), lambda p: Decision(version=0, state="filled"))
for version in range(100_000):
    log.decide(version % 5, version // 5, "accepted", by=f"n{version}")
    print(version, flush=True)
"""


def test_every_confirmed_decision_survives_kill_9(case: Cases) -> None:
    written = case([filled(k) for k in range(1, 6)])
    command = [sys.executable, "-c", KILLED, str(written.data), str(written.journal)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 40:
                process.send_signal(signal.SIGKILL)
                break
        confirmed = max([40, *(int(rest) for rest in process.stdout if rest.endswith("\n"))])
    log = opened(written)
    made = sum(log.current(p).version for p in range(5))
    assert made - 1 in (confirmed, confirmed + 1)
    last = log.current(confirmed % 5)
    assert last.version >= confirmed // 5 + 1
    log.close()
