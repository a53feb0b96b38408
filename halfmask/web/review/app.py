"""The review page's application and its server."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from halfmask.errors import InputError
from halfmask.web import schema
from halfmask.web.pages import application, fault
from halfmask.web.review.decisions import ConflictError, Decision
from halfmask.web.review.queue import Filter
from halfmask.web.review.review import Review
from halfmask.web.server import LOOPBACK, PageServer

REQUEST_BYTES = 1 << 23
"""Bytes of a request; the runs of the largest drawn mask take several megabytes."""
PAGE = 100
Position = Annotated[
    int, Path(ge=0, le=schema.LARGEST_ID, description="Index of the annotation in the file's list.")
]
Row = Annotated[
    int, Path(ge=0, le=schema.LARGEST_ID, description="Index of the image in the file's list.")
]
States = Annotated[list[schema.State], Query(max_length=8)]
Categories = Annotated[
    list[Annotated[int, Path(ge=-schema.LARGEST_ID, le=schema.LARGEST_ID)]], Query(max_length=2000)
]
Score = Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)]


def review_server(
    review: Review, *, host: str = LOOPBACK, port: int | None = 0, token: bool = False
) -> PageServer:
    """Returns the server of a review page, not yet started."""
    app = review_app(review)
    return PageServer(app, host=host, port=port, most_bytes=REQUEST_BYTES, token=token)


def review_app(review: Review) -> FastAPI:
    """Returns the application of a review page; /openapi.json describes its API."""
    app = application("halfmask review", "review.html")
    _add_queue(app, review)
    _add_items(app, review)
    _add_deciding(app, review)
    return app


def _add_queue(app: FastAPI, review: Review) -> None:
    @app.get("/api/session")
    def session() -> schema.ReviewSession:
        return review.session()

    @app.get("/api/queue")
    def queue(
        state: States = [],  # noqa: B006 - FastAPI copies it
        category: Categories = [],  # noqa: B006
        low: Score = 0.0,
        *,
        high: Score = 1.0,
        after: Annotated[int, Query(ge=-1, le=schema.LARGEST_ID)] = -1,
        count: Annotated[int, Query(ge=1, le=PAGE)] = 12,
        backwards: bool = False,
        client: Annotated[str, Query(max_length=64)] = "",
    ) -> schema.QueuePage:
        wanted = Filter(frozenset(state), frozenset(category), low, high)
        ranks = review.queue.page(wanted, after, count, backwards=backwards, client=client)
        return schema.QueuePage(
            items=[review.entry(r) for r in ranks], selected=review.queue.count(wanted)
        )

    @app.get("/api/progress")
    def progress(
        category: Categories = [],  # noqa: B006
        low: Score = 0.0,
        high: Score = 1.0,
    ) -> schema.Progress:
        wanted = Filter(frozenset(), frozenset(category), low, high)
        return schema.Progress(
            states=review.queue.progress(wanted),
            all_states=review.queue.progress(Filter()),
            reviewers=review.decisions.reviewers(),
        )


def _add_items(app: FastAPI, review: Review) -> None:
    @app.get("/api/items/{position}")
    def item(position: Position) -> schema.ItemView:
        _check(review, position)
        return review.item(position)

    @app.get("/api/photos/{row}", response_class=Response)
    def photo(row: Row) -> Response:
        if row >= len(review.index.image_spans):
            return fault(404, f"there is no image {row}")
        try:
            shown = review.file.photograph(row)
        except InputError as error:
            return fault(404, str(error))
        kept = {"cache-control": "private, max-age=600"}
        return Response(shown.data, media_type=shown.media_type, headers=kept)


def _add_deciding(app: FastAPI, review: Review) -> None:
    def answer(now: Decision) -> schema.Decided:
        return schema.Decided(
            version=now.version,
            state=now.state,
            by=now.by,
            when=now.when,
            all_states=review.queue.progress(Filter()),
        )

    @app.exception_handler(ConflictError)
    def too_late(_: Request, conflict: ConflictError) -> JSONResponse:
        now = conflict.current
        text = f"{now.by or 'Another reviewer'} decided first: the mask is {now.state} now"
        view = schema.ConflictView(detail=text, current=review.item(conflict.position, now))
        return JSONResponse(view.model_dump(mode="json"), 409)

    responses: dict[int | str, dict[str, object]] = {409: {"model": schema.ConflictView}}

    @app.post("/api/items/{position}/decision", responses=responses)
    def decide(position: Position, asked: schema.DecisionRequest) -> schema.Decided:
        _check(review, position)
        return answer(review.decide(position, asked))

    @app.post("/api/items/{position}/undo", responses=responses)
    def undo(position: Position, asked: schema.UndoRequest) -> schema.Decided:
        _check(review, position)
        return answer(review.decisions.undo(position, asked.version, asked.by))

    @app.post("/api/items/{position}/segment")
    def segment(position: Position, asked: schema.SegmentRequest) -> schema.Segmented:
        _check(review, position)
        return review.segment(position, asked.box)

    @app.post("/api/export")
    def export() -> schema.Exported:
        return review.export()


def _check(review: Review, position: int) -> None:
    if review.queue.rank(position) < 0:
        raise HTTPException(404, f"annotation {position} of the list is not in the review")
