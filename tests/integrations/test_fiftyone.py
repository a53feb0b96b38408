"""FiftyOne data sets in and out; tests that need fiftyone and its database skip without."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from halfmask.errors import InputError
from halfmask.inference.predictor import load
from halfmask.integrations.fiftyone import (
    _from_box,
    _into_box,
    fill_samples,
    from_fiftyone,
    to_fiftyone,
)
from halfmask.masks.crops import decode

torch.set_num_threads(1)

RLE = {"size": [48, 64], "counts": [500, 30, 18, 30, 2494]}


@given(
    st.integers(0, 999),
    st.integers(0, 30),
    st.integers(0, 20),
    st.integers(1, 34),
    st.integers(1, 28),
)
@settings(max_examples=50, deadline=None)
def test_a_mask_in_a_box_of_whole_pixels_comes_back(
    seed: int, x: int, y: int, w: int, h: int
) -> None:
    mask = np.zeros((48, 64), dtype=bool)
    mask[y : y + h, x : x + w] = np.random.default_rng(seed).random((h, w)) < 0.5
    # As FiftyOne keeps them: shares of the image's sides.
    box = (x / 64 * 64, y / 48 * 48, (x / 64 + w / 64) * 64, (y / 48 + h / 48) * 48)
    inside = _into_box(mask, box)
    assert inside.shape == (h, w)
    assert np.array_equal(_from_box(inside, box, (48, 64)).dense()[0].numpy(), mask)


def test_a_mask_of_another_resolution_is_spread_over_its_box() -> None:
    half = np.array([[True, False]])
    dense = _from_box(half, (10.0, 5.0, 30.0, 15.0), (48, 64)).dense()[0]
    assert dense[5:15, 10:20].all()
    assert int(dense.sum()) == 100
    assert not _into_box(np.ones((48, 64), bool), (-10.0, 0.0, 10.0, 4.0))[:, :10].any(), (
        "nothing beyond the image"
    )


def test_without_fiftyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(InputError, match=r"halfmask\[fiftyone\]"):
        to_fiftyone("a.json", tmp_path)


@pytest.fixture(scope="module")
def fo() -> Any:
    library = pytest.importorskip("fiftyone")
    try:
        library.list_datasets()
    except Exception as error:
        pytest.skip(f"FiftyOne's database does not run here: {error}")
    return library


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for k in (1, 2):
        (tmp_path / "photos" / str(k)).mkdir(parents=True)
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / str(k) / f"{k}.png")
    note = {"model": "m@1", "score": 0.25, "state": "filled"}
    rows = [
        {
            "category_id": 2,
            "bbox": [3.5, 4.25, 26.5, 35.75],
            "segmentation": [[3.5, 4.25, 30, 5, 28, 40, 4, 38]],
        },
        {"category_id": 5, "bbox": [4, 4, 30, 36]},
        {"category_id": 5, "bbox": [9, 19, 3, 30], "segmentation": RLE, "halfmask": note},
        {"category_id": 2, "bbox": [4, 4, 30, 36], "segmentation": RLE, "iscrowd": 1},
        {"category_id": 2, "bbox": [100, 100, 5, 5]},
    ]
    document = {
        "images": [
            {"id": k, "file_name": f"{k}/{k}.png", "width": 64, "height": 48} for k in (1, 2)
        ],
        "annotations": [
            {"id": k, "image_id": 1, "iscrowd": 0, **row} for k, row in enumerate(rows, start=1)
        ],
        "categories": [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}],
    }
    path = tmp_path / "data.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.slow
def test_a_coco_file_there_and_back(fo: Any, coco: Path, tmp_path: Path) -> None:
    data = to_fiftyone(coco, tmp_path / "photos")
    assert isinstance(data, fo.Dataset)
    found = data.first()["ground_truth"].detections
    assert [d.label for d in found] == ["cat", "dog", "dog", "cat"], (
        "a box outside the image is left out"
    )
    assert [d.has_mask for d in found] == [True, False, True, False]
    assert [d["mask_state"] for d in found] == ["mask", "missing", "filled", "crowd"]
    assert found[2]["mask_score"] == 0.25
    assert data.last()["ground_truth"].detections == []
    out = tmp_path / "out.json"
    assert from_fiftyone(data, out) == (tmp_path / "photos").resolve()
    before, after = (json.loads(path.read_text()) for path in (coco, out))
    assert [i["file_name"] for i in after["images"]] == ["1/1.png", "2/2.png"]
    assert ["segmentation" in row for row in after["annotations"]] == [True, False, True, False]
    for old, new in ((0, 0), (2, 2)):
        pair = [
            decode(d["annotations"][k]["segmentation"], (48, 64))
            for d, k in ((before, old), (after, new))
        ]
        assert pair[0][1] == pair[1][1]
        assert torch.equal(pair[0][0], pair[1][0]), "the same pixels"
    assert after["annotations"][1]["bbox"] == pytest.approx([4, 4, 30, 36])


@pytest.mark.slow
def test_detections_get_masks(fo: Any, coco: Path, tmp_path: Path, tiny_segmenter: Path) -> None:
    data = to_fiftyone(coco, tmp_path / "photos")
    before = data.first()["ground_truth"].detections[0].mask
    done = fill_samples(data, str(tiny_segmenter))
    assert (done.masks, done.left_alone) == (2, 0)
    found = data.first()["ground_truth"].detections
    assert all(d.has_mask for d in found)
    assert np.array_equal(found[0].mask, before)
    predictor = load(tiny_segmenter)
    drawn = predictor.segment(tmp_path / "photos" / "1" / "1.png", [[4, 4, 34, 40]], [2])
    assert np.array_equal(found[1].mask, drawn.masks()[0].numpy()[4:40, 4:34])
    assert found[1]["mask_score"] == pytest.approx(float(drawn.quality[0]), abs=1e-4)
    assert found[1]["mask_model"] == predictor.identity
    assert fill_samples(data, predictor).masks == 0
