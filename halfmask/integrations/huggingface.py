"""Uploads a trained model to the Hugging Face Hub, and loads one from there.

`push_to_hub` uploads the unchanged checkpoint (safetensors, with recipe and classes in
its header) and a card with the numbers of the run. `from_pretrained` is
`halfmask.load("hf://OWNER/NAME")`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

from halfmask.errors import InputError
from halfmask.inference.checkpoints import FILE, SCHEME, find_checkpoint
from halfmask.inference.predictor import Predictor, load
from halfmask.integrations import optional_module
from halfmask.models.checkpoint import Checkpoint, file_digest, load_checkpoint
from halfmask.pictures.curves import score
from halfmask.pictures.sets import shown_sets

METRICS = "metrics.json"
ROWS = (
    ("box AP, %", ("box", "AP")),
    ("mask AP, %", ("mask", "AP")),
    ("boundary AP, %", ("boundary", "AP")),
    ("mask IoU on given boxes", ("given_boxes", "miou")),
    ("boundary IoU on given boxes", ("given_boxes", "boundary", "miou")),
)
"""The card's rows: name, and keys in the run's last evaluation."""
TAGS = ["halfmask", "instance-segmentation", "partially-supervised"]


def push_to_hub(
    model: str | Path,
    repository: str,
    license: str,
    *,
    private: bool = False,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Uploads a checkpoint and its card; creates the repository if there is none.

    The checkpoint's header holds the recipe with the paths of your data.

    Args:
        model: a checkpoint file, a run's folder (whose metrics.json goes into the
            card), or a shipped model's name.
        repository: OWNER/NAME.
        license: licence of the model in the Hub's spelling (apache-2.0, cc-by-4.0,
            other, …). It depends on your data, so there is no default.
        private: visibility of a new repository.
        token: an access token; None: the one of `hf auth login`.
        message: message of the commit.
    Returns:
        The address of the commit.
    Raises:
        InputError: huggingface_hub is not installed (extra `hub`), no such model, or
            the Hub refuses.
    """
    hub = optional_module("huggingface_hub", "huggingface_hub", "hub")
    with tempfile.TemporaryDirectory() as folder:
        write_repository(model, Path(folder), repository=repository, license=license)
        api = hub.HfApi(token=token)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=message or f"halfmask model {repository}",
            )
        except (OSError, hub.errors.HFValidationError) as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise InputError(
                f"{repository}: the Hub refuses it: {reason} To fix: `hf auth login`"
            ) from error
    return str(done)


def from_pretrained(
    repository: str, revision: str | None = None, device: str | torch.device | None = None
) -> Predictor:
    """Returns the model of OWNER/NAME on the Hub, from the local cache if it is there.

    Raises:
        InputError: see `halfmask.load`.
    """
    return load(f"{SCHEME}{repository}" + (f"@{revision}" if revision else ""), device=device)


def write_repository(model: str | Path, folder: Path, *, repository: str, license: str) -> None:
    """Writes the two files that `push_to_hub` uploads, model.safetensors and README.md.

    Raises:
        InputError: no such model, or the run's metrics.json is damaged.
    """
    path = find_checkpoint(model)
    checkpoint = load_checkpoint(path)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / FILE)
    numbers = _numbers(path.with_name(METRICS)) if path.name == FILE else None
    hub = optional_module("huggingface_hub", "huggingface_hub", "hub")
    data = hub.ModelCardData(
        library_name="halfmask",
        license=license,
        tags=TAGS,
        pipeline_tag="image-segmentation",
        model_name=checkpoint.recipe.name,
    )
    body = _body(checkpoint, repository, file_digest(path), numbers=numbers)
    text = f"---\n{data.to_yaml()}\n---\n\n{body}"
    (folder / "README.md").write_text(text, encoding="utf-8")


def _numbers(path: Path) -> dict[str, Any] | None:
    """The run's last evaluation, or None if there is none."""
    if not path.is_file():
        return None
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return dict(rows[-1]) if rows else None
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not the metrics of a run: {error}") from error


def _body(
    checkpoint: Checkpoint, repository: str, digest: str, *, numbers: dict[str, Any] | None
) -> str:
    use = 'found = model.detect("photo.jpg")'
    if checkpoint.recipe.model.kind == "box_segmenter":
        use = 'masks = model.segment("photo.jpg", boxes)  # xyxy, pixels'
    return f"""# {repository.split("/")[-1]}

Instance segmentation, trained by halfmask {checkpoint.version} from masks of some \
classes and boxes of all. Recipe `{checkpoint.recipe.name}`, written whole into the \
checkpoint; SHA-256 begins `{digest}`.

```python
import halfmask

model = halfmask.load("{SCHEME}{repository}")
{use}
```

## Classes

{_classes(checkpoint)}

## Numbers

{_table(numbers or {})}
"""


def _classes(checkpoint: Checkpoint) -> str:
    """The classes by the masks that the model was given, each with their number."""
    groups = checkpoint.masks_given.groups_of(checkpoint.categories)
    if groups is None:
        names = ", ".join(c["name"] for c in checkpoint.categories)
        return f"How many masks the model was given of each is not recorded: {names or 'none'}"
    names_of, lines = {c["id"]: c["name"] for c in checkpoint.categories}, []
    for group, members in reversed(groups.members().items()):
        shown = [
            f"{names_of[i]} ({groups.counts[i]})" if groups.counts[i] else names_of[i]
            for i in names_of
            if i in members
        ]
        if shown:
            title = groups.title(group)
            title = title[0].upper() + title[1:]
            lines.append(f"**{title}, {len(shown)} of the classes:** {', '.join(shown)}")
    return "\n\n".join(lines)


def _table(numbers: dict[str, Any]) -> str:
    rows, sets = [], shown_sets(numbers)
    for name, keys in ROWS:
        values = [score(measures, *keys) for measures in sets.values()]
        if any(value is not None for value in values):
            form = ".3f" if keys[-1] == "miou" else ".1f"
            texts = ["–" if v is None else format(v, form) for v in values]
            rows.append(f"| {name} | {' | '.join(texts)} |")
    if not rows:
        return "The run has none: `halfmask evaluate` measures it."
    head = [f"| | {' | '.join(sets)} |", "|---" * (len(sets) + 1) + "|"]
    title = f"The run's own evaluation at step {numbers.get('step')}:"
    return "\n".join([title, "", *head, *rows])
