"""What the pages and the server say to each other. Boxes are x, y, width, height in
pixels, as in COCO files.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

LONGEST_NAME = 80
MOST_RUNS = 1_000_000
LARGEST_ID = (1 << 63) - 1


def _name(text: str) -> str:
    text = " ".join(text.split())
    if not text or not text.isprintable():
        raise ValueError("expected a name that can be printed")
    return text


Coordinate = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Side = Annotated[float, Field(allow_inf_nan=False, gt=0, le=1e6)]
Box = tuple[Coordinate, Coordinate, Side, Side]
Reviewer = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_name)]
Version = Annotated[int, Field(ge=0, le=1 << 30)]
State = Literal["filled", "accepted", "redrawn", "rejected"]


class Strict(BaseModel):
    """A request: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid")


class Runs(Strict):
    """A drawn mask: COCO's uncompressed RLE, runs of 0 and 1 in turn down the columns."""

    size: tuple[Annotated[int, Field(gt=0, le=1 << 20)], Annotated[int, Field(gt=0, le=1 << 20)]]
    counts: Annotated[list[Annotated[int, Field(ge=0, le=1 << 32)]], Field(max_length=MOST_RUNS)]


class DecisionRequest(Strict):
    """A decision about the mask that the reviewer saw at `version`: with redrawn comes
    `mask`; `draft` is a model's answer, accepted.
    """

    version: Version
    state: Literal["accepted", "rejected", "redrawn"]
    by: Reviewer
    mask: Runs | None = None
    draft: Annotated[str, Field(max_length=64)] | None = None


class UndoRequest(Strict):
    """Takes back the last decision about a mask."""

    version: Version
    by: Reviewer


class SegmentRequest(Strict):
    """Asks the model for the mask of another box."""

    box: Box


class ModelBoxRequest(Strict):
    """Asks the try-out page's model for a mask; label 0: of no class."""

    box: Box
    label: Annotated[int, Field(ge=0, le=1 << 20)] = 0


class DetectRequest(Strict):
    """Asks for what a model finds with at least this confidence."""

    least: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5


class Rle(BaseModel):
    """COCO's compressed RLE."""

    size: tuple[int, int]
    counts: str


class Category(BaseModel):
    """A class. `label`: 1 for the first; its colour follows from it. `count`: how many
    of its masks are reviewed.
    """

    id: int
    name: str
    label: int
    count: int = 0


class ImageView(BaseModel):
    """A photograph's record. `row` is its place in the file."""

    row: int
    id: int
    file_name: str
    width: int
    height: int


class StateView(BaseModel):
    """What holds for a mask."""

    version: int
    state: str
    by: str | None = None
    when: str | None = None


class ItemView(StateView):
    """All that the page shows of a mask. `fault` says why there is no mask; `others`
    are boxes of the photograph's other objects.
    """

    position: int
    rank: int
    id: int
    score: float
    mask_score: float
    category: Category
    image: ImageView
    box: tuple[float, float, float, float]
    mask: Rle | None
    fault: str | None = None
    others: list[tuple[float, float, float, float]] = []


class QueueEntry(BaseModel):
    """A mask in the list."""

    position: int
    rank: int
    id: int
    score: float
    category: str
    label: int
    state: str


class QueuePage(BaseModel):
    """A part of the queue. `selected`: how many masks the filter selects in all."""

    items: list[QueueEntry]
    selected: int


class Progress(BaseModel):
    """Masks by state, of the filter and of the whole file, and who decided how many."""

    states: dict[str, int]
    all_states: dict[str, int]
    reviewers: dict[str, dict[str, int]]


class ReviewSession(BaseModel):
    """What does not change while the server runs."""

    file: str
    out: str
    model: str
    categories: list[Category]
    total: int
    version: str


class Decided(StateView):
    """The answer to a decision: what holds now, and the progress of the whole file."""

    all_states: dict[str, int]


class ConflictView(BaseModel):
    """The answer to a decision that came too late."""

    detail: str
    current: ItemView


class Exported(BaseModel):
    """What was written."""

    out: str
    counts: dict[str, int]


class Segmented(BaseModel):
    """A model's mask. `draft` names it in a decision; `label` and `confidence` are
    those of what was found.
    """

    mask: Rle
    area: int
    score: float
    box: tuple[float, float, float, float]
    draft: str | None = None
    label: int = 0
    confidence: float = 1.0


class Found(BaseModel):
    """What a model found."""

    items: list[Segmented]


class ModelView(BaseModel):
    """The try-out page's model."""

    name: str
    categories: list[Category]
    can_detect: bool
    version: str


class PhotoView(BaseModel):
    """An uploaded photograph. `turned`: other programs show it turned, as its EXIF
    asks; here pixels are as stored.
    """

    photo: str
    width: int
    height: int
    turned: bool


class Fault(BaseModel):
    """Why a request was refused."""

    detail: str
