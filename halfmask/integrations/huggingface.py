"""A trained model on the Hugging Face Hub: `push_to_hub` and `from_pretrained`, which
is `halfmask.load("hf://OWNER/NAME")`.

What is uploaded is the checkpoint as it is (safetensors; its header holds recipe and
classes) and a card made from it and from the run's numbers.
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
from halfmask.models.checkpoint import Checkpoint, file_digest, load_checkpoint

METRICS = "metrics.json"
SETS = {"A": "A, had masks", "B": "B, boxes only", "all": "all"}
ROWS = (
    ("box AP, %", "box", "AP"),
    ("mask AP, %", "mask", "AP"),
    ("mask IoU on given boxes", "given_boxes", "miou"),
)
"""What the card shows of the run's last evaluation: its name there, block and key."""
TAGS = ["halfmask", "instance-segmentation", "partially-supervised"]


def push_to_hub(
    model: str | Path,
    repository: str,
    license: str,
    private: bool = False,
    token: str | None = None,
    message: str | None = None,
) -> str:
    """Uploads a checkpoint and its card; the repository is made where it is not there yet.

    The checkpoint's header, and so the card, holds the recipe, with the paths of your
    data as you wrote them there.

    Args:
        model: a checkpoint file, a run's folder (whose metrics.json goes into the
            card), or a shipped model's name.
        repository: OWNER/NAME.
        license: of the model, as the Hub spells it (apache-2.0, cc-by-4.0, other, …):
            it depends on your data, so there is no default.
        private: for a repository that is made now.
        token: None: the one of `hf auth login`.
        message: of the commit.
    Returns:
        The address of the commit.
    Raises:
        InputError: huggingface_hub is not installed (extra `hub`), no such model, or
            the Hub refuses.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise InputError('this needs huggingface_hub: pip install "halfmask[hub]"') from error
    with tempfile.TemporaryDirectory() as folder:
        write_repository(model, Path(folder), repository, license)
        api = HfApi(token=token)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=message or f"halfmask model {repository}",
            )
        except (OSError, HFValidationError) as error:
            reason = (
                str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            )
            raise InputError(
                f"{repository}: the Hub does not take it: {reason} Mend: `hf auth login`"
            ) from error
    return str(done)


def from_pretrained(
    repository: str, revision: str | None = None, device: str | torch.device | None = None
) -> Predictor:
    """The model of OWNER/NAME on the Hub, from the cache on this machine where it is
    there already.

    Raises:
        InputError: see `halfmask.load`.
    """
    return load(f"{SCHEME}{repository}" + (f"@{revision}" if revision else ""), device=device)


def write_repository(model: str | Path, folder: Path, repository: str, license: str) -> None:
    """Writes what `push_to_hub` uploads, model.safetensors and README.md, into a folder.

    Raises:
        InputError: no such model, or the run's metrics.json is damaged.
    """
    path = find_checkpoint(model)
    checkpoint = load_checkpoint(path)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / FILE)
    numbers = _numbers(path.with_name(METRICS)) if path.name == FILE else None
    text = _head(checkpoint, license) + _body(checkpoint, repository, file_digest(path), numbers)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _numbers(path: Path) -> dict[str, Any] | None:
    """The run's last evaluation; None where there was none."""
    if not path.is_file():
        return None
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return dict(rows[-1]) if rows else None
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not the metrics of a run: {error}") from error


def _head(checkpoint: Checkpoint, license: str) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        library_name="halfmask",
        license=license,
        tags=TAGS,
        pipeline_tag="image-segmentation",
        model_name=checkpoint.recipe.name,
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _body(
    checkpoint: Checkpoint, repository: str, digest: str, numbers: dict[str, Any] | None
) -> str:
    masked = set(checkpoint.masked)
    named = {
        c["id"]: f"{c['name']} ({checkpoint.mask_counts.get(c['id'], 0)})"
        for c in checkpoint.categories
    }
    in_a, in_b = (
        [text for k, text in named.items() if (k in masked) is had] for had in (True, False)
    )
    detects = checkpoint.recipe.model.kind != "box_segmenter"
    use = (
        'found = model.detect("photo.jpg")'
        if detects
        else 'masks = model.segment("photo.jpg", boxes)  # xyxy, pixels'
    )
    lines = [
        f"# {repository.split('/')[-1]}",
        "",
        f"Instance segmentation, trained by halfmask {checkpoint.version} from masks of some "
        "classes and boxes of all. "
        f"Recipe `{checkpoint.recipe.name}`, written whole into the checkpoint; SHA-256 begins "
        f"`{digest}`.",
        "",
        "```python",
        "import halfmask",
        "",
        f'model = halfmask.load("{SCHEME}{repository}")',
        use,
        "```",
        "",
        "## Classes",
        "",
        f"**A, had masks in training ({len(in_a)}; each with their number):** "
        f"{', '.join(in_a) or 'none'}",
        "",
        f"**B, boxes and no or few masks ({len(in_b)}):** {', '.join(in_b) or 'none'}",
        "",
        "## Numbers",
        "",
        *_table(numbers),
        "",
    ]
    return "\n".join(lines)


def _table(numbers: dict[str, Any] | None) -> list[str]:
    rows = []
    for name, block, key in ROWS:
        values = [((numbers or {}).get(block) or {}).get(part, {}).get(key) for part in SETS]
        if any(value is not None for value in values):
            form = ".3f" if key == "miou" else ".1f"
            rows.append(
                f"| {name} | "
                + " | ".join("–" if v is None else format(v, form) for v in values)
                + " |"
            )
    if not rows:
        return ["The run left none: `halfmask evaluate` measures it."]
    step = (numbers or {}).get("step")
    heads = " | ".join(SETS.values())
    return [
        f"The run's own evaluation at step {step}:",
        "",
        f"| | {heads} |",
        "|---" * (len(SETS) + 1) + "|",
        *rows,
    ]
