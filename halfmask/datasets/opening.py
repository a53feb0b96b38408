"""Opens the data set of a call that writes, and guards what it writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from halfmask.files.guard import Given, Output, guard
from halfmask.formats.source import DataSource, open_source


def open_guarded(
    data: str | Path,
    outputs: Sequence[Output],
    inputs: Iterable[Given] = (),
    *,
    images: str | Path | None = None,
    **options: Any,
) -> DataSource:
    """Opens a data set for a call whose outputs must not be what it reads.

    Args:
        data: as for `open_source`.
        outputs: what the call writes.
        inputs: what it reads beside the data set.
        images: as for `open_source`.
        options: of `open_source`.
    Raises:
        InputError: see `guard`, before anything is read, and again when the data set
            has said where its photographs are; and see `open_source`.
    """
    read = (data, images, *inputs)
    guard(outputs, inputs=read, photographs=[images])
    opened = open_source(data, images=images, **options)
    opened.guard(outputs, *read)
    return opened
