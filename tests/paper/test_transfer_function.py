"""Section 3.1: the transfer function T. How many parameters, where activations are, how
it starts.
"""

import numpy as np
import pytest
import torch
from torch import nn

from halfmask.models.heads.predictors import TransferFunction

D, C = 5120, 256
"""cls (1024) and box (4 · 1024) rows; width of the mask head."""


@pytest.mark.parametrize(("layers", "count"), [(1, 1_310_976), (2, 1_376_768), (3, 1_442_560)])
def test_parameters_with_ts_own_biases(layers: int, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in TransferFunction(D, C, layers).parameters()) == count


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(
    ("activation", "slope"), [("leaky_relu", 0.1), ("relu", 0.0), ("none", 1.0)]
)
def test_activation_between_layers_and_none_after_the_last(
    layers: int, activation: str, slope: float
) -> None:
    """Identity layers without biases show the activation alone: layers − 1 times on
    what is negative.
    """
    transfer = TransferFunction(4, 4, layers, activation=activation)  # type: ignore[arg-type]
    for layer in transfer.modules():
        if isinstance(layer, nn.Linear):
            nn.init.eye_(layer.weight)
    rows = torch.tensor([[-2.0, -1.0, 0.5, 3.0]])
    expected = torch.where(rows < 0, rows * slope ** (layers - 1), rows)
    torch.testing.assert_close(transfer(rows), expected)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_equals_the_formula_in_numpy(layers: int) -> None:
    torch.manual_seed(1)
    transfer = TransferFunction(7, 3, layers)
    rows = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    state = {k: v.numpy() for k, v in transfer.state_dict().items()}
    expected = rows
    for i, name in enumerate(sorted({k.rsplit(".", 1)[0] for k in state})):
        expected = (
            expected if i == 0 else np.where(expected > 0, expected, 0.1 * expected)
        ) @ state[f"{name}.weight"].T
        expected = expected + state[f"{name}.bias"]
    np.testing.assert_allclose(
        transfer(torch.from_numpy(rows)).detach().numpy(), expected, rtol=1e-4, atol=1e-5
    )


def test_it_starts_gaussian_with_fan_out_and_biases_at_zero() -> None:
    """Caffe2's MSRAFill: deviation sqrt(2 / 256) = 0.088 for 256 × 5120; PyTorch's
    usual fan-in would give 0.0198.
    """
    torch.manual_seed(0)
    linear = [m for m in TransferFunction(D, C, 3).modules() if isinstance(m, nn.Linear)]
    for layer in linear:
        weight = layer.weight.detach()
        assert float(weight.std()) == pytest.approx(0.0884, rel=0.02)
        assert float(weight.mean()) == pytest.approx(0.0, abs=0.002)
        assert float((weight.abs() < 0.0884).float().mean()) == pytest.approx(
            0.683, abs=0.01
        )  # Gaussian, not uniform
        assert not bool(layer.bias.detach().any())
