"""Finds the label file of each photograph of a YOLO data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from halfmask.coco.locate import Key, files_below, name_key, nearest
from halfmask.formats.source_files import text_lines, without_ending

_FOLDER, _LABELS = "images", "labels"


@dataclass(frozen=True, kw_only=True)
class LabelFiles:
    """The label files of photographs.

    Attributes:
        of: photograph → its label file; a photograph without one is not in it.
        folders: where label files were looked for; some may not exist.
        elsewhere: the folder of label files that no rule names, found by their names.
        unclear: label files there that fit several photographs.
    """

    of: dict[Path, Path] = field(repr=False)
    folders: tuple[Path, ...] = ()
    elsewhere: Path | None = None
    unclear: tuple[Path, ...] = ()

    @classmethod
    def find(
        cls, photographs: Collection[Path], *, root: Path, labels: Path | None, folder: Path
    ) -> LabelFiles:
        """Finds label files by the rules of `_places`, else by their names alone.

        Args:
            photographs: the files.
            root: the folder that `labels` repeats.
            labels: folder of label files; None if no one says.
            folder: the data set's own, below which labels are looked for if no rule
                finds any.
        """
        listed = _Listed()
        of: dict[Path, Path] = {}
        folders: dict[Path, None] = {}
        for photograph in photographs:
            places = list(_places(photograph, root, labels))
            folders |= dict.fromkeys(place.parent for place in places)
            found = next((file for place in places if (file := listed.find(place))), None)
            if found is not None:
                of[photograph] = found
        if of:
            return cls(of=of, folders=tuple(folders))
        of, unclear = _by_name(photographs, folder)
        elsewhere = next(iter(of.values())).parent if of else None
        return cls(
            of=of,
            folders=(*folders, *{file.parent: None for file in of.values()}),
            elsewhere=elsewhere,
            unclear=unclear,
        )

    def orphans(self) -> list[Path]:
        """Returns the label files of no photograph, in the folders of the others.

        A folder `labels` counts with all folders below it.
        """
        used = set(self.of.values())
        roots = {_label_root(file.parent) for file in used}
        files = {f for root, deep in roots for f in root.glob("**/*.txt" if deep else "*.txt")}
        return [file for file in sorted(files - used) if _has_rows(file)]


def _places(photograph: Path, root: Path, labels: Path | None) -> Iterator[Path]:
    """Where the label file may be, as `a.txt` and as `a.jpg.txt`.

    That is in the folder of labels, in `labels` for `images`, and beside.
    """
    like = (
        [labels / photograph.relative_to(root)]
        if labels and photograph.is_relative_to(root)
        else []
    )
    parts = photograph.parts
    for i in range(len(parts) - 2, -1, -1):
        if parts[i].lower() == _FOLDER:
            like.append(Path(*parts[:i], _LABELS, *parts[i + 1 :]))
    for path in (*like, photograph):
        yield path.with_suffix(".txt")
        yield path.with_name(f"{path.name}.txt")


class _Listed:
    """Folders and their text files, alike for any case and Unicode form; each listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, Path | None] = {}
        self._files: dict[Path, tuple[set[str], dict[Key, list[str]]]] = {}

    def find(self, path: Path) -> Path | None:
        """Returns the file of a path; else the only one whose name differs in case or form."""
        folder = self._folder(path.parent)
        if folder is None:
            return None
        if folder not in self._files:
            names = [p.name for p in folder.iterdir() if p.suffix.lower() == ".txt"]
            by_key: dict[Key, list[str]] = {}
            for name in names:
                by_key.setdefault(name_key(name), []).append(name)
            self._files[folder] = set(names), by_key
        exact, by_key = self._files[folder]
        near = [path.name] if path.name in exact else by_key.get(name_key(path.name), [])
        return folder / near[0] if len(near) == 1 else None

    def _folder(self, folder: Path) -> Path | None:
        if folder not in self._folders:
            self._folders[folder] = folder if folder.is_dir() else self._near(folder)
        return self._folders[folder]

    def _near(self, folder: Path) -> Path | None:
        above = None if folder == folder.parent else self._folder(folder.parent)
        if above is None:
            return None
        key = name_key(folder.name)
        near = [p for p in above.iterdir() if name_key(p.name) == key and p.is_dir()]
        return near[0] if len(near) == 1 else None


def _by_name(
    photographs: Collection[Path], folder: Path
) -> tuple[dict[Path, Path], tuple[Path, ...]]:
    """Label files anywhere below a folder: photograph → file, and files that fit several."""
    by_stem: dict[str, list[str]] = {}
    for path in files_below(folder):
        if path.lower().endswith(".txt"):
            by_stem.setdefault(name_key(path)[-1][:-4], []).append(path)
    found: dict[Path, Path] = {}
    for photograph in photographs:
        key = name_key(photograph.as_posix())
        stem = without_ending(key[-1])
        paths = by_stem.get(stem, [])
        near = nearest((*key[:-1], stem), [(*name_key(p)[:-1], stem) for p in paths])
        if len(near) == 1:
            found[photograph] = folder / paths[near[0]]
    users = Counter(found.values())
    unclear = tuple(sorted(file for file, count in users.items() if count > 1))
    return {p: file for p, file in found.items() if users[file] == 1}, unclear


def _label_root(folder: Path) -> tuple[Path, bool]:
    """The folder `labels` around a folder and True, else the folder itself and False."""
    around = next((p for p in (folder, *folder.parents) if p.name.lower() == _LABELS), None)
    return (folder, False) if around is None else (around, True)


def _has_rows(file: Path) -> bool:
    """Whether the first line of a text file has numbers only, as a row of a label file."""
    try:
        return all(float(word) < float("inf") for word in text_lines(file)[0].split())
    except (ValueError, IndexError):
        return False
