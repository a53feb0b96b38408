"""`bench inference` on given boxes, with a stand-in for SAM."""

from pathlib import Path

import pytest
import torch

from benchmarks.speed import inference_boxes as bench
from halfmask.inference.export.samples import Sample
from halfmask.masks.paste import paste

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


@pytest.mark.slow
def test_rows_and_masks_of_both_ways(tmp_path: Path) -> None:
    seen = []

    def peer(image: torch.Tensor, boxes: torch.Tensor) -> object:
        seen.append(image)
        return paste(
            torch.ones(len(boxes), 4, 4),
            boxes,
            boxes,
            image_size=(int(image.shape[1]), int(image.shape[2])),
        )

    given = bench.photographs()[:2]
    assert all(boxes.shape == (bench.BOXES, 4) for _, boxes in given)
    image, boxes = given[0]
    calibration = [Sample(image, boxes[:2], torch.zeros(2, dtype=torch.int64))]
    result = bench.measured(tmp_path, given, {bench.PEER: peer}, 1, calibration)
    assert [image is given[k][0] for k, image in enumerate(seen)] == [True, True]
    timed, checks = result.rows[:7], result.rows[7:]
    assert all(row["ratio"] == pytest.approx(row["peer_value"] / row["value"]) for row in timed)
    assert [row["ok"] for row in checks[:2]] == [True, True], "float32"
    assert all(row["value"] > 0.95 for row in checks[:4])
    assert [(row["value"] > 0.85, row["ok"]) for row in checks[4:]] == [(True, None)] * 2, (
        "one look: another mask"
    )
    assert "masks/s" in result.tables["inference-boxes"]
