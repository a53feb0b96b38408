"""What stands in for parts of torchvision gives its values, bit for bit: detections,
matching, pooling, frozen norm.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.detection._utils import Matcher
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign, box_iou
from torchvision.ops.poolers import LevelMapper

from halfmask.models.backbones.encoder import build_encoder
from halfmask.models.backbones.norm import InPlaceFrozenNorm, norm_in_place
from halfmask.models.mask_rcnn import matching as box_matching
from halfmask.models.mask_rcnn.box_heads import BoxHeads
from halfmask.models.mask_rcnn.detections import FEW, DetectionRules, LazyOffsets, detections
from halfmask.models.mask_rcnn.matching import BoxMatcher, BoxPairs
from halfmask.models.mask_rcnn.pooling import RegionPool

SIZE = (90, 120)


def random_boxes(count: int, generator: torch.Generator, least: float = 0.5) -> Tensor:
    low = torch.rand(count, 2, generator=generator) * torch.tensor([SIZE[1] * 0.9, SIZE[0] * 0.9])
    return torch.cat([low, low + least + torch.rand(count, 2, generator=generator) * 60], 1)


def box_heads(score: float, most: int) -> BoxHeads:
    return BoxHeads(
        RegionPool([4], 7, 2), nn.Identity(), nn.Identity(), rules=DetectionRules(score, 0.5, most)
    )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(2, 60),
    st.lists(st.integers(0, 40), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.02, 0.3, 0.999]),
    st.sampled_from([1, 5, 100]),
)
def test_detections_equal_torchvisions(
    seed: int, classes: int, counts: list[int], score: float, most: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    regions = sum(counts)
    logits = torch.randn(regions, classes, generator=generator) * 3
    offsets = (
        torch.randn(regions, 4 * classes, generator=generator) * 3
    )  # some boxes collapse or leave the image
    offsets[::3] = 0  # proposals that coincide for every class
    proposals = [random_boxes(count, generator) for count in counts]
    sizes = [SIZE] * len(counts)
    heads = box_heads(score, most)
    expected = heads.postprocess_detections(logits, offsets, proposals, sizes)
    found = detections(
        logits,
        offsets,
        proposals,
        sizes=sizes,
        coder=heads.box_coder,
        rules=DetectionRules(score, 0.5, most),
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert all(
            torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(ours, theirs, strict=True)
        )


def test_detections_of_many_candidates_equal_torchvisions() -> None:
    """Beyond 1000 candidates torchvision's NMS goes class by class."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(400, 30, generator=generator) * 2
    offsets = torch.randn(400, 120, generator=generator)
    proposals = [random_boxes(400, generator)]
    heads = box_heads(0.01, 100)
    expected = heads.postprocess_detections(logits, offsets, proposals, [SIZE])
    found = detections(
        logits,
        offsets,
        proposals,
        sizes=[SIZE],
        coder=heads.box_coder,
        rules=DetectionRules(0.01, 0.5, 100),
    )
    assert int((logits.softmax(1)[:, 1:] > 0.01).sum()) > 2000
    assert len(found[0][0]) == 100
    assert all(
        torch.equal(ours[0], theirs[0]) for ours, theirs in zip(found, expected, strict=True)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(2, 80), st.integers(0, 60))
def test_offsets_of_pairs_equal_the_layers(seed: int, regions: int, classes: int, n: int) -> None:
    """Whether a pair's rows are read alone or all are multiplied."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(16, 4 * classes)
    hidden = torch.randn(regions, 16, generator=generator)
    rows = torch.randint(0, regions, (n,), generator=generator)
    labels = torch.randint(0, classes, (n,), generator=generator)
    found = LazyOffsets(hidden, layer, first=3)(rows, labels + 3)
    expected = layer(hidden).view(regions, classes, 4)[rows, labels]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_offsets_of_few_pairs_never_multiply_all_classes() -> None:
    hidden, layer = torch.randn(100, 8), nn.Linear(8, 4 * 3000)
    layer.forward = lambda *_: pytest.fail("all classes' offsets were computed")  # type: ignore[method-assign]
    rows, labels = torch.tensor([3, 99]), torch.tensor([1, 2999])
    few, _ = LazyOffsets(hidden, layer).split([100, 0])
    assert few(rows, labels).shape == (2, 4)
    assert 2 * FEW <= 100 * 3000


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 30),
    st.integers(1, 200),
    st.sampled_from([1, 50, 10**6]),
    st.booleans(),
    st.booleans(),
)
def test_matches_equal_torchvisions(
    seed: int, objects: int, places: int, pairs: int, low_quality: bool, ties: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes, anchors = random_boxes(objects, generator), random_boxes(places, generator)
    if ties:  # whole numbers: many places share an IoU, some objects touch none
        boxes, anchors = boxes.div(20).ceil().mul(20), anchors.div(20).ceil().mul(20) - 10
    matcher = Matcher(0.7, 0.3, low_quality)
    expected = matcher(box_iou(boxes, anchors))
    before, box_matching.PAIRS = box_matching.PAIRS, pairs
    try:
        found = BoxMatcher(matcher)(BoxPairs(boxes, anchors))
    finally:
        box_matching.PAIRS = before
    assert torch.equal(found, expected)
    assert found.dtype == expected.dtype


def test_matching_makes_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(objects: Tensor, places: Tensor) -> Tensor:
        asked.append(len(objects) * len(places))
        return box_iou(objects, places)

    monkeypatch.setattr(box_matching, "box_iou", counted)
    monkeypatch.setattr(box_matching, "PAIRS", 1000)
    generator = torch.Generator().manual_seed(0)
    BoxMatcher(Matcher(0.7, 0.3, True))(
        BoxPairs(random_boxes(50, generator), random_boxes(900, generator))
    )
    assert max(asked) <= 1000
    assert sum(asked) < 1.5 * 50 * 900  # the second look is at some objects of each part only


@pytest.mark.parametrize("counts", [[0], [1], [7, 0, 30], [200]])
@pytest.mark.parametrize("strides", [[4], [4, 8, 16, 32]])
def test_pooled_regions_and_gradients_equal_torchvisions(
    counts: list[int], strides: list[int]
) -> None:
    generator = torch.Generator().manual_seed(len(counts))
    maps = {
        str(i): torch.randn(len(counts), 6, -(-SIZE[0] // s), -(-SIZE[1] // s), generator=generator)
        for i, s in enumerate(strides)
    }
    boxes = [
        random_boxes(count, generator) * torch.rand(1, generator=generator) * 6 for count in counts
    ]
    theirs = MultiScaleRoIAlign(list(maps), 7, 2)
    theirs.scales = [1 / s for s in strides]
    theirs.map_levels = LevelMapper(2, 1 + len(strides))
    gradients = []
    for pool in (theirs, RegionPool(strides, 7, 2)):
        leaves = {name: value.clone().requires_grad_() for name, value in maps.items()}
        pooled = pool(leaves, boxes, [SIZE] * len(counts))
        weight = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(5))
        (pooled * weight).sum().backward()
        gradients.append((pooled, [leaf.grad for leaf in leaves.values()]))
    assert torch.equal(gradients[0][0], gradients[1][0])
    for expected, found in zip(gradients[0][1], gradients[1][1], strict=True):
        assert torch.equal(
            torch.zeros(1) if expected is None else expected,
            torch.zeros(1) if found is None else found,
        )


def test_frozen_norm_in_place_equals_torchvisions() -> None:
    torch.manual_seed(0)
    plain = FrozenBatchNorm2d(5)
    for value in plain.buffers():
        value.copy_(torch.rand(5) + 0.1)
    x = torch.randn(2, 5, 4, 3)
    expected = plain(x)
    written = x.clone()
    assert torch.equal(InPlaceFrozenNorm(plain)(written), expected)
    assert torch.equal(written, expected)


def test_a_network_with_norm_in_place_learns_as_before() -> None:
    def gradients(change: bool) -> tuple[list[Tensor], list[Tensor], set[str]]:
        torch.manual_seed(1)
        encoder = build_encoder("resnet18", norm="frozen", trainable_stages=3)
        if change:
            assert norm_in_place(encoder.body) == 20
        maps = list(encoder(torch.rand(1, 3, 64, 64)).values())
        sum(m.square().sum() for m in maps).backward()
        grads = [p.grad for p in encoder.parameters() if p.grad is not None]
        return maps, grads, set(encoder.state_dict())

    before, after = gradients(False), gradients(True)
    assert before[2] == after[2]
    for i in range(2):
        pairs: Any = zip(before[i], after[i], strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_norm_that_follows_no_convolution_stays() -> None:
    assert norm_in_place(nn.Sequential(nn.Conv2d(3, 4, 1), FrozenBatchNorm2d(4))) == 0
