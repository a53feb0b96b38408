"""The loop learns, is reproducible, freezes parts, and stops and resumes exactly."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from halfmask.errors import InputError
from halfmask.recipes.recipe import Recipe
from halfmask.training.loop.fit import Loaders, fit
from halfmask.training.loop.optim import choose_parts

BOXES = {"name": "boxes", "train": ["backbone", "box_head"], "loss": "boxes", "ema": 0.9}
HEAD = {
    "name": "masks",
    "train": ["mask_head"],
    "loss": "masks",
    "cache_features": True,
    "batch_size": 4,
    "optimiser": {"name": "adamw", "lr": 0.01, "warmup": 3, "clip_norm": 1.0},
}
END = {
    "name": "all",
    "train": ["all"],
    "ema": 0.95,
    "optimiser": {"schedule": "step", "steps": [3], "bias_lr_factor": 2.0, "decay_biases": False},
}

Make = Callable[..., Recipe]
Build = Callable[[], Any]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def nothing(model: torch.nn.Module) -> dict[str, Any]:
    return {}


def signal_in_evaluation(
    number: int, which: int = signal.SIGINT
) -> Callable[[torch.nn.Module], dict[str, Any]]:
    """An evaluation during whose n-th call a signal arrives."""
    calls = []

    def evaluate(model: torch.nn.Module) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), which)
        return {}

    return evaluate


@pytest.mark.parametrize("stop", [1, 5, 7, 9, 12, 14, 21])
def test_a_resumed_training_ends_bit_for_bit_as_an_uninterrupted_one(
    stop: int, data: Loaders, tiny_model: Build, make_recipe: Make, tmp_path: Path
) -> None:
    # Three stages of seven steps: EMA; cached regions; end to end. The stops lie within
    # the stages and at their boundaries.
    recipe = make_recipe(BOXES, HEAD, END, evaluate_every=1, checkpoint_every=1000)
    straight, broken, resumed = tiny_model(), tiny_model(), tiny_model()
    whole = fit(straight, recipe, data, folder=tmp_path / "a", evaluate=nothing, device="cpu")
    assert (whole.finished, whole.step, whole.steps) == (True, 21, 21)
    which = signal.SIGTERM if stop == 5 else signal.SIGINT
    outcome = fit(
        broken,
        recipe,
        data,
        folder=tmp_path / "b",
        evaluate=signal_in_evaluation(stop, which),
        device="cpu",
    )
    if (
        stop == 12
    ):  # the files of cached regions are large: someone deleted them, or moved the run without them
        shutil.rmtree(tmp_path / "b" / "features-1")
    assert (outcome.finished, outcome.step) == (False, stop)
    assert stop == 21 or not same(straight, broken)
    torch.manual_seed(99)  # whatever happened in the new process before
    again = fit(
        resumed, recipe, data, folder=tmp_path / "b", evaluate=nothing, resume=True, device="cpu"
    )
    assert (again.finished, again.step) == (True, 21)
    assert same(straight, resumed)
    evaluations = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab"]
    assert [[e["step"] for e in run] for run in evaluations] == [list(range(1, 22))] * 2
    assert evaluations[0][-1]["epoch"] == evaluations[1][-1]["epoch"]


def test_a_crash_goes_back_to_the_last_resume_point(
    data: Loaders, tiny_model: Build, make_recipe: Make, tmp_path: Path
) -> None:
    recipe = make_recipe({**END, "steps": 25}, checkpoint_every=10)
    straight, resumed = tiny_model(), tiny_model()
    fit(straight, recipe, data, folder=tmp_path / "a", device="cpu")
    crashing = tiny_model()
    crashing.crash_at = 17
    with pytest.raises(RuntimeError, match="the power failed"):
        fit(crashing, recipe, data, folder=tmp_path / "b", device="cpu")
    fit(resumed, recipe, data, folder=tmp_path / "b", resume=True, device="cpu")
    assert same(straight, resumed)
    assert len(resumed.seen) == (25 - 10) * 3
    assert [r["step"] for r in rows(tmp_path / "b")] == ["10", "20", "25"]
    assert [r["loss"] for r in rows(tmp_path / "a")] == [r["loss"] for r in rows(tmp_path / "b")]


def test_slow_steps_are_saved_by_the_clock(
    data: Loaders,
    tiny_model: Build,
    make_recipe: Make,
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny_model()
    model.crash_at = 5
    monkeypatch.setattr("halfmask.training.loop.callback.SAVE_SECONDS", 0.0)
    with pytest.raises(RuntimeError, match="the power failed"):
        fit(model, make_recipe(END, checkpoint_every=1000), data, folder=run_folder, device="cpu")
    assert (
        torch.load(run_folder / "resume.ckpt", weights_only=True)["halfmask"]["course"]["step"] == 4
    )


def test_the_same_seed_gives_the_same_losses(
    data: Loaders, tiny_model: Build, make_recipe: Make, tmp_path: Path
) -> None:
    losses = []
    for name, seed, every in (("a", 3, 0), ("b", 3, 2), ("c", 4, 0)):
        recipe = make_recipe({**END, "steps": 20}, seed=seed, evaluate_every=every)

        def evaluate(model: torch.nn.Module) -> dict[str, Any]:
            model.eval()  # an evaluation that leaves its traces: mode, random numbers
            torch.rand(5)
            return {}

        fit(tiny_model(), recipe, data, folder=tmp_path / name, evaluate=evaluate, device="cpu")
        losses.append([row["loss"] for row in rows(tmp_path / name)])
    assert losses[0] == losses[1], "evaluations do not touch the training"
    assert losses[0] != losses[2]


def test_it_learns(data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path) -> None:
    fit(tiny_model(), make_recipe({"steps": 300}), data, folder=run_folder, device="cpu")
    losses = [float(row["loss_mask"]) for row in rows(run_folder)]
    assert losses[-1] < 0.7 * losses[0]


def test_frozen_parts_do_not_move(
    data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    # Weight decay and BatchNorm's statistics are what moves "frozen" weights; an
    # evaluation that leaves the model in training mode is what switches BatchNorm on
    # again.
    recipe = make_recipe(
        {"train": ["mask_head"], "ema": 0.5, "optimiser": {"lr": 0.5, "weight_decay": 0.1}},
        evaluate_every=2,
    )
    model = tiny_model()
    before = {k: t.clone() for k, t in model.state_dict().items()}

    def evaluate(inner: torch.nn.Module) -> dict[str, Any]:
        inner.train()
        return {}

    fit(model, recipe, data, folder=run_folder, evaluate=evaluate, device="cpu")
    moved = {
        name.split(".")[0]
        for name, tensor in model.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert moved == {"mask_head"}


def test_parts_learn_again_in_a_later_stage_but_what_was_built_frozen_stays(
    data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    model = tiny_model()
    before = {k: t.clone() for k, t in model.state_dict().items()}
    fit(
        model,
        make_recipe({"train": ["mask_head"]}, {"train": ["all"]}),
        data,
        folder=run_folder,
        device="cpu",
    )
    still = {
        name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])
    }
    assert still == {"fixed"}


def test_the_average_is_evaluated_and_kept(
    data: Loaders, tiny_model: Build, make_recipe: Make, tmp_path: Path
) -> None:
    seen: list[torch.Tensor] = []

    def evaluate(model: torch.nn.Module) -> dict[str, Any]:
        seen.append(model.get_parameter("mask_head.0.weight").detach().clone())
        return {}

    plain, averaged = tiny_model(), tiny_model()
    fit(
        plain,
        make_recipe({}, evaluate_every=1),
        data,
        folder=tmp_path / "a",
        evaluate=evaluate,
        device="cpu",
    )
    steps = list(seen)
    seen.clear()
    fit(
        averaged,
        make_recipe({"ema": 0.5}, evaluate_every=1),
        data,
        folder=tmp_path / "b",
        evaluate=evaluate,
        device="cpu",
    )
    average = steps[0]
    assert torch.equal(seen[0], average)
    for n, weights in enumerate(steps[1:], start=1):
        average = torch.lerp(average, weights, 1 - min(0.5, (1 + n) / (10 + n)))
        assert torch.allclose(seen[n], average, atol=1e-6)
    assert torch.equal(averaged.mask_head[0].weight.detach(), seen[-1])
    assert not torch.equal(averaged.mask_head[0].weight, plain.mask_head[0].weight)


def test_cached_features_see_every_image_once(
    data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    model = tiny_model()
    fit(model, make_recipe({**HEAD, "steps": 30}), data, folder=run_folder, device="cpu")
    assert model.seen == []  # not one full forward
    assert sorted(model.pooled) == [100 + i for i in range(11)]
    assert not list(run_folder.glob("features-*"))
    assert set(rows(run_folder)[0]) >= {
        "step",
        "epoch",
        "seconds",
        "stage",
        "lr",
        "images_per_second",
        "loss",
        "loss_mask",
    }


def test_the_run_leaves_logs_and_metrics(
    data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    recipe = make_recipe(
        {**BOXES, "steps": 20}, {**END, "steps": 20, "batch_size": 11}, evaluate_every=20
    )
    outcome = fit(
        tiny_model(),
        recipe,
        data,
        folder=run_folder,
        evaluate=lambda m: {"box": {"all": {"AP": 1.0}}},
        device="cpu",
    )
    table = rows(run_folder)
    assert [row["step"] for row in table] == ["10", "20", "30", "40"]
    assert [row["stage"] for row in table] == ["boxes", "boxes", "all", "all"]
    assert table[0]["loss_mask"] == ""
    assert float(table[2]["loss"]) == pytest.approx(
        float(table[2]["loss_mask"]) + float(table[2]["loss_box"])
    )
    entries = json.loads((run_folder / "metrics.json").read_text())
    assert [(e["step"], e["box"]["all"]["AP"]) for e in entries] == [(20, 1.0), (40, 1.0)]
    assert entries[0]["epoch"] == pytest.approx(20 * 3 / 11, abs=1e-3)
    assert entries[1]["epoch"] == pytest.approx(20 * 3 / 11 + 20, abs=1e-3)
    assert 0 < entries[0]["seconds"] <= entries[1]["seconds"] <= outcome.seconds + 0.1
    assert list((run_folder / "logs" / "tensorboard").glob("events.*"))


def test_an_unknown_part_is_named(
    data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    with pytest.raises(
        InputError,
        match="stage s: the model has no part head; its parts are backbone, box_head, "
        "mask_head, or all",
    ):
        fit(
            tiny_model(),
            make_recipe({"name": "s", "train": ["head"]}),
            data,
            folder=run_folder,
            device="cpu",
        )
    with pytest.raises(InputError, match="nothing learns"):
        choose_parts(
            tiny_model(), make_recipe({"name": "s", "train": ["mask_head"]}).stages[0], {"fixed"}
        )


def test_a_part_learns_at_its_own_rate(
    data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    def moved(factors: dict[str, float]) -> dict[str, float]:
        model = tiny_model()
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimiser = {
            "name": "sgd",
            "lr": 0.01,
            "momentum": 0.0,
            "weight_decay": 0.0,
            "schedule": "constant",
        }
        stage = {**END, "steps": 1, "optimiser": {**optimiser, "part_lr_factors": factors}}
        fit(model, make_recipe(stage), data, folder=run_folder / str(len(factors)), device="cpu")
        return {
            name: float((p.detach() - before[name]).norm()) for name, p in model.named_parameters()
        }

    for name in ("0", "1"):
        (run_folder / name).mkdir()
    plain, slow = moved({}), moved({"mask_head": 0.1})
    assert any(plain[name] > 0 for name in plain if name.startswith("mask_head"))
    for name, distance in plain.items():
        wanted = 0.1 * distance if name.startswith("mask_head") else distance
        assert slow[name] == pytest.approx(wanted, rel=1e-3, abs=1e-9)
    with pytest.raises(
        InputError, match=r"part_lr_factors: the model has no part head; its parts are backbone"
    ):
        moved({"head": 0.1})


def test_a_loss_that_is_not_finite_stops_and_names_the_images(
    data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    recipe = make_recipe({**END, "steps": 40}, checkpoint_every=1)
    model = tiny_model()
    model.bad_image = 104
    with pytest.raises(InputError) as caught:
        fit(model, recipe, data, folder=run_folder, device="cpu")
    message = str(caught.value)
    assert "loss_box nan" in message
    assert "loss_mask 0." in message
    ids = message.split("ids ")[1].split(":")[0].split(", ")
    assert "104" in ids
    assert [int(i) for i in ids] == model.seen[-3:]
    if len(model.seen) > 3:  # the state before is good and can be gone on with
        model.bad_image = None
        assert fit(model, recipe, data, folder=run_folder, resume=True, device="cpu").finished


def test_weights_that_are_not_finite_never_become_the_resume_point(
    data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    recipe = make_recipe(
        {**BOXES, "steps": 7}, {**BOXES, "ema": None, "steps": 20}, checkpoint_every=1
    )
    for step in (7, 10):  # at the boundary of the stages, and within one
        model = tiny_model()
        model.break_gradient_at = step  # a finite loss with an infinite gradient
        with pytest.raises(
            InputError, match=rf"after step {step} the weights backbone\.0\.weight are not finite"
        ):
            fit(model, recipe, data, folder=run_folder, device="cpu")
        point = torch.load(run_folder / "resume.ckpt", weights_only=True)
        assert point["halfmask"]["course"]["step"] == step - 1
        weights = point.get("state_dict") or point["model"]
        assert all(t.isfinite().all() for t in weights.values())


@pytest.mark.parametrize("stage", [0, 1])
def test_statistics_that_are_not_finite_never_become_the_resume_point(
    stage: int, data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    """BatchNorm normalises what is huge to 0, so losses and weights stay sound; its
    variance does not.
    """
    recipe = make_recipe(
        {**BOXES, "ema": None, "steps": 4}, {**BOXES, "ema": None, "steps": 20}, checkpoint_every=1
    )
    model = tiny_model()
    at = (4, 6)[stage]  # at the boundary of the stages, and within one

    def spoil(module: Any, *_: Any) -> None:
        if model.calls == at:
            module.running_var.fill_(float("inf"))

    model.backbone[1].register_full_backward_hook(spoil)
    with pytest.raises(
        InputError, match=rf"after step {at} the statistics backbone\.1\.running_var are not finite"
    ):
        fit(model, recipe, data, folder=run_folder, device="cpu")
    point = torch.load(run_folder / "resume.ckpt", weights_only=True)
    assert point["halfmask"]["course"]["step"] == at - 1
    assert fit(tiny_model(), recipe, data, folder=run_folder, resume=True, device="cpu").finished


def test_an_optimiser_that_is_not_finite_never_becomes_the_resume_point(
    data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    """Adam's second moment overflows to infinity, and its steps are 0 from then on: the
    weights look sound.
    """
    stage = {**BOXES, "ema": None, "steps": 20, "optimiser": {"name": "adamw", "lr": 0.01}}
    recipe = make_recipe(stage, checkpoint_every=1)
    model = tiny_model()
    model.backbone[0].weight.register_hook(
        lambda gradient: gradient * (1e30 if model.calls == 5 else 1.0)
    )
    with pytest.raises(
        InputError, match=r"after step 5 the optimiser's exp_avg_sq of backbone\.0\.weight are not"
    ):
        fit(model, recipe, data, folder=run_folder, device="cpu")
    assert (
        torch.load(run_folder / "resume.ckpt", weights_only=True)["halfmask"]["course"]["step"] == 4
    )


def test_a_damaged_resume_point_is_an_error(
    data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    recipe = make_recipe({})
    (run_folder / "resume.ckpt").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(InputError, match=r"resume\.ckpt: damaged"):
        fit(tiny_model(), recipe, data, folder=run_folder, resume=True, device="cpu")
    torch.save({"some": "thing"}, run_folder / "resume.ckpt")
    with pytest.raises(InputError, match="resume format None, expected 1"):
        fit(tiny_model(), recipe, data, folder=run_folder, resume=True, device="cpu")


def test_no_data_is_an_error(
    data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    class Empty:
        def __iter__(self) -> Any:
            return iter(())

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...

    empty = Loaders(lambda batch_size, seed: Empty(), lambda batch_size: iter(()), 0)
    for stage in ({}, HEAD):
        with pytest.raises(InputError, match="gives no"):
            fit(tiny_model(), make_recipe(stage), empty, folder=run_folder, device="cpu")


def test_signals_work_again_afterwards(
    data: Loaders, tiny_model: Build, make_recipe: Make, run_folder: Path
) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    fit(tiny_model(), make_recipe({}), data, folder=run_folder, device="cpu")
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.slow
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_real_signal_to_a_real_process(which: int, tmp_path: Path) -> None:
    code = """
        import sys, pathlib
        sys.path.insert(0, sys.argv[1])
        import conftest as c
        from halfmask.training.loop.fit import Loaders, fit
        samples = c.make_samples()
        data = Loaders(lambda b, s: c.ShuffledLoader(samples, b, s), lambda b: iter(()), len(samples))
        recipe = c.make({"name": "long", "steps": 100000}, checkpoint_every=100000)
        print(fit(c.TinyModel(), recipe, data, folder=pathlib.Path(sys.argv[2]), device="cpu"))
    """
    arguments = [
        sys.executable,
        "-c",
        textwrap.dedent(code),
        str(Path(__file__).parent),
        str(tmp_path),
    ]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    log = tmp_path / "logs" / "metrics.csv"
    deadline = time.monotonic() + 120
    while (
        not (log.is_file() and len(log.read_text().splitlines()) > 3)
        and time.monotonic() < deadline
    ):
        time.sleep(0.2)
    process.send_signal(which)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "finished=False" in out
    step = torch.load(tmp_path / "resume.ckpt", weights_only=True)["halfmask"]["course"]["step"]
    assert f"step={step}," in out
    assert step >= 30
