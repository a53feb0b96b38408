"""The try-out page's application: takes photographs, returns masks, writes nothing to disk."""

from __future__ import annotations

import ctypes
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

from fastapi import Body, FastAPI, HTTPException, Path, Response

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.web import schema
from halfmask.web.pages import application
from halfmask.web.photographs import decoded, orientation_of, room_for, shown, shrink_for
from halfmask.web.segmenting import Segmenter
from halfmask.web.server import LOOPBACK, PageServer

MOST_HELD = 1 << 28
"""Bytes of photographs in memory; beyond them the least recently used one goes first."""
MOST_PIXELS = 40_000_000
"""Pixels of an uploaded photograph."""
UPLOAD_BYTES = 1 << 25
"""Bytes of an uploaded photograph."""
MOST_FOUND = 100
PHOTO = "photograph"
PhotoId = Annotated[str, Path(max_length=64)]


class Uploads:
    """Photographs that visitors sent, in memory, under names that nobody can guess."""

    def __init__(self, most_bytes: int = MOST_HELD) -> None:
        self._most = most_bytes
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._forgotten = 0
        self._lock = threading.Lock()

    def add(self, data: bytes) -> str:
        name = secrets.token_urlsafe(18)
        with self._lock:
            self._held[name] = data
            while sum(map(len, self._held.values())) > self._most and len(self._held) > 1:
                self._forgotten += len(self._held.popitem(last=False)[1])
            many = self._forgotten > self._most // 2
            self._forgotten = 0 if many else self._forgotten
        if many:  # without it the process grew by a megabyte a second with fifty visitors
            return_freed_memory()
        return name

    def get(self, name: str) -> bytes | None:
        """Returns the photograph, or None if it is unknown or gone."""
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
            return self._held.get(name)


def return_freed_memory() -> None:
    """Makes glibc return freed memory to the system; does nothing with other C libraries."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def tryout_server(
    segmenter: Segmenter, *, host: str = LOOPBACK, port: int | None = 0, token: bool = False
) -> PageServer:
    """Returns the server of a try-out page, not yet started."""
    app = tryout_app(segmenter)
    return PageServer(app, host=host, port=port, most_bytes=UPLOAD_BYTES, token=token)


def tryout_app(segmenter: Segmenter) -> FastAPI:
    """Returns the application of a try-out page; /openapi.json describes its API."""
    app, uploads = application("halfmask serve", "tryout.html"), Uploads()

    def held(photo: str) -> bytes:
        if (data := uploads.get(photo)) is None:
            raise HTTPException(404, "the server no longer has this photograph; drop it again")
        return data

    _add_model(app, segmenter)

    @app.post("/api/photos")
    def upload(
        data: Annotated[bytes, Body(media_type="application/octet-stream")],
    ) -> schema.PhotoView:
        height, width = orientation_of(data, PHOTO, MOST_PIXELS).turned
        return schema.PhotoView(photo=uploads.add(data), width=width, height=height)

    @app.get("/api/photos/{photo}", response_class=Response)
    def show(photo: PhotoId) -> Response:
        data = held(photo)
        with room_for(data, PHOTO):
            picture = shown(data, PHOTO)
        return Response(picture.data, media_type=picture.media_type)

    _add_masks(app, segmenter, held)
    return app


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
        )


def _add_masks(app: FastAPI, segmenter: Segmenter, held: Callable[[str], bytes]) -> None:
    @app.post("/api/photos/{photo}/segment")
    def segment(photo: PhotoId, asked: schema.ModelBoxRequest) -> schema.Segmented:
        data = held(photo)
        known = len(segmenter.predictor().categories)
        if asked.label > known:
            raise InputError(f"label {asked.label}: the model knows labels 0 to {known}")
        x, y, width, height = asked.box
        box, shrink = (x, y, x + width, y + height), shrink_for(width, height)
        size = orientation_of(data, PHOTO).turned
        with room_for(data, PHOTO, shrink):
            pixels = decoded(data, PHOTO, shrink)
            drawn = segmenter.segment(pixels, box, asked.label, size=size)
        return schema.Segmented.of(drawn)

    @app.post("/api/photos/{photo}/detect")
    def detect(photo: PhotoId, asked: schema.DetectRequest) -> schema.Found:
        data = held(photo)
        with room_for(data, PHOTO):
            found = segmenter.detect(decoded(data, PHOTO), asked.least, MOST_FOUND)
        return schema.Found(items=[schema.Segmented.of(drawn) for drawn in found])
