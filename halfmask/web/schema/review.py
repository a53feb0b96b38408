"""The answers of the review page about annotations, the queue and the whole review."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from halfmask.web.schema.base import CategoryItem, Rle

State = Literal[
    "filled", "accepted", "redrawn", "rejected", "annotated", "confirmed", "missing", "deleted"
]
Origin = Literal["filled", "person", "missing", "added", "all"]
Sort = Literal["score", "class", "size", "file", "disagreement"]
Corners = tuple[float, float, float, float]


class ImageView(BaseModel):
    """A photograph's record; `row` is its index in the file's list."""

    row: int
    id: int
    file_name: str
    width: int
    height: int


class StateView(BaseModel):
    """The current state of an annotation."""

    version: int
    state: str
    by: str | None = None
    when: str | None = None


class CommentView(BaseModel):
    """A comment; `number` counts the comments about an annotation from 1."""

    position: int
    number: int
    by: str
    when: str
    text: str
    open: bool


class CommentsView(BaseModel):
    """The comments about an annotation after a change of one."""

    comments: list[CommentView]
    seq: int


class CommentList(BaseModel):
    """Comments about all annotations, newest first, and how many there are."""

    comments: list[CommentView]
    total: int


class ItemView(StateView):
    """An annotation with its photograph's `others`; `fault` says why it has no mask.

    `score` is null where no model gave one; `doubt` says how likely a person's mask is
    wrong, null if nobody has looked at it; `alone` means that the box was set and the
    mask did not follow; `parts` counts the mask's connected parts.
    """

    position: int
    rank: int
    id: int
    score: float | None
    mask_score: float | None
    doubt: float | None = None
    category: CategoryItem
    image: ImageView
    box: Corners
    mask: Rle | None
    fault: str | None = None
    others: list[Corners] = []
    origin: str
    added: bool
    box_alone: bool
    parts: int
    comments: list[CommentView]
    can_accept: bool


class QueueEntry(BaseModel):
    """An annotation in the list; `value` is what an order of its own sorts by."""

    position: int
    rank: int
    id: int
    score: float | None
    category: str
    label: int
    state: str
    origin: str
    image: int
    box: Corners
    category_id: int
    version: int
    comments: int
    by: str | None
    value: float | None = None


class QueuePage(BaseModel):
    """A part of the queue; `selected` counts all annotations that pass the filter."""

    items: list[QueueEntry]
    selected: int


class PhotoEntry(QueueEntry):
    """An annotation of a photograph; it has a mask if masks were asked for."""

    mask: Rle | None = None


class PhotoItems(BaseModel):
    """The annotations of a photograph; `left_out` counts those beyond the limit."""

    items: list[PhotoEntry]
    left_out: int


class Progress(BaseModel):
    """Annotations by state, filtered and in the review, and states by reviewer."""

    states: dict[str, int]
    all_states: dict[str, int]
    reviewers: dict[str, dict[str, int]]


class ReviewSession(BaseModel):
    """Facts that stay the same while the server runs, and the journal's `seq` now.

    `categories` has the classes in the review, `all_categories` all of the file.
    """

    file: str
    out: str
    model: str
    categories: list[CategoryItem]
    all_categories: list[CategoryItem]
    total: int
    version: str
    origin: str
    sorts: list[str]
    threshold: float
    seq: int


class DoubtsView(BaseModel):
    """How many of people's masks the model has looked at, so that they can be sorted.

    `state` is looking, done, no model or stopped (`fault` says why), or off where no
    such masks are reviewed; `skipped` counts those whose photograph cannot be read;
    `turn` grows with each new order.
    """

    state: Literal["off", "looking", "done", "no model", "stopped"]
    looked_at: int
    total: int
    skipped: int
    fault: str
    turn: int


class HistoryEntry(BaseModel):
    """A change of an annotation; `text` and `open` are those of a comment."""

    what: str
    by: str
    when: str | None
    version: int | None = None
    state: str | None = None
    category: str | None = None
    box: Corners | None = None
    mask_changed: bool = False
    together: int = 1
    text: str | None = None
    open: bool | None = None


class HistoryView(BaseModel):
    """The changes of an annotation and the comments about it, newest first."""

    entries: list[HistoryEntry]


class ChangeView(StateView):
    """A change that the journal has; `category` is the class's id if it was set."""

    position: int
    what: str
    category: int | None = None


class ChangesView(BaseModel):
    """Changes since a `seq`; `reset` means that it is not known: load everything."""

    seq: int
    changes: list[ChangeView]
    more: bool
    reset: bool


class ClassRow(BaseModel):
    """Annotations of a class by state, and the mean score of those that have one."""

    id: int
    name: str
    states: dict[str, int]
    mean_score: float | None


class ReviewerRow(BaseModel):
    """What a reviewer has done; `per_hour` counts hours with an action."""

    name: str
    actions: int
    states: dict[str, int]
    first: str | None
    last: str | None
    per_hour: float


class HourRow(BaseModel):
    """Annotations that reviewers changed in an hour (its beginning, UTC)."""

    hour: str
    by: dict[str, int]


class PairRow(BaseModel):
    """Decisions of `second` about annotations that `first` had decided about."""

    first: str
    second: str
    same: int
    differs: int


class Agreement(BaseModel):
    """Second decisions about an annotation, by another reviewer than the first."""

    second_decisions: int
    same: int
    differs: int
    pairs: list[PairRow]


class StatisticsView(BaseModel):
    """What has been done in the review."""

    classes: list[ClassRow]
    reviewers: list[ReviewerRow]
    hours: list[HourRow]
    agreement: Agreement
    comments: dict[str, int]
    damaged_lines: int


class Exported(BaseModel):
    """The reviewed file, how many annotations changed to each state, and what changed."""

    out: str
    counts: dict[str, int]
    classes_changed: int
    boxes_changed: int
    masks_changed: int
    deleted: int
    added: int
    comments_open: int
