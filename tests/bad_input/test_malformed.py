"""Each malformed state of a data set through each verb: what docs/malformed.md says of
it, and what the state itself asks for.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from halfmask.errors import InputError
from tests.bad_input.malformed.base import DataSet, State, build
from tests.bad_input.malformed.page import BEGIN, PAGE, cells, reads
from tests.bad_input.malformed.states import GROUPS
from tests.bad_input.malformed.verbs import VERBS, VerbResult, run_verb

STATES = {state.title: state for states in GROUPS.values() for state in states}
LEARNT = {
    "box and mask": {"read"},
    "box": {"box only", "mask left out"},
    "nothing": {"left out", "photograph left out, reported"},
    "unread": {"refused"},
}


@cache
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[str, DataSet] = {}

    def of(state: State) -> DataSet:
        if state.title not in made:
            made[state.title] = build(state, tmp_path_factory.mktemp("state"))
        return made[state.title]

    return of


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("title", STATES)
def test_a_verb_does_what_the_page_says(
    title: str, verb: str, data_sets: Any, tmp_path: Path
) -> None:
    state = STATES[title]
    given = data_sets(state)
    before = {path: path.read_bytes() for path in given.data.parent.rglob("*") if path.is_file()}
    found = run_verb(verb, given, tmp_path)
    assert found.cell == cells(page())[title][verb].cell
    assert {path: path.read_bytes() for path in before} == before, "the input was changed"
    check_refusal(found, given)
    if verb != "doctor" and found.cell.endswith("reported"):
        what = "image id 1" if "photograph" in found.cell else "annotation"
        assert what in found.printed, found.printed
    if verb == "train":
        assert found.cell in LEARNT[state.teaches], found
    if verb == "doctor":
        assert (state.found or "").replace("_", " ") in found.cell, found
        assert "reported" not in found.cell or state.found, found


def check_refusal(found: VerbResult, given: DataSet) -> None:
    """One line, which names the file or the folder, and stands on the page."""
    if found.refused:
        assert "\n" not in found.refused
        assert str(given.data) in found.refused or str(given.images) in found.refused, found.refused
        # What follows is Python's own word for the fault, another one in each version.
        line = reads(found, given).replace("|", r"\|").partition("found something else")[0]
        assert line in page()
        assert not any(given.data.parent.rglob("*.part"))


def test_the_page_has_every_state_and_no_other() -> None:
    assert list(cells(page())) == list(STATES)
    assert sum(map(len, GROUPS.values())) == len(STATES) > 80
    assert BEGIN in page()


@pytest.mark.parametrize("verb", ["train", "complete", "evaluate"])
def test_a_photograph_of_20_000_by_20_000_pixels_is_refused_with_its_mend(
    verb: str, data_sets: Any, tmp_path: Path
) -> None:
    given = data_sets(STATES["decompression bomb, 20,000 × 20,000"])
    said = " ".join(run_verb(verb, given, tmp_path).printed.split())
    assert "a photograph of more than 178 million pixels" in said
    assert "cut it into tiles (boxes and masks too) or make it smaller" in said


def test_a_sound_file_is_read_by_all(data_sets: Any, tmp_path: Path) -> None:
    given = data_sets(State("sound"))
    found = {verb: run_verb(verb, given, tmp_path).cell for verb in VERBS}
    assert found.pop("split") == "kept"
    assert found.pop("complete") == "kept"
    assert set(found.values()) == {"read"}


def test_a_crash_is_not_taken_for_a_refusal(
    data_sets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crashes(*_: object) -> str:
        raise KeyError("bug")

    monkeypatch.setitem(VERBS, "doctor", crashes)
    with pytest.raises(KeyError):
        run_verb("doctor", data_sets(State("sound")), tmp_path)


@pytest.mark.parametrize(
    "name", ["\x1b[2J.png", "\x00.png", "\u202egnp.png", "\ud800.png", "\r.png"]
)
def test_no_control_character_reaches_the_terminal(name: str) -> None:
    said = str(InputError(f"{name}: expected a photograph"))
    assert said.isprintable()
    assert said.endswith("png: expected a photograph")
    assert str(InputError("ünï 日本")) == "ünï 日本"
