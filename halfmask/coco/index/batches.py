"""Record batches of the index: the spooled annotations of some images, in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from halfmask.coco.index.format import SPOOLED, USES, Array, schema
from halfmask.coco.index.images import IndexImages


def record_batches(
    images: IndexImages, category_ids: Array, spool: Path, *, images_a_part: int, dropped: Array
) -> Iterator[Any]:
    """Yields one Arrow record batch for each part of the images.

    Args:
        images: all usable images.
        category_ids: int64, ascending.
        spool: folder with one file of SPOOLED rows for each part.
        images_a_part: images in each part but the last.
        dropped: offsets of annotations to leave out.
    """
    names = images.all_names()
    for first in range(0, len(images), images_a_part):
        last = min(first + images_a_part, len(images))
        rows = np.fromfile(spool / str(first // images_a_part), dtype=SPOOLED)
        rows = rows[~np.isin(rows["offset"], dropped)] if len(dropped) else rows
        labels = labels_of(category_ids, rows["category"])
        rows, labels = rows[labels > 0], labels[labels > 0]
        order = np.argsort(rows["image"], kind="stable")
        rows, labels = rows[order], labels[order]
        counts = np.bincount(rows["image"] - first, minlength=last - first)
        own = {name: column[first:last] for name, column in images.table.items()}
        own["file_name"] = names.slice(first, last - first).combine_chunks()
        yield _batch(own, counts, rows, labels=labels)


def _batch(own: dict[str, Any], counts: Array, rows: Array, *, labels: Array) -> Any:
    import pyarrow as pa

    form = schema()
    item = form.field("annotations").type.value_type
    fields = [item.field(k) for k in range(item.num_fields)]
    columns = {"id": rows["id"], "label": labels, "box": rows["box"], "noted": rows["noted"]}
    columns |= {f"state_{use}": rows["states"][:, k] for k, use in enumerate(USES)}
    columns |= {"offset": rows["offset"], "length": rows["length"]}
    children = [_arrow(columns[field.name], field.type) for field in fields]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = pa.StructArray.from_arrays(children, fields=fields)
    kind = form.field("annotations").type
    own["annotations"] = pa.ListArray.from_arrays(pa.array(starts), values, type=kind)
    arrays = [_arrow(own[name], form.field(name).type) for name in form.names]
    return pa.RecordBatch.from_arrays(arrays, schema=form)


def labels_of(category_ids: Array, wanted: Array) -> Array:
    """Returns int32, 1 + the index of each in sorted `category_ids`; 0 if absent."""
    if not len(category_ids):
        return np.zeros(len(wanted), dtype=np.int32)
    place = np.minimum(np.searchsorted(category_ids, wanted), len(category_ids) - 1)
    return np.where(category_ids[place] == wanted, place + 1, 0).astype(np.int32)


def _arrow(column: Any, kind: Any) -> Any:
    import pyarrow as pa

    if isinstance(column, pa.Array):
        return column
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ascontiguousarray(column).reshape(-1), kind.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(np.ascontiguousarray(column), kind)
