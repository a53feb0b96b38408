"""The number of a process among those that train together, and a process alone."""

from __future__ import annotations

import pytest
import torch

from halfmask import distributed
from halfmask.distributed import ProcessPlace
from halfmask.errors import InputError
from halfmask.training.several import processes
from halfmask.training.several.processes import place_of

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
}
SLURM = {
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "3",
    "SLURM_NTASKS": "4",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS_PER_NODE": "2",
}


def test_the_place_is_read_from_the_environment() -> None:
    assert place_of({}) == ProcessPlace()
    assert place_of(TORCHRUN) == ProcessPlace(
        rank=5, world=8, local_rank=1, local_world=4, launcher="torchrun"
    )
    assert place_of(SLURM) == ProcessPlace(
        rank=3, world=4, local_rank=1, local_world=2, launcher="slurm"
    )
    assert place_of(SLURM).hosts == 2
    assert place_of({**SLURM, **TORCHRUN}).launcher == "torchrun", "torchrun in a SLURM job"


@pytest.mark.parametrize("step", [None, "4294967291", "4294967290", "batch"])
def test_a_batch_script_and_an_interactive_shell_are_alone(step: str | None) -> None:
    """They have the job's variables, but srun started none of the other processes."""
    environment = {name: value for name, value in SLURM.items() if name != "SLURM_STEP_ID"}
    assert (
        place_of(environment | ({} if step is None else {"SLURM_STEP_ID": step})) == ProcessPlace()
    )


def test_hosts_of_different_size_are_refused() -> None:
    with pytest.raises(
        InputError, match="7 processes do not divide into hosts of 4: give torchrun the same"
    ):
        place_of({**TORCHRUN, "WORLD_SIZE": "7"})
    with pytest.raises(
        InputError, match="SLURM_NTASKS_PER_NODE is not set: ask for processes with --nodes"
    ):
        place_of({name: value for name, value in SLURM.items() if name != "SLURM_NTASKS_PER_NODE"})


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(InputError, match="4 processes on a host where each sees 1 GPUs"):
        processes.join(place_of(TORCHRUN))


def test_a_process_alone_does_not_communicate() -> None:
    alone = distributed.current()
    assert alone.alone
    assert alone.is_main
    assert processes.join(ProcessPlace()) is alone
    with alone.step("global"), alone.in_turn():
        assert not distributed.in_step()
        assert distributed.mean_scale(3) == 1.0
        assert distributed.total(7) == 7
        assert distributed.largest([3, 4]) == [3, 4]
        assert (alone.any(True), alone.any(False), alone.broadcast(True)) == (True, False, True)
        values = torch.rand(3)
        assert alone.summed(values) is values
    assert processes.another_ended(RuntimeError("gloo: Connection closed by peer")) is None
