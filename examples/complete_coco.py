"""Fills in the missing masks of a COCO file, and lists the masks to review first.

python examples/complete_coco.py boxes.json photos masks.json [MODEL]
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import halfmask


def report(completed, worst=10):
    """Prints the number and mean score of each class's new masks, then the lowest scores."""
    document = json.loads(Path(completed).read_text(encoding="utf-8"))
    names = {c["id"]: c["name"] for c in document["categories"]}
    filled = [a for a in document["annotations"] if a.get("halfmask", {}).get("state") == "filled"]
    scores = defaultdict(list)
    for annotation in filled:
        scores[names[annotation["category_id"]]].append(annotation["halfmask"]["score"])
    for name, values in sorted(scores.items(), key=lambda item: sum(item[1]) / len(item[1])):
        print(f"{name:16} {len(values):5} masks, mean score {sum(values) / len(values):.2f}")
    print("review first:")
    for annotation in sorted(filled, key=lambda a: a["halfmask"]["score"])[:worst]:
        print(
            f"  annotation {annotation['id']}, image {annotation['image_id']}: "
            f"{annotation['halfmask']['score']:.2f}"
        )


if __name__ == "__main__":
    source, photos, out, *model = sys.argv[1:]
    done = halfmask.complete(model[0] if model else "box-segmenter", source, images=photos, out=out)
    print(f"{done.out}: {done.filled} masks filled, {done.unfilled} still missing")
    for line in done.skipped:  # photographs that could not be read
        print("skipped:", line)
    report(done.out)
