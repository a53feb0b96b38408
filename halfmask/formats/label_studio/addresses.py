"""Which values of a Label Studio task are pictures, and the file names of these."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from halfmask.formats.source_files import PHOTOGRAPHS, leads_out
from halfmask.formats.xml_stream import root_of

_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio's prefix of the name of an uploaded file."""
_EMBEDDED = "data:image/"
_WEB = ("http", "https")


@dataclass(frozen=True)
class Picture:
    """A picture of a task.

    Attributes:
        address: as the task has it; of a picture inside the task, a name for it.
        tag: `to_name` of its regions; None: of all regions.
        item: `item_index` of its regions; None: of all regions.
        embedded: whether the task holds the picture itself.
    """

    address: str
    tag: str | None = None
    item: int | None = None
    embedded: bool = False

    def has(self, region: dict[str, Any]) -> bool:
        """Returns whether a region lies on this picture."""
        if self.tag is not None and region.get("to_name") != self.tag:
            return False
        return self.item is None or region.get("item_index") == self.item


def image_tags(config: Path) -> dict[str, str]:
    """Maps the name of each Image tag of a labelling configuration to its key in `data`."""
    if not config.is_file():
        return {}
    found = {}
    for element in root_of(config, "View").iter("Image"):
        value = element.get("valueList") or element.get("value") or ""
        if value.startswith("$"):
            found[element.get("name", "")] = value[1:]
    return found


def pictures_of(
    task: dict[str, Any], results: list[Any], tags: dict[str, str], *, where: str
) -> list[Picture]:
    """Returns the pictures of a task.

    They are the values that the configuration names, else those that look like a
    picture. Of several, the regions' `to_name` chooses, else the key is `image`.

    Args:
        task: with `data`.
        results: the task's results.
        tags: see `image_tags`.
        where: the task, which names a picture inside it.
    Raises:
        ValueError: there is none, or it is not clear which; the message has the keys.
    """
    data = task["data"]
    keys = {tag: key for tag, key in tags.items() if _addresses(data.get(key))}
    if not keys:
        named = {r.get("to_name") for r in results if isinstance(r, dict)}
        keys = {key: key for key in _keys(data, named)}
    one_tag = len(keys) == 1
    found = []
    for tag, key in keys.items():
        value = data[key]
        for item, address in enumerate(_addresses(value)):
            embedded = address.startswith(_EMBEDDED)
            name = f"{where.replace(' ', '-')}{f'-{item}' if isinstance(value, list) else ''}"
            number = item if isinstance(value, list) and len(value) > 1 else None
            found.append(
                Picture(
                    f"{name}.{_ending(address)}" if embedded else address,
                    None if one_tag else tag,
                    number,
                    embedded,
                )
            )
    return found


def _keys(data: dict[str, Any], named: set[Any]) -> list[str]:
    """The keys of the pictures."""
    looks = [key for key, value in data.items() if _is_picture(value)]
    if not looks:
        looks = [key for key, value in data.items() if isinstance(value, str) and _is_link(value)]
    chosen = [key for key in looks if key in named]
    if not chosen and _addresses(data.get("image")):
        chosen = ["image"]
    if chosen or len(looks) == 1:
        return chosen or looks
    if looks:
        raise ValueError(f"it may be any of {', '.join(looks)[:80]}")
    raise ValueError(f"its data has {', '.join(map(str, data))[:80] or 'no keys'}")


def _addresses(value: object) -> list[str]:
    values: list[Any] = value if isinstance(value, list) else [value]
    return values if all(isinstance(v, str) and v for v in values) else []


def _is_picture(value: object) -> bool:
    found = _addresses(value)
    return bool(found) and all(
        a.startswith((_EMBEDDED, "/data/upload/", "/data/local-files/"))
        or PurePosixPath(_path(a)[-1] if _path(a) else "").suffix.lower() in PHOTOGRAPHS
        for a in found
    )


def _is_link(text: str) -> bool:
    return not re.search(r"\s", text) and ("://" in text or text.startswith("/"))


def _ending(address: str) -> str:
    found = re.match(r"data:image/(\w+)", address)
    kind = found[1].lower() if found else "png"
    return "jpg" if kind == "jpeg" else kind


def _split(address: str) -> SplitResult | None:
    """The parts of an address; None of a plain path, or of what is none, as https://[ is."""
    if not re.match(r"[a-z][\w+.-]+://|/", address):
        return None
    try:
        return urlsplit(address)
    except ValueError:
        return None


def _path(address: str) -> tuple[str, ...]:
    """The folders and the name in an address; of a bucket or host, it comes first."""
    parts = _split(address)
    if parts is None:
        plain = re.sub(r"(\.\w+)\?.*$", r"\1", address.replace("\\", "/"))
        return _below(unquote(re.sub(r"^[A-Za-z]:", "", plain)))
    query = parse_qs(parts.query)
    if "d" in query and parts.path.endswith("/local-files/"):
        return _below(query["d"][0].replace("\\", "/"))
    if "fileuri" in query:
        return _path(_decoded(query["fileuri"][0]))
    if parts.scheme not in (*_WEB, ""):  # keys of a storage may hold ? and #
        rest = address.split("://", 1)[1]
        return _below(unquote(rest))
    names = (v for values in query.values() for v in values)
    if PurePosixPath(parts.path).suffix.lower() not in PHOTOGRAPHS:
        name = next((v for v in names if PurePosixPath(v).suffix.lower() in PHOTOGRAPHS), None)
        if name is not None:
            return (*_below(parts.netloc), *_below(name))
        if parts.query:
            stem = re.sub(r"[^\w.=-]+", "-", parts.query)
            return _below(f"{parts.netloc}{unquote(parts.path)}-{stem}")
    return _below(parts.netloc + unquote(parts.path))


def _below(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split("/") if part)


def _decoded(text: str) -> str:
    """The address behind Label Studio's own link to a file in a storage."""
    try:
        padded = text + "=" * (-len(text) % 4)
        return base64.urlsafe_b64decode(padded).decode()
    except (binascii.Error, UnicodeDecodeError):
        return text


def file_names(addresses: Iterable[str], images: Path | None) -> dict[str, str | None]:
    """Returns the file name of each address.

    It is the longest end of the address that is a photograph below `images`, with or
    without the prefix of uploads. Otherwise it is the path of a local storage, else the
    last part. If two addresses have the same last part, all names keep their folders
    below the common one. None: another address has the same photograph below `images`.
    """
    paths = {address: _path(address) for address in addresses}
    found = {a: name for a, path in paths.items() if (name := _found(path, images)) is not None}
    often = Counter(found.values())
    clear: dict[str, str | None] = {
        a: name if often[name] == 1 else None for a, name in found.items()
    }
    rest = {a: path for a, path in paths.items() if a not in clear}
    local = {a: "/".join(path) for a, path in rest.items() if _is_local(a)}
    far = {a: path for a, path in rest.items() if a not in local}
    clash = len({path[-1:] for path in far.values()}) < len(set(far.values()))
    common = _common(list(far.values())) if clash else -1
    return clear | local | {a: "/".join(path[common:]) for a, path in far.items()}


def _is_local(address: str) -> bool:
    return "/local-files/?" in address


def _common(paths: list[tuple[str, ...]]) -> int:
    """Number of folders that all paths begin with."""
    shortest = max(0, min(len(path) for path in paths) - 1)
    same = (len({path[k] for path in paths}) == 1 for k in range(shortest))
    return next((k for k, alike in enumerate(same) if not alike), shortest)


def _found(path: tuple[str, ...], images: Path | None) -> str | None:
    if images is None or not path:
        return None
    bare = (*path[:-1], _UPLOAD.sub("", path[-1]))
    tries = ("/".join(p[k:]) for k in range(len(path)) for p in (path, bare))
    return next((t for t in tries if not leads_out(t) and (images / t).is_file()), None)
