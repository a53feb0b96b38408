"""Resume points are complete or absent, and hold no code."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from halfmask.errors import InputError
from halfmask.training.loop.resume import (
    random_state,
    read_resume_point,
    restore_random_state,
    write_resume_point,
)


def draw() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),  # noqa: NPY002
        float(np.random.randn()),  # noqa: NPY002
        torch.rand(1).item(),
    ]


def test_random_numbers_continue_after_a_file(tmp_path: Path) -> None:
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    draw()  # gauss and randn keep a spare number: that is state too
    write_resume_point(tmp_path / "r", {"random": random_state()})
    expected = [draw(), draw()]
    restore_random_state(read_resume_point(tmp_path / "r")["random"])
    assert [draw(), draw()] == expected


def test_a_write_that_fails_leaves_the_earlier_point(tmp_path: Path) -> None:
    path = tmp_path / "r"
    write_resume_point(path, {"n": 1})
    with pytest.raises(Exception, match="pickle"):
        write_resume_point(path, {"n": 2, "code": lambda: None})
    assert read_resume_point(path)["n"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["r"]


def test_files_with_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r"
    torch.save({"halfmask_resume": 1, "x": random.Random(1)}, path)
    with pytest.raises(InputError, match="damaged, or no resume point"):
        read_resume_point(path)


def read_or_refuse(path: Path) -> dict[str, Any] | None:
    try:
        return read_resume_point(path)
    except InputError:
        return None


def test_no_wrong_bit_gets_into_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "r"
    content = {"w": torch.randn(200), "n": 3}
    write_resume_point(path, content)
    whole, draw, refused = path.read_bytes(), random.Random(5), 0
    for _ in range(150):
        data = bytearray(whole)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        found = read_or_refuse(path)
        refused += found is None
        assert found is None or (torch.equal(found["w"], content["w"]) and found["n"] == 3)
    assert refused > 100


@pytest.mark.parametrize("mark", [None, 2, "1", torch.ones(2), True])
def test_another_format_is_refused(tmp_path: Path, mark: object) -> None:
    torch.save({"halfmask_resume": mark}, tmp_path / "r")
    with pytest.raises(InputError, match="resume format"):
        read_resume_point(tmp_path / "r")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_cut_files_are_refused(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "r"
    write_resume_point(path, {"w": torch.randn(1000)})
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    with pytest.raises(InputError, match=r"r: damaged.*delete"):
        read_resume_point(path)
