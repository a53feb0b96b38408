"""Reads the lists of a large JSON object in chunks, with the byte span of each item.

Brackets outside of strings are found with array operations; the text between them is
parsed, many items in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from halfmask.coco.scan.batch import MIB, Decode, ListBatch
from halfmask.coco.scan.state import Scan
from halfmask.errors import InputError
from halfmask.files.regular import open_regular
from halfmask.progress import Progress

CHUNK = 4 * MIB
"""Bytes that are read at once."""


def scan_lists(
    path: Path,
    take: Callable[[str], bool],
    *,
    progress: Progress | None = None,
    constants: set[str] | None = None,
    decode: Decode | None = None,
    on_chunk: Callable[[bytes], object] = len,
    chunk_bytes: int | None = None,
) -> Iterator[ListBatch]:
    """Yields the items of the lists at the root of a COCO file, in file order.

    Args:
        path: a UTF-8 JSON file with COCO's three lists at its root.
        take: called with the name of each list where it begins; returns whether its
            items are wanted. Other lists are skipped unparsed.
        progress: called after each chunk; counts MiB.
        constants: receives NaN, Infinity and -Infinity if the file has them.
        decode: reads items faster than Python's JSON reader; None: nothing does.
        on_chunk: called with each chunk of the file, for a digest of it.
        chunk_bytes: bytes read at once; None: CHUNK. Smaller chunks need less memory.
    Raises:
        InputError: the file is unreadable, not JSON, cut short, or no object with the
            lists images, annotations, categories.
    """
    scan = Scan(
        path=path, take=take, constants=set() if constants is None else constants, decode=decode
    )
    try:
        total = -(-path.stat().st_size // MIB)
        with open_regular(path) as file:
            while chunk := file.read(chunk_bytes or CHUNK):
                on_chunk(chunk)
                yield from scan.read(chunk)
                if progress is not None:
                    progress(f"reading {path.name} (MiB)", -(-scan.end // MIB), total)
            yield from scan.rest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    scan.finish()
