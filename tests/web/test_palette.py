"""The pages' colours are the package's."""

import re

from halfmask.pictures.style import PALETTE
from halfmask.web.pages import STATIC


def test_the_pages_have_the_colours_of_the_package() -> None:
    text = (STATIC / "palette.js").read_text()
    rows = re.findall(r"\[(\d+), (\d+), (\d+)\]", text)
    assert tuple((int(r), int(g), int(b)) for r, g, b in rows) == PALETTE
    assert "label * 5 + Math.floor(label / PALETTE.length)" in text


def test_nothing_comes_from_elsewhere() -> None:
    for path in STATIC.iterdir():
        links = re.findall(
            r"""(?:src|href|from|url)\s*[=(]?\s*["']?(https?:|//)""", path.read_text()
        )
        assert not links, path
