"""Checks the licences of halfmask's dependencies; fails if one is not permissive or unknown.

    python tools/licences.py                     # prints the result
    python tools/licences.py --write             # also writes docs/licences.md
    python tools/licences.py --sbom sbom.json    # also writes CycloneDX 1.5

pip-licenses does not replace it: it lists everything that is installed, without the
dependencies of each extra, the markers and the SBOM, which are most of this file.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
OWN = "halfmask"
ALLOWED = {
    *("0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause"),
    *("BSD", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "MIT", "MIT-0", "MIT-CMU", "PSF-2.0"),
    *("Zlib", "MPL-2.0"),
}
"""MPL-2.0 applies to changes of its own files only, so any project may depend on it."""
NAMES = {
    r"apache( software)?( license)?,?( version)? ?2?(\.0)?( license)?": "Apache-2.0",
    r"mit( license)?": "MIT",
    r"(3-clause bsd|bsd 3-clause)( license)?": "BSD-3-Clause",
    r"(osi approved :: )?bsd( license)?|freebsd": "BSD",
    r"isc( license)?( \(iscl\))?": "ISC",
    r"mozilla public license 2\.0 \(mpl 2\.0\)": "MPL-2.0",
    r"python software foundation license|psfl|psf-2\.0": "PSF-2.0",
}
"""Spelling of packages, in lower case → SPDX (`BSD`: an unspecified BSD licence)."""
SIGNED_OFF = {
    "atheris": "names no licence in its metadata; its LICENSE file is Apache-2.0; only for fuzzing",
    "cuda-toolkit": "names no licence; NVIDIA's EULA, as the nvidia-* packages below it",
    "nvidia-*": "NVIDIA's own terms, for running on its GPUs; PyTorch's wheels for Linux "
    "require them, halfmask itself does not",
}
"""Package → why it is accepted although its licence is not in the list above."""


@dataclass(kw_only=True)
class Package:
    """An installed distribution, its licence, and the parts (`core` or extras) that need it."""

    name: str
    version: str
    licence: str
    wanted_by: set[str] = field(default_factory=set)
    needs: set[str] = field(default_factory=set)

    @property
    def excuse(self) -> str | None:
        return SIGNED_OFF.get("nvidia-*" if self.name.startswith("nvidia-") else self.name)

    @property
    def permissive(self) -> bool:
        """Whether all parts of an `AND`, and one part of each `OR`, are allowed."""
        parts = re.sub("[()]", "", self.licence).split(" AND ")
        return all(any(c.strip() in ALLOWED for c in part.split(" OR ")) for part in parts)


def licence_of(info: Any) -> str:
    """Returns an SPDX expression if the metadata allow it, else their text, or `unknown`."""
    if expression := info.get("License-Expression"):
        return str(expression)
    text = (info.get("License") or "").strip()
    classifiers = [
        c.rsplit(" :: ", 1)[-1]
        for c in info.get_all("Classifier") or []
        if c.startswith("License ::")
    ]
    own = _spdx(text) if text and "\n" not in text else None
    named = [own] if own is not None else [_spdx(c) for c in classifiers]
    known = sorted({name for name in named if name is not None})
    if known and (len(known) == len(named)):
        return " AND ".join(known)
    return text.splitlines()[0][:60] if text else ", ".join(classifiers) or "unknown"


def _spdx(text: str) -> str | None:
    words = re.split(r" (AND|OR) ", text)
    if all(word in ALLOWED or word in ("AND", "OR") for word in words):
        return text
    return next(
        (spdx for pattern, spdx in NAMES.items() if re.fullmatch(pattern, text.lower())), None
    )


def closure(project: dict[str, Any]) -> tuple[dict[str, Package], dict[str, set[str]]]:
    """Follows a project's dependencies and extras to the end.

    Returns:
        Name → installed package, and name → extras for packages that are not installed.
    """
    extras: dict[str, list[str]] = project["optional-dependencies"]
    found: dict[str, Package] = {}
    absent: dict[str, set[str]] = {}
    for why, requirements in {"core": project["dependencies"], **extras}.items():
        _follow(why, requirements, found, absent)
    return found, absent


def _follow(
    why: str, requirements: Iterable[str], found: dict[str, Package], absent: dict[str, set[str]]
) -> None:
    queue = deque((text, "") for text in requirements)
    seen = set()
    while queue:
        text, extra = queue.popleft()
        requirement = Requirement(text)
        name = canonical(requirement.name)
        key = (name, frozenset(requirement.extras))
        if (
            name == OWN
            or key in seen
            or (requirement.marker and not requirement.marker.evaluate({"extra": extra}))
        ):
            continue
        seen.add(key)
        try:
            dist = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            absent.setdefault(name, set()).add(why)
            continue
        package = found.setdefault(
            name, Package(name=name, version=dist.version, licence=licence_of(dist.metadata))
        )
        package.wanted_by.add(why)
        for wanted in dist.requires or []:
            queue += [(wanted, below) for below in ("", *requirement.extras)]
            package.needs.add(canonical(Requirement(wanted).name))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def refused(packages: Iterable[Package]) -> list[str]:
    """Returns a line for each package that is neither permissive nor signed off."""
    return [
        f"{p.name} {p.version}: {p.licence} (for {', '.join(sorted(p.wanted_by))})"
        for p in packages
        if not p.permissive and p.excuse is None
    ]


def row(package: Package) -> str:
    """Returns a line of the page's table; versions are in `constraints.txt`."""
    core = "core" in package.wanted_by
    shown = "core" if core else ", ".join(sorted(package.wanted_by - {"dev"}) or ["dev"])
    return f"| {package.name} | {package.licence} | {shown} |"


def page(packages: dict[str, Package], absent: dict[str, set[str]]) -> str:
    """Returns the text of docs/licences.md."""
    notes = "\n".join(f"- **{name}**: {reason}." for name, reason in SIGNED_OFF.items())
    missing = ", ".join(sorted(absent)) or "none"
    rows = "\n".join(row(package) for _, package in sorted(packages.items()))
    return f"""# Licences of what halfmask depends on

halfmask itself is under Apache-2.0. The table lists everything that its core and its extras
depend on, at any depth, on Linux, with the licence from each package's own metadata. `python
tools/licences.py --write` makes this page. It fails on GPL, AGPL, LGPL, non-commercial and
unknown licences. `BSD` means that the package does not say which BSD licence it uses.
`constraints.txt` holds the versions. `make sbom` writes the same list as CycloneDX
(`sbom.json`).

Checked by hand:

{notes}

Metadata do not say what a wheel bundles (OpenCV's and PyAV's wheels contain FFmpeg). Check the
wheels before you redistribute them.

Not installed where this page was made, and so not checked: {missing}.

| package | licence | needed by |
|---|---|---|
{rows}
"""


def sbom(packages: dict[str, Package], version: str) -> dict[str, Any]:
    """Returns a CycloneDX 1.5 document with the components and their dependencies."""

    def component(name: str, number: str, licence: str) -> dict[str, Any]:
        address = f"pkg:pypi/{name}@{number}"
        return {
            "type": "library",
            "bom-ref": address,
            "name": name,
            "version": number,
            "purl": address,
            "licenses": [{"license": {"name": licence}}],
        }

    own = component(OWN, version, "Apache-2.0")
    listed = [component(p.name, p.version, p.licence) for _, p in sorted(packages.items())]
    reference = {c["name"]: c["bom-ref"] for c in listed}
    below = [
        {
            "ref": reference[p.name],
            "dependsOn": sorted(reference[n] for n in p.needs if n in reference),
        }
        for _, p in sorted(packages.items())
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": own},
        "components": listed,
        "dependencies": [{"ref": own["bom-ref"], "dependsOn": sorted(reference.values())}, *below],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write docs/licences.md")
    parser.add_argument("--sbom", type=Path, help="write a CycloneDX file here")
    options = parser.parse_args()
    packages, absent = closure(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    )
    bad = refused(packages.values())
    sys.stdout.write("".join(f"not permissive or not known: {line}\n" for line in bad))
    if not bad and options.write:
        PAGE.write_text(page(packages, absent), encoding="utf-8")
    if options.sbom is not None:
        from halfmask import __version__

        options.sbom.write_text(
            json.dumps(sbom(packages, __version__), indent=1) + "\n", encoding="utf-8"
        )
    sys.stdout.write(
        f"{len(packages)} packages, {len(bad)} refused; not installed here: "
        f"{', '.join(absent) or 'none'}\n"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
