"""`python -m benchmarks.scale.evaluation_probe WHO IMAGES TRUTH DETECTIONS OUT`: evaluates
the generated set, writes the tables to OUT.npz, and prints seconds and peak memory as a
line of JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.child import limit_memory, peak_memory
from benchmarks.scale.evaluation_data import categories, made_up_images
from halfmask.evaluation.measures.average_precision import Kind, PrecisionStream, without

MODULE = "benchmarks.scale.evaluation_probe"
KINDS: tuple[Kind, ...] = ("bbox", "segm")
_DROPPED = {"bbox": "segmentation", "segm": "bbox"}


class _Clock:
    """Seconds by name, and CPU seconds of all threads together."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {"cpu": 0.0}

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[None]:
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - start
        self.spent["cpu"] += time.process_time() - cpu


def ours(sizes: tuple[int, int, int], out: str) -> dict[str, Any]:
    """Image by image, as `evaluate` does; the time it takes to make up the next image
    is not counted.
    """
    streams = {kind: PrecisionStream(categories(), kind) for kind in KINDS}
    clock = _Clock()
    for image in made_up_images(*sizes):
        truth = {
            "bbox": [without(record, "segmentation") for record in image.truth],
            "segm": image.truth,
        }
        found = {
            kind: [without(record, _DROPPED[kind]) for record in image.found] for kind in KINDS
        }
        for kind, stream in streams.items():
            with clock.running(kind):
                stream.add(image.image, truth[kind], found[kind])
    tables: dict[str, Any] = {}
    for kind, stream in streams.items():
        with clock.running(kind):
            table = stream.table()
        tables |= {
            f"{kind}_precision": table.precision,
            f"{kind}_recall": table.recall,
            f"{kind}_stats": table.stats(),
        }
    np.savez(out, **tables)
    return {**clock.spent, "peak": peak_memory()}


def peer(sizes: tuple[int, int, int], out: str) -> dict[str, Any]:
    """The same records, all at once, to pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    limit_memory()
    every = list(made_up_images(*sizes))
    clock = _Clock()
    tables: dict[str, Any] = {}
    for kind in KINDS:
        found = [without(record, _DROPPED[kind]) for image in every for record in image.found]
        truth = [dict(record) for image in every for record in image.truth]
        with clock.running(kind), contextlib.redirect_stdout(io.StringIO()):
            file = COCO()
            file.dataset = {
                "images": [i.image for i in every],
                "categories": categories(),
                "annotations": truth,
            }
            file.createIndex()
            evaluation = COCOeval(file, file.loadRes(found), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        tables |= {f"{kind}_{key}": evaluation.eval[key] for key in ("precision", "recall")}
        tables[f"{kind}_stats"] = evaluation.stats
    np.savez(out, **tables)
    return {**clock.spent, "peak": peak_memory()}


if __name__ == "__main__":
    images, truth, detections = (int(value) for value in sys.argv[2:5])
    print(
        json.dumps(
            {"ours": ours, "peer": peer}[sys.argv[1]]((images, truth, detections), sys.argv[5])
        )
    )
