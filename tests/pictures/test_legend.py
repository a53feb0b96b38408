"""Colours by masks in training, their legend, and pictures beside each other."""

import numpy as np
import pytest
from PIL import Image

from halfmask.coco.doctor.groups import MasksGiven
from halfmask.errors import InputError
from halfmask.pictures.legend import (
    GREEN,
    GREY,
    IN_A,
    IN_B,
    NOT_RECORDED,
    RED,
    UNKNOWN,
    YELLOW,
    side_by_side,
    supervision_colours,
    with_legend,
)


def rows(*names: str) -> list[dict[str, object]]:
    return [{"id": 10 * k, "name": name} for k, name in enumerate(names)]


def test_three_groups_where_the_numbers_are_known() -> None:
    given = MasksGiven({"cat": 30, "dining table": 9, "tree": 0}, threshold=10)
    found = supervision_colours(rows("tree", "Dining_Table", "cat", "zebra"), given, {"cat"})
    assert found.of_label == {0: GREY, 1: RED, 2: YELLOW, 3: GREEN, 4: RED}
    assert found.entries == (
        (GREEN, "many masks (10+) in training"),
        (YELLOW, "few masks (1–9) in training"),
        (RED, "no masks in training"),
    )
    assert supervision_colours(rows("cat"), given, {"cat"}).entries == found.entries[:1]


def test_sets_a_and_b_where_only_the_sets_are_known() -> None:
    given = MasksGiven({"cat": None, "tree": None})
    found = supervision_colours(rows("cat", "tree", "zebra"), given, {"cat"})
    assert found.of_label == {0: GREY, 1: GREEN, 2: RED, 3: GREY}
    assert found.entries == ((GREEN, IN_A), (RED, IN_B), (GREY, UNKNOWN))


def test_what_is_not_recorded_is_no_set_b() -> None:
    """An added class has a number; the earlier ones may only be known to be in set A."""
    given = MasksGiven({"cat": None, "tree": None, "added": 0})
    found = supervision_colours(rows("cat", "tree", "added"), given, {"cat"})
    assert found.of_label == {0: GREY, 1: GREEN, 2: GREY, 3: RED}
    assert found.entries == ((GREEN, IN_A), (RED, "no masks in training"), (GREY, NOT_RECORDED))


@pytest.mark.parametrize("given", [None, MasksGiven({}), MasksGiven({"cat": None})])
def test_a_model_that_does_not_know_its_classes(given: MasksGiven | None) -> None:
    with pytest.raises(InputError, match="sam:x does not know which classes had masks"):
        supervision_colours(rows("cat"), given, {"dog"}, name="sam:x")


def test_a_model_without_masks_knows_so() -> None:
    assert supervision_colours(rows("cat"), MasksGiven({"cat": 0}), ()).of_label[1] == RED


def squares(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == colour).all(-1).sum())


def test_a_legend_stands_below_and_wraps() -> None:
    entries = [(GREEN, "many masks"), (YELLOW, "few masks"), (RED, "none")]
    wide = with_legend(Image.new("RGB", (640, 480)), entries)
    assert wide.width == 640
    assert (np.asarray(wide)[:480] == 0).all()
    sizes = {squares(wide, colour) for colour, _ in entries}
    assert len(sizes) == 1
    assert sizes.pop() >= 144
    narrow = with_legend(Image.new("RGB", (150, 640)), entries)
    assert narrow.height - 640 > wide.height - 480
    assert all(squares(narrow, colour) >= 144 for colour, _ in entries)
    assert with_legend(Image.new("RGB", (20, 480)), entries).width > 20


def test_pictures_beside_each_other_keep_their_pixels() -> None:
    left, right = Image.new("RGB", (300, 480), GREEN), Image.new("RGB", (300, 500), RED)
    both = side_by_side([("transfer", left), ("class-agnostic", right)])
    assert both.width > 600
    assert both.height > 500
    pixels = np.asarray(both)
    assert (pixels[-500:-20, :300] == GREEN).all()
    assert (pixels[-500:, -300:] == RED).all()
    assert side_by_side([("a name " * 20, left)]).width > 700
