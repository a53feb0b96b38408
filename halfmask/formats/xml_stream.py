"""Reads XML from unknown sources element by element, in bounded memory.

defusedxml refuses document types, so no entity is ever expanded.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError, indent, tostring

from defusedxml import DTDForbidden
from defusedxml.ElementTree import iterparse

from halfmask.errors import InputError
from halfmask.files.regular import open_regular
from halfmask.formats.json_stream import CountBytes, counted

LONGEST_PIECE = 32 << 20
"""Bytes of a tag with its attributes and the text behind it.

The mask of a photograph of a hundred million pixels has a tenth.
"""
_BLOCK = 1 << 20


class XmlError(InputError):
    """The file is not readable XML."""


class _Measured:
    """Reads a file for expat, and stops before a tag or a text of any length.

    expat reads a tag from its start again with each block that it gets, so blocks are
    large, and pieces are bounded: in every encoding of XML, "<" holds the byte 0x3c.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._piece = file, 0

    def read(self, _size: int = 0) -> bytes:
        block = self._file.read(_BLOCK)
        last = block.rfind(b"<")
        self._piece = self._piece + len(block) if last < 0 else len(block) - last
        if self._piece > LONGEST_PIECE:
            raise ValueError(f"an attribute or a text of more than {LONGEST_PIECE >> 20} MB")
        return block


def root_of(path: Path, tag: str) -> Element:
    """Returns the root of an XML file with everything in it.

    Args:
        path: an XML file; only as large as the memory.
        tag: what the root must be called.
    Raises:
        XmlError: see `children_of`.
    """
    root = Element(tag)
    root.extend(list(children_of(path, tag)))
    return root


def children_of(path: Path, tag: str, progress: CountBytes | None = None) -> Iterator[Element]:
    """Yields the children of the document's root in the order in which they end.

    Elements of the same name that lie deeper are part of the child around them. Tags
    have no namespaces. A child that nobody keeps leaves the memory with the next one.

    Args:
        path: an XML file.
        tag: what the root must be called.
        progress: receives the bytes read.
    Raises:
        XmlError: the file is missing, not well-formed XML, has a DOCTYPE, another root,
            or an attribute or a text of more than `LONGEST_PIECE` bytes.
    """
    try:
        with open_regular(path) as file:
            events = iterparse(_Measured(file), events=("start", "end"), forbid_dtd=True)
            yield from counted(_children(events, path, tag), file, progress)
    except DTDForbidden as error:
        raise XmlError(
            f"{path}: holds a DOCTYPE, which could define entities; remove it"
        ) from error
    except ParseError as error:
        raise XmlError(f"{path}: not well-formed XML: {error}") from error
    except (LookupError, ValueError) as error:  # an unknown encoding
        raise XmlError(f"{path}: not XML that can be read: {error}") from error
    except OSError as error:
        raise XmlError(f"{path}: cannot be read: {error.strerror or error}") from error


def _children(events: Iterator[tuple[str, Element]], path: Path, tag: str) -> Iterator[Element]:
    root, depth = None, 0
    for event, element in events:
        if event == "start":
            element.tag = element.tag.rpartition("}")[2]
            depth += 1
            if root is None:
                root = element
                if root.tag != tag:
                    raise XmlError(
                        f"{path}: expected the root element {tag}, found {root.tag[:40]}"
                    )
            continue
        depth -= 1
        if root is not None and depth == 1:
            root.remove(element)
            yield element


def unknown_children(element: Element, known: Container[str]) -> Iterator[str]:
    """Yields the tags of children that are not known, shortened for a message."""
    return (child.tag[:40] for child in element if child.tag not in known)


def text_of(element: Element, tag: str) -> str:
    """Returns the text of a child, "" if there is none."""
    return (element.findtext(tag) or "").strip()


def number_of(text: str | None) -> float | None:
    """Returns a finite number, or None if the text is not one."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) < 1e12 else None  # nan compares false


def numbers_of(texts: Iterable[str | None]) -> list[float] | None:
    """Returns all texts as finite numbers, or None if one of them is not a number."""
    values = [number_of(text) for text in texts]
    return [v for v in values if v is not None] if None not in values else None


def whole_of(text: str | None) -> int:
    """Returns a positive whole number, or 0 if the text is not one."""
    value = number_of(text)
    return int(value) if value is not None and value > 0 and value == int(value) else 0


def xml_text(value: object) -> str:
    """Returns a text with the control characters that XML forbids replaced."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", "\ufffd", str(value))


def indented(element: Element) -> str:
    """Returns an element as indented XML text."""
    indent(element)
    return tostring(element, encoding="unicode") + "\n"
