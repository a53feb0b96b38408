"""A tiny model and tiny data with everything that makes exact resuming hard:
dropout, BatchNorm, random draws, shuffling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from halfmask.masks.crops import MaskCrops
from halfmask.recipes.recipe import Recipe, parse_recipe
from halfmask.structures import Target
from halfmask.training.loop.fit import Loaders

COUNT, SIDE = 11, 8


@dataclass(frozen=True)
class Regions:
    features: Tensor
    labels: Tensor
    targets: Tensor


class TinyModel(nn.Module):
    """Backbone (conv, BatchNorm), box head, mask head (dropout); a test may break it at
    a step or an image.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.box_head = nn.Linear(4, 4)
        self.mask_head = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(4, 1, 1)
        )
        self.fixed = nn.Parameter(torch.ones(1), requires_grad=False)
        self.bad_image: int | None = None
        self.crash_at: int | None = None
        self.break_gradient_at: int | None = None
        self.calls = 0
        self.seen: list[int] = []
        self.pooled: list[int] = []

    def parts(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone, "box_head": self.box_head, "mask_head": self.mask_head}

    def forward(
        self, images: list[Tensor], targets: list[Target], loss: str = "all"
    ) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls == self.crash_at:
            raise RuntimeError("the power failed")
        self.seen += [t.image_id for t in targets]
        features = self.backbone(torch.stack(images)) * self.fixed
        losses = {}
        if loss != "masks":
            noise = torch.randn(
                len(images), 4
            )  # as RPN's sampler does, draws from the global generator
            boxes = self.box_head(features.mean((2, 3))) + 0.01 * noise
            if self.calls == self.break_gradient_at:
                boxes.register_hook(lambda gradient: gradient * float("inf"))
            losses["loss_box"] = (
                (boxes - torch.stack([t.boxes[0] / SIDE for t in targets])).square().mean()
            )
            if self.bad_image in [t.image_id for t in targets]:
                losses["loss_box"] = losses["loss_box"] * float("nan")
        if loss != "boxes":
            truth = torch.stack([t.masks.dense()[:1].float() for t in targets])
            losses["loss_mask"] = nn.functional.binary_cross_entropy_with_logits(
                self.mask_head(features), truth
            )
        return losses

    def mask_regions(self, images: list[Tensor], targets: list[Target]) -> Regions:
        self.pooled += [t.image_id for t in targets]
        features = self.backbone(torch.stack(images))
        keep = torch.rand(len(images)) < 0.9  # as region sampling does
        keep[0] = True
        labels = torch.stack([t.labels[0] for t in targets])
        masks = torch.stack([t.masks.dense()[0].float() for t in targets])
        return Regions(features[keep], labels[keep], masks[keep])

    def mask_loss(self, regions: Regions) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(
            self.mask_head(regions.features)[:, 0], regions.targets
        )


class ShuffledLoader:
    """Endless shuffled batches; its state is a count."""

    def __init__(self, samples: list[tuple[Tensor, Target]], batch_size: int, seed: int) -> None:
        self.samples, self.batch_size, self.seed, self.drawn = samples, batch_size, seed, 0

    def __iter__(self) -> Iterator[tuple[list[Tensor], list[Target]]]:
        torch.empty(
            (), dtype=torch.int64
        ).random_()  # torch's loader draws the seed of its workers here
        while True:
            chosen = []
            for k in range(self.drawn * self.batch_size, (self.drawn + 1) * self.batch_size):
                order = torch.randperm(
                    len(self.samples),
                    generator=torch.Generator().manual_seed(self.seed + k // len(self.samples)),
                )
                chosen.append(self.samples[order[k % len(self.samples)]])
            self.drawn += 1
            yield [image for image, _ in chosen], [target for _, target in chosen]

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.drawn = state_dict["drawn"]


def make_samples() -> list[tuple[Tensor, Target]]:
    generator = torch.Generator().manual_seed(1)
    out = []
    for i in range(COUNT):
        mask = torch.zeros(1, SIDE, SIDE, dtype=torch.uint8)
        mask[0, 2 : 4 + i % 4, 1:6] = 1
        box = torch.tensor([[1.0, 2.0, 6.0, 4.0 + i % 4]])
        image = torch.rand(3, SIDE, SIDE, generator=generator) + mask
        out.append(
            (
                image,
                Target(
                    boxes=box,
                    labels=torch.tensor([1]),
                    has_mask=torch.tensor([True]),
                    masks=MaskCrops.from_dense(mask),
                    image_id=100 + i,
                ),
            )
        )
    return out


@pytest.fixture
def samples() -> list[tuple[Tensor, Target]]:
    return make_samples()


@pytest.fixture
def data(samples: list[tuple[Tensor, Target]]) -> Loaders:
    def in_order(batch_size: int) -> Iterator[tuple[list[Tensor], list[Target]]]:
        for k in range(0, len(samples), batch_size):
            yield (
                [s[0] for s in samples[k : k + batch_size]],
                [s[1] for s in samples[k : k + batch_size]],
            )

    return Loaders(
        lambda batch_size, seed: ShuffledLoader(samples, batch_size, seed), in_order, len(samples)
    )


@pytest.fixture
def tiny_model() -> Callable[[], TinyModel]:
    def build() -> TinyModel:
        torch.manual_seed(5)
        return TinyModel()

    return build


def make(*stages: dict[str, Any], **keys: Any) -> Recipe:
    backbone = {"name": "small_resnet"}
    model = {"kind": "mask_rcnn", "backbone": backbone, "images": {"min_size": [8], "max_size": 8}}
    whole = [
        {
            "name": f"stage{i}",
            "train": ["all"],
            "steps": 7,
            "batch_size": 3,
            **stage,
            "optimiser": {"lr": 0.05, **stage.get("optimiser", {})},
        }
        for i, stage in enumerate(stages)
    ]
    return parse_recipe(
        {
            "name": "tiny",
            "model": model,
            "data": {"annotations": "a", "images": "b"},
            "stages": whole,
            **keys,
        },
        "test",
    )


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    """Stage dictionaries → recipe; what they leave out is tiny."""
    return make


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder
