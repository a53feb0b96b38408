"""The quality score: what its features say, that unfitted it is the expected IoU, and
that its fit survives a checkpoint.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from halfmask.errors import InputError
from halfmask.masks.paste import expected_iou
from halfmask.models.box_segmenter.build import build_box_segmenter
from halfmask.models.box_segmenter.crops import crop_regions, inside_box, resample
from halfmask.models.box_segmenter.model import BoxSegmenter
from halfmask.models.box_segmenter.quality import (
    FEATURES,
    QualityScore,
    agreement_of,
    mask_features,
)
from halfmask.models.checkpoint import load_fitting_weights, load_weights
from halfmask.recipes.recipe import BoxSegmenterConfig as Config

ENCODER = {"name": "small_resnet", "widths": [12, 16, 24], "blocks": [1, 1, 1]}
BOXES = torch.tensor([[10.0, 10.0, 40.0, 50.0], [30.0, 5.0, 90.0, 35.0], [2.0, 30.0, 20.0, 78.0]])
SIZE = 40
COLUMN = {name: i for i, name in enumerate(FEATURES)}


def build(**changes: Any) -> BoxSegmenter:
    torch.manual_seed(0)
    values = {
        "kind": "box_segmenter",
        "encoder": ENCODER,
        "crop_size": 32,
        "decoder_widths": [24, 16, 12],
    }
    return build_box_segmenter(Config.model_validate(values | changes), 4).eval()


def picture() -> Tensor:
    return torch.rand(3, 80, 100, generator=torch.Generator().manual_seed(5))


def features_of(
    probs: Tensor, boxes: Tensor, readings: list[Tensor] | None = None
) -> dict[str, list[float]]:
    """By name, of maps that are spread over their boxes with a quarter of context."""
    regions = crop_regions(boxes, 0.25)
    inside = inside_box(boxes, regions, SIZE) > 0.5
    found = mask_features(
        probs,
        inside,
        boxes,
        regions=regions,
        agreement=agreement_of(readings or [probs], probs, inside),
    )
    assert found.shape == (len(probs), len(FEATURES))
    return {name: found[:, i].tolist() for name, i in COLUMN.items()}


def drawn(
    left: float, top: float, right: float, bottom: float, inside: float = 1.0, outside: float = 0.0
) -> Tensor:
    """A map [1, 40, 40] that is `inside` on a rectangle given in shares of the box."""
    at = ((torch.arange(SIZE) + 0.5) / SIZE - 1 / 6) * 1.5
    hit = ((at >= top) & (at < bottom))[:, None] & ((at >= left) & (at < right))[None]
    return torch.where(hit, inside, outside)[None]


def some(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features like a segmenter's, and IoUs that follow two of them with noise."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(count, len(FEATURES), generator=generator)
    noise = 0.05 * torch.randn(count, generator=generator)
    return features, (0.2 + 0.5 * features[:, 1] + 0.2 * features[:, 5] + noise).clamp(0, 1)


# --- features ---------------------------------------------------------------------------------------------------------------------


def test_features_of_a_mask_that_fills_its_box_and_of_one_that_fills_a_corner() -> None:
    box = torch.tensor([[100.0, 50.0, 164.0, 66.0]])
    full = features_of(drawn(0, 0, 1, 1), box)
    assert full["expected_iou"][0] == pytest.approx(1)
    assert full["tightness"][0] == pytest.approx(1, abs=0.1)
    assert full["fill"][0] == pytest.approx(1)
    assert full["entropy"][0] == pytest.approx(0, abs=0.01)
    assert full["spill"][0] == pytest.approx(0)
    assert full["log_side"][0] == pytest.approx(5)  # √(64 · 16) = 32
    assert full["elongation"][0] == pytest.approx(2)  # 64 / 16 = 4
    corner = features_of(drawn(0, 0, 0.5, 0.5), box)
    assert corner["tightness"][0] == pytest.approx(0.25, abs=0.05)
    assert corner["fill"][0] == pytest.approx(0.25, abs=0.05)
    doubtful = features_of(drawn(0, 0, 1, 1, 0.6, 0.5), box)
    assert doubtful["entropy"][0] == pytest.approx(0.971, abs=0.01)
    assert doubtful["expected_iou"][0] == pytest.approx(0.6)
    assert doubtful["spill"][0] == pytest.approx(0.5, abs=0.05)


def test_an_empty_mask_has_finite_features_and_no_quality() -> None:
    found = features_of(drawn(0, 0, 0, 0), BOXES[:1])
    assert all(torch.isfinite(torch.tensor(values)).all() for values in found.values())
    assert found["tightness"][0] == found["fill"][0] == 0
    score = QualityScore()
    score.fit(*some(50))
    rows = torch.tensor([[found[name][0] for name in FEATURES]])
    assert score(rows).tolist() == [0]


def test_agreement_by_hand() -> None:
    left, right, whole = drawn(0, 0, 0.5, 1), drawn(0.5, 0, 1, 1), drawn(0, 0, 1, 1)
    inside = inside_box(BOXES[:1], crop_regions(BOXES[:1], 0.25), SIZE) > 0.5
    same = agreement_of([whole, whole], whole, inside)
    assert same.tolist() == [[1, 1, 0]]
    split = agreement_of([whole, left], (whole + left) / 2, inside)[0]
    assert split[0] == pytest.approx((1 + 0.5) / 2, abs=0.03)
    assert split[1] == pytest.approx(0.5, abs=0.03)
    assert split[2] == pytest.approx(0.25, abs=0.02), "half of the cells waver by a half"
    beside = agreement_of([left, right], left, inside)[0]
    assert beside[1] == 0


# --- in the segmenter -------------------------------------------------------------------------------------------------------------


def test_unfitted_the_answer_is_the_mean_of_the_zooms_and_their_mirrors() -> None:
    model = build(mirror=True, zooms=[0.12, 0.3])
    image, size = picture(), model.mask_size
    found = model.segment([image], [BOXES])[0]
    pyramid, closest, total = (
        model.reader.pyramid(image),
        crop_regions(BOXES, 0.12),
        torch.zeros(3, size, size),
    )
    with torch.no_grad():
        for context in (0.12, 0.3):
            regions = crop_regions(BOXES, context)
            crops = model.reader.read(pyramid, BOXES, regions)
            none = torch.zeros(3, dtype=torch.int64)
            probs = model.logits(crops, none).sigmoid()
            probs = (probs + model.logits(crops.flip(3), none).sigmoid().flip(2)) / 2
            total += probs if context == 0.12 else resample(probs, regions, closest)
    mean = total / 2
    # The model looks at all zooms in one call: sums in another order.
    torch.testing.assert_close(found.mask_probs, mean, atol=1e-5, rtol=0)
    quality = expected_iou(mean * (inside_box(BOXES, closest, size) > 0.5))
    torch.testing.assert_close(found.quality, quality, atol=1e-5, rtol=0)


def test_fitted_the_masks_stay_and_the_quality_follows_the_features() -> None:
    model = build(mirror=True, zooms=[0.12, 0.3])
    before, features = model.segment_with_features([picture()], [BOXES])[0]
    model.quality_score.fit(*some(80))
    after = model.segment([picture()], [BOXES])[0]
    assert torch.equal(after.mask_probs, before.mask_probs)
    assert not torch.allclose(after.quality, before.quality)
    assert torch.equal(after.quality, model.quality_score(features))
    alone = model.segment([picture()], [BOXES[1:2]])[0]
    torch.testing.assert_close(alone.quality, after.quality[1:2], atol=1e-4, rtol=0)


def test_one_reading_agrees_with_itself_and_no_boxes_are_fine() -> None:
    features = build().segment_with_features([picture()], [BOXES])[0][1]
    assert features[:, COLUMN["agreement"]].tolist() == [1, 1, 1]
    assert features[:, COLUMN["wavering"]].tolist() == [0, 0, 0]
    model = build()
    model.quality_score.fit(*some(30))
    assert model.segment([picture()], [BOXES[:0]])[0].quality.shape == (0,)


# --- the fit ----------------------------------------------------------------------------------------------------------------------


def test_the_fit_is_calibrated_in_the_mean_and_ranks() -> None:
    features, ious = some(300)
    score = QualityScore()
    assert not score.fitted
    score.fit(features, ious)
    assert score.fitted
    found = score(features)
    assert float(found.mean()) == pytest.approx(float(ious.mean()), abs=1e-4)
    new, truth = some(300, seed=1)
    assert float((score(new) - truth).abs().mean()) < 0.07
    assert float(((found >= 0) & (found <= 1)).float().mean()) == 1


def test_few_masks_are_scored_by_the_trusted_features_and_many_by_all() -> None:
    """IoUs that follow a feature which is not among the trusted ones."""
    features, _ = some(2000)
    ious = (0.3 + 0.6 * features[:, COLUMN["log_side"]]).clamp(0, 1)

    def error(count: int) -> float:
        score = QualityScore()
        score.fit(features[:count], ious[:count])
        return float((score(features[1000:]) - ious[1000:]).abs().mean())

    plain = float((ious[1000:] - ious.mean()).abs().mean())
    assert error(20) > 0.7 * plain, "too few to believe it"
    assert error(1000) < 0.3 * plain


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_targets_and_features_that_are_all_alike(value: float) -> None:
    score = QualityScore()
    features = torch.full((6, len(FEATURES)), 0.3)
    score.fit(features, torch.full((6,), value))
    assert score(features).tolist() == pytest.approx([value] * 6, abs=0.01)
    far = score(features * 1000)
    assert bool(((far >= 0) & (far <= 1)).all())


def test_what_lies_beyond_the_measured_counts_as_its_edge() -> None:
    features, ious = some(100)
    score = QualityScore()
    score.fit(features, ious)
    edge, beyond = features[:1].clone(), features[:1].clone()
    edge[0, 1] = features[:, 1].mean() + 3 * features[:, 1].std()
    beyond[0, 1] = 1e6
    torch.testing.assert_close(score(beyond), score(edge))


# --- checkpoints ------------------------------------------------------------------------------------------------------------------


def test_the_fit_travels_and_files_from_before_load_unfitted() -> None:
    source, model = build(), build()
    source.quality_score.fit(*some(40))
    load_weights(model, source.state_dict(), "new")
    features, _ = some(10)
    assert torch.equal(model.quality_score(features), source.quality_score(features))
    old = {k: t for k, t in source.state_dict().items() if not k.startswith("quality_score.")}
    load_weights(model, old, "old")
    assert not model.quality_score.fitted
    source.load_state_dict(old)
    assert not source.quality_score.fitted, "a resume point from before"


def test_half_of_a_score_and_any_other_missing_weight_are_refused() -> None:
    model = build()
    state = model.state_dict()
    with pytest.raises(InputError, match=r"f: lacks quality_score\.bias"):
        load_weights(model, {k: t for k, t in state.items() if k != "quality_score.bias"}, "f")
    with pytest.raises(InputError, match=r"f: lacks predictor\.conv\.bias"):
        load_weights(model, {k: t for k, t in state.items() if k != "predictor.conv.bias"}, "f")


def test_a_start_from_another_run_leaves_its_score_behind() -> None:
    source, model = build(), build()
    source.quality_score.fit(*some(40))
    left = load_fitting_weights(model, source.state_dict())
    assert {k.split(".")[0] for k in left} == {"quality_score"}
    assert not model.quality_score.fitted
