"""The review page's application and its server."""

from __future__ import annotations

from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

from halfmask.errors import InputError
from halfmask.web import schema
from halfmask.web.decoding.tiles import LARGEST_REGION, Tiles
from halfmask.web.pages import application, fault
from halfmask.web.review.grid.routes import add_grid
from halfmask.web.review.log.decision import ConflictError
from halfmask.web.review.log.statistics import changes_since
from halfmask.web.review.queue import Order, Queue
from halfmask.web.review.review import Review
from halfmask.web.review.routes.edits import Position, Row, add_edits, check_item
from halfmask.web.review.routes.steps import add_steps, filter_of
from halfmask.web.server import LOOPBACK, PageServer

REQUEST_BYTES = 1 << 23
"""Bytes of a request; the runs of the largest drawn mask take several megabytes."""
MOST_COMMENTS = 200
Name = Annotated[str, Query(max_length=schema.LONGEST_NAME)]
KEPT = {"cache-control": "private, max-age=600"}
"""Browsers keep photographs for ten minutes."""
Edge = Annotated[int, Query(ge=0, le=1 << 20, description="Pixels of the photograph.")]
RegionWidth = Annotated[int, Query(ge=1, le=LARGEST_REGION, description="Of the answer.")]


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
    _add_progress(app, review)
    _add_items(app, review)
    _add_photographs(app, review)
    _add_conflicts(app, review)
    add_edits(app, review)
    add_steps(app, review)
    add_grid(app, review)
    return app


def _add_queue(app: FastAPI, review: Review) -> None:
    @app.get("/api/session")
    def session() -> schema.ReviewSession:
        return review.session()

    @app.get("/api/queue")
    def queue(asked: Annotated[schema.QueueRequest, Query()]) -> schema.QueuePage:
        positions = queue_page(review.queue, asked)
        order = Order(sort=asked.sort, reverse=asked.reverse)
        items = [schema.QueueEntry(**review.views.row(p, order)) for p in positions]
        return schema.QueuePage(items=items, selected=review.queue.count(filter_of(asked)))

    @app.post("/api/export")
    def export() -> schema.Exported:
        return review.export()


def queue_page(queue: Queue, asked: schema.QueueRequest) -> list[int]:
    """Returns the positions that a request asks for."""
    order, wanted = Order(sort=asked.sort, reverse=asked.reverse), filter_of(asked)
    if queue.is_changing(order) and queue.table.is_item(asked.beyond) and not asked.backwards:
        return queue.follow(
            wanted, asked.beyond, asked.count, order=order, step=asked.step, client=asked.client
        )
    with queue.lock:  # a new order between the two would lead elsewhere
        return queue.page(
            wanted,
            asked.after if asked.beyond < 0 else queue.rank(asked.beyond, order),
            asked.count,
            order=order,
            step=asked.step,
            backwards=asked.backwards,
            client=asked.client,
        )


def _add_progress(app: FastAPI, review: Review) -> None:
    @app.get("/api/progress")
    def progress(asked: Annotated[schema.FilterRequest, Query()]) -> schema.Progress:
        return schema.Progress(
            states=review.queue.progress(filter_of(asked)),
            all_states=review.all_states(),
            reviewers=review.decisions.reviewers(),
        )

    @app.get("/api/doubts")
    def doubts() -> schema.DoubtsView:
        return review.doubts.view()

    @app.get("/api/statistics")
    def statistics() -> schema.StatisticsView:
        return review.statistics.view()

    @app.get("/api/changes")
    def changes(
        since: Annotated[int, Query(ge=0, le=schema.LARGEST_ID)], by: Name = ""
    ) -> schema.ChangesView:
        return changes_since(review.decisions, since, by)


def _add_items(app: FastAPI, review: Review) -> None:
    @app.get("/api/items/{position}")
    def item(position: Position) -> schema.ItemView:
        check_item(review, position)
        return review.item(position)

    @app.get("/api/items/{position}/history")
    def history(position: Position) -> schema.HistoryView:
        check_item(review, position)
        return review.views.history(position)

    @app.get("/api/comments")
    def comments(*, open: bool = True) -> schema.CommentList:
        return review.views.open_comments(MOST_COMMENTS, only_open=open)


def _add_photographs(app: FastAPI, review: Review) -> None:
    @app.get("/api/photos/{row}", response_class=Response)
    def photo(row: Row) -> Response:
        if row >= len(review.index.image_spans):
            return fault(404, f"there is no image {row}")
        try:
            shown = review.file.photo(row).shown()
        except InputError as error:
            return fault(404, str(error))
        return Response(shown.data, media_type=shown.media_type, headers=KEPT)

    tiles = Tiles()

    @app.get("/api/photos/{row}/region", response_class=Response)
    def region(
        row: Row, left: Edge, top: Edge, *, right: Edge, bottom: Edge, width: RegionWidth
    ) -> Response:
        if row >= len(review.index.image_spans):
            return fault(404, f"there is no image {row}")
        try:
            photo = review.file.photo(row)
        except InputError as error:
            return fault(404, str(error))
        shown = tiles.region(row, photo, window=(left, top, right, bottom), width=width)
        return Response(shown.data, media_type=shown.media_type, headers=KEPT)

    @app.get("/api/photos/{row}/items", response_model=schema.PhotoItems)
    def photo_items(row: Row, *, masks: bool = False) -> schema.PhotoItems | JSONResponse:
        if row >= len(review.index.image_spans):
            return fault(404, f"there is no image {row}")
        return review.views.photo_items(row, masks=masks)


def _add_conflicts(app: FastAPI, review: Review) -> None:
    @app.exception_handler(ConflictError)
    def too_late(_: Request, conflict: ConflictError) -> JSONResponse:
        now = conflict.current
        text = f"{now.by or 'Another reviewer'} decided first: the mask is {now.state} now"
        view = schema.ConflictView(detail=text, current=review.item(conflict.position, now))
        return JSONResponse(view.model_dump(mode="json"), 409)
