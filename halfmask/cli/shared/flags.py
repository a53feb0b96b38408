"""The flags of all verbs: where the help lists each, and what stands for its value.

A flag means the same in every verb. `tests/cli/test_flags.py` holds this table against
the verbs.
"""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand

INPUT = "Input"
OUTPUT = "Output"
MASKS = "Boxes and masks"
TRAINING = "Training"
MACHINE = "Machine"
PAGE = "Page"
SOURCE = "Single formats"

PANELS: dict[str, tuple[str, ...]] = {
    INPUT: (
        *("--images", "--val", "--split", "--masked", "--use", "--journal"),
        *("--crowd-masks", "--read-as", "--predictions", "--protocol", "--ignored", "--expect"),
        "--model",
    ),
    MASKS: (
        *("--boxes", "--data", "--detector", "--classes", "--detections", "--add-objects"),
        *("--add-score", "--provider", "--redo-filled", "--replace-broken"),
        *("--given-boxes", "--loosen"),
        *("--score", "--calibrate"),
    ),
    OUTPUT: (
        *("--out", "--out-format", "--json", "--html", "--sheet", "--reliability"),
        *("--per-category", "--polygons"),
        *("--overlays", "--colour-by", "--beside", "--dry-run", "--export", "--tolerance"),
        "--limit",
    ),
    SOURCE: (
        "--masks",
        "--zero-based",
        "--image-url",
        "--copy",
        "--coco-val",
        "--synsets",
        "--test-count",
    ),
    PAGE: ("--host", "--port", "--token"),
    TRAINING: ("--minutes", "--resume", "--accept-changes", "--names", "--vectors"),
    MACHINE: (
        *("--device", "--effort", "--runtime", "--precision", "--max-size", "--workers"),
        "--ray",
    ),
}
"""Panel of the help → its flags. A flag that is not here stands among the options."""
PANEL_OF = {flag: panel for panel, flags in PANELS.items() for flag in flags}
MANY = 7
"""A verb with at least this many options has panels; fewer make a single list."""

METAVARS: dict[str, tuple[str, ...]] = {
    "OUT": ("--out",),
    "DIR": ("--images", "--masks", "--folder", "--calibrate"),
    "FILE": (
        "--json",
        "--html",
        "--journal",
        "--detections",
        "--coco-val",
        "--categories",
        "--vectors",
    ),
    "PICTURE": ("--sheet", "--reliability"),
    "MODEL": ("--model", "--provider", "--beside"),
    "DETECTOR": ("--detector",),
    "NAMES": ("--classes", "--names"),
    "DEVICE": ("--device",),
    "CLASSES": ("--masked",),
    "PART": ("--split",),
    "SET": ("--expect",),
    "FORMS": ("--read-as",),
    "URL": ("--image-url",),
    "ADDRESS": ("--host", "--ray"),
    "PORT": ("--port",),
    "DATA": ("--val", "--data"),
    "SHARE": ("--loosen",),
    "PIXELS": ("--tolerance", "--max-size"),
    "SCORE": ("--score", "--add-score"),
    "N": (
        "--workers",
        "--synsets",
        "--test-count",
        "--image-count",
        "--class-count",
        "--seed",
        "--minutes",
        "--limit",
    ),
}
"""What stands for a value in the help → its flags. Others show their type."""
METAVAR_OF = {flag: metavar for metavar, flags in METAVARS.items() for flag in flags}


class VerbCommand(TyperCommand):
    """A verb whose options get panel, order and metavar from the tables."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = _joined(self.help or "")
        options = [p for p in self.params if p.param_type_name == "option"]
        arguments = [p for p in self.params if p.param_type_name != "option"]
        for option in options:
            _dress(option, in_panels=len(options) >= MANY)
        for argument in arguments:
            if argument.nargs == 1:
                argument.metavar = argument.metavar or argument.name.upper()
        self.params = [*arguments, *sorted(options, key=_place)]

    def get_short_help_str(self, limit: int = 45) -> str:
        """Returns the first sentence, whole, for shells that show it beside the verb."""
        return (self.help or "").partition("\n\n")[0]

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)
        if option is not None:
            option.metavar = ""
            if any(getattr(p, "rich_help_panel", None) for p in self.params):
                option.rich_help_panel = "Help"
        return option


def _dress(option: Any, *, in_panels: bool) -> None:
    flag = option.opts[0]
    option.metavar = option.metavar or ("" if option.is_flag else METAVAR_OF.get(flag))
    if in_panels:
        option.rich_help_panel = option.rich_help_panel or PANEL_OF.get(flag)


def _place(option: Any) -> int:
    panels = list(PANELS)
    panel = option.rich_help_panel
    return panels.index(panel) if panel in panels else -1


def _joined(text: str) -> str:
    """Makes each paragraph a single line, which the terminal wraps at its own width."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(p.split()) for p in paragraphs)
