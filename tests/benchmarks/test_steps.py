"""The benchmark of training steps: what it runs, and what it says."""

from pathlib import Path

import pytest

from benchmarks.result import Options
from benchmarks.speed import steps
from halfmask.errors import InputError


def options(*overrides: str) -> Options:
    return Options(Path(), 1, 0, 1, overrides=overrides, say=lambda _: None)


def test_the_difference_of_two_lengths_is_the_steps_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(precision: str, count: int, home: str | None) -> tuple[float, float]:
        step = {"32": 0.2, "bf16": 0.1}[precision] * (2 if home else 1)
        return 5 + step * count, 0.7

    monkeypatch.setattr(steps, "trained", trained)
    found = steps.run(options("base=earlier", "rounds=2"))
    values = {row["name"]: row for row in found.rows}
    assert values["bfloat16, a step"]["value"] == pytest.approx(0.1)
    assert values["bfloat16, a step"]["ratio"] == pytest.approx(4)
    assert values["earlier version, bfloat16, a step"]["ratio"] == pytest.approx(2)
    assert "| float32 | 200 | 2.00 | 0.7000 |" in found.tables["steps"]


@pytest.mark.parametrize("override", ["step=3", "few=5 many=5", "few=0"])
def test_what_it_does_not_take_is_refused(override: str) -> None:
    with pytest.raises(InputError, match="bench steps"):
        steps.run(options(*override.split()))


@pytest.mark.slow
@pytest.mark.shared
def test_a_training_is_timed_and_its_loss_read() -> None:
    spent, loss = steps.trained("32", 21, None)
    assert spent > 1
    assert 0 < loss < 3
