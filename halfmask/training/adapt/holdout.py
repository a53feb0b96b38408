"""Masks that the adapted model does not learn from, so that they can judge it.

Whole classes where there are two or more: the model then meets them as it meets the
classes without masks. Else photographs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from halfmask.coco.supervision import MaskState
from halfmask.data.dataset import CocoInstances, development_split
from halfmask.recipes.recipe import Recipe

FOLDS = 2
"""Trainings, each without its part of the held-out masks."""
SHARE = 0.34
"""Share of the photographs that each training leaves out, where classes do not do."""
ENOUGH = 10
"""Masks of a class that can be held out."""
LEFT = 20
"""Masks that must remain to learn from."""
MEASURED = 240
"""Held-out masks that are measured, at most, spread evenly over the classes."""
OF_ONE_IMAGE = 6
"""Masks of a class that one photograph gives to the measured ones, at most."""


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A training and the masks that it does not learn from.

    Attributes:
        name: of its folder in the run's folder.
        recipe: of the training.
        chosen: index of an image → rows of its Target that are measured.
    """

    name: str
    recipe: Recipe
    chosen: dict[int, Tensor]


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """How the held-out masks are chosen.

    Attributes:
        by: what is held out.
        folds: the trainings.
        names: of the held-out classes, or of the classes on held-out photographs.
        known: names among them whose masks the starting model has learnt.
    """

    by: Literal["classes", "photographs"]
    folds: list[Fold]
    names: list[str]
    known: list[str]


def hold_out(
    recipe: Recipe, pictures: CocoInstances, counts: Mapping[int, int], *, known: set[str]
) -> HoldOut | None:
    """Chooses the held-out masks; None if there are too few.

    Args:
        recipe: of the adaptation.
        pictures: its training images, with all of their masks.
        counts: category id → usable masks.
        known: names of the classes whose masks the starting model has learnt. They are
            held out only if there are not two other classes.
    """
    groups = _class_groups(recipe, pictures, counts, known=known)
    rng = np.random.default_rng([recipe.seed, 18])
    if groups is not None:
        kept = [[i for i, n in counts.items() if n and i not in group] for group in groups]
        folds = [
            _class_fold(k, recipe, [pictures.file.name_of(i) for i in ids])
            for k, ids in enumerate(kept)
        ]
        held = [i for group in groups for i in group]
    else:
        if sum(counts.values()) < LEFT:
            return None
        folds = [_photograph_fold(k, recipe) for k in range(FOLDS)]
        held = [i for i, n in counts.items() if n]
    names = [pictures.file.name_of(i) for i in held]
    sampled = _sample(pictures, folds, groups, rng=rng, share=None if groups else SHARE)
    if not all(sampled):
        return None
    return HoldOut(
        by="classes" if groups is not None else "photographs",
        folds=[
            Fold(name=name, recipe=made, chosen=chosen)
            for (name, made), chosen in zip(folds, sampled, strict=True)
        ],
        names=names,
        known=sorted(known & set(names)),
    )


def _class_groups(
    recipe: Recipe, pictures: CocoInstances, counts: Mapping[int, int], *, known: set[str]
) -> list[list[int]] | None:
    """Divides classes into groups of about as many masks; None if classes do not do."""
    many = [i for i, n in counts.items() if n >= max(ENOUGH, recipe.data.masked_threshold)]
    new = [i for i in many if pictures.file.name_of(i) not in known]
    held = new if len(new) >= FOLDS else many
    groups: list[list[int]] = [[] for _ in range(FOLDS)]
    for i in sorted(held, key=lambda i: (-counts[i], i)):
        min(groups, key=lambda group: sum(counts[j] for j in group)).append(i)
    total = sum(counts.values())
    left = [total - sum(counts[i] for i in group) for group in groups]
    odd = any("," in pictures.file.name_of(i) for i, n in counts.items() if n)
    return None if not all(groups) or min(left) < LEFT or odd else groups


def _class_fold(number: int, recipe: Recipe, kept: Sequence[str]) -> tuple[str, Recipe]:
    data = recipe.data.model_copy(update={"masked": ",".join(kept)})
    return f"held-out-{number + 1}", recipe.model_copy(update={"data": data})


def _photograph_fold(number: int, recipe: Recipe) -> tuple[str, Recipe]:
    held = {"development": SHARE, "development_fold": number, "validation": None}
    data = recipe.data.model_copy(update=held)
    return f"held-out-{number + 1}", recipe.model_copy(update={"data": data})


def _sample(
    pictures: CocoInstances,
    folds: Sequence[Any],
    groups: list[list[int]] | None,
    *,
    rng: np.random.Generator,
    share: float | None,
) -> list[dict[int, Tensor]]:
    """Draws the masks to measure, for each fold: index of an image → rows."""
    chosen = []
    for k in range(len(folds)):
        indices = list(range(len(pictures)))
        if share is not None:
            held = set(development_split(pictures.image_ids, share, k)[1])
            indices = [i for i in indices if pictures.image_ids[i] in held]
        classes = None if groups is None else set(groups[k])
        order = rng.permutation(np.array(indices, dtype=np.int64)).tolist()
        chosen.append(draw_rows(pictures, order, MEASURED // len(folds), classes=classes))
    return chosen


def draw_rows(
    pictures: CocoInstances,
    order: Sequence[int],
    most: int,
    *,
    classes: set[int] | None = None,
    masked: bool = True,
) -> dict[int, Tensor]:
    """Draws objects, as evenly over the classes as their numbers allow.

    Args:
        pictures: the images.
        order: indices of the images to draw from.
        most: objects, at most.
        classes: category ids; None: all.
        masked: draw objects with a usable mask, else objects without one.
    Returns:
        Index of an image → rows of its Target (int64), in ascending order.
    """
    found: dict[int, list[tuple[int, int]]] = {}
    for index in order:
        seen: dict[int, int] = {}
        rows = pictures.file.instances_of(pictures.image_ids[index], pictures.use)
        rows = [row for row in rows if row.state != MaskState.CROWD]
        for k, row in enumerate(rows):
            category = pictures.file.categories[row.label - 1]["id"]
            wanted = classes is None or category in classes
            if not wanted or (row.state == MaskState.MASK) != masked:
                continue
            seen[category] = seen.get(category, 0) + 1
            if seen[category] <= OF_ONE_IMAGE:
                found.setdefault(category, []).append((index, k))
    taken: dict[int, list[int]] = {}
    left, queues = most, sorted(found.values(), key=len)
    # Small classes first: what they lack, the others have.
    for done, queue in enumerate(queues):
        quota = min(len(queue), left // (len(queues) - done))
        left -= quota
        for index, k in queue[:quota]:
            taken.setdefault(index, []).append(k)
    return {i: torch.tensor(sorted(taken[i]), dtype=torch.int64) for i in sorted(taken)}
