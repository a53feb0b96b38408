"""Reads a JSON file whole, and says what is wrong with one that is none."""

from __future__ import annotations

import json
from pathlib import Path

from halfmask.errors import InputError


def parse_json(path: Path, expected: str, constants: list[str]) -> object:
    """Reads a JSON file into memory.

    Args:
        path: the file.
        expected: what errors say that was expected.
        constants: receives NaN, Infinity and -Infinity if the file has them.
    Raises:
        InputError: the file cannot be read or is not JSON in UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: {expected} in UTF-8, byte {error.start} is not UTF-8; save it as UTF-8"
        ) from error
    except OSError as error:
        raise InputError(
            f"{path}: {expected}, cannot read it: {error.strerror or error}"
        ) from error
    if not text.strip():
        raise InputError(f"{path}: {expected}, the file is empty")

    def constant(literal: str) -> float:
        constants.append(literal)
        return float(literal)

    try:
        return json.loads(text, parse_constant=constant)
    except json.JSONDecodeError as error:
        why = f"something else: {error.msg} at line {error.lineno}, column {error.colno}"
        raise InputError(f"{path}: {expected}, found {why}") from error
    except RecursionError as error:
        why = "lists or objects nested too deeply to be read"
        raise InputError(f"{path}: {expected}, found {why}") from error
    except ValueError as error:
        why = f"something else: {str(error).split(';')[0]}"
        raise InputError(f"{path}: {expected}, found {why}") from error
