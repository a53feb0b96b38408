"""Very large photographs: drawn in parts, decoded once, with the same masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from halfmask.coco.file import CocoFile
from halfmask.coco.photographs.reader import PhotographReader
from halfmask.inference.complete import photographs, windows
from halfmask.inference.complete import plan as planning
from halfmask.inference.complete.windows import GRID, window_of
from halfmask.inference.predictor import Predictor, load
from halfmask.labelling.complete import complete
from halfmask.masks.crops import MaskCrops, decode, iou

HEIGHT, WIDTH = 700, 900


@pytest.fixture(scope="module")
def model(tiny_segmenter: Path) -> Predictor:
    return load(tiny_segmenter, device="cpu")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (70, 90, 3), dtype=np.uint8))
    (tmp_path / "photos").mkdir()
    small.resize((WIDTH, HEIGHT)).save(tmp_path / "photos" / "1.png")
    boxes = []
    for _ in range(30):
        side = np.exp(rng.uniform(np.log(4), np.log(500), 2)).clip(max=[WIDTH - 2, HEIGHT - 2])
        low = rng.uniform(0, [WIDTH, HEIGHT] - side)
        boxes.append([*low.tolist(), *side.tolist()])
    rows = [
        {"id": k + 1, "image_id": 1, "category_id": 2, "bbox": box, "iscrowd": 0}
        for k, box in enumerate(boxes)
    ]
    document = {
        "images": [{"id": 1, "file_name": "1.png", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 2, "name": "cat"}],
        "annotations": rows,
    }
    path = tmp_path / "in.json"
    path.write_text(json.dumps(document))
    return path


def masks_of(path: Path) -> tuple[MaskCrops, list[float]]:
    rows = json.loads(path.read_text())["annotations"]
    found = [decode(row["segmentation"], (HEIGHT, WIDTH)) for row in rows]
    crops = MaskCrops.from_bitmaps([b for b, _ in found], [p for _, p in found], (HEIGHT, WIDTH))
    return crops, [row["halfmask"]["score"] for row in rows]


def test_parts_give_the_masks_of_the_whole(
    model: Predictor,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = source.parent / "photos"
    complete(model, source, images=folder, out=source.parent / "whole.json")
    for module in (planning, photographs, windows):
        monkeypatch.setattr(module, "BATCH_PIXELS", 100_000)
    monkeypatch.setattr(planning, "TILE", 256)
    monkeypatch.setattr(planning, "BATCH_BOXES", 8)
    seen: list[tuple[int, ...]] = []
    decoded: list[int] = []
    segment, read = Predictor.segment_batch, PhotographReader.read

    def noted(self: Predictor, images: Any, *rest: Any, **more: Any) -> Any:
        seen.extend(image.shape[:2] for image in images)
        return segment(self, images, *rest, **more)

    def counted(self: PhotographReader, image: Any, size: Any) -> Any:
        decoded.append(image["id"])
        return read(self, image, size)

    monkeypatch.setattr(Predictor, "segment_batch", noted)
    monkeypatch.setattr(PhotographReader, "read", counted)
    with caplog.at_level("INFO", "halfmask"):
        complete(model, source, images=folder, out=source.parent / "parts.json")
    assert "drawn in parts" in caplog.text
    assert decoded == [1], "the photograph is decoded once"
    assert len(seen) > 4
    assert min(h * w for h, w in seen) < HEIGHT * WIDTH / 2
    (wanted, old), (found, new) = (
        masks_of(source.parent / f"{n}.json") for n in ("whole", "parts")
    )
    assert float(iou(wanted, found).min()) > 0.98
    np.testing.assert_allclose(old, new, atol=2e-3)


def test_boxes_are_grouped_by_place_and_none_is_lost(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "BATCH_PIXELS", 100_000)
    monkeypatch.setattr(planning, "TILE", 256)
    work = planning.plan(CocoFile.read(source))
    pieces = [piece for batch in work.batches for piece in batch]
    assert sorted(p for piece in pieces for p in piece.positions) == list(range(30))
    for piece in pieces:
        tiles = {((y0 + y1) // 512, (x0 + x1) // 512) for x0, y0, x1, y1 in piece.boxes}
        assert len(tiles) == 1
    assert list(work.large) == [1]


def test_windows_lie_on_the_grid_and_rules_see_the_whole(model: Predictor) -> None:
    pixels = np.zeros((5000, 4000, 3), np.uint8)
    window = window_of(model, pixels, [(1000.0, 2000.0, 1100.0, 2100.0)])
    assert (window.x0 % GRID, window.y0 % GRID) == (0, 0)
    assert window.x0 < 1000 - 22
    assert window.x1 > 1100 + 22
    assert window.cut(pixels).size < pixels.size / 100
    edge = window_of(model, pixels, [(3990.0, 4990.0, 4000.0, 5000.0)])
    assert (edge.x1, edge.y1) == (4000, 5000)
    whole = window_of(load("baseline:box"), pixels, [(0.0, 0.0, 9.0, 9.0)])
    assert (whole.x1, whole.y1) == (4000, 5000)
