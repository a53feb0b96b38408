"""Section 3.3: nothing is learnt from B's masks. Changed, deleted or corrupted, no loss
and no gradient changes, bit for bit.
"""

import copy
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from halfmask.coco.edit import strip_masks
from halfmask.models.checkpoint import load_checkpoint
from halfmask.training.train import train

from .conftest import SCHEDULES, A, Record

Change = Callable[[Record], None]


def swap(annotation: Record) -> None:
    x, y, w, h = annotation["bbox"]
    annotation["segmentation"] = [[x, y, x + w, y, x, y + h]]
    annotation["area"] = 1.0


def delete(annotation: Record) -> None:
    del annotation["segmentation"], annotation["area"]


def corrupt(annotation: Record) -> None:
    annotation["segmentation"] = {"size": [7, -3], "counts": "~~"}
    annotation["area"] = "many"


CHANGES: dict[str, Change] = {"swapped": swap, "deleted": delete, "corrupted": corrupt}


def changed(document: Record, change: Change, in_a: bool) -> Record:
    out = copy.deepcopy(document)
    for annotation in out["annotations"]:
        if (annotation["category_id"] in A) == in_a:
            change(annotation)
    return out


@pytest.mark.parametrize("loss", ["all", "masks"])
def test_losses_and_gradients(
    model: Any, batch: Callable[[Record], Any], document: Record, loss: str
) -> None:
    def run(version: Record) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        network = model(transfer={"stop_gradient": False}, mlp="full")
        torch.manual_seed(9)
        found = network(*batch(strip_masks(version, set(A))), loss)
        torch.stack(list(found.values())).sum().backward()
        return found, {n: p.grad for n, p in network.named_parameters() if p.grad is not None}

    losses, gradients = run(document)
    assert gradients
    for name, change in CHANGES.items():
        other_losses, other_gradients = run(changed(document, change, in_a=False))
        assert all(torch.equal(losses[key], other_losses[key]) for key in losses), name
        assert gradients.keys() == other_gradients.keys()
        assert all(torch.equal(gradients[key], other_gradients[key]) for key in gradients), name
    other_losses, _ = run(changed(document, swap, in_a=True))
    assert not torch.equal(losses["loss_mask"], other_losses["loss_mask"]), (
        "the masks of A do count"
    )


def logged(run: Path) -> list[dict[str, str]]:
    with (run / "logs" / "metrics.csv").open() as file:
        return [
            {k: v for k, v in row.items() if k.startswith("loss")} for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_whole_trainings(recipe: Any, document: Record, tmp_path: Path, schedule: str) -> None:
    """From the file to the weights: what a step logged and what came out at the end. In
    the last version the recipe names no class and B's masks are simply not there, as in
    files of users.
    """

    def run(
        name: str, version: Record, **settings: Any
    ) -> tuple[list[dict[str, str]], dict[str, torch.Tensor]]:
        path = train(
            recipe(version, SCHEDULES[schedule], name=name, **settings),
            out=tmp_path / name,
            report=False,
        ).checkpoint
        assert path is not None
        return logged(tmp_path / name), load_checkpoint(path).state

    log, state = run("as it is", document)
    assert log
    for name, change in CHANGES.items():
        other_log, other_state = run(name, changed(document, change, in_a=False))
        assert log == other_log, name
        assert all(torch.equal(state[key], other_state[key]) for key in state), name
    for name in ("deleted", "corrupted"):
        other_log, other_state = run(
            f"by annotation, {name}", changed(document, CHANGES[name], in_a=False), masked=None
        )
        assert log == other_log, name
        assert all(torch.equal(state[key], other_state[key]) for key in state), name
    other_log, _ = run("A swapped", changed(document, swap, in_a=True))
    assert log != other_log, "the masks of A do count"
