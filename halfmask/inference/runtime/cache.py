"""Graphs that were made before, in the user's cache folder.

A graph belongs to a model's digest, a precision and the versions of what wrote it. A
file that is damaged, or of something else, is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.files.atomic import written_beside
from halfmask.formats.origin import cache_folder
from halfmask.inference.runtime.names import Precision, version_of

logger = logging.getLogger(__name__)

WRITERS = ("torch", "onnx", "onnxruntime", "openvino")
"""Packages on whose versions a graph, or what is known of it, depends."""
HEAD = b"halfmask graph 1\n"


@dataclass(frozen=True, kw_only=True)
class Made:
    """A graph and what is known of it.

    Attributes:
        graph: the ONNX file.
        facts: what was measured on it, and by whom; see `use`.
        path: where it is kept; None: nowhere.
        fresh: whether this process made it.
    """

    graph: bytes
    facts: dict[str, Any]
    path: Path | None = None
    fresh: bool = True


def kept_graph(
    name: str, digest: str, precision: Precision, *, make: Callable[[], Made], more: dict[str, Any]
) -> Made:
    """Returns the graph of a model from the cache, or makes and keeps it.

    Args:
        name, digest: of the model.
        precision: of the graph.
        make: makes it, with its facts.
        more: on what the graph and its facts depend besides.
    """
    of = _key(digest, precision, more)
    found = _read(_place(name, of), of)
    if found is not None:
        return found
    return keep_graph(name, digest, precision, made=make(), more=more)


def found_graph(
    name: str, digest: str, precision: Precision, *, more: dict[str, Any]
) -> Made | None:
    """Returns the graph of a model from the cache; None if it is not there."""
    of = _key(digest, precision, more)
    return _read(_place(name, of), of)


def keep_graph(
    name: str, digest: str, precision: Precision, *, made: Made, more: dict[str, Any]
) -> Made:
    """Keeps a graph for the next run, in place of an earlier one."""
    of = _key(digest, precision, more)
    path = _place(name, of)
    try:
        _write(path, of, made)
    except InputError as error:
        logger.warning("the graph is not kept for the next run: %s", error)
        return made
    return Made(graph=made.graph, facts=made.facts, path=path)


def _key(digest: str, precision: Precision, more: dict[str, Any]) -> dict[str, Any]:
    of = {"digest": digest, "precision": precision, "halfmask": __version__, **more}
    return of | {package: version_of(package) for package in WRITERS}


def _place(name: str, of: dict[str, Any]) -> Path:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).name)[:40] or "model"
    key = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / "graphs" / f"{plain}-{of['precision']}-{key}.graph"


def _read(path: Path, of: dict[str, Any]) -> Made | None:
    """Returns a kept graph; None if there is none, or a damaged one."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    seal, _, rest = data.removeprefix(HEAD).partition(b"\n")
    header, _, graph = rest.partition(b"\n")
    if not data.startswith(HEAD) or hashlib.sha256(rest).hexdigest().encode() != seal:
        logger.warning("%s: damaged, made again", path)
        return None
    record = json.loads(header)
    if record["of"] != of:
        return None
    return Made(graph=graph, facts=record["facts"], path=path, fresh=False)


def _write(path: Path, of: dict[str, Any], made: Made) -> None:
    header = json.dumps({"of": of, "facts": made.facts}).encode()
    rest = header + b"\n" + made.graph
    with written_beside(path) as file:
        file.write(HEAD + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
