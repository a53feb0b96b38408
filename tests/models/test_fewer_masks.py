"""Only the masks that someone keeps are drawn, and they are the same to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from halfmask.inference.predictor import Predictor, load
from halfmask.labelling.complete import complete
from halfmask.models.build import build_model
from halfmask.models.mask_rcnn.model import PartialMaskRCNN
from halfmask.models.mask_rcnn.regions import CHUNK, count_to_draw
from halfmask.recipes.recipe import MaskRCNN

torch.set_num_threads(1)
FIELDS = ("boxes", "labels", "scores", "mask_probs", "regions", "quality")


def drawn_regions(model: PartialMaskRCNN) -> list[int]:
    """The number of regions in each call of the mask branch from now on."""
    counts: list[int] = []
    model.mask_branch.register_forward_pre_hook(lambda _m, given: counts.append(len(given[0])))
    return counts


@pytest.mark.parametrize("kind", ["agnostic", "per_class", "transfer"])
def test_masks_above_a_score_are_those_of_all(kind: str) -> None:
    torch.manual_seed(1)
    config = MaskRCNN.model_validate(
        {
            "kind": "mask_rcnn",
            "backbone": {"name": "small_resnet", "widths": [4, 8], "blocks": [1, 1]},
            "images": {"min_size": [96], "max_size": 128},
            "detector": {
                "fpn_channels": 16,
                "strides": [4, 8],
                "extra_level": False,
                "anchor_sizes": [16, 32],
                "box_width": 32,
                "detections": 90,
            },
            "mask_head": {"kind": kind, "width": 64, "convs": 2},
        }
    )
    model = build_model(config, 21, pretrained=False).eval()
    assert isinstance(model, PartialMaskRCNN)
    with torch.no_grad():  # scores of many sizes
        model.box_heads.box_predictor.cls_score.weight.mul_(40)  # type: ignore[operator, union-attr]
    images = [torch.rand(3, 96, 128), torch.rand(3, 80, 100)]
    every = model.detect(images)
    assert min(len(one) for one in every) > CHUNK + 10
    scores = torch.cat([one.scores for one in every]).sort(descending=True).values
    for least in (0.0, *(float(scores[k]) for k in (0, 3, 60, len(scores) - 1)), 1.1):
        counts = drawn_regions(model)
        found = model.detect(images, least)
        assert sum(counts) == sum(count_to_draw(one.scores, least) for one in every)
        for some, all_of in zip(found, every, strict=True):
            kept = all_of.select(all_of.scores >= least)
            for name in FIELDS:
                assert torch.equal(getattr(some, name), getattr(kept, name)), (name, least)
    assert sum(drawn_regions(model)) == 0


def test_how_many_masks_are_drawn() -> None:
    scores = torch.linspace(1, 0.01, 100)
    assert count_to_draw(scores, 1.1) == 0
    assert count_to_draw(scores, 0.95) == CHUNK
    assert count_to_draw(scores, 0.5) == 2 * CHUNK
    assert count_to_draw(scores, 0.02) == 100
    assert count_to_draw(scores, 0.0) == 100
    assert count_to_draw(scores[:9], 0.95) == 9


def without_masks(finder: Predictor) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a mask was drawn")

    finder.model.mask_branch.register_forward_pre_hook(refuse)  # type: ignore[union-attr]


def test_a_detector_beside_a_segmenter_draws_no_mask(
    tiny_segmenter: Path, tiny_detector: Path
) -> None:
    image = torch.rand(3, 80, 100)
    alone, pair = load(tiny_detector, device="cpu"), load(tiny_segmenter, tiny_detector, "cpu")
    wanted = alone.detect(image)
    assert isinstance(pair.detector, Predictor)
    without_masks(pair.detector)
    found = pair.detect(image)
    for name in ("boxes", "labels", "scores"):
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name
    least = float(wanted.scores.median())
    kept = pair.detect(image, least_score=least)
    assert torch.equal(kept.boxes, wanted.boxes[wanted.scores >= least])


def test_objects_to_add_need_no_masks(
    tiny_segmenter: Path, tiny_detector: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    from PIL import Image

    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    wanted = load(tiny_detector, device="cpu").detect(pixels)
    best = wanted.boxes[wanted.scores.argmax()]
    box = [0, 0, 4, 4]
    document: Any = {
        "images": [{"id": 1, "file_name": "a.png", "width": 80, "height": 60}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": box}],
        "categories": [{"id": k, "name": n} for k, n in [(2, "cat"), (5, "dog"), (7, "tree")]],
    }
    (tmp_path / "in.json").write_text(json.dumps(document))

    def refuse(*_: object) -> None:
        raise AssertionError("a mask was drawn")

    monkeypatch.setattr(PartialMaskRCNN, "mask_probs", refuse)
    given: Any = {"images": tmp_path / "photos", "detector": tiny_detector, "device": "cpu"}
    out = tmp_path / "out.json"
    complete(
        tiny_segmenter, tmp_path / "in.json", out=out, add_objects=True, add_score=0.0, **given
    )
    rows = json.loads(out.read_bytes())["annotations"]
    found = torch.tensor([one["bbox"] for one in rows])
    found[:, 2:] += found[:, :2]
    assert float((found - best).abs().amax(1).min()) < 0.1
