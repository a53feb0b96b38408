"""Learning rates by step, and which parameter gets what."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from halfmask.recipes.recipe import Optimiser
from halfmask.recipes.run import Precision
from halfmask.training.loop.optim import build_optimiser, lr_factor
from halfmask.training.loop.trainer import precision_on


def rates(steps: int, **settings: Any) -> list[float]:
    """The rate of each step, as the schedule sets it."""
    optimiser, schedule = build_optimiser(
        nn.Linear(2, 2).named_parameters(), settings=Optimiser(**settings), steps=steps
    )
    out = []
    for _ in range(steps):
        out.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return out


def test_the_papers_schedule() -> None:
    # Detectron: linear from a third over 500 steps, a tenth after 60 000 and 80 000.
    factor = lr_factor(Optimiser(lr=0.02, warmup=500, schedule="step", steps=[80000, 60000]), 90000)
    assert [factor(s) for s in (0, 250, 500, 59999)] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert [factor(s) for s in (60000, 79999, 80000, 89999)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01]
    )


def test_cosine_falls_from_the_rate_to_nothing() -> None:
    found = rates(10, lr=0.5, schedule="cosine")
    assert found == pytest.approx([0.25 * (1 + math.cos(math.pi * s / 10)) for s in range(10)])
    assert lr_factor(Optimiser(lr=1, schedule="cosine"), 10)(10) == pytest.approx(0)


def test_constant_with_warmup() -> None:
    assert rates(5, lr=0.3, schedule="constant", warmup=2) == pytest.approx(
        [0.1, 0.2, 0.3, 0.3, 0.3]
    )


def test_biases_have_their_own_rate_and_no_decay() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    settings = Optimiser(
        lr=0.02, bias_lr_factor=2.0, decay_biases=False, weight_decay=0.5, momentum=0.8
    )
    optimiser, _ = build_optimiser(net.named_parameters(), settings=settings, steps=10)
    weights, biases = optimiser.param_groups
    assert [p.shape for p in weights["params"]] == [net[0].weight.shape, net[1].weight.shape]
    assert [p.shape for p in biases["params"]] == [net[0].bias.shape, net[1].bias.shape]
    assert (weights["lr"], weights["weight_decay"], weights["momentum"]) == (0.02, 0.5, 0.8)
    assert (biases["lr"], biases["weight_decay"]) == (0.04, 0.0)


def test_a_part_can_have_a_rate_of_its_own() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1))
    settings = Optimiser(lr=0.02, bias_lr_factor=2.0)
    optimiser, _ = build_optimiser(
        net.named_parameters(),
        settings=settings,
        steps=10,
        factors={"0.weight": 0.1, "0.bias": 0.1},
    )
    found = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert [found[id(p)] for p in net.parameters()] == pytest.approx([0.002, 0.004, 0.02, 0.04])
    # What the log calls the rate is the stage's own, not a part's.
    assert max(optimiser.param_groups, key=lambda group: group["part_factor"])[
        "lr"
    ] == pytest.approx(0.02)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_step_is_torchs_own(name: str) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
    theirs.load_state_dict(ours.state_dict())
    settings = Optimiser(name=name, lr=0.1, weight_decay=0.01, schedule="constant")  # type: ignore[arg-type]
    mine, _ = build_optimiser(ours.named_parameters(), settings=settings, steps=5)
    assert len(mine.param_groups) == 1, "a group without parameters is left out"
    if name == "sgd":
        reference: Any = torch.optim.SGD(
            theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, foreach=False
        )
    else:
        reference = torch.optim.AdamW(theirs.parameters(), lr=0.1, weight_decay=0.01, foreach=False)
    x = torch.randn(4, 3)
    for _ in range(5):
        for net, optimiser in ((ours, mine), (theirs, reference)):
            optimiser.zero_grad()
            net(x).square().sum().backward()
            optimiser.step()
    assert torch.allclose(ours.weight, theirs.weight, atol=1e-6)


@pytest.mark.parametrize(
    ("has", "wanted", "used"),
    [
        ({"avx512_bf16": True}, "bf16", "bf16"),
        ({"amx_bf16": True}, "bf16", "bf16"),
        ({"avx512_f": True}, "bf16", "32"),
        ({"avx512_bf16": True}, "16", "32"),
        ({"avx512_bf16": True}, "32", "32"),
    ],
)
def test_a_cpu_takes_the_precision_that_it_has(
    has: dict[str, bool], wanted: Precision, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert precision_on(torch.device("cpu"), wanted) == used
    assert precision_on(torch.device("cuda"), wanted) == wanted
