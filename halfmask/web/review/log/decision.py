"""The state of an annotation in a review, and the journal's line that records it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from halfmask.web.review.index import STATES
from halfmask.web.review.log.journal import Record, Span
from halfmask.web.review.table import AnnotationTable

Mask = dict[str, Any]
Box = tuple[float, float, float, float]
DECIDED = tuple(state for state in STATES if state not in ("", "filled", "annotated", "missing"))
NEW = -1
"""The position of an annotation that an action adds."""
OLD_ACTIONS = {"accepted": "accept", "rejected": "reject", "redrawn": "redraw"}
"""The action of a line that does not name one."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The current state of an annotation.

    Attributes:
        version: number of changes so far; 0 before the first.
        state: one of STATES.
        by, when: reviewer and time (UTC, ISO 8601); None if nobody decided, or the file
            does not say.
        mask: replaces the file's mask: segmentation, area and, if a model drew it,
            model, score and box. None: the file's.
        category: id of the class; None: the file's.
        box: x, y, width, height; None: the file's.
        alone: whether the box was set and the mask did not follow.
        image: row of an added annotation's image; None for one of the file.
        what: the action that led here.
        content: bytes of the line that first made this state, which undo and redo may
            have restored since; None: the state in the file.
    """

    version: int
    state: str
    by: str | None = None
    when: str | None = None
    mask: Mask | None = None
    category: int | None = None
    box: Box | None = None
    alone: bool = False
    image: int | None = None
    what: str = field(default="", compare=False)
    content: Span | None = field(default=None, compare=False)

    def after(self, state: str | None = None, **changes: Any) -> Decision:
        """Returns the decision with a new state and other changes."""
        return replace(self, state=state or self.state, **changes)


class ConflictError(Exception):
    """Another reviewer decided in the meantime; `current` is that decision."""

    def __init__(self, position: int, current: Decision) -> None:
        super().__init__(f"version {current.version} by {current.by}")
        self.position, self.current = position, current


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What an action does to one annotation.

    Attributes:
        make: current decision → the new one, or None to leave it as it is. May raise
            InputError.
        position: of the annotation, or NEW.
        version: the version that the reviewer saw; None: any.
        image: row of the image of a new annotation.
    """

    make: Callable[[Decision], Decision | None]
    position: int = NEW
    version: int | None = None
    image: int = -1


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An annotation that an action of several left out: what it is now, and why."""

    position: int
    current: Decision
    why: str


@dataclass(frozen=True, kw_only=True)
class ActionResult:
    """What an action did.

    Attributes:
        what: the action; of undo and redo, the one taken back or done again.
        done: positions and their new decisions.
        refused: what was left out.
        unchanged: number of annotations that already were as asked.
        count: number of annotations that changed, of which `done` may have the first.
    """

    what: str
    done: list[tuple[int, Decision]]
    refused: list[Refusal] = field(default_factory=list)
    unchanged: int = 0
    count: int = 0


def line_of_decision(
    position: int, decision: Decision, table: AnnotationTable, *, of: str, before: Span | None
) -> Record:
    """Returns the journal's line of a decision.

    Args:
        position: of the annotation.
        decision: its new state.
        table: of the review.
        of: the beginning of the file's digest.
        before: bytes of the line that this one replaces; None: the state in the file.
    """
    optional: Record = {
        "mask": decision.mask,
        "category": decision.category,
        "bbox": None if decision.box is None else list(decision.box),
        "alone": decision.alone or None,
        "image": decision.image,
    }
    return {
        "at": position,
        "id": table.id_of(position),
        "of": of,
        "version": decision.version,
        "state": decision.state,
        "by": decision.by or "",
        "when": decision.when,
        "what": decision.what,
        **{key: value for key, value in optional.items() if value is not None},
        "before": None if before is None else list(before),
    }


def decision_of(line: Record, span: Span) -> Decision:
    """Returns the decision of a line."""
    box = line.get("bbox")
    return Decision(
        version=line["version"],
        state=line["state"],
        by=line["by"] or None,
        when=line.get("when"),
        mask=line.get("mask"),
        category=line.get("category"),
        box=None if box is None else (box[0], box[1], box[2], box[3]),
        alone=bool(line.get("alone")),
        image=line.get("image"),
        what=line.get("what") or OLD_ACTIONS.get(line["state"], ""),
        content=content_of(line, span),
    )


def content_of(line: Record, span: Span) -> Span | None:
    """Returns the bytes of the line that first made a line's state; None: the file's."""
    if "same" in line:
        same = line["same"]
        return None if same is None else (same[0], same[1])
    # The first format: an undo that restored the state in the file has no `before`.
    return None if "undone" in line and "before" not in line else span


def before_of(line: Record) -> Span | None:
    """Returns the bytes of the line that a line replaced; None: the state in the file."""
    before = line.get("before")
    return None if before is None else (before[0], before[1])


def is_decision(line: Record, table: AnnotationTable, of: str, *, damaged: bool) -> bool:
    """Whether a line fits the file and what the lines before it said.

    Args:
        line: of the journal.
        table: with the state before the line.
        of: the beginning of the file's digest.
        damaged: whether lines before it are damaged, so that a version may be missing.
    """
    at, version, image = line.get("at"), line.get("version"), line.get("image")
    if type(at) is not int or at < 0 or line.get("of") != of or type(version) is not int:
        return False
    if at >= len(table):
        known = type(image) is int and 0 <= image < len(table.index.sizes)
        if not known or (at > len(table) and not damaged):
            return False
    last = int(table.versions[at]) if at < len(table) else 0
    return (
        line.get("id") == table.id_of(at)
        and (version == last + 1 or (damaged and version > last))
        and line.get("state") in STATES[1:]
        and isinstance(line.get("by"), str)
        and "when" in line
    )
