"""The format of an index: Arrow, one row per image with a list of its annotations.

Any Arrow reader opens it. A state is a position in MASK_STATES, one for each of USES.
`offset` and `length` locate a record in the JSON file, from which halfmask reads what
no column holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfmask._version import __version__
from halfmask.coco.supervision import MaskState, Use
from halfmask.files.regular import open_regular

Array = NDArray[Any]

FORMAT = 3
KEY = b"halfmask"
"""Key of the schema's metadata; its value is a JSON object."""
CHECK = b"crc32"
"""Key of the checksum of a record batch, and of the schema's metadata."""

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
"""Row of an annotation in the temporary files."""

_SAMPLES, _SAMPLE = 16, 1 << 14
_END = 1 << 20


@dataclass(frozen=True)
class Source:
    """Identifies the content of a file without reading all of it.

    Attributes:
        size: bytes.
        changed: time of the last change, ns.
        digest: of both ends of the file and of samples between them.
    """

    size: int
    changed: int
    digest: str

    @classmethod
    def of(cls, path: Path) -> Source:
        """Identifies the current content of a file."""
        digest = hashlib.blake2b(digest_size=16)
        with open_regular(path) as file:
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
    """Returns the Arrow schema, without metadata."""
    import pyarrow as pa

    annotation = pa.struct(
        [
            pa.field("id", pa.int64(), False),
            # Position of the category among the sorted ids, from 1.
            pa.field("label", pa.int32(), False),
            # xyxy, clipped to the image.
            pa.field("box", pa.list_(pa.field("side", pa.float32(), False), 4), False),
            *(pa.field(f"state_{use}", pa.uint8(), False) for use in USES),
            pa.field("noted", pa.uint8(), False),  # 1: the record has a halfmask note
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
    """Returns the schema's metadata: format, version, source and `facts`."""
    made = {"format": FORMAT, "version": __version__, "source": asdict(source), **facts}
    text = json.dumps(made).encode()
    return {KEY: text, CHECK: b"%08x" % zlib.crc32(text)}


def checksum(batch: Any) -> bytes:
    """Returns the checksum of a record batch: of all values, however Arrow keeps them."""
    crc = 0
    for array in _arrays(batch):
        crc = zlib.crc32(np.ascontiguousarray(array).data.cast("B"), crc)
    return b"%08x" % crc


def _arrays(batch: Any) -> Iterator[Array]:
    names, lists = batch.column("file_name"), batch.column("annotations")
    _, places, text = names.buffers()
    ends = np.frombuffer(places, np.int64)[names.offset : names.offset + len(names) + 1]
    yield ends - ends[0]
    if text is not None:
        yield np.frombuffer(text, np.uint8)[ends[0] : ends[-1]]
    for name in ("id", "height", "width", "offset", "length"):
        yield batch.column(name).to_numpy(zero_copy_only=True)
    yield lists.offsets.to_numpy(zero_copy_only=True)
    for column in lists.values.flatten():
        flat = column.flatten() if column.type.num_fields else column
        yield flat.to_numpy(zero_copy_only=True)


def is_of(facts: dict[str, Any], source: Source) -> bool:
    """Whether metadata belong to an index that this version made from this source."""
    return (
        facts.get("format") == FORMAT
        and facts.get("version") == __version__
        and facts.get("source") == asdict(source)
    )
