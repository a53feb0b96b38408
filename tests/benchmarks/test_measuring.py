"""How benchmarks measure, and the rows and lines they make of it."""

import torch

from benchmarks.__main__ import _line
from benchmarks.measuring import allocations_of, alternate, process_peak_of
from benchmarks.result import compared, held


def test_steps_take_turns() -> None:
    order: list[str] = []
    seconds = alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert {name: len(found) for name, found in seconds.items()} == {"a": 2, "b": 2}


def test_allocations_are_what_is_held_at_once_and_the_largest() -> None:
    def step() -> None:
        torch.zeros(1000, dtype=torch.uint8)
        kept = [torch.zeros(3000, dtype=torch.uint8) for _ in range(2)]
        kept.clear()
        torch.zeros(5000, dtype=torch.uint8)

    peak, largest = allocations_of(step)
    assert 6000 <= peak < 6500
    assert 5000 <= largest < 5100


def test_the_process_grows_by_what_a_step_touches() -> None:
    size = 64 << 20
    found = process_peak_of(lambda: torch.ones(size, dtype=torch.uint8).numel())
    assert 0.9 * size < found < 1.5 * size


def test_rows_and_lines() -> None:
    slower = compared("step", "peer", 10.0, 12.0, "ms", 1.1)
    assert (slower["ratio"], slower["ok"]) == (1.2, False)
    better = compared("speed", "peer", 10.0, 2.0, "ms", 5.0, at_least=True)
    assert (better["ratio"], better["ok"]) == (5.0, True)
    unknown = compared("big", "peer", None, 2.0, "MiB", 5.0)
    assert (unknown["ratio"], unknown["ok"]) == (None, None)
    assert _line(slower) == "step: 12.000 ms (peer 10.000), bar 1.1: MISSED"
    assert _line(unknown) == "big: 2.000 MiB (peer not measured)"
    assert _line(held("others", 0, "", 0)) == "others: 0.000 , bar 0: met"
