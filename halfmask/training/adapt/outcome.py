"""What an adaptation gave: the numbers, the model that is kept, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from halfmask.text import listed, plural

NAMED = 6
"""Classes that a line names before it counts the rest."""


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """The result of `adapt`, as adaptation.json holds it.

    Attributes:
        folder: of the run.
        kept: the model in it: adapted, or the starting one as it is.
        reason: why, in a sentence.
        learned_from: masks, classes and photographs with masks; boxes and classes
            without.
        held_out: mean IoU of start, adapted, box and ellipse on held-out masks, with
            their number and classes; None if there were too few masks.
        expected: miou, low and high (95 %) for objects without masks; None if there is
            none.
        validation: mean IoU of start and kept model on the masks of the validation
            data, with their number; None without such data.
        steps: of the last training; 0 if the starting model is kept.
    """

    folder: Path
    kept: Literal["adapted", "start"]
    reason: str
    learned_from: dict[str, Any]
    held_out: dict[str, Any] | None
    expected: dict[str, Any] | None
    validation: dict[str, Any] | None = None
    steps: int = 0

    @classmethod
    def of(cls, folder: Path, state: dict[str, Any]) -> Adaptation:
        """Reads a finished adaptation from what adaptation.json holds."""
        return cls(
            folder=folder,
            kept=state["kept"],
            reason=state["reason"],
            learned_from=state["learned_from"],
            held_out=state.get("held_out"),
            expected=state.get("expected"),
            validation=state.get("validation"),
            steps=state.get("final_steps", 0),
        )

    def lines(self) -> Iterator[str]:
        """Yields the result in sentences, for a person."""
        yield self._learned()
        if self.held_out is not None:
            yield held_out_line(self.held_out)
        yield self.reason
        if self.expected is not None:
            e = self.expected
            yield (
                f"expect a mean IoU of {100 * e['miou']:.0f} % on objects without masks "
                f"(95 % interval: {100 * e['low']:.0f} to {100 * e['high']:.0f})"
            )
        if self.validation is not None:
            v = self.validation
            yield (
                f"mean IoU in % on {plural(v['masks'], 'mask')} of the validation data: model as "
                f"it is {100 * v['start']:.1f}, kept model {100 * v['kept']:.1f}"
            )

    def _learned(self) -> str:
        n = self.learned_from
        bare, unmasked = n["boxes_without_masks"], n["classes_without_masks"]
        boxes = f"{plural(bare, 'object')} {_has(bare)} only a box" if bare else "no box lacks one"
        if unmasked:
            boxes += f", {plural(unmasked, 'class', 'es')} {_has(unmasked)} no mask at all"
        verb = "learned from" if self.kept == "adapted" else "found"
        masks = "no mask"
        if n["masks"]:
            classes, photographs = n["classes"], n["photographs"]
            masks = (
                f"{plural(n['masks'], 'mask')} of {plural(classes, 'class', 'es')} in "
                f"{plural(photographs, 'photograph')}"
            )
        return f"{verb} {masks}; {boxes}"

    def to_json(self) -> dict[str, Any]:
        return {
            "kept": self.kept,
            "reason": self.reason,
            "learned_from": self.learned_from,
            "held_out": self.held_out,
            "expected": self.expected,
            "validation": self.validation,
            "steps": self.steps,
        }


def _has(count: int) -> str:
    return "has" if count == 1 else "have"


def held_out_line(held_out: dict[str, Any]) -> str:
    """Returns the four means on the held-out masks, in percent."""
    names = {"box": "box", "ellipse": "ellipse", "start": "model as it is", "adapted": "adapted"}
    means = ", ".join(
        f"{name} {100 * held_out[key]:.1f}"
        for key, name in names.items()
        if held_out[key] is not None
    )
    count = plural(held_out["masks"], "mask")
    if held_out["by"] == "nothing":
        return f"mean IoU in % on {count} of the data: {means}"
    line = f"mean IoU in % on {count} that it did not learn from: {means}"
    names_of = listed(held_out["names"], NAMED)
    unseen, new = held_out["unseen_classes"], held_out["new_photographs"]
    if unseen is None or new is None:
        return line
    return (
        f"{line}; of them {new['masks']} on new photographs from {100 * new['start']:.1f} to "
        f"{100 * new['adapted']:.1f}, and {unseen['masks']} of classes without any mask to learn "
        f"from ({names_of}) from {100 * unseen['start']:.1f} to {100 * unseen['adapted']:.1f}"
    )


def reason_of(held_out: dict[str, Any] | None, masks: int, least: int) -> str:
    """Says which model is kept, and why.

    Args:
        held_out: see `Adaptation`.
        masks: of the data.
        least: masks that adapting takes.
    """
    if held_out is None or held_out["adapted"] is None:
        if masks >= least:
            return (
                f"kept the model as it is: the {masks} masks lie in too few photographs to hold "
                "some of them back"
            )
        few = f"{plural(masks, 'mask')} {'is' if masks == 1 else 'are'} too few to adapt it"
        return f"kept the model as it is: {few}, at least {least} are needed"
    gain, doubt = 100 * held_out["gain"], 100 * held_out["doubt"]
    numbers = f"{gain:+.1f} points on held-out masks, standard error {doubt:.1f}"
    if held_out["won"]:
        return f"kept the adapted model: {numbers}"
    if gain <= 0:
        return f"kept the model as it is: adapting did not help ({numbers})"
    return f"kept the model as it is: adapting gave too little to rely on ({numbers})"
