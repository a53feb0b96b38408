"""A COCO file that has everything which real ones have, with its photographs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

torch.set_num_threads(1)

RLE = {"size": [48, 64], "counts": [500, 30, 18, 30, 2494]}
POLYGON = [[3.5, 4.25, 30, 5, 28, 40, 4, 38]]
NOTE = {"model": "old@1", "score": 0.5, "state": "filled"}


def every_kind(image: int, first: int) -> list[dict[str, Any]]:
    """One annotation of each kind, ids from `first` on; `kind` is a key that COCO does
    not know and that must stay.
    """

    def row(
        k: int, kind: str, category: int = 2, bbox: Any = (4, 4, 30, 36), **more: Any
    ) -> dict[str, Any]:
        box = list(bbox) if isinstance(bbox, tuple) else bbox
        return {
            "kind": kind,
            "id": first + k,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            **more,
        }

    return [
        row(0, "polygon", segmentation=POLYGON, area=800.5, iscrowd=0),
        row(1, "missing", 5, area=1080, iscrowd=0, extra={"who": ["kept", 1.50]}),
        row(2, "rle", segmentation=RLE, area=60, iscrowd=0),
        row(3, "null", segmentation=None, iscrowd=0),
        row(4, "empty", 7, (10.5, 3.25, 40, 41.5), segmentation=[], iscrowd=0),
        row(5, "broken", 5, segmentation={"size": [48, 64], "counts": "~~"}, iscrowd=0),
        row(6, "suspect", segmentation=[[4, 4, 34, 4, 34, 40, 4, 40]], iscrowd=0),
        row(7, "crowd", segmentation=RLE, iscrowd=1),
        row(8, "empty crowd", segmentation=[], iscrowd=1),
        row(9, "outside", 2, (100, 100, 5, 5)),
        row(10, "no area", 2, (5, 5, 0, 5)),
        row(11, "no box", 2, None),
        row(12, "no class", 99),
        row(13, "unknown to the model", 9, (-3, -2, 20, 70)),
        row(14, "filled", segmentation=RLE, halfmask=NOTE),
        row(15, "accepted", segmentation=RLE, halfmask=NOTE | {"state": "accepted"}),
        row(16, "rejected", segmentation=RLE, halfmask=NOTE | {"state": "rejected"}),
        row(17, "redrawn", segmentation=POLYGON, halfmask=NOTE | {"state": "redrawn"}),
        row(18, "thin", 2, (20.4, 10.2, 0.3, 0.2)),
    ]


WritesFile = Callable[..., Path]


@pytest.fixture
def write_file(tmp_path: Path) -> WritesFile:
    """Writes photos/ and in.json with some images and their annotations; returns the
    JSON's path.
    """

    def write(annotations: list[Any] | None = None, images: int = 3, **changes: Any) -> Path:
        folder = tmp_path / "photos"
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        for i in range(1, images + 1):
            Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(
                folder / f"{i}.png"
            )
        rows = annotations
        if rows is None:
            rows = [a for i in range(1, images + 1) for a in every_kind(i, 100 * i)]
            rows = rows[::2] + rows[1::2]  # images interleaved, as in COCO's own files
        document = {
            "licenses": [{"id": 1}],
            "info": {"description": "kept", "year": 2017},
            "annotations": rows,
            "images": [
                {"id": i, "file_name": f"{i}.png", "width": 64, "height": 48}
                for i in range(1, images + 1)
            ],
            "categories": [
                {"id": c, "name": n} for c, n in [(9, "zebra"), (2, "cat"), (5, "dog"), (7, "tree")]
            ],
            "more": None,
        }
        path = tmp_path / "in.json"
        path.write_text(json.dumps(document | changes, indent=1))
        return path

    return write
