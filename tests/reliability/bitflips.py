"""Flips single bits in the journal of an interrupted `complete`, in the journal of a review,
and in an export, and opens each changed copy.

    python -m tests.reliability.bitflips --flips 1000 --seed 0

A flip is *silent* if something else than was written is read, or something is missing,
and nobody says so. A journal that is refused as a whole is a fault, too: a damaged line
costs that line alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table

import halfmask
from halfmask.data.synthetic.write import synth
from halfmask.errors import InputError
from halfmask.inference.complete import plan
from halfmask.inference.complete.draw import MaskDrawer
from halfmask.inference.complete.journal import Journal, journal_of
from halfmask.inference.export.checksums import check_export
from halfmask.web.review.index import STATES, ReviewIndex, build_index
from halfmask.web.review.log.decision import Decision, Wish
from halfmask.web.review.log.decisions import Decisions
from halfmask.web.review.log.steps import REDO
from halfmask.web.review.log.undo import take_back
from halfmask.web.review.table import AnnotationTable as ReviewTable

PHOTOGRAPHS, BATCHES = 12, 8
MODEL = "box-segmenter"
MASK = {"segmentation": {"size": [112, 112], "counts": "ä`0"}, "area": 7}
OUTCOMES = ("equal", "told", "silent", "refused")

Opening = Callable[[], str]
"""Opens the changed file and returns one of OUTCOMES."""


class Heard(logging.Handler):
    """Counts what halfmask warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []
        logging.getLogger("halfmask").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    def said(self) -> bool:
        """Whether damage was named since the last call."""
        texts, self.texts = self.texts, []
        return any("damaged" in text for text in texts)


def outcome(is_equal: bool, is_told: bool, is_possible: bool) -> str:
    """Args:
    is_equal: whether everything is as it was written.
    is_told: whether damage was named.
    is_possible: whether what differs is absent, and not something else.
    """
    if is_told and is_possible:
        return "told"
    return "equal" if is_equal else "silent"


class StoppedError(Exception):
    """Ends `complete` as a full disk or a kill would."""


def interrupted_complete(folder: Path) -> tuple[Path, Path]:
    """Runs `complete` twice: the first run ends after some batches.

    Returns:
        A copy of the first run's journal, and the file of the second.
    """
    source = synth(folder, image_count=PHOTOGRAPHS, class_count=4).path
    document = json.loads(source.read_text(encoding="utf-8"))
    for row in document["annotations"]:
        row.pop("segmentation")
    source.write_text(json.dumps(document))
    out, draw, drawn = folder / "masks.json", MaskDrawer._drawn, 0

    def some(self: MaskDrawer, *arguments: Any) -> Any:
        nonlocal drawn
        drawn += 1
        if drawn > BATCHES:
            raise StoppedError
        return draw(self, *arguments)

    with mock.patch.object(plan, "BATCH_BOXES", 4):
        try:
            with mock.patch.object(MaskDrawer, "_drawn", some):
                # Without threads, each batch is in the journal before the next is drawn.
                halfmask.complete(MODEL, source, images=folder / "images", out=out, workers=0)
        except StoppedError:
            pass
        journal = folder / "copy.journal"
        journal.write_bytes(journal_of(out).read_bytes())
        halfmask.complete(MODEL, source, images=folder / "images", out=out)
    return journal, out


def filling(journal: Path, heard: Heard) -> Opening:
    """Each batch of the journal is what it was, or absent and told; so is the header."""
    job = json.loads(journal.read_bytes().splitlines()[0])["job"]

    def read() -> tuple[dict[str, Any], dict[int, Any]]:
        with Journal(journal, job) as opened:
            return opened.header, opened.batches

    header, batches = read()
    assert len(batches) == BATCHES, batches.keys()

    def opening() -> str:
        try:
            found_header, found = read()
        except InputError:
            return "refused"
        is_possible = found.items() <= batches.items() if _plain(found) else False
        is_possible = is_possible and found_header in (header, {"job": job})
        return outcome((found_header, found) == (header, batches), heard.said(), is_possible)

    return opening


def _plain(found: dict[int, Any]) -> bool:
    return all(type(number) is int for number in found)


def reviewed(file: Path) -> tuple[Path, ReviewIndex, list[list[Decision]]]:
    """Reviews a file: every mask is decided on, some twice, some are redrawn or undone.

    Returns:
        The journal, the file's index, and by position all decisions in their order.
    """
    journal, index = file.with_name("review.jsonl"), build_index(file)
    log = Decisions(journal, ReviewTable(index), _own(index))
    history = [[log.current(position)] for position in range(len(index.ids))]
    for position, past in enumerate(history):
        past.append(log.decide(position, 0, "accepted", by="Anna"))
        if position % 3 == 0:
            past.append(log.decide(position, 1, "redrawn", by="Bö", mask=MASK))
        if position % 6 == 0:
            past.append(log.undo(position, 2, by="Bö"))
    wishes = [
        Wish(position=p, make=lambda was: was.after("rejected")) for p in range(1, len(history), 2)
    ]
    steps = [
        log.act("reject", "Cem", wishes),
        take_back(log, "Cem"),
        take_back(log, "Cem", what=REDO),
    ]
    for position, now in [change for step in steps for change in step.done]:
        history[position].append(now)
    log.close()
    return journal, index, history


def _own(index: ReviewIndex) -> Callable[[int], Decision]:
    return lambda position: Decision(version=0, state=STATES[index.states[position]])


def reviewing(
    journal: Path, index: ReviewIndex, history: list[list[Decision]], heard: Heard
) -> Opening:
    """Each decision is what it was, or an earlier one of its mask holds, and that is told."""
    last = [past[-1] for past in history]

    def opening() -> str:
        try:
            log = Decisions(journal, ReviewTable(index), _own(index))
        except InputError:
            return "refused"
        found = [log.current(position) for position in range(len(history))]
        listed = dict(log.decided())
        log.close()
        is_possible = all(one in past for one, past in zip(found, history, strict=True)) and all(
            listed[position] == found[position] for position in listed
        )
        return outcome(found == last, heard.said() and bool(log.damaged), is_possible)

    return opening


def exported(folder: Path) -> Opening:
    """An export whose bytes are not what they were is refused."""

    def opening() -> str:
        try:
            check_export(folder)
        except InputError:
            return "told"
        return "silent"

    halfmask.export(MODEL, out=folder)
    check_export(folder)
    return opening


def flip_many(
    files: list[Path], opening: Opening, flips: int, chance: random.Random
) -> Counter[str]:
    """Flips a bit in one of the files, opens it, and puts it right again; returns
    outcome → number.
    """
    whole = {path: path.read_bytes() for path in files}
    outcomes: Counter[str] = Counter()
    for number in range(flips):
        path = files[number % len(files)]
        place = chance.randrange(8 * len(whole[path]))
        changed = bytearray(whole[path])
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        outcomes[opening()] += 1
        path.write_bytes(whole[path])
    return outcomes


def flip_all(folder: Path, flips: int, seed: int) -> dict[str, Counter[str]]:
    """Returns what was flipped → outcome → number."""
    heard, chance = Heard(), random.Random(seed)
    logging.getLogger("halfmask").propagate = False
    journal, completed = interrupted_complete(folder)
    found = {"journal of complete": flip_many([journal], filling(journal, heard), flips, chance)}
    review, index, history = reviewed(completed)
    opening = reviewing(review, index, history, heard)
    found["journal of review"] = flip_many([review], opening, flips, chance)
    opening = exported(folder / "deployed")
    files = sorted((folder / "deployed").iterdir())
    found["export"] = flip_many(files, opening, flips, chance)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flips", type=int, default=1000, help="for each of the three")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = flip_all(Path(folder), options.flips, options.seed)
    table = Table("file", *OUTCOMES)
    for name, counts in found.items():
        table.add_row(name, *(str(counts[outcome]) for outcome in OUTCOMES))
    console = Console(width=100)
    console.print(table)
    console.print(f"seed {options.seed}, {time.monotonic() - begin:.0f} s")
    return 1 if any(counts["silent"] + counts["refused"] for counts in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
