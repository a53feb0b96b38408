"""Keys of a recipe that name parts of other packages by their dotted path.

The recipe holds the name and its keywords alone; `halfmask.models.outside` imports it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, model_validator

DOTTED = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$"
"""A dotted path: at least a module and a name in it."""
Dotted = Annotated[str, Field(pattern=DOTTED, max_length=300)]
Options = Annotated[dict[str, Any], Field(max_length=64)]


def named_or_dotted(*names: str) -> BeforeValidator:
    """Accepts one of the names, or a dotted path."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and "." not in value and value not in names:
            known = ", ".join(f"'{name}'" for name in names)
            raise ValueError(f"Input should be {known} or a dotted path, package.module.Class")
        return value

    return BeforeValidator(check)


PredictorName = Annotated[
    str,
    named_or_dotted("agnostic", "per_class", "transfer"),
    Field(pattern=rf"^\w+$|{DOTTED}", max_length=300),
]
TrunkName = Annotated[
    str, named_or_dotted("convs", "hourglass"), Field(pattern=rf"^\w+$|{DOTTED}", max_length=300)
]


class OutsideParts(BaseModel):
    """The parts of a mask head that may come from another package, and their keywords."""

    kind: PredictorName = "transfer"
    """agnostic, per_class, transfer, or a class of another package by its dotted path."""
    trunk: TrunkName = "convs"
    """The layers before the predictor. convs: `convs` 3×3 convolutions (the paper's).
    hourglass: down to one cell and up again, with skips; it sees the whole region, is
    deep, and needs a narrow `width` (32 to 64) and a larger `roi_size` (16, 32). Else a
    module of another package by its dotted path.
    """
    options: Options = {}
    """kind: a dotted path only. Keywords of its constructor, beside those that halfmask
    gives.
    """
    trunk_options: Options = {}
    """trunk: a dotted path only. Keywords of its constructor."""
    loss: Dotted | None = None
    """A function of another package, by its dotted path: logits and targets, float
    [R, M, M], and the cells that count, bool [R, M, M] or None → the mean loss. null:
    binary cross-entropy.
    """
    loss_options: Options = {}
    """Further keywords of `loss`."""
    sampler: Dotted | None = None
    """A function of another package, by its dotted path: the boxes, float [r, 4], and
    labels, int64 [r], of an image's mask regions → the rows that teach, int64 [k].
    null: all.
    """
    sampler_options: Options = {}
    """Further keywords of `sampler`."""

    @model_validator(mode="after")
    def _for_outside_parts(self) -> OutsideParts:
        for key, name in (("options", self.kind), ("trunk_options", self.trunk)):
            if getattr(self, key) and "." not in name:
                raise ValueError(f"`{key}` are for a part of another package, not for {name}")
        return self
