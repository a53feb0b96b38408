"""Masks that the adapted model does not learn from, so that they can judge it.

Those on a third of the photographs, and those of whole classes where there are two or
more: the model then meets them as it meets the classes without masks.
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
"""Share of the photographs that each training leaves out."""
LOOKED_AT = 3000
"""Photographs from which the measured masks are drawn, at most."""
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
        hidden: category ids of the classes whose masks it does not see at all.
    """

    name: str
    recipe: Recipe
    chosen: dict[int, Tensor]
    hidden: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """How the held-out masks are chosen.

    Attributes:
        by: what is held out: classes and photographs, or photographs alone.
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
    if groups is None and sum(counts.values()) < LEFT:
        return None
    rng = np.random.default_rng([recipe.seed, 18])
    folds = []
    for number in range(FOLDS):
        hidden = [] if groups is None else groups[number]
        kept = [pictures.file.name_of(i) for i, n in counts.items() if n and i not in hidden]
        chosen = _sample(pictures, number, hidden, rng=rng)
        if not chosen:
            return None
        fold = Fold(
            name=f"held-out-{number + 1}",
            recipe=_without(recipe, number, kept if hidden else None),
            chosen=chosen,
            hidden=frozenset(hidden),
        )
        folds.append(fold)
    held = [i for i, n in counts.items() if n and (groups is None or any(i in g for g in groups))]
    names = [pictures.file.name_of(i) for i in held]
    by: Literal["classes", "photographs"] = "photographs" if groups is None else "classes"
    return HoldOut(by=by, folds=folds, names=names, known=sorted(known & set(names)))


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


def _without(recipe: Recipe, number: int, kept: Sequence[str] | None) -> Recipe:
    """Returns the recipe without a third of the photographs and without some classes."""
    changes: dict[str, Any] = {"development": SHARE, "development_fold": number, "validation": None}
    if kept is not None:
        changes["masked"] = ",".join(kept)
    return recipe.model_copy(update={"data": recipe.data.model_copy(update=changes)})


def _sample(
    pictures: CocoInstances, number: int, hidden: Sequence[int], *, rng: np.random.Generator
) -> dict[int, Tensor]:
    """Draws the masks that a fold is measured on.

    Half of them are of hidden classes, on any photograph. The others are on the
    photographs that the fold does not see.
    """
    order = rng.permutation(len(pictures)).tolist()[:LOOKED_AT]
    apart = set(development_split(pictures.image_ids, SHARE, number)[1])
    new = [i for i in order if pictures.image_ids[i] in apart]
    most = MEASURED // FOLDS
    seen = {c["id"] for c in pictures.file.categories} - set(hidden)
    of_classes = draw_rows(pictures, order, most // 2, classes=set(hidden)) if hidden else {}
    of_photographs = draw_rows(pictures, new, most // 2 if hidden else most, classes=seen)
    parts = of_classes, of_photographs
    return {
        index: torch.cat([part[index] for part in parts if index in part]).sort().values
        for index in sorted(of_classes.keys() | of_photographs.keys())
    }


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
