"""Efforts: how often a model looks at each box, and the score that belongs to each."""

import logging
from pathlib import Path

import pytest
import torch

from halfmask.errors import InputError
from halfmask.inference.complete.report import Completion
from halfmask.inference.predictor import Predictor, load
from halfmask.labelling.complete import complete
from halfmask.models.box_segmenter.looks import EFFORTS, LIGHTER, Looks, looks_of
from halfmask.models.box_segmenter.quality import FEATURES
from halfmask.models.build import build_model
from halfmask.models.checkpoint import load_checkpoint, load_weights

BOX = [[58.0, 159.0, 279.0, 622.0]]
PHOTO = Path(__file__).parents[2] / "halfmask" / "assets" / "photos" / "000000377575.jpg"


@pytest.fixture(scope="module")
def shipped() -> Predictor:
    return load("box-segmenter", device="cpu")


def test_the_looks_of_each_effort() -> None:
    best = Looks((0.12, 0.22, 0.36), True)
    assert [looks_of(effort, best, 0.22).count for effort in EFFORTS] == [1, 2, 6]
    plain = Looks((0.1, 0.2), False)
    assert [looks_of(effort, plain, 0.2).count for effort in EFFORTS] == [1, 1, 2]


def test_each_call_says_how_often_the_model_looks(shipped: Predictor) -> None:
    crops: list[int] = []
    look = shipped.model.look
    shipped.model.engine = lambda some, labels: (crops.append(len(some)), look(some, labels))[1]
    try:
        for effort, count in (("fast", 1), ("balanced", 2), ("best", 6), (None, 6)):
            crops.clear()
            shipped.segment(PHOTO, BOX, effort=effort)
            assert sum(crops) == count, effort
    finally:
        shipped.model.engine = None
    assert shipped.effort.looks("fast") == 1
    assert shipped.effort.looks() == 6


def test_best_is_the_default_and_one_look_is_another_mask(shipped: Predictor) -> None:
    usual, best, fast = (shipped.segment(PHOTO, BOX, effort=e) for e in (None, "best", "fast"))
    assert torch.equal(usual.mask_probs, best.mask_probs)
    assert torch.equal(usual.quality, best.quality)
    assert not torch.equal(usual.quality, fast.quality)
    quick = load("box-segmenter", device="cpu", effort="fast")
    assert torch.equal(quick.segment(PHOTO, BOX).mask_probs, fast.mask_probs)


def test_the_shipped_model_has_a_score_for_each_lighter_effort(shipped: Predictor) -> None:
    scores = shipped.model.quality_score
    assert all(bool((scores.of(effort).spread > 0).any()) for effort in LIGHTER)


def test_the_score_in_use_is_that_of_the_effort(shipped: Predictor) -> None:
    scores = shipped.model.quality_score
    features = torch.rand(5, len(FEATURES))
    for effort in EFFORTS:
        shipped.effort.expect(effort)
        own = scores.of(effort)
        wanted = features[:, 0] if effort == "best" else own.curve(features)
        assert torch.equal(scores(features), wanted)


def test_a_model_without_looks_refuses_an_effort(tiny_detector: Path) -> None:
    for name in ("baseline:ellipse", tiny_detector):
        with pytest.raises(InputError, match="leave --effort out"):
            load(name, device="cpu", effort="fast")
    with pytest.raises(InputError, match="expected fast, balanced, best, found 'quick'"):
        load("box-segmenter", device="cpu", effort="quick")  # type: ignore[arg-type]


def test_an_old_file_with_a_fitted_score_falls_back_and_says_so(
    tiny_segmenter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(tiny_segmenter, device="cpu")
    # The tiny model's recipe has a single look; give it more, so that efforts differ.
    model.model.best_looks = Looks((0.1, 0.3), True)
    model.model.quality_score.fit(torch.rand(40, len(FEATURES)), torch.rand(40))
    with caplog.at_level(logging.WARNING, "halfmask"):
        found = model.segment(torch.rand(3, 60, 80), [[5, 5, 50, 50]], effort="fast")
        model.segment(torch.rand(3, 60, 80), [[5, 5, 50, 50]], effort="fast")
    assert caplog.text.count("none for fast") == 1
    assert 0 <= float(found.quality[0]) <= 1
    features = torch.rand(3, len(FEATURES))
    assert torch.equal(model.model.quality_score(features), features[:, 0])


def test_files_from_before_the_lighter_scores_load(tiny_segmenter: Path) -> None:
    checkpoint = load_checkpoint(tiny_segmenter)
    state = checkpoint.state
    model = build_model(checkpoint.recipe.model, len(checkpoint.categories) + 1, pretrained=False)
    old = {
        k: v
        for k, v in state.items()
        if not k.startswith(("quality_score.fast", "quality_score.balanced"))
    }
    assert len(old) == len(state) - 8
    load_weights(model, old, "old")
    with pytest.raises(InputError, match=r"lacks quality_score\.fast\.bias"):
        load_weights(model, {k: v for k, v in state.items() if k != "quality_score.fast.bias"}, "x")


def test_complete_notes_looks_and_runtime(tmp_path: Path, write_file: object) -> None:
    source = write_file(images=1)  # type: ignore[operator]
    done: Completion = complete(
        "box-segmenter", source, images=tmp_path / "photos", out=tmp_path / "o.json", effort="fast"
    )
    assert (done.looks, done.runtime) == (1, "torch")
    assert done.to_json()["looks"] == 1
    assert '"looks": 1, "runtime": "torch"' in (tmp_path / "o.json").read_text()
    rule = complete("baseline:box", source, images=tmp_path / "photos", out=tmp_path / "rule.json")
    assert rule.looks is None
