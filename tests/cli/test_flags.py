"""The help: verbs in groups, whole sentences, and one meaning for each flag."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import pytest
import typer.main

from halfmask.cli.main import GROUPS, VERBS, app
from halfmask.cli.shared.flags import MANY, METAVARS, PANELS
from tests.conftest import RunsHalfmask

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

MEANINGS = {
    "--boxes": r"^Whether (the )?boxes end where their objects end",
    "--classes": r'^Class names "a, b, c"',
    "--crowd-masks": r"^Masks with iscrowd 1 are masks of single objects",
    "--data": r"[Dd]ata set (whose boxes to fill|with boxes of these photographs)",
    "--detections": r"^COCO results file\b",
    "--detector": r"^What finds the boxes\b",
    "--device": r"cpu, cuda, cuda:1, …",
    "--dry-run": r"write nothing",
    "--effort": r"^How often a box segmenter looks at each box",
    "--host": r"Address of the page",
    "--html": r"^Write (all findings|a page)",
    "--images": r"[Ff]older of the photographs",
    "--json": r"Write (the|a|all) (result|report|findings)\b",
    "--masked": r"^Classes (of|with|whose)\b.*\brandom:TRIAL:COUNT or names a,b,c",
    "--max-size": r"^Longest side of the photographs that a Mask R-CNN sees",
    "--minutes": r"^How long adapting may take",
    "--out": r"([Ff]ile|Folder)\b",
    "--port": r"Port of the page",
    "--precision": r"int8: ",
    "--provider": r"(A second|Another) model\b.*, for example sam:",
    "--read-as": r"^How a COCO file writes its boxes",
    "--runtime": r"^What computes the model on the CPU",
    "--sheet": r"^Draw\b.*\bmasks\b.*\.png",
    "--split": r"^Part of (the source|a data set)\b.*: train, val, …",
    "--token": r"Require the token",
    "--tolerance": r"[Hh]ow far polygons\b.* may be from (their|the) mask's border",
    "--accept-changes": r"^Go on with an interrupted run although ",
    "--workers": r"^(Processes|Threads) that ",
}
"""Flag of several verbs → what the help of each of them says."""


def options() -> dict[str, dict[str, Any]]:
    """Flag → verb → option."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for verb, command in COMMANDS.items():
        for one in command.params:
            if one.param_type_name == "option":
                found[one.opts[0]][verb] = one
    return found


SHARED = {flag: verbs for flag, verbs in options().items() if len(verbs) > 1}


def kind(option: Any) -> str:
    return str(getattr(option, "type_descriptor", option).annotation)


def test_the_table_has_each_flag_of_several_verbs() -> None:
    assert {*MEANINGS} >= {*SHARED}, "say in MEANINGS what the flag means"
    assert {*MEANINGS} <= {*SHARED}, "not a flag of several verbs any more"


@pytest.mark.parametrize("flag", sorted(MEANINGS))
def test_a_flag_means_the_same_in_every_verb(flag: str) -> None:
    verbs = SHARED[flag]
    assert len({kind(option) for option in verbs.values()}) == 1
    assert len({option.metavar for option in verbs.values()}) == 1
    for verb, option in verbs.items():
        assert re.search(MEANINGS[flag], option.help), f"{verb} {flag}: {option.help}"


def test_every_verb_is_in_one_group() -> None:
    assert sorted(verb for verbs in GROUPS.values() for verb in verbs) == sorted(VERBS)
    assert [verb for verbs in GROUPS.values() for verb in verbs] == list(VERBS)


@pytest.mark.parametrize("table", [PANELS, METAVARS], ids=["panels", "metavars"])
def test_the_tables_name_flags_once_and_none_that_is_gone(
    table: dict[str, tuple[str, ...]],
) -> None:
    flags = [flag for own in table.values() for flag in own]
    assert len({*flags}) == len(flags)
    assert {*flags} <= {*options()}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_with_many_options_has_panels(verb: str) -> None:
    own = [p for p in COMMANDS[verb].params if p.param_type_name == "option"]
    without = [p.opts[0] for p in own if p.rich_help_panel is None]
    assert len(own) < MANY or without == [], "name the flag in PANELS of cli/shared/flags.py"


@pytest.mark.parametrize("width", ["60", "80", "160"])
def test_sentences_are_whole(
    width: str, halfmask_cli: RunsHalfmask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    said = _words(halfmask_cli("--help").out)
    for group in GROUPS:
        assert f"─ {group} ─" in said
    for command in COMMANDS.values():
        sentence = command.help.partition("\n\n")[0]
        assert sentence.endswith(".")
        assert _words(sentence) in said


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_is_whole(
    verb: str, halfmask_cli: RunsHalfmask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    said = _words(halfmask_cli(verb, "--help").out)
    for text in COMMANDS[verb].help.split("\n\n"):
        assert _words(text) in said
    for one in COMMANDS[verb].params:
        assert _words(one.help) in said
        assert one.help[0].isupper() or re.match(r"[\w-]+(: |, )", one.help), one.help
        assert one.help.rstrip().endswith((".", "…", "steps=100", ")")), one.help


def _words(text: str) -> str:
    """The text without borders and line breaks, which depend on the terminal's width."""
    return " ".join(re.sub(r"[│╭╮╰╯]", " ", text).split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("complet", "a"), "Did you mean 'complete'?"),
        (("evalaute",), "Did you mean 'evaluate'?"),
        (("complete", "a", "b", "--imagse", "c"), "--images"),
        (("train", "a", "--dry_run"), "--dry-run"),
        (("export", "m", "--presicion", "int8"), "--precision"),
        (("synth", "world", "--image", "3"), "--image-count"),
    ],
)
def test_a_mistyped_verb_or_option_names_the_nearest(
    arguments: tuple[str, ...], words: str, halfmask_cli: RunsHalfmask
) -> None:
    outcome = halfmask_cli(*arguments)
    assert outcome.code == 2
    assert words in _words(outcome.err)
