"""Ways to spoil a COCO file, of its text and of its document; the same random state
gives the same bytes.
"""

from __future__ import annotations

import copy
import json
import random
import re
from typing import Any

RAW = {
    "@1e400": b"1e400",
    "@-1e400": b"-1e400",
    "@NaN": b"NaN",
    "@Infinity": b"Infinity",
    "@-0": b"-0.0",
}
"""Stand-ins for what json cannot write."""
HOSTILE: list[Any] = [
    *RAW, None, [], {}, "", -1, 0, 1, 0.5, True, False, 2**31, 2**63, 2**70, -(2**70), 1e308, 5e-324, "1", "abc", "\ud800", "\x00",
    "../../x.jpg", "/etc/passwd", "é" * 300, [[]], [[[]]], [[[[1]]]], [None], [{}], [""], {"": {}}, [[1, 2, 3]], [[1, 2, 3, 4, 5]],
    [[0, 0, 9, 0, 9, 9]], [[0, 0, 0, 0, 0, 0]], [[2**70] * 6], ["@NaN"] * 4, [["@NaN"] * 6], [["@1e400"] * 8], [0, 0, 0, 0], [5, 5, -3, -3],
    [2**70] * 4, [1e308] * 4, ["1", "2", "3", "4"], [True] * 4, {"size": [48, 48], "counts": []}, {"size": [48, 48], "counts": "0"},
    {"size": [48, 48], "counts": [0, 2304]}, {"size": [48, 48], "counts": [2**40, -1]}, {"size": [2**31, 2**31], "counts": [2**62]},
    {"size": None, "counts": None}, {"counts": "PPPPPP"}, {"size": [48, 48], "counts": "\ud800"}, {"state": "filled"}, {"state": []},
]  # fmt: skip
TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"null",
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"\\ud800",
    b"\xff",
    b"\x00",
    b"\xef\xbb\xbf",
]


def mutate(text: bytes, rng: random.Random) -> bytes:
    """One to four faults in a file: half of the cases in its document, half in its
    text, some in both.
    """
    level = rng.random()
    if level < 0.6:
        document = json.loads(text)
        for _ in range(rng.randint(1, 4)):
            _spoil(document, rng)
        text = _dumped(document)
    if level > 0.5:
        for _ in range(rng.randint(1, 3)):
            text = rng.choice(_OF_TEXT)(text, rng)
    return text


def _dumped(document: object) -> bytes:
    text = json.dumps(document).encode()
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"'.encode(), raw)
    return text


def _spoil(document: Any, rng: random.Random) -> None:
    """Walks to a random place, more likely deep than not, and changes it."""
    at = document
    while isinstance(at, (dict, list)) and at:
        key = rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
        value = at[key]
        if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
            at = value
            continue
        kind = rng.random()
        if kind < 0.65:
            at[key] = copy.deepcopy(rng.choice(HOSTILE))
        elif kind < 0.75:
            del at[key]
        elif kind < 0.85 and isinstance(at, list):
            at.append(copy.deepcopy(value))
        elif kind < 0.95 and isinstance(value, (int, float)):
            at[key] = rng.choice(
                [value + 1, -value, value * 1e6, str(value), float(value), value * 2**64]
            )
        elif isinstance(at, dict):
            at[rng.choice(list(at))] = value
        return


def _flip(text: bytes, rng: random.Random) -> bytes:
    spoilt = bytearray(text)
    for _ in range(rng.randint(1, 5)):
        if spoilt:
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def _cut(text: bytes, rng: random.Random) -> bytes:
    return text[: rng.randrange(len(text) + 1)]


def _insert(text: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(TOKENS) + text[place:]


def _swap(text: bytes, rng: random.Random) -> bytes:
    """One value or key becomes another token of the file, or a hostile one."""
    found = list(re.finditer(rb'"[^"]*"|-?\d[\d.eE+-]*|null|true|false', text[:40000]))
    if not found:
        return text
    one, other = rng.choice(found), rng.choice(found)
    new = other.group() if rng.random() < 0.5 else _dumped(rng.choice(HOSTILE))
    return text[: one.start()] + new + text[one.end() :]


def _head(text: bytes, rng: random.Random) -> bytes:
    """A byte order mark, other encodings, text before and after."""
    kind = rng.randrange(5)
    if kind == 0:
        return b"\xef\xbb\xbf" + text
    if kind == 1:
        return text.decode("utf-8", "replace").encode(rng.choice(["utf-16", "utf-32"]), "replace")
    return [text + text, text + b"x", b"\n \t" + text + b"\n"][kind - 2]


def _double(text: bytes, rng: random.Random) -> bytes:
    """A key twice in its object."""
    found = list(re.finditer(rb'"[a-z_]+": ', text))
    if not found:
        return text
    key = rng.choice(found)
    return (
        text[: key.start()]
        + key.group()
        + _dumped(rng.choice(HOSTILE))
        + b", "
        + text[key.start() :]
    )


def _nest(text: bytes, rng: random.Random) -> bytes:
    depth = rng.choice([10, 600, 1100, 20000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    found = list(re.finditer(rb": (?=[\[\d\"])", text))
    nested = opening * depth + b"1" + closing * depth
    if not found:
        return nested
    place = rng.choice(found).end()
    return text[:place] + nested + b', "x": ' + text[place:]


_OF_TEXT = [_flip, _flip, _cut, _insert, _swap, _swap, _head, _double, _nest]
