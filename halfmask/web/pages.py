"""The application of a page: its files, and its errors as one line of JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.web.budget import BusyError
from halfmask.web.flow import busy_answer
from halfmask.web.schema import Fault

STATIC = Path(__file__).parent / "static"
FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": Fault} for status in (400, 401, 403, 404, 408, 409, 413, 422, 503, 507)
}


def application(title: str, page: str) -> FastAPI:
    """Returns an application with a page at `/` and the static files.

    Args:
        title: of the API, which /openapi.json describes.
        page: name of an HTML file of `static/`.
    """
    app = FastAPI(title=title, version=__version__, docs_url=None, redoc_url=None, responses=FAULTS)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(InputError, _unusable)
    app.add_exception_handler(BusyError, _busy)
    app.add_exception_handler(OSError, _disk)

    @app.get("/", include_in_schema=False)
    def show_page() -> FileResponse:
        return FileResponse(STATIC / page, media_type="text/html")

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> FileResponse:
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")

    return app


def fault(status: int, text: str) -> JSONResponse:
    """Returns an error in the form that the pages expect."""
    return JSONResponse({"detail": text.encode("utf-8", "replace").decode()}, status)


def _malformed(_: Request, error: Exception) -> JSONResponse:
    """Says where a request is wrong, without repeating its content."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return fault(422, f"{where}: {first['msg']}")


def _unusable(_: Request, error: Exception) -> JSONResponse:
    return fault(422, str(error))


def _busy(_: Request, __: Exception) -> JSONResponse:
    return busy_answer()


def _disk(_: Request, error: Exception) -> JSONResponse:
    return fault(
        507,
        f"nothing was saved: {error.__class__.__name__}: "
        f"{getattr(error, 'strerror', None) or error}",
    )
