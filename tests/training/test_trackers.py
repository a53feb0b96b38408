"""Trackers send numbers to the services of a recipe, and continue a resumed run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfmask.errors import InputError
from halfmask.recipes.recipe import Recipe
from halfmask.training.loop.fit import Loaders, fit
from halfmask.training.loop.trackers import Trackers

BLOCKS = {"given_boxes": {"A": {"miou": 0.5, "instances": 3}, "B": {"miou": None}}, "note": "text"}


class Spy:
    """Stands for a logger."""

    def __init__(self, broken: bool = False) -> None:
        self.rows: list[tuple[dict[str, float], int]] = []
        self.ended: list[str] = []
        self.broken = broken

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        if self.broken:
            raise ConnectionError("no route")
        self.rows.append((values, step))

    def finalize(self, status: str) -> None:
        self.ended.append(status)


def with_spies(tmp_path: Path, *spies: Any) -> Trackers:
    trackers = Trackers([], tmp_path)
    trackers.loggers += spies
    return trackers


def test_an_evaluation_has_paths_for_names_and_only_numbers(tmp_path: Path) -> None:
    spy = Spy()
    trackers = with_spies(tmp_path, spy)
    trackers.log_evaluation(BLOCKS, 7)
    trackers.log_evaluation({"given_boxes": {"B": {"miou": None}}}, 8)
    assert spy.rows == [({"given_boxes/A/miou": 0.5, "given_boxes/A/instances": 3.0}, 7)]


def test_a_service_that_fails_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = Spy(), Spy(broken=True)
    trackers = with_spies(tmp_path, bad, good)
    trackers.log({"loss": 1.0}, 1)
    trackers.log({"loss": 0.5}, 2)
    trackers.close(finished=True)
    assert [step for _, step in good.rows] == [1, 2]
    assert caplog.text.count("no route") == 1
    assert (good.ended, bad.ended) == (["success"], [])


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    import lightning.pytorch.loggers.mlflow as mlflow_module
    import lightning.pytorch.loggers.wandb as wandb_module

    monkeypatch.setattr(mlflow_module, "_MLFLOW_AVAILABLE", False)
    monkeypatch.setattr(wandb_module, "_WANDB_AVAILABLE", False)
    with pytest.raises(InputError, match=rf"pip install 'halfmask\[{name}\]'"):
        Trackers([name], tmp_path)


def test_tensorboard_has_losses_of_all_stages_and_evaluations(
    data: Loaders, tiny_model: Callable[[], Any], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stage = {"train": ["mask_head"], "loss": "masks", "steps": 10}
    fit(
        tiny_model(),
        make_recipe(stage, stage),
        data,
        folder=tmp_path,
        evaluate=lambda _: BLOCKS,
        device="cpu",
    )
    events = EventAccumulator(str(tmp_path / "logs" / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("loss_mask")] == [10, 20]
    assert [(e.step, e.value) for e in events.Scalars("given_boxes/A/miou")] == [(20, 0.5)]


def test_no_logger(
    data: Loaders, tiny_model: Callable[[], Any], make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    fit(tiny_model(), make_recipe({"steps": 10}, loggers=[]), data, folder=tmp_path, device="cpu")
    assert [p.name for p in (tmp_path / "logs").iterdir()] == ["metrics.csv"]


def test_mlflow_keeps_a_run_over_a_resumption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for step in (0, 10):
        trackers = Trackers(["mlflow"], tmp_path / "run", settings={"seed": 3}, resumed_step=step)
        trackers.log({"loss": 1.0 / (step + 1)}, step + 10)
        trackers.close(finished=step > 0)
    from mlflow.tracking import MlflowClient

    client = MlflowClient((tmp_path / "run/logs/mlruns").as_uri())
    experiment = client.get_experiment_by_name("halfmask")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert [m.step for m in client.get_metric_history(run.info.run_id, "loss")] == [10, 20]
    assert (run.info.status, run.data.params["seed"]) == ("FINISHED", "3")


WANDB = """
import sys
from pathlib import Path
from halfmask.training.loop.trackers import Trackers
for step in (0, 10):
    trackers = Trackers(["wandb"], Path(sys.argv[1]), {"seed": 3}, resumed_step=step)
    trackers.log({"loss": 1.0 / (step + 1)}, step + 10)
    trackers.close(finished=step > 0)
"""


@pytest.mark.slow
def test_wandb_offline_keeps_a_run_over_a_resumption(tmp_path: Path) -> None:
    """In a process of its own: W&B starts a service."""
    pytest.importorskip("wandb")
    import os

    run = tmp_path / "run"
    environment = os.environ | {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", WANDB, str(run)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    name = json.loads((run / "logs" / "trackers.json").read_text())["wandb"]
    files = list((run / "logs" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert {f.stem for f in files} == {f"run-{name}"}
