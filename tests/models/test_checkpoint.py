"""Checkpoints: what goes in comes out; what is none is refused in one line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from halfmask._version import __version__
from halfmask.errors import InputError
from halfmask.models.checkpoint import (
    Category,
    Checkpoint,
    file_digest,
    load_checkpoint,
    load_fitting_weights,
    load_weights,
    save_checkpoint,
)
from halfmask.models.class_weights import FixedWeights
from halfmask.recipes.recipe import Recipe, parse_recipe

CATEGORIES: list[Category] = [
    {"id": 1, "name": "cat"},
    {"id": 7, "name": "potted plant"},
    {"id": 9, "name": "Straße"},
]


@pytest.fixture
def recipe() -> Recipe:
    model = {"kind": "box_segmenter", "encoder": {"name": "mobilenet_v2"}}
    stage = {"name": "s", "train": ["all"], "steps": 1, "batch_size": 1, "optimiser": {"lr": 0.1}}
    return parse_recipe(
        {
            "name": "r",
            "model": model,
            "data": {"annotations": "a", "images": "b"},
            "stages": [stage],
        },
        "r",
    )


def make(recipe: Recipe, state: dict[str, Tensor]) -> Checkpoint:
    return Checkpoint(
        state=state,
        recipe=recipe,
        categories=CATEGORIES,
        masked=[7, 1],
        mask_counts={1: 20, 7: 12, 9: 0},
    )


def header_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return dict(json.loads(file.metadata()["halfmask"]))


def write_header(path: Path, header: Any, state: dict[str, Tensor] | None = None) -> None:
    save_file(state or {"w": torch.zeros(2)}, path, metadata={"halfmask": json.dumps(header)})


def test_everything_comes_back(recipe: Recipe, tmp_path: Path) -> None:
    shared = torch.randn(4, 3, 2, 2)
    state = {
        "w": shared,
        "again": shared,  # memory of another tensor
        "view": shared[:2, 1:],  # not contiguous
        "last": torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "half": torch.randn(3).half(),
        "double": torch.randn(3, dtype=torch.float64),
        "empty": torch.zeros(0, 4),
        "learnt": nn.Parameter(torch.randn(3)),
    }
    path = tmp_path / "new" / "model.safetensors"
    save_checkpoint(path, make(recipe, state))
    back = load_checkpoint(path)
    assert back.state.keys() == state.keys()
    for name, tensor in state.items():
        assert back.state[name].dtype == tensor.dtype
        assert torch.equal(back.state[name], tensor.detach())
    assert (back.recipe, back.categories, back.masked) == (recipe, CATEGORIES, [1, 7])
    assert back.mask_counts == {1: 20, 7: 12, 9: 0}
    assert back.version == __version__
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


def test_half_is_half_the_size_and_float32_again(recipe: Recipe, tmp_path: Path) -> None:
    state = {
        "w": torch.randn(64, 64),
        "n": torch.tensor(3),
        "d": torch.randn(2, dtype=torch.float64),
        "h": torch.ones(2).half(),
    }
    save_checkpoint(tmp_path / "full", make(recipe, state))
    save_checkpoint(tmp_path / "half", make(recipe, state), half=True)
    assert (tmp_path / "half").stat().st_size < 0.6 * (tmp_path / "full").stat().st_size
    back = load_checkpoint(tmp_path / "half").state
    assert {k: t.dtype for k, t in back.items()} == {k: t.dtype for k, t in state.items()}
    assert torch.equal(back["w"], state["w"].half().float())
    assert torch.equal(back["d"], state["d"])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12).filter(lambda s: s != "__metadata__"),
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=6),
        max_size=5,
    )
)
def test_any_finite_weights_survive(
    recipe: Recipe, tmp_path: Path, values: dict[str, list[float]]
) -> None:
    state = {name: torch.tensor(numbers, dtype=torch.float32) for name, numbers in values.items()}
    save_checkpoint(tmp_path / "m", make(recipe, state))
    back = load_checkpoint(tmp_path / "m").state
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_not_written(
    recipe: Recipe, tmp_path: Path, bad: float
) -> None:
    path = tmp_path / "m"
    save_checkpoint(path, make(recipe, {"w": torch.ones(2)}))
    with pytest.raises(InputError, match=r"head\.w holds values that are not finite"):
        save_checkpoint(path, make(recipe, {"head.w": torch.tensor([1.0, bad])}))
    assert torch.equal(load_checkpoint(path).state["w"], torch.ones(2)), "the earlier file stays"
    assert len(list(tmp_path.iterdir())) == 1


def test_weights_beyond_16_bits_are_not_written_in_16_bits(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="in 16 bits: w holds"):
        save_checkpoint(tmp_path / "m", make(recipe, {"w": torch.tensor([70000.0])}), half=True)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_not_read(tmp_path: Path, recipe: Recipe) -> None:
    save_checkpoint(tmp_path / "m", make(recipe, {"w": torch.ones(2)}))
    write_header(
        tmp_path / "bad", header_of(tmp_path / "m"), {"w": torch.tensor([1.0, float("nan")])}
    )
    with pytest.raises(InputError, match="bad: w holds values that are not finite"):
        load_checkpoint(tmp_path / "bad")


def test_files_that_are_no_checkpoint(recipe: Recipe, tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    save_checkpoint(good, make(recipe, {"w": torch.randn(100, 100)}))
    whole = good.read_bytes()

    def refused(words: str) -> None:
        with pytest.raises(InputError) as caught:
            load_checkpoint(bad)
        message = str(caught.value)
        assert words in message, message
        assert str(bad) in message
        assert "\n" not in message

    refused("no such file")
    bad.mkdir()
    refused("no such file")
    bad.rmdir()
    bad.write_text("weights, honestly" * 10)
    refused("not a safetensors file")
    bad.write_bytes(b"")
    refused("cut short")
    torch.save({"w": torch.zeros(3)}, bad)
    refused("not a safetensors file")
    for length in (5, 8, 100, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:length])
        with pytest.raises(InputError, match="cut short"):
            load_checkpoint(bad)
    refused("cut short")
    save_file({"w": torch.zeros(3)}, bad)
    refused("halfmask did not write")
    save_file({"w": torch.zeros(3)}, bad, metadata={"format": "pt"})
    refused("halfmask did not write")
    save_file({"w": torch.zeros(3)}, bad, metadata={"halfmask": "{"})
    refused("not JSON")


def test_other_versions_and_damaged_headers(recipe: Recipe, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "good", make(recipe, {"w": torch.zeros(2)}))
    header, bad = header_of(tmp_path / "good"), tmp_path / "bad"

    def refused(change: dict[str, Any] | None, words: str) -> None:
        write_header(bad, None if change is None else {**header, **change})
        with pytest.raises(InputError) as caught:
            load_checkpoint(bad)
        assert words in str(caught.value), str(caught.value)
        assert "\n" not in str(caught.value)

    refused(
        {"format": 2, "version": "9.9"}, "checkpoint format 2, expected 1: written by halfmask 9.9"
    )
    refused({"format": None}, "checkpoint format None")
    refused(None, "checkpoint format None")
    refused({"categories": [{"id": 1}]}, "damaged")
    refused({"masked": ["x"]}, "damaged")
    refused({"mask_counts": [1]}, "damaged")
    refused({"half": 3}, "damaged")
    refused({"recipe": 3}, "damaged")
    refused({"recipe": {**header["recipe"], "colour": "red"}}, "colour: unknown key")
    del header["recipe"]
    refused({}, "damaged")


class Net(nn.Module):
    def __init__(self, width: int = 3, extra: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1)
        self.norm = nn.BatchNorm2d(width)
        if extra:
            self.head = nn.Linear(width, 2)


def test_load_weights_copies_every_tensor() -> None:
    source, model = Net(), Net()
    nn.init.normal_(source.norm.running_mean)
    load_weights(model, source.state_dict(), "file")
    assert all(
        torch.equal(a, b)
        for a, b in zip(source.state_dict().values(), model.state_dict().values(), strict=True)
    )


def test_load_weights_names_what_does_not_fit() -> None:
    model = Net()
    before = {k: t.clone() for k, t in model.state_dict().items()}
    with pytest.raises(
        InputError,
        match=r"m\.st: conv\.weight: expected shape \[3, 3, 1, 1\], found \[5, 3, 1, 1\]",
    ):
        load_weights(model, Net(5).state_dict(), "m.st")
    with pytest.raises(
        InputError, match=r"m\.st: has head\.weight, head\.bias, which the model does not know"
    ):
        load_weights(model, Net(extra=True).state_dict(), "m.st")
    with pytest.raises(InputError, match=r"m\.st: lacks head\.weight, head\.bias"):
        load_weights(Net(extra=True), model.state_dict(), "m.st")
    with pytest.raises(
        InputError, match=r"lacks conv\.weight, conv\.bias, norm\.weight and 3 more"
    ):
        load_weights(model, {}, "m.st")
    assert all(torch.equal(before[k], t) for k, t in model.state_dict().items())


def test_num_batches_tracked_may_be_missing() -> None:
    source, model = Net(), Net()
    state = {k: t for k, t in source.state_dict().items() if not k.endswith("num_batches_tracked")}
    load_weights(model, state, "m")
    assert len(state) == len(model.state_dict()) - 1
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in state.items())
    assert model.norm.num_batches_tracked == 0


def test_fitting_weights_leave_the_rest() -> None:
    source, model = Net(), Net(extra=True)
    head = model.head.weight.clone()
    assert load_fitting_weights(model, source.state_dict()) == ["head.weight", "head.bias"]
    assert torch.equal(model.conv.weight, source.conv.weight)
    assert torch.equal(model.head.weight, head)
    vectors = nn.Module()
    vectors.class_weights = FixedWeights(torch.zeros(2, 3))
    assert load_fitting_weights(vectors, {"class_weights.vectors": torch.ones(3, 3)}) == [
        "class_weights.vectors"
    ]
    assert not vectors.class_weights.vectors.any(), "the recipe's own, never another run's"
    assert load_fitting_weights(Net(), {"conv.weight": torch.zeros(9)}) == [
        k for k in Net().state_dict() if "tracked" not in k
    ]


def test_digest(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc" * 1000)
    assert file_digest(path) == hashlib.sha256(b"abc" * 1000).hexdigest()[:12]


def test_the_same_model_is_the_same_bytes(recipe: Recipe, tmp_path: Path) -> None:
    state = {"b": torch.ones(3), "a": torch.zeros(2)}
    save_checkpoint(tmp_path / "one", make(recipe, state))
    save_checkpoint(tmp_path / "two", make(recipe, dict(reversed(state.items()))))
    assert file_digest(tmp_path / "one") == file_digest(tmp_path / "two")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]},
            "two classes with the same id",
        ),
        ({"categories": [{"id": "1", "name": "a"}]}, "without a whole number"),
        ({"categories": [{"id": 1, "name": None}]}, "without a name"),
        ({"masked": [99]}, "not in its list"),
        ({"masked": [float("inf")]}, "OverflowError"),
        ({"mask_counts": {"98": 3}}, "not in its list"),
    ],
)
def test_a_class_list_that_cannot_be_is_refused(
    recipe: Recipe, tmp_path: Path, change: Any, fault: str
) -> None:
    save_checkpoint(
        tmp_path / "good",
        Checkpoint(
            state={"w": torch.zeros(2)},
            recipe=recipe,
            categories=[{"id": 1, "name": "a"}],
            masked=[1],
            mask_counts={1: 5},
        ),
    )
    write_header(tmp_path / "bad", header_of(tmp_path / "good") | change)
    with pytest.raises(InputError, match=f"header is damaged.*{fault}"):
        load_checkpoint(tmp_path / "bad")


def test_a_header_of_brackets_is_no_crash(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(1)}, tmp_path / "bad", metadata={"halfmask": "[" * 100_000})
    with pytest.raises(InputError, match="not JSON"):
        load_checkpoint(tmp_path / "bad")


def test_weights_of_another_kind_of_number_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"weight: expected torch\.float32, found torch\.int64"):
        load_weights(
            nn.Linear(1, 1),
            {"weight": torch.ones(1, 1, dtype=torch.int64), "bias": torch.zeros(1)},
            "f",
        )
