"""The tables on the terminal say what was measured, and nothing else."""

from collections.abc import Callable
from typing import Any

import torch

from halfmask.coco.file import CocoFile
from halfmask.evaluation.measures.metrics import compute_metrics
from halfmask.evaluation.tables import table

Make = Callable[..., Any]

BOX = [10.0, 10.0, 90.0, 70.0]


def result(
    document: Make, annotation: Make, detection: Make, found: bool, given: bool
) -> dict[str, Any]:
    file = CocoFile.from_document(document([annotation(1, 1, 7, BOX)]), "truth")
    return compute_metrics(
        file,
        [(1, detection([BOX], [7]))] if found else None,
        [(1, torch.tensor([1]), detection([BOX], [7], shape="full"))] if given else None,
        masked={7},
        model="tiny",
    )


def test_both_tables_and_the_classes(document: Make, annotation: Make, detection: Make) -> None:
    text = table(result(document, annotation, detection, True, True), per_category=True)
    assert "Average precision" in text
    assert "100.0" in text
    assert text.count("100%") == 2, "mask AP of box AP for A and all; B has no truth"
    assert "Mask IoU on given boxes" in text
    assert "0.78" in text
    assert text.count("│ boundary") == 3, "AP of A, B and all"
    assert "Boundary IoU on given boxes" in text
    assert "own score of these masks" in text
    assert "cat" in text
    assert "sofa" not in text
    assert "tiny: 1 images" in text
    assert max(map(len, text.splitlines())) <= 100


def test_what_was_not_measured_is_not_shown(
    document: Make, annotation: Make, detection: Make
) -> None:
    assert "Average" not in table(result(document, annotation, detection, False, True))
    assert "Mask IoU" not in table(result(document, annotation, detection, True, False))
    assert "own score" not in table(result(document, annotation, detection, True, False))
    assert "nothing was measured" in table(result(document, annotation, detection, False, False))
