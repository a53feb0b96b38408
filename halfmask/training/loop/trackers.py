"""Sends a run's numbers to TensorBoard, Weights & Biases and MLflow.

Uses Lightning's loggers, and continues them when the run is resumed.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from halfmask.errors import InputError
from halfmask.files.atomic import write_text

log = logging.getLogger("halfmask")

PROJECT = "halfmask"
IDS = "trackers.json"
"""File in RUN/logs: ids of the run at the services, for resuming it."""


class Trackers:
    """The loggers of one run, over all of its stages.

    Args:
        names: of the recipe's `loggers`.
        folder: of the run.
        settings: the recipe as plain values, which the services show.
        resumed_step: where the run continues; 0 for a new one.
    Raises:
        InputError: a service's package is not installed, or the service refuses.
    """

    def __init__(
        self,
        names: Sequence[str],
        folder: Path,
        *,
        settings: Mapping[str, Any] | None = None,
        resumed_step: int = 0,
    ) -> None:
        self._ids_file = folder / "logs" / IDS
        self._ids: dict[str, str] = {}
        if resumed_step and self._ids_file.is_file():
            self._ids = json.loads(self._ids_file.read_text(encoding="utf-8"))
        build = {
            "tensorboard": lambda: _tensorboard(folder, resumed_step),
            "wandb": lambda: self._wandb(folder),
            "mlflow": lambda: self._mlflow(folder),
        }
        self.loggers: list[Logger] = []
        for name in dict.fromkeys(names):
            with _explained(name):
                self.loggers.append(build[name]())
        for logger in self.loggers:
            # Once: MLflow refuses changed values, and a resumed run's data may have
            # moved.
            shows = not resumed_step and not isinstance(logger, TensorBoardLogger)
            if settings is not None and shows:
                logger.log_hyperparams(dict(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Sends numbers. A service that fails is reported once, and then left out."""
        for logger in list(self.loggers):
            try:
                logger.log_metrics(dict(values), step)
            except Exception as error:
                log.warning("%s: %s; nothing more is sent there", type(logger).__name__, error)
                self.loggers.remove(logger)

    def log_evaluation(self, blocks: Mapping[str, Any], step: int) -> None:
        """Sends an evaluation's numbers, with names such as `given_boxes/B/miou`."""
        values = dict(_numbers(blocks))
        if values:
            self.log(values, step)

    def close(self, finished: bool) -> None:
        """Ends the logs of a finished or stopped run."""
        for logger in self.loggers:
            try:
                logger.finalize("success" if finished else "failed")
                if isinstance(logger, WandbLogger):
                    logger.experiment.finish(exit_code=0 if finished else 1)
            except Exception as error:  # the run itself is complete
                log.warning("%s: %s", type(logger).__name__, error)

    def _wandb(self, folder: Path) -> Logger:
        """W&B's own environment variables set project, entity and mode (offline)."""
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        logs = folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        logger = WandbLogger(
            name=folder.name, save_dir=logs, project=project, id=self._ids.get("wandb")
        )
        self._remember("wandb", str(logger.experiment.id))
        return logger

    def _mlflow(self, folder: Path) -> Logger:
        """MLflow's own environment variables set server and experiment.

        The default is a folder in RUN/logs.
        """
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            uri = (folder / "logs" / "mlruns").resolve().as_uri()
            # Without this variable MLflow 3 does not write to a folder.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        logger = MLFlowLogger(name, folder.name, uri, run_id=self._ids.get("mlflow"))
        assert logger.experiment is not None
        self._remember("mlflow", str(logger.run_id))
        return logger

    def _remember(self, name: str, run: str) -> None:
        self._ids[name] = run
        write_text(self._ids_file, json.dumps(self._ids) + "\n")


def _tensorboard(folder: Path, resumed_step: int) -> Logger:
    return TensorBoardLogger(
        folder / "logs", name="tensorboard", version="", purge_step=resumed_step or None
    )


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns the errors of a service into InputError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"loggers: {name} is not installed: pip install 'halfmask[{name}]', or leave it "
            "out of the recipe's loggers"
        ) from error
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"loggers: {name}: {first}; fix this, or leave it out of the recipe's loggers"
        ) from error


def _numbers(node: Any, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(node, Mapping):
        for key, child in node.items():
            yield from _numbers(child, f"{path}/{key}" if path else str(key))
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield path, float(node)
