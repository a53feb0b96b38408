"""`python -m benchmarks train`: a training step of Mask R-CNN R50-FPN at 80 classes
beside torchvision's, and what of it waits on data.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.measuring import MIB, alternate, in_fresh_process, process_peak_of
from benchmarks.result import Options, Result, Row, compared, held
from benchmarks.speed.torchvision_peer import torchvision_twin
from halfmask.coco.file import CocoFile
from halfmask.data.augment.augment import Augment
from halfmask.data.dataset import CocoInstances
from halfmask.data.loader import Batch, build_loader
from halfmask.models.mask_rcnn.build import build_mask_rcnn
from halfmask.recipes.recipe import MaskRCNN, expand
from halfmask.structures import Target

BATCH, SHORT, LONG, STEPS, SEED = 2, 480, 640, 4, 0
TIME_BAR, MEMORY_BAR, WAIT_BAR = 1.0, 0.9, 0.05
PEER = "torchvision"


@dataclass(frozen=True)
class Setting:
    """Of one measurement: the recipe's model, K, images in a batch and steps that count."""

    config: MaskRCNN
    classes: int
    batch: int
    steps: int


def run(options: Options) -> Result:
    """Measures on photographs of COCO-mini's training part.

    Raises:
        InputError: no shared data.
    """
    setting = Setting(_config(), 81, BATCH, STEPS)
    data = _photographs()
    return measured(setting, data, options.say)


def measured(setting: Setting, data: CocoInstances, say: Callable[[str], None]) -> Result:
    """Times both models' steps in turns here, and takes each one's memory in a process
    of its own.
    """
    times = _times(setting, data)
    say(f"seconds of a step: halfmask {times['halfmask']:.2f}, {PEER} {times[PEER]:.2f}")
    arguments = {
        "config": setting.config.model_dump(mode="json"),
        "folder": str(data.folder),
        "file": data.file.name,
    }
    numbers = {
        "classes": setting.classes,
        "batch": setting.batch,
        "steps": max(1, setting.steps - 1),
    }
    peaks = {
        name: in_fresh_process("speed.train:peak", which=name, **numbers, **arguments)
        for name in ("halfmask", PEER)
    }
    say(
        f"MiB above the model: halfmask {peaks['halfmask'] / MIB:.0f}, {PEER} "
        f"{peaks[PEER] / MIB:.0f}"
    )
    share = waiting_share(setting, data)
    rows = _rows(setting, times, peaks, share)
    return Result(
        rows,
        {"train": _table(setting, times, peaks, share)},
        "python -m benchmarks train --threads 1",
    )


def peak(
    which: str, config: dict[str, Any], folder: str, file: str, classes: int, batch: int, steps: int
) -> int:
    """Bytes that some steps need at most beyond the model and its optimiser's state;
    for a fresh process.
    """
    setting = Setting(MaskRCNN.model_validate(config), classes, batch, steps)
    data = CocoInstances(CocoFile.read(file), folder)
    model = _models(setting)[which]
    step = _stepper(which, model, batches(setting, data))
    for group in (
        step.optimiser.param_groups
    ):  # momentum is there from the second step on: it is no part of a step
        for parameter in group["params"]:
            step.optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def all_steps() -> None:
        for _ in range(steps):
            step()

    return process_peak_of(all_steps)


def waiting_share(setting: Setting, data: CocoInstances) -> float:
    """Share of the clock's time that our training waits for its loader, which reads in
    the training's own process: the worst case.
    """
    step = _stepper("halfmask", _models(setting)["halfmask"], batches(setting, data))
    begin = time.perf_counter()
    for _ in range(max(1, setting.steps // 2)):
        step()
    return step.waited / (time.perf_counter() - begin)


def batches(setting: Setting, data: CocoInstances) -> Iterator[Batch]:
    """The same for both models: shuffled, half of them mirrored."""
    return iter(build_loader(data, setting.batch, 0, seed=SEED, augment=Augment(flip=0.5)))


class _Stepper:
    """A step of one model when it is called, on the next batch."""

    def __init__(
        self, model: nn.Module, source: Iterator[Batch], given: Callable[[list[Target]], list[Any]]
    ) -> None:
        self.model, self.source, self.given = model, source, given
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9)
        self.count, self.waited = 0, 0.0

    def __call__(self) -> None:
        begin = time.perf_counter()
        images, targets = next(self.source)
        self.waited += time.perf_counter() - begin
        torch.manual_seed(self.count)  # both models draw the same regions
        self.count += 1
        losses = self.model(images, self.given(targets))
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.optimiser.zero_grad()


def _stepper(which: str, model: nn.Module, source: Iterator[Batch]) -> _Stepper:
    return _Stepper(model, source, list if which == "halfmask" else _dense)


def _dense(targets: list[Target]) -> list[Any]:
    """Targets as torchvision wants them."""
    return [
        {"boxes": t.boxes, "labels": t.labels, "masks": t.masks.dense().to(torch.uint8)}
        for t in targets
    ]


def _times(setting: Setting, data: CocoInstances) -> dict[str, float]:
    steps = {n: _stepper(n, m, batches(setting, data)) for n, m in _models(setting).items()}
    return {
        name: statistics.median(seconds)
        for name, seconds in alternate(steps, setting.steps).items()
    }


def _models(setting: Setting) -> dict[str, nn.Module]:
    """Both, in training mode, with the same weights."""
    torch.manual_seed(SEED)
    ours = build_mask_rcnn(setting.config, setting.classes, pretrained=False)
    return {
        "halfmask": ours.train(),
        PEER: torchvision_twin(ours, setting.config, setting.classes).train(),
    }


def _config() -> MaskRCNN:
    backbone = {"name": "resnet50", "norm": "frozen", "trainable_stages": 3}
    images = {"min_size": [SHORT], "max_size": LONG}
    return MaskRCNN.model_validate({"kind": "mask_rcnn", "backbone": backbone, "images": images})


def _photographs() -> CocoInstances:
    folder = expand("${HALFMASK_SHARED}/data/coco-mini")
    return CocoInstances(CocoFile.read(folder / "instances_train.json"), folder / "train")


def _rows(
    setting: Setting, times: dict[str, float], peaks: dict[str, int], share: float
) -> list[Row]:
    speed = {name: setting.batch / seconds for name, seconds in times.items()}
    memory = {name: value / MIB for name, value in peaks.items()}
    faster = compared(
        "training, images per second", PEER, speed[PEER], speed["halfmask"], "images/s", None
    )
    ratio = faster["ratio"]
    return [
        {**faster, "bar": TIME_BAR, "ok": ratio >= TIME_BAR},
        compared(
            "training, peak memory of a step",
            PEER,
            memory[PEER],
            memory["halfmask"],
            "MiB",
            MEMORY_BAR,
        ),
        held("training, share of time that waits on data", share, "of the time", WAIT_BAR),
    ]


def _table(setting: Setting, times: dict[str, float], peaks: dict[str, int], share: float) -> str:
    lines = ["| | images/s | seconds of CPU a step | peak memory of a step |", "|---|---|---|---|"]
    for name in ("halfmask", PEER):
        speed = setting.batch / times[name]
        lines.append(f"| {name} | {speed:.3f} | {times[name]:.2f} | {peaks[name] / MIB:.0f} MiB |")
    speed, memory = times[PEER] / times["halfmask"], peaks["halfmask"] / peaks[PEER]
    lines.append(f"| halfmask / {PEER} | {speed:.2f} | {1 / speed:.2f} | {memory:.2f} |")
    wait = f"{100 * share:.1f} % of the training's time waits on the loader when no worker reads ahead (`workers: 0`)."
    size = f"{setting.batch} photographs a step, {SHORT} × {LONG} at most; K {setting.classes}; GPU: not measured."
    return "\n".join([*lines, "", f"{size} {wait}"])
