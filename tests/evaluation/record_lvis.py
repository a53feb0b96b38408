"""Writes lvis_recorded.json with the `lvis` package.

It needs NumPy before 1.24 and its own OpenCV, so it runs in an environment of its own:
pip install lvis==0.5.3 "numpy<1.24" pycocotools==2.0.7; python record_lvis.py
"""

import json
import sys
import tempfile
from pathlib import Path

from lvis import LVIS, LVISEval, LVISResults

sys.path.insert(0, str(Path(__file__).parent))
from lvis_worlds import world

KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")


def measured(seed: int, kind: str) -> dict:
    """The values of KEYS, and the AP of each class by area; −1 where undefined."""
    document, results = world(seed, kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "truth.json"
        path.write_text(json.dumps(document))
        truth = LVIS(str(path))
        evaluation = LVISEval(truth, LVISResults(truth, results), kind)
        evaluation.run()
    precision = evaluation.eval["precision"]
    return {
        "seed": seed,
        "kind": kind,
        "values": {key: float(evaluation.results[key]) for key in KEYS},
        "classes": precision.mean((0, 1)).round(12).tolist(),
    }


if __name__ == "__main__":
    rows = [measured(seed, kind) for seed in range(12) for kind in ("bbox", "segm")]
    rows.append(measured(112, "segm"))  # a detection whose mask is empty
    text = ",\n ".join(json.dumps(row) for row in rows)
    Path(__file__).with_name("lvis_recorded.json").write_text(f"[{text}]\n")
