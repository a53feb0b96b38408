"""Every mask head: the paper's formula, shapes, gradients, empty batches, cost that
does not grow with K.
"""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from halfmask.models.heads.mlp import HIDDEN, LightMlpBranch, MlpBranch
from halfmask.models.heads.predictors import (
    AgnosticPredictor,
    PerClassPredictor,
    TransferFunction,
    TransferPredictor,
)
from halfmask.models.heads.trunks import MaskTrunk
from halfmask.models.mask_rcnn import mask_branch
from halfmask.models.mask_rcnn.build import build_mask_branch
from halfmask.models.mask_rcnn.loss import mask_bce
from halfmask.models.mask_rcnn.mask_branch import MaskBranch
from halfmask.recipes.recipe import MaskHead

CLASSES, WIDTH, SIDE, BOX_WIDTH = 7, 6, 4, 5

HEADS: dict[str, dict[str, Any]] = {
    "agnostic": {"kind": "agnostic"},
    "agnostic+mlp": {"kind": "agnostic", "mlp": "full"},
    "agnostic+mlp of 2": {"kind": "agnostic", "mlp": "full", "mlp_layers": 2},
    "mlp only": {"kind": "agnostic", "mlp": "only"},
    "agnostic+light mlp": {"kind": "agnostic", "mlp": "light"},
    "per_class": {"kind": "per_class"},
    "transfer cls": {"transfer": {"input": "cls", "layers": 1}},
    "transfer box": {"transfer": {"input": "box", "activation": "relu"}},
    "transfer cls+box": {"transfer": {"input": "cls+box", "layers": 3}},
    "transfer linear": {"transfer": {"input": "cls", "activation": "none"}},
    "transfer random": {"transfer": {"input": "random", "embedding_size": 8}},
    "agnostic+hourglass": {"kind": "agnostic", "trunk": "hourglass", "norm": "group"},
    "agnostic+hourglass+light mlp": {"kind": "agnostic", "trunk": "hourglass", "mlp": "light"},
    "per_class+hourglass": {"kind": "per_class", "trunk": "hourglass"},
    "transfer+hourglass": {"transfer": {"input": "cls"}, "trunk": "hourglass", "norm": "group"},
    "transfer+group norm": {"transfer": {"input": "cls"}, "norm": "group"},
    "transfer+mlp": {"transfer": {"input": "cls+box"}, "mlp": "full"},
    "transfer+light mlp": {"transfer": {"input": "cls+box"}, "mlp": "light"},
}


def branch(**options: Any) -> MaskBranch:
    torch.manual_seed(0)
    head = MaskHead.model_validate({"width": WIDTH, "convs": 2, "roi_size": SIDE, **options})
    return build_mask_branch(head, in_channels=3, num_classes=CLASSES, box_width=BOX_WIDTH)


def box_head(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(CLASSES, BOX_WIDTH, generator=generator), torch.randn(
        4 * CLASSES, BOX_WIDTH, generator=generator
    )


def run(model: MaskBranch, features: Tensor, labels: Tensor) -> Tensor:
    out: Tensor = model(features, labels, model.class_weights(*box_head()))
    return out


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("regions", [0, 1, 9])
def test_shape_gradient_and_empty_batch(name: str, regions: int) -> None:
    model = branch(**HEADS[name])
    features = torch.randn(regions, 3, SIDE, SIDE)
    labels = torch.arange(regions) % (CLASSES - 1) + 1
    logits = run(model, features, labels)
    assert logits.shape == (regions, 2 * SIDE, 2 * SIDE)
    loss = mask_bce(logits, torch.full_like(logits, 0.3))
    loss.backward()
    assert torch.isfinite(loss)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, (
            key
        )  # distributed training needs every parameter in the graph, in every batch
        assert torch.isfinite(parameter.grad).all(), key
        assert bool(parameter.grad.any()) == (regions > 0), key
    assert (float(loss.detach()) == 0.0) == (regions == 0)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if k % 3 else []) for k, n in enumerate(HEADS)],
)
def test_overfits_a_tiny_set(name: str) -> None:
    model = branch(**HEADS[name])
    features = torch.randn(6, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([1, 2, 3, 4, 5, 6])
    targets = (torch.nn.functional.interpolate(features, scale_factor=2)[:, 0] > 0).float()
    optimiser = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(150):
        optimiser.zero_grad()
        loss = mask_bce(run(model, features, labels), targets)
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.2


def test_labels_decide_only_where_the_head_says_so() -> None:
    features = torch.randn(3, 3, SIDE, SIDE)
    for name, options in HEADS.items():
        model = branch(**options)
        a, b = (
            run(model, features, torch.tensor([1, 2, 3])),
            run(model, features, torch.tensor([3, 2, 1])),
        )
        assert torch.equal(a, b) != model.predictor.needs_labels, name
        assert torch.equal(a[1], b[1]), name


def numpy_formula(
    model: MaskBranch, hidden: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], layers: int
) -> Any:
    """The paper's mask branch as written: K dense maps, the label's taken, one tiled
    MLP map added. hidden [R, C, M, M].
    """
    cls, box = (w.double().numpy() for w in box_head())
    filters = np.stack([np.concatenate([cls[k], *box[4 * k : 4 * k + 4]]) for k in range(CLASSES)])
    state = {k: v.detach().double().numpy() for k, v in model.state_dict().items()}
    names = sorted(
        {k.rsplit(".", 1)[0] for k in state if k.startswith("predictor.transfer.layers.")}
    )
    assert len(names) == layers
    for i, name in enumerate(names):
        filters = filters @ state[f"{name}.weight"].T + state[f"{name}.bias"]
        if i < layers - 1:
            filters = np.where(filters > 0, filters, 0.1 * filters)
    dense = np.zeros((len(hidden), CLASSES, *hidden.shape[2:]))
    for k in range(CLASSES):
        for c in range(hidden.shape[1]):
            dense[:, k] += filters[k, c] * hidden[:, c]
    if model.mlp is not None:
        mlp = (
            hidden.reshape(len(hidden), -1) @ state["mlp.linear.weight"].T
            + state["mlp.linear.bias"]
        )
        dense += mlp.reshape(len(hidden), 1, *hidden.shape[2:])
    return dense[np.arange(len(labels)), labels]


@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 3), st.sampled_from(["none", "full"]), st.integers(1, 12), st.integers(0, 1000)
)
def test_equals_a_numpy_computation_of_the_paper(
    layers: int, mlp: str, regions: int, seed: int
) -> None:
    model = branch(transfer={"input": "cls+box", "layers": layers}, mlp=mlp)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():  # biases too
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    features = torch.randn(regions, 3, SIDE, SIDE, generator=generator)
    labels = torch.randint(0, CLASSES, (regions,), generator=generator)
    with torch.no_grad():
        expected = numpy_formula(
            model, model.trunk(features).double().numpy(), labels.numpy(), layers
        )
        found = run(model, features, labels).double().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_trunk_equals_a_numpy_computation() -> None:
    torch.manual_seed(3)
    trunk = MaskTrunk(2, 3, convs=1)
    features = torch.randn(2, 2, 3, 3)
    kernel, up = trunk.convs[0].weight.detach().numpy(), trunk.upsample.weight.detach().numpy()
    padded = np.pad(features.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    hidden = np.zeros((2, 3, 3, 3))
    for y in range(3):
        for x in range(3):
            hidden[:, :, y, x] = np.einsum(
                "rcij,ocij->ro", padded[:, :, y : y + 3, x : x + 3], kernel
            )
    hidden = np.maximum(hidden, 0)
    expected = np.zeros((2, 3, 6, 6))
    for dy in range(2):
        for dx in range(2):
            expected[:, :, dy::2, dx::2] = np.einsum("rchw,co->rohw", hidden, up[:, :, dy, dx])
    np.testing.assert_allclose(trunk(features).detach().numpy(), np.maximum(expected, 0), atol=1e-5)


def test_start_of_the_other_layers() -> None:
    torch.manual_seed(0)
    agnostic, mlp = AgnosticPredictor(4096), MlpBranch(16, 8)
    assert float(agnostic.conv.weight.detach().std()) == pytest.approx(0.001, rel=0.05)
    assert float(mlp.linear.weight.detach().std()) == pytest.approx(0.001, rel=0.05)
    conv = MaskTrunk(64, 128).convs[0]
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    for layer in (agnostic.conv, mlp.linear, conv, PerClassPredictor(8, 3).conv):
        assert not bool(layer.bias.detach().any())


def test_transfer_runs_on_the_classes_that_occur() -> None:
    """3000 classes cost no more than the three that are there."""
    transfer = TransferFunction(10, WIDTH)
    seen: list[int] = []
    transfer.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    logits = TransferPredictor(transfer)(
        torch.randn(50, WIDTH, 3, 3),
        torch.tensor([7, 2999, 1500]).repeat(17)[:50],
        torch.randn(3001, 10),
    )
    assert seen == [3]
    assert logits.shape == (50, 3, 3)


def test_the_light_branch_equals_a_numpy_computation() -> None:
    torch.manual_seed(5)
    branch = LightMlpBranch(5, 6, narrow=3, hidden=4)
    with torch.no_grad():
        for parameter in branch.parameters():
            parameter.normal_(std=0.5)
    features = torch.randn(2, 5, 6, 6)
    state = {k: v.numpy() for k, v in branch.state_dict().items()}
    pooled = features.numpy().reshape(2, 5, 3, 2, 3, 2).mean((3, 5))
    narrow = (
        np.einsum("rchw,oc->rohw", pooled, state["narrow.weight"][:, :, 0, 0])
        + state["narrow.bias"][:, None, None]
    )
    hidden = np.maximum(narrow.reshape(2, -1) @ state["hidden.weight"].T + state["hidden.bias"], 0)
    expected = (hidden @ state["linear.weight"].T + state["linear.bias"]).reshape(2, 6, 6)
    np.testing.assert_allclose(branch(features).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_light_branch_begins_by_adding_next_to_nothing() -> None:
    torch.manual_seed(0)
    branch = LightMlpBranch(256, 28)
    assert sum(p.numel() for p in branch.parameters()) == 912_304
    assert float(branch.linear.weight.detach().std()) == pytest.approx(0.001, rel=0.02)
    assert float(branch.hidden.weight.detach().std()) == pytest.approx((2 / 6272) ** 0.5, rel=0.02)
    assert float(branch(torch.rand(3, 256, 28, 28)).detach().abs().max()) < 0.1


def test_predictors_work_on_maps_of_any_size() -> None:
    """Decoders with features of other sizes use the same predictors."""
    for predictor in (
        AgnosticPredictor(WIDTH),
        PerClassPredictor(WIDTH, 4),
        TransferPredictor(TransferFunction(3, WIDTH)),
    ):
        out = predictor(torch.randn(2, WIDTH, 5, 9), torch.tensor([1, 3]), torch.randn(4, 3))
        assert out.shape == (2, 5, 9)


def test_channels_last_changes_nothing() -> None:
    features, labels = torch.randn(5, 3, SIDE, SIDE), torch.tensor([1, 2, 3, 4, 5])
    for options in HEADS.values():
        model = branch(**options)
        expected = run(model, features, labels)
        model = model.to(memory_format=torch.channels_last)
        found = run(model, features.to(memory_format=torch.channels_last), labels)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["agnostic", "per_class", "transfer cls+box"])
def test_regions_in_parts_learn_as_all_at_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The widened maps are made some regions at a time, and again in the backward pass:
    the same losses and gradients.
    """
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(11, 3, SIDE, SIDE, generator=generator)
    labels = torch.randint(1, CLASSES, (11,), generator=generator)
    weight = torch.randn(11, 2 * SIDE, 2 * SIDE, generator=generator)
    found = []
    for part in (4, 100):
        monkeypatch.setattr(mask_branch, "PART", part)
        head = branch(**HEADS[kind])
        leaf = features.clone().requires_grad_()
        logits = head(leaf, labels, head.rows(*box_head()))
        (logits * weight).sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(logits, head(features, labels, head.rows(*box_head())))
        found.append([logits, leaf.grad, *(p.grad for p in head.parameters())])
    for ours, whole in zip(*found, strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)


def test_no_widened_map_of_all_regions_is_kept() -> None:
    head = branch(kind="agnostic")
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        head(
            torch.randn(70, 3, SIDE, SIDE),
            torch.ones(70, dtype=torch.int64),
            head.rows(*box_head()),
        )
    assert (
        max(kept) <= 70 * WIDTH * SIDE * SIDE
    )  # the convolutions' maps; the widened ones are four times as large


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("mlp", ["full", "only"])
def test_an_mlp_of_one_to_three_layers_beside_numpy(mlp: str, layers: int) -> None:
    """`full` adds its map to the convolution's, `only` is the map."""
    head = MaskHead.model_validate(
        {"kind": "agnostic", "width": 4, "convs": 1, "roi_size": 3, "mlp": mlp}
        | {"mlp_layers": layers}
    )
    branch = build_mask_branch(head, 5, 3, box_width=8).double()
    found = branch.mlp if mlp == "full" else branch.predictor.mlp
    assert isinstance(found, MlpBranch)
    features = torch.randn(6, 5, 3, 3, dtype=torch.float64)
    hidden, labels = branch.trunk(features), torch.ones(6, dtype=torch.int64)
    x = hidden.detach().numpy().reshape(6, -1)
    for layer in found.hidden:
        assert layer.out_features == HIDDEN
        x = np.maximum(x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy(), 0)
    wanted = x @ found.linear.weight.detach().numpy().T + found.linear.bias.detach().numpy()
    if mlp == "full":
        wanted = wanted + branch.predictor.conv(hidden).detach().numpy().reshape(6, -1)
    logits = branch(features, labels, torch.zeros(3, 0))
    np.testing.assert_allclose(logits.detach().numpy().reshape(6, -1), wanted, rtol=1e-9)
    assert len(found.hidden) == layers - 1
    if mlp == "only":
        assert not branch.predictor.needs_labels
        assert branch.mlp is None


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"kind": "transfer", "mlp": "only"}, "needs `kind: agnostic`"),
        ({"mlp": "light", "mlp_layers": 2}, "`mlp_layers` is for"),
    ],
)
def test_mlps_that_do_not_fit_are_refused(keys: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        MaskHead.model_validate(keys)
