"""The try-out page's application: takes photographs, returns masks, writes nothing to disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from halfmask._version import __version__
from halfmask.coco.photographs.orientation import Frame
from halfmask.errors import InputError
from halfmask.web import schema
from halfmask.web.budget import ASKING
from halfmask.web.decoding.photo import Photo, measured
from halfmask.web.decoding.pool import decoders
from halfmask.web.pages import application
from halfmask.web.segmenting import Segmenter
from halfmask.web.server import LOOPBACK, PageServer
from halfmask.web.tryout_routes.samples import add_samples
from halfmask.web.tryout_routes.yolo import add_yolo
from halfmask.web.uploads import Held, Uploads

MOST_PIXELS = 40_000_000
"""Pixels of an uploaded photograph."""
UPLOAD_BYTES = 1 << 25
"""Bytes of an uploaded photograph."""
MOST_FOUND = 100
PHOTO = "photograph"
UPLOAD_PATH = "/api/photos"
GONE = "the server no longer has this photograph, others needed the room; open it again"
PhotoId = Annotated[str, Path(max_length=64)]
OCTETS: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def tryout_server(
    segmenter: Segmenter, *, host: str = LOOPBACK, port: int | None = 0, token: bool = False
) -> PageServer:
    """Returns the server of a try-out page, not yet started."""
    app = tryout_app(segmenter)
    return PageServer(
        app,
        host=host,
        port=port,
        most_bytes=UPLOAD_BYTES,
        token=token,
        uploads=frozenset({UPLOAD_PATH}),
    )


def tryout_app(segmenter: Segmenter) -> FastAPI:
    """Returns the application of a try-out page; /openapi.json describes its API."""
    app, uploads = application("halfmask serve", "tryout.html"), Uploads()

    @contextmanager
    def reading(photo: str) -> Iterator[Held]:
        with uploads.reading(photo) as held:
            if held is None:
                raise HTTPException(404, GONE)
            yield held

    def opened(photo: str) -> Photo:
        @contextmanager
        def source() -> Iterator[bytes | bytearray]:
            with reading(photo) as held:
                yield held.data

        with reading(photo) as held:
            size = held.size
        return Photo(decoders=decoders(), source=source, where=PHOTO, frame=Frame.TURNED, size=size)

    _add_model(app, segmenter)
    _add_photos(app, uploads, opened)
    _add_masks(app, segmenter, opened)
    add_yolo(app, reading)
    add_samples(app)
    return app


def _add_photos(app: FastAPI, uploads: Uploads, opened: Callable[[str], Photo]) -> None:
    def kept(data: bytearray) -> schema.PhotoView:
        found = measured(decoders(), lambda: nullcontext(data), PHOTO, most_pixels=MOST_PIXELS)
        height, width = found.turned
        name = uploads.add(data, found.turned, ASKING.get())
        return schema.PhotoView(photo=name, width=width, height=height)

    @app.post(UPLOAD_PATH, openapi_extra=OCTETS)
    async def upload(request: Request) -> schema.PhotoView:
        return await run_in_threadpool(kept, await _body(request))

    @app.get("/api/photos/{photo}", response_class=Response)
    def show(photo: PhotoId) -> Response:
        picture = opened(photo).shown()
        return Response(picture.data, media_type=picture.media_type)


async def _body(request: Request) -> bytearray:
    """Returns a request's body, which is in memory once."""
    data, filled = bytearray(int(request.headers.get("content-length", 0))), 0
    try:
        async for block in request.stream():
            data[filled : filled + len(block)] = block
            filled += len(block)
    except ClientDisconnect:
        raise HTTPException(400, "the photograph did not arrive whole; open it again") from None
    return data


def _add_model(app: FastAPI, segmenter: Segmenter) -> None:
    @app.get("/api/model")
    def model() -> schema.ModelView:
        predictor = segmenter.predictor()
        categories = [
            schema.CategoryItem(id=c["id"], name=c["name"], label=row + 1)
            for row, c in enumerate(predictor.categories)
        ]
        return schema.ModelView(
            name=predictor.identity,
            categories=categories,
            can_detect=predictor.can_detect,
            version=__version__,
            upload_bytes=UPLOAD_BYTES,
        )


def _add_masks(app: FastAPI, segmenter: Segmenter, opened: Callable[[str], Photo]) -> None:
    @app.post("/api/photos/{photo}/segment")
    def segment(photo: PhotoId, asked: schema.ModelBoxRequest) -> schema.Segmented:
        picture, known = opened(photo), len(segmenter.predictor().categories)
        if asked.label > known:
            raise InputError(f"label {asked.label}: the model knows labels 0 to {known}")
        x, y, width, height = asked.box
        drawn = segmenter.segment_in(picture, (x, y, x + width, y + height), asked.label)
        return schema.Segmented.of(drawn)

    @app.post("/api/photos/{photo}/detect")
    def detect(photo: PhotoId, asked: schema.DetectRequest) -> schema.Found:
        found = segmenter.detect_in(opened(photo), asked.least, MOST_FOUND)
        return schema.Found(items=[schema.Segmented.of(drawn) for drawn in found])
