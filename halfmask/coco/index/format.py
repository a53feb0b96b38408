"""What stands in the index of a COCO file: an Arrow file with one row an image, its
annotations a list in it.

Any Arrow reader opens it. States are places in MASK_STATES, one for each of USES;
`offset` and `length` say at which bytes of the JSON file a record stands, where
halfmask reads what no column holds.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halfmask._version import __version__
from halfmask.coco.supervision import MaskState, Use

FORMAT = 1
KEY = b"halfmask"
"""Of the schema's metadata: one JSON object."""

MASK_STATES = tuple(MaskState)
USES: tuple[Use, ...] = ("annotated", "accepted", "filled")

SPOOLED = np.dtype(
    [
        ("image", np.int32),
        ("id", np.int64),
        ("category", np.int64),
        ("box", np.float32, 4),
        ("states", np.uint8, len(USES)),
        ("noted", np.uint8),
        ("offset", np.uint64),
        ("length", np.uint32),
    ]
)
"""An annotation on its way into the index."""

_SAMPLES, _SAMPLE = 16, 1 << 14
_END = 1 << 20


@dataclass(frozen=True)
class Source:
    """What pins down the content of a file without reading all of it: size, time of
    change, and a digest of both ends and of samples between them.
    """

    size: int
    changed: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> Source:
        """Of a file as it is now."""
        digest = hashlib.blake2b(digest_size=16)
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            size = state.st_size
            places = {0: _END, max(0, size - _END): _END} | {
                k * size // _SAMPLES: _SAMPLE for k in range(1, _SAMPLES)
            }
            for place, length in sorted(places.items()):
                file.seek(place)
                digest.update(file.read(length))
        return cls(size, state.st_mtime_ns, digest.hexdigest())


def schema() -> Any:
    """The Arrow schema, without metadata."""
    import pyarrow as pa

    annotation = pa.struct(
        [
            pa.field("id", pa.int64(), False),
            pa.field(
                "label", pa.int32(), False
            ),  # place of its category among the sorted ids, from 1
            pa.field(
                "box", pa.list_(pa.field("side", pa.float32(), False), 4), False
            ),  # xyxy, clipped to the image
            *(pa.field(f"state_{use}", pa.uint8(), False) for use in USES),
            pa.field("noted", pa.uint8(), False),  # 1: the record has a note of halfmask's
            pa.field("offset", pa.uint64(), False),
            pa.field("length", pa.uint32(), False),
        ]
    )
    return pa.schema(
        [
            pa.field("id", pa.int64(), False),
            pa.field("height", pa.int32(), False),
            pa.field("width", pa.int32(), False),
            pa.field("offset", pa.uint64(), False),
            pa.field("length", pa.uint32(), False),
            pa.field("file_name", pa.large_string(), False),
            pa.field("annotations", pa.list_(pa.field("annotation", annotation, False)), False),
        ]
    )


def metadata(source: Source, facts: dict[str, Any]) -> dict[bytes, bytes]:
    """The schema's metadata: the format, what the index was made of, and `facts`."""
    text = json.dumps({"format": FORMAT, "version": __version__, "source": asdict(source), **facts})
    return {KEY: text.encode()}


def is_of(facts: dict[str, Any], source: Source) -> bool:
    """Whether metadata are those of an index that this halfmask made of such a source."""
    return (
        facts.get("format") == FORMAT
        and facts.get("version") == __version__
        and facts.get("source") == asdict(source)
    )
