"""The requests of the review page that change annotations, and their answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from halfmask.web.schema.base import (
    LARGEST_ID,
    Box,
    Coordinate,
    Reviewer,
    Runs,
    Segmented,
    Strict,
    Version,
)
from halfmask.web.schema.review import Corners, ItemView, Origin, Sort, State, StateView

MOST_CLICKS = 64
MOST_PARTS = 100
MOST_BATCH = 100_000
LONGEST_COMMENT = 2000
CategoryId = Annotated[int, Field(ge=-LARGEST_ID, le=LARGEST_ID)]
At = Annotated[int, Field(ge=0, le=LARGEST_ID)]
Draft = Annotated[str, Field(max_length=64)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Area = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class EditRequest(Strict):
    """An action on an annotation at `version`."""

    version: Version
    by: Reviewer


class DecisionRequest(EditRequest):
    """A decision about a mask: redrawn has `mask`, accepted may have `draft`."""

    state: Literal["accepted", "rejected", "redrawn"]
    mask: Runs | None = None
    draft: Draft | None = None


class UndoRequest(EditRequest):
    """Takes back the last change of an annotation, whoever made it."""


class ClassRequest(EditRequest):
    """Sets the class."""

    category: CategoryId


class BoxRequest(EditRequest):
    """Sets the box, and with a draft or a drawn mask the mask."""

    box: Box
    draft: Draft | None = None
    mask: Runs | None = None


class SplitRequest(EditRequest):
    """Makes several annotations of one: the given parts, or its connected parts."""

    parts: Annotated[list[Runs], Field(min_length=2, max_length=MOST_PARTS)] | None = None


class MergeRequest(Strict):
    """Makes one annotation of several; the first keeps the union."""

    by: Reviewer
    positions: Annotated[list[At], Field(min_length=2, max_length=MOST_PARTS)]
    versions: Annotated[list[Version], Field(min_length=2, max_length=MOST_PARTS)]


class AddRequest(Strict):
    """Adds an annotation with a box, a drawn mask, or a model's mask."""

    by: Reviewer
    category: CategoryId
    box: Box | None = None
    mask: Runs | None = None
    draft: Draft | None = None


class SegmentRequest(Strict):
    """Asks the model for the mask of another box."""

    box: Box


class NewSegmentRequest(SegmentRequest):
    """Asks the model for the mask of a box that is not in the file."""

    category: CategoryId | None = None


class Click(Strict):
    """A click, in pixels of the photograph; a negative one is not on the object."""

    x: Coordinate
    y: Coordinate
    positive: bool


class RefineRequest(SegmentRequest):
    """Asks for a mask in a box that fits the clicks; `mask` is the one drawn now."""

    clicks: Annotated[list[Click], Field(min_length=1, max_length=MOST_CLICKS)]
    mask: Runs | None = None


class NewRefineRequest(RefineRequest):
    """The same for a box that is not in the file."""

    category: CategoryId | None = None


class Refined(Segmented):
    """A mask that fits the clicks: from a model that takes clicks, or from its looks."""

    method: Literal["model", "looks"]


class CommentRequest(Strict):
    """Writes a comment."""

    by: Reviewer
    text: Annotated[str, Field(min_length=1, max_length=LONGEST_COMMENT)]


class CommentState(Strict):
    """Closes a comment, or opens it again."""

    by: Reviewer
    open: bool


class StepRequest(Strict):
    """Undoes or redoes a reviewer's last action; `skip` leaves out what others changed."""

    by: Reviewer
    skip: bool = False


class FilterRequest(Strict):
    """Selects annotations as the queue does; empty lists select all."""

    state: Annotated[list[State], Field(max_length=8)] = Field(default_factory=list)
    category: Annotated[list[CategoryId], Field(max_length=2000)] = Field(default_factory=list)
    low: Share = 0.0
    high: Share = 1.0
    origin: Annotated[list[Origin], Field(max_length=5)] = Field(default_factory=list)
    least_area: Area = 0.0
    most_area: Area = 1e12
    text: Annotated[str, Field(max_length=200)] = ""
    by_reviewer: Annotated[str, Field(max_length=80)] = ""
    image: Annotated[int, Field(ge=-1, le=LARGEST_ID)] = -1
    commented: bool = False


class QueueRequest(FilterRequest):
    """A part of the queue: what comes after a rank, or after an annotation (`beyond`).

    `step` class leads to annotations of the same class only, photo to those on other
    photographs; `client` names the browser window.
    """

    sort: Sort = "score"
    reverse: bool = False
    after: Annotated[int, Field(ge=-1, le=LARGEST_ID)] = -1
    beyond: Annotated[int, Field(ge=-1, le=LARGEST_ID)] = -1
    step: Literal["item", "class", "photo"] = "item"
    count: Annotated[int, Field(ge=1, le=500)] = 12
    backwards: bool = False
    client: Annotated[str, Field(max_length=64)] = ""


class BatchRequest(Strict):
    """Does one action with many annotations: those listed, or those of a filter."""

    by: Reviewer
    action: Literal["accept", "reject", "class", "delete"]
    category: CategoryId | None = None
    positions: Annotated[list[At], Field(max_length=MOST_BATCH)] | None = None
    versions: Annotated[list[Version], Field(max_length=MOST_BATCH)] | None = None
    filter: FilterRequest | None = None


class Decided(StateView):
    """The answer to an action: the annotation's new state, and the review's progress.

    `moved` says that the mask left the box, so that box and area went with it;
    `positions` has all annotations that the action changed, at most 100.
    """

    position: int
    category: int
    box: Corners
    area: float | None
    moved: bool
    all_states: dict[str, int]
    seq: int
    positions: list[int]


class ConflictView(BaseModel):
    """The answer to an action that came too late."""

    detail: str
    current: ItemView


class Conflict(BaseModel):
    """An annotation that an action left out, with who made its current state."""

    position: int
    id: int
    by: str | None
    when: str | None
    what: str
    detail: str


class StepConflict(BaseModel):
    """The answer to an undo or a redo of what others changed since."""

    detail: str
    conflicts: list[Conflict]
    count: int


class StepDone(BaseModel):
    """The answer to an undo or a redo: the action, and the annotations it changed."""

    what: str
    positions: list[int]
    count: int
    left_out: int
    seq: int
    all_states: dict[str, int]
    can_undo: bool
    can_redo: bool


class StepsView(BaseModel):
    """What a reviewer's next undo and redo would take back; null: nothing."""

    can_undo: bool
    can_redo: bool
    undo: str | None
    redo: str | None


class BatchPreview(BaseModel):
    """How many annotations a filter selects, and how many bad masks to expect.

    `expected_bad` is null where nothing says it; `ground` says on what it rests.
    """

    count: int
    expected_bad: float | None
    threshold: float
    ground: str
    without_score: int


class BatchDone(BaseModel):
    """The answer to a batch; what changed in between is left out and named."""

    changed: int
    unchanged: int
    conflicts: list[Conflict]
    conflict_count: int
    seq: int
    all_states: dict[str, int]
