"""The pages of `halfmask serve` and `halfmask review`."""

import importlib.util

from halfmask.errors import InputError


def require_web() -> None:
    """Checks that the packages of the extra `web` are installed.

    Raises:
        InputError: FastAPI or uvicorn is missing.
    """
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
        raise InputError('the pages need FastAPI and uvicorn: pip install "halfmask[web]"')
