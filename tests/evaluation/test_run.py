"""`halfmask.evaluate` from Python: the same numbers as the verb, and typed results."""

import json
from pathlib import Path

import pytest
import torch

import halfmask
from halfmask.errors import InputError
from halfmask.evaluation.run import MEASURED, Evaluation

torch.set_num_threads(1)
PHOTOS = Path(halfmask.__file__).parent / "assets" / "photos"
DATA = PHOTOS / "photos.json"


def evaluated(**options: object) -> Evaluation:
    options = {"images": PHOTOS, "masked": "person", **options}
    return halfmask.evaluate("baseline:ellipse", DATA, **options)


def test_the_result_is_typed_and_its_json_is_the_contract() -> None:
    seen: list[tuple[str, int, int]] = []
    found = evaluated(progress=lambda *step: seen.append(step))
    result = found.to_json()
    assert list(result) == [*MEASURED, "masked"]
    assert json.loads(json.dumps(result)) == result
    assert found.given_boxes["B"] == result["given_boxes"]["B"]
    assert found.given_boxes["B"]["instances"] == 43
    assert (found.images, found.skipped, found.pictures) == (12, {}, [])
    assert seen == [("evaluating", k, 12) for k in (4, 8, 12)]
    assert "Mask IoU on given boxes" in found.table()
    assert "suitcase" in found.table(per_category=True)


def test_a_loaded_model_gives_the_same_numbers() -> None:
    model = halfmask.load("baseline:ellipse", device="cpu")
    found = halfmask.evaluate(model, str(DATA), images=str(PHOTOS), masked="person")
    assert found.given_boxes == evaluated().given_boxes
    with pytest.raises(InputError, match="loaded already: name the detector when you load it"):
        halfmask.evaluate(model, DATA, images=PHOTOS, detector="baseline:box")


def test_a_provider_and_loosened_boxes_stand_in_the_json() -> None:
    found = evaluated(provider="baseline:box", loosen=0.1)
    result = found.to_json()
    assert result["loosen"] == found.loosen == 0.1
    assert result["provider"]["model"] == "baseline:box"
    assert list(result) == [*MEASURED, "provider", "masked", "loosen"]


@pytest.mark.slow
def test_a_picture_that_cannot_be_written_does_not_lose_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    found = evaluated(sheet=tmp_path / "file" / "sheet.png", reliability=tmp_path / "r.png")
    assert found.images == 12
    assert found.pictures == [tmp_path / "r.png"]
    assert len(found.not_drawn) == 1
    assert "sheet.png" in found.not_drawn[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loosen": 0.5}, "loosen: expected a share of at least 0 and below 0.5, found 0.5"),
        ({"boxes": "soft"}, "boxes: expected auto or tight or loose, found 'soft'"),
        ({"use": "all"}, "use: expected annotated or accepted or filled, found 'all'"),
        ({"sheet": "sheet.txt"}, "sheet.txt does not end like a picture"),
        ({"masked": "unicorn"}, "'unicorn' is"),
        ({"detector": "a", "detections": "b"}, "give only one"),
    ],
)
def test_wrong_arguments_are_input_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as refused:
        evaluated(**options)
    assert message in str(refused.value)
