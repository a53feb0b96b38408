"""The try-out page's server: photographs come in, masks go out, nothing is written to disk."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from typing import Annotated

from fastapi import Body, FastAPI, Path, Response

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.web import schema
from halfmask.web.pages import application, fault
from halfmask.web.photographs import decoded, is_turned, read_size, shown, shrink_for
from halfmask.web.review.review import segmented
from halfmask.web.segmenting import Segmenter
from halfmask.web.server import return_freed_memory

MOST_HELD = 1 << 28
"""Bytes of photographs that are held; the one that was not used for longest goes first."""
MOST_PIXELS = 40_000_000
"""Pixels of a photograph that may be uploaded."""
MOST_FOUND = 100
PHOTO = "photograph"
PhotoId = Annotated[str, Path(max_length=64)]


class Uploads:
    """Photographs that visitors sent, in memory, each under a name that cannot be guessed."""

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
        if many:  # without it fifty visitors' process grew by a megabyte a second
            return_freed_memory()
        return name

    def get(self, name: str) -> bytes | None:
        """The photograph; None for one that is not held, or no longer."""
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
            return self._held.get(name)


def tryout_app(segmenter: Segmenter) -> FastAPI:
    """The application of a try-out page; what it says is described at /openapi.json."""
    app, uploads = application("halfmask serve", "tryout.html"), Uploads()

    @app.get("/api/model")
    def model() -> schema.ModelView:
        predictor = segmenter.predictor()
        categories = [
            schema.Category(id=c["id"], name=c["name"], label=row + 1)
            for row, c in enumerate(predictor.categories)
        ]
        return schema.ModelView(
            name=predictor.identity,
            categories=categories,
            can_detect=predictor.can_detect,
            version=__version__,
        )

    @app.post("/api/photos")
    def upload(
        data: Annotated[bytes, Body(media_type="application/octet-stream")],
    ) -> schema.PhotoView:
        height, width = read_size(data, PHOTO, MOST_PIXELS)
        turned = is_turned(data, PHOTO)
        return schema.PhotoView(photo=uploads.add(data), width=width, height=height, turned=turned)

    @app.get("/api/photos/{photo}", response_class=Response)
    def show(photo: PhotoId) -> Response:
        data = uploads.get(photo)
        if data is None:
            return _gone()
        picture = shown(data, PHOTO)
        return Response(picture.data, media_type=picture.media_type)

    @app.post("/api/photos/{photo}/segment", response_model=schema.Segmented)
    def segment(photo: PhotoId, asked: schema.ModelBoxRequest) -> object:
        data = uploads.get(photo)
        if data is None:
            return _gone()
        known = len(segmenter.predictor().categories)
        if asked.label > known:
            raise InputError(f"label {asked.label}: the model knows labels 0 to {known}")
        x, y, width, height = asked.box
        pixels = decoded(data, PHOTO, shrink_for(width, height))
        box = (x, y, x + width, y + height)
        return segmented(segmenter.segment(pixels, box, asked.label, read_size(data, PHOTO)))

    @app.post("/api/photos/{photo}/detect", response_model=schema.Found)
    def detect(photo: PhotoId, asked: schema.DetectRequest) -> object:
        data = uploads.get(photo)
        if data is None:
            return _gone()
        found = segmenter.detect(decoded(data, PHOTO), asked.least, MOST_FOUND)
        return schema.Found(items=[segmented(drawn) for drawn in found])

    return app


def _gone() -> Response:
    return fault(404, "the photograph is not here any more; drop it again")
