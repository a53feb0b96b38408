"""`python -m halfmask.bench.evaluation_probe WHO IMAGES TRUTH DETECTIONS OUT`: evaluates the generated set, writes the tables to OUT.npz,
and prints seconds and peak memory as a line of JSON."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from typing import Any

import numpy as np

from halfmask.bench.child import limit_memory, peak_memory
from halfmask.bench.evaluation_data import categories, made_up_images
from halfmask.evaluation.average_precision import Kind, PrecisionStream, without

MODULE = "halfmask.bench.evaluation_probe"
KINDS: tuple[Kind, ...] = ("bbox", "segm")
_DROPPED = {"bbox": "segmentation", "segm": "bbox"}


def ours(sizes: tuple[int, int, int], out: str) -> dict[str, Any]:
    """Image by image, as `evaluate` does; the time it takes to make up the next image is not counted."""
    streams = {kind: PrecisionStream(categories(), kind) for kind in KINDS}
    seconds: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    for image in made_up_images(*sizes):
        for kind, stream in streams.items():
            start = time.perf_counter()
            stream.add(image.image, image.truth, [without(record, _DROPPED[kind]) for record in image.found])
            seconds[kind] += time.perf_counter() - start
    tables: dict[str, Any] = {}
    for kind, stream in streams.items():
        start = time.perf_counter()
        table = stream.table()
        seconds[kind] += time.perf_counter() - start
        tables |= {f"{kind}_precision": table.precision, f"{kind}_recall": table.recall, f"{kind}_stats": table.stats()}
    np.savez(out, **tables)
    return {**seconds, "peak": peak_memory()}


def peer(sizes: tuple[int, int, int], out: str) -> dict[str, Any]:
    """The same records, all at once, to pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    limit_memory()
    every = list(made_up_images(*sizes))
    seconds: dict[str, float] = {}
    tables: dict[str, Any] = {}
    for kind in KINDS:
        found = [without(record, _DROPPED[kind]) for image in every for record in image.found]
        truth = [dict(record) for image in every for record in image.truth]
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            file = COCO()
            file.dataset = {"images": [i.image for i in every], "categories": categories(), "annotations": truth}
            file.createIndex()
            evaluation = COCOeval(file, file.loadRes(found), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        seconds[kind] = time.perf_counter() - start
        tables |= {f"{kind}_{key}": evaluation.eval[key] for key in ("precision", "recall")}
        tables[f"{kind}_stats"] = evaluation.stats
    np.savez(out, **tables)
    return {**seconds, "peak": peak_memory()}


if __name__ == "__main__":
    images, truth, detections = (int(value) for value in sys.argv[2:5])
    print(json.dumps({"ours": ours, "peer": peer}[sys.argv[1]]((images, truth, detections), sys.argv[5])))
