"""One model trained by several processes: the same training as by one, and it ends,
stops and resumes together.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from halfmask.errors import InputError
from halfmask.models.checkpoint import load_checkpoint
from halfmask.recipes.recipe import Recipe, parse_recipe
from halfmask.training.data import read_training_data
from halfmask.training.folder import for_processes
from halfmask.training.several.launch import _verdict, _watch, free_port, launch

from .runs import DETECTOR, RESNET, data_of, small_world, tiny_recipe, trained, written

HEAD = {"kind": "transfer", "width": 12, "convs": 1, "roi_size": 7, "norm": "batch"}
# Two sizes, on either side of a multiple of 32: photographs of a batch differ, and with
# them what has to be padded.
RCNN = {
    "kind": "mask_rcnn",
    "backbone": RESNET,
    "images": {"min_size": [32, 64], "max_size": 96},
    "detector": DETECTOR,
    "mask_head": HEAD,
}
SEGMENTER = {
    "kind": "box_segmenter",
    "encoder": {"name": "small_resnet", "widths": [4, 6, 8, 8], "blocks": [1, 1, 1, 1]},
    "crop_size": 64,
    "decoder_widths": [8, 6],
    "crop_jitter": 0.1,
}
STAGE = {"name": "whole", "train": ["all"], "steps": 6, "batch_size": 4, "optimiser": {"lr": 0.01}}
STAGED = [
    {
        **STAGE,
        "name": "boxes",
        "train": ["backbone", "fpn", "rpn", "box_head"],
        "loss": "boxes",
        "steps": 3,
        "ema": 0.9,
    },
    {
        **STAGE,
        "name": "masks",
        "train": ["mask_head"],
        "loss": "masks",
        "cache_features": True,
        "steps": 4,
        "batch_size": 9,
    },
]
# The second photograph of each pair has boxes alone: one in two processes has often
# nothing to learn masks from.
SPARSE = {**STAGE, "batch_size": 2, "steps": 9}
TAUGHT = {
    **RCNN,
    "mask_head": {**HEAD, "box_only": "taught", "unknown": "skip", "unknown_limit": 0.1},
}
FROM_BOXES = {
    **SEGMENTER,
    "from_boxes": {"projection": 0.5, "colour": 0.5, "warmup": 4, "regions_per_image": 2},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    document = small_world(folder, 12)
    for annotation in document["annotations"]:
        if annotation["image_id"] % 3:
            del annotation["segmentation"]
    written(folder / "sparse.json", document)
    return folder


def recipe_of(
    world: Path,
    model: dict[str, Any],
    *stages: dict[str, Any],
    file: str = "instances",
    **keys: Any,
) -> Recipe:
    data = data_of(world, f"{file}.json", **keys.pop("data", {}))
    if file == "instances":
        data = {"masked": "c1,c2,c6", **data}
    return tiny_recipe(model, data, *stages, loggers=[], **keys)


def recipe_file(recipe: Recipe, path: Path) -> Path:
    path.write_text(recipe.to_yaml())
    return path


def environment(rank: int = 0, world: int = 1, port: int = 0) -> dict[str, str]:
    names = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": world,
        "LOCAL_WORLD_SIZE": world,
        "GROUP_RANK": 0,
    }
    own = {name: str(value) for name, value in names.items()} if world > 1 else {}
    own |= (
        {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
        if world > 1
        else {}
    )
    return {
        **os.environ,
        **own,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "lo",
    }


def srun(rank: int, world: int, port: int) -> dict[str, str]:
    """What srun says on one host."""
    names = {
        "PROCID": rank,
        "LOCALID": rank,
        "NTASKS": world,
        "NTASKS_PER_NODE": world,
        "NNODES": 1,
        "NODEID": 0,
    }
    names |= {"STEP_ID": 0, "JOB_ID": 7}
    own = {f"SLURM_{name}": str(value) for name, value in names.items()}
    own |= {"SLURM_JOB_NAME": "train", "SLURM_NODELIST": "localhost", "MASTER_PORT": str(port)}
    return {**environment(), **own}


def by_several(
    arguments: list[str],
    processes: int = 2,
    by: Callable[[int, int, int], dict[str, str]] = environment,
) -> None:
    """Runs `several.py` in that many processes; a failure shows what they said."""
    port, script = free_port(), str(Path(__file__).with_name("several.py"))
    members = [
        subprocess.Popen(
            [sys.executable, script, *arguments],
            env=by(rank, processes, port),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(processes)
    ]
    said = [member.communicate(timeout=300)[0] for member in members]
    assert [member.returncode for member in members] == [0] * processes, "\n".join(said)


def losses(run: Path) -> list[dict[str, float]]:
    """Of each line of the log, an object."""
    with (run / "logs" / "metrics.csv").open() as file:
        return [
            {k: float(v) for k, v in row.items() if k.startswith("loss") and v}
            for row in csv.DictReader(file)
        ]


def assert_same_training(one: Path, other: Path, tolerance: float = 1e-4) -> None:
    """Losses step by step, and the weights at the end."""
    ours, theirs = losses(one), losses(other)
    assert len(ours) == len(theirs) > 5
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a == pytest.approx(b, rel=tolerance, abs=tolerance), f"step {step + 1}"
    weights, again = (load_checkpoint(run / "model.safetensors").state for run in (one, other))
    assert weights.keys() == again.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(
            again[name], tensor, rtol=1e-3, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfmask.training.loop.callback.LOG_EVERY", 1)


def pairs_of_masks(recipe: Recipe, steps: int) -> set[tuple[bool, ...]]:
    """Which of the processes have a mask to learn from, in the steps of a training with
    one photograph each.
    """
    loader = read_training_data(recipe).loaders(recipe).of(0).shuffled(2, recipe.seed)
    return {
        tuple(bool(target.has_mask.any()) for target in targets)
        for _, targets in islice(loader, steps)
    }


def compare(cases: dict[str, Recipe], folder: Path) -> None:
    """Each recipe by one process and by two; neither is this one, which other tests
    have filled with threads.
    """
    for processes in (2, 1):
        files = {
            name: recipe_file(
                recipe.model_copy(update={"sampling": "image"}), folder / f"{name}-{processes}.yaml"
            )
            for name, recipe in cases.items()
        }
        by_several(
            [f"{path}={folder / name}-{processes}" for name, path in files.items()], processes
        )
    for name in cases:
        assert_same_training(folder / f"{name}-1", folder / f"{name}-2")


@pytest.mark.slow
def test_two_processes_train_as_one_does(world: Path, tmp_path: Path, quick: None) -> None:
    """Box segmenter and Mask R-CNN with learning BatchNorm, photographs of different
    sizes, and processes without any mask.
    """
    sparse = recipe_of(world, FROM_BOXES, SPARSE, file="sparse")
    assert {(True, False), (False, True), (False, False)} <= pairs_of_masks(sparse, SPARSE["steps"])
    compare({"rcnn": recipe_of(world, RCNN, STAGE), "from_boxes": sparse}, tmp_path)


@pytest.mark.slow
def test_the_other_recipes_too(world: Path, tmp_path: Path, quick: None) -> None:
    evaluated = {"evaluate_every": 2, "data": {"development": 0.25}}
    weighted = {**STAGE, "optimiser": {"name": "adamw", "lr": 0.003, "clip_norm": 1.0}}
    frozen = {**STAGE, "train": ["box_head", "mask_head"]}
    own = {**RCNN, "mask_head": {**HEAD, "regions": "boxes", "region_jitter": 0.1, "norm": "none"}}
    cases = {
        "averaged": recipe_of(world, SEGMENTER, {**STAGE, "ema": 0.9}, data={"colour_jitter": 0.3}),
        "taught": recipe_of(world, TAUGHT, SPARSE, file="sparse"),
        "bare": recipe_of(world, SEGMENTER, SPARSE, file="sparse"),
        "staged": recipe_of(world, RCNN, *STAGED, **evaluated),
        "weighted": recipe_of(world, RCNN, weighted),
        "frozen": recipe_of(world, own, frozen),
        "workers": recipe_of(
            world, SEGMENTER, STAGE, data={"rotation": 10, "paste": 0.5, "workers": 1}
        ),
        "rounds": recipe_of(world, SEGMENTER, STAGE, rounds=2, file="sparse"),
        "hidden": recipe_of(world, SEGMENTER, STAGE, hide=1, data={"masked": None}),
        "prototypes": recipe_of(world, {**SEGMENTER, "condition": {"input": "prototype"}}, STAGE),
    }
    compare(cases, tmp_path)
    blocks = [json.loads((tmp_path / f"staged-{n}" / "metrics.json").read_text()) for n in (1, 2)]
    assert [e["step"] for e in blocks[0]] == [e["step"] for e in blocks[1]] == [2, 4, 6, 7]
    assert blocks[0][-1]["given_boxes"]["all"]["miou"] == pytest.approx(
        blocks[1][-1]["given_boxes"]["all"]["miou"], abs=1e-3
    )


@pytest.mark.slow
def test_processes_that_srun_started(world: Path, tmp_path: Path, quick: None) -> None:
    """There is no SLURM here: what it says is made up, with three processes."""
    recipe = recipe_of(world, SEGMENTER, {**STAGE, "batch_size": 6})
    by_several([f"{recipe_file(recipe, tmp_path / 'r.yaml')}={tmp_path / 'three'}"], 3, srun)
    trained(recipe.model_copy(update={"sampling": "image"}), tmp_path / "one")
    assert_same_training(tmp_path / "one", tmp_path / "three")


@pytest.mark.slow
def test_the_normaliser_of_each_process(world: Path, tmp_path: Path, quick: None) -> None:
    """The paper's: another training where the processes have different numbers of masks."""
    recipe = recipe_of(world, RCNN, SPARSE, file="sparse", normaliser="rank")
    path = recipe_file(recipe, tmp_path / "rank.yaml")
    by_several([f"{path}={tmp_path / 'two'}"])
    trained(recipe.model_copy(update={"sampling": "image"}), tmp_path / "one")
    ours, theirs = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert (
        ours[0]["loss_mask"] != pytest.approx(theirs[0]["loss_mask"], rel=1e-3)
        or ours[1:] != theirs[1:]
    )


def started(arguments: list[str], **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "halfmask", "train", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in listed]


def await_step(run: Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Until the run has a resume point newer than now."""
    point, begin, deadline = run / "resume.ckpt", time.time(), time.monotonic() + seconds
    while not (point.is_file() and point.stat().st_mtime > begin):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the processes in /proc")
def test_a_killed_process_ends_the_training_which_can_be_resumed(
    world: Path, tmp_path: Path, quick: None
) -> None:
    recipe = recipe_of(
        world, SEGMENTER, {**STAGE, "steps": 60}, checkpoint_every=3, sampling="image"
    )
    path, run, straight = (
        recipe_file(recipe, tmp_path / "r.yaml"),
        tmp_path / "run",
        tmp_path / "straight",
    )
    by_several([f"{path}={straight}"])
    arguments = [str(path), "devices=2", "--out", str(run)]

    first = started(arguments)
    await_step(run, first)
    os.kill(children(first.pid)[1], signal.SIGKILL)
    begin = time.monotonic()
    _, said = first.communicate(timeout=60)
    assert (first.returncode, time.monotonic() - begin < 40) == (2, True), said
    assert "process 1 was ended by SIGKILL" in said
    assert f"halfmask train {path} devices=2 --out {run} --resume" in said

    second = started([*arguments, "--resume"])
    await_step(run, second)
    time.sleep(0.2)
    second.send_signal(signal.SIGTERM)
    printed, said = second.communicate(timeout=60)
    assert second.returncode == 130, said
    assert printed.count("stopped at step") == 1
    assert not list(run.glob(".*.part"))

    third = started([*arguments, "--resume"])
    await_step(run, third)
    third.kill()  # the launcher itself: its processes save and stop
    third.wait()
    deadline = time.monotonic() + 60
    while any(str(run) in line for line in _commands()):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    # On with two: bit for bit as if nothing had been. On with one: the same but for
    # rounding.
    stopped = torch.load(run / "resume.ckpt", weights_only=True)["halfmask"]["course"]["step"]
    assert 9 <= stopped < 55
    shutil.copytree(run, tmp_path / "alone")
    by_several([f"{path}={run}=resume"])
    weights, again = (load_checkpoint(r / "model.safetensors").state for r in (straight, run))
    assert all(torch.equal(tensor, again[name]) for name, tensor in weights.items())
    trained(recipe, tmp_path / "alone", resume=True)
    assert losses(tmp_path / "alone")[-60 + stopped :][0] == pytest.approx(
        losses(straight)[stopped], rel=1e-4
    )


def _commands() -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue


@pytest.mark.slow
def test_one_process_reports_an_error(world: Path, tmp_path: Path) -> None:
    """A photograph that only the second process reads is broken."""
    broken = tmp_path / "images"
    shutil.copytree(world / "images", broken)
    for picture in sorted(broken.iterdir())[::3]:
        picture.write_bytes(b"no picture")
    recipe = recipe_of(
        world,
        SEGMENTER,
        {**STAGE, "batch_size": 2},
        data={"images": str(broken), "unreadable": 0.0},
    )
    process = started(
        [str(recipe_file(recipe, tmp_path / "r.yaml")), "devices=2", "--out", str(tmp_path / "run")]
    )
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert "Traceback" not in said
    assert str(broken) in said
    assert not (tmp_path / "run").exists()


class Hosts:
    """Two network namespaces with one cable between them."""

    def __init__(self) -> None:
        self.names = [f"hm{os.getpid()}{letter}" for letter in "ab"]
        cables = [f"v{name}" for name in self.names]
        self.run("ip", "netns", "add", self.names[0])
        self.run("ip", "netns", "add", self.names[1])
        self.run("ip", "link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        for k, (name, cable) in enumerate(zip(self.names, cables, strict=True)):
            self.run("ip", "link", "set", cable, "netns", name)
            self.run("ip", "-n", name, "link", "set", cable, "name", "eth0")
            self.run("ip", "-n", name, "addr", "add", f"10.77.0.{k + 1}/24", "dev", "eth0")
            self.run("ip", "-n", name, "link", "set", "eth0", "up")
            self.run("ip", "-n", name, "link", "set", "lo", "up")

    def run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    def close(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if shutil.which("ip") is None:
        pytest.skip("needs the program ip")
    try:
        made = Hosts()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"may not make network namespaces: {error.stderr.decode().strip()}")
    yield made
    made.close()


@pytest.mark.slow
def test_two_hosts_under_torchrun(hosts: Hosts, world: Path, tmp_path: Path, quick: None) -> None:
    recipe = recipe_of(world, RCNN, {**STAGE, "steps": 30})
    path, run = recipe_file(recipe, tmp_path / "r.yaml"), tmp_path / "run"
    variables = {**environment(), "GLOO_SOCKET_IFNAME": "eth0"}
    torchrun = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    torchrun += ["--master-addr=10.77.0.1", "--master-port=29555"]
    command = ["-m", "halfmask", "train", str(path), "--out", str(run)]
    members = [
        subprocess.Popen(
            [
                "ip",
                "netns",
                "exec",
                name,
                sys.executable,
                *torchrun,
                f"--node-rank={rank}",
                *command,
            ],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, name in enumerate(hosts.names)
    ]
    said = [member.communicate(timeout=300)[0] for member in members]
    assert [member.returncode for member in members] == [0, 0], "\n".join(said)
    assert "trained" in said[0]
    assert "trained" not in said[1]
    trained(recipe.model_copy(update={"sampling": "image"}), tmp_path / "one")
    weights, again = (
        load_checkpoint(r / "model.safetensors").state for r in (tmp_path / "one", run)
    )
    for name, tensor in weights.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-3, atol=1e-4)


def test_batches_that_do_not_divide_are_refused(world: Path, tmp_path: Path) -> None:
    recipe = recipe_of(world, SEGMENTER, STAGE)
    assert for_processes(recipe, tmp_path, resume=False, world=1) == recipe
    assert for_processes(recipe, tmp_path, resume=False, world=2).sampling == "image"
    with pytest.raises(
        InputError,
        match="batch_size=4 is the batch of all processes, and does not divide among 3: set it "
        "to 6",
    ):
        for_processes(recipe, tmp_path, resume=False, world=3)
    with pytest.raises(InputError, match="sampling=stream is for one process"):
        for_processes(
            recipe.model_copy(update={"sampling": "stream"}), tmp_path, resume=False, world=2
        )


def test_a_run_resumes_with_another_number_of_processes_if_it_draws_by_image(
    world: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(world, SEGMENTER, STAGE)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    with pytest.raises(
        InputError, match="started by one process, whose random draws are one stream"
    ):
        for_processes(recipe, tmp_path, resume=True, world=2)
    assert for_processes(recipe, tmp_path, resume=True, world=1) == recipe
    (tmp_path / "recipe.yaml").write_text(recipe.model_copy(update={"sampling": "image"}).to_yaml())
    assert for_processes(recipe, tmp_path, resume=True, world=1).sampling == "image"
    assert for_processes(recipe, tmp_path, resume=True, world=4).sampling == "image"


def test_the_launcher_names_the_process_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfmask.training.several.launch.GRACE", 0.5)
    codes = [
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import time; time.sleep(60)",
    ]
    members = [subprocess.Popen([sys.executable, "-c", code]) for code in codes]
    begin = time.monotonic()
    failed = _watch(members)
    assert time.monotonic() - begin < 20
    members[1].kill()
    members[1].wait()
    assert failed == [(0, -9)]
    with pytest.raises(
        InputError, match=r"process 0 was ended by SIGKILL.*resume from the last save with: again"
    ):
        _verdict(failed, "again")
    assert (
        _verdict([], "again"),
        _verdict([(1, 130)], "again"),
        _verdict([(1, 2), (0, 2)], "again"),
    ) == (0, 130, 2)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(InputError, match="devices=2: this host has 1 GPUs"):
        launch(["train"], 2, "again")


def test_recipes_keep_the_keys(world: Path) -> None:
    recipe = recipe_of(world, SEGMENTER, STAGE, devices=4, normaliser="rank", sampling="image")
    assert parse_recipe(yaml.safe_load(recipe.to_yaml()), "again") == recipe
