"""Gets the image of a Label Studio task from Label Studio, its local files, or the task."""

from __future__ import annotations

import base64
import binascii
import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from halfmask.errors import InputError
from halfmask.files.pictures import picture_of
from halfmask.files.regular import read_regular

LOCAL_FILES = "/data/local-files/"
LARGEST = 200_000_000
"""Largest number of bytes of a fetched image."""
SECONDS = 30


@dataclass(frozen=True)
class ImageSource:
    """Fetches images only from the places named here.

    A request to the backend cannot make it open other addresses or files.

    Attributes:
        label_studio: its address.
        token: an access token, which is sent only to Label Studio.
        folder: the folder on this machine that Label Studio serves as local files.
        hosts: other hosts that images may come from.
    """

    label_studio: str
    token: str = field(default="", repr=False)
    folder: str | None = None
    hosts: frozenset[str] = frozenset()

    def open(self, address: str) -> Image.Image:
        """Returns the image at an address of a task's data.

        Raises:
            InputError: another host, a file outside the folder, no answer, or not a
                picture.
        """
        shown = address if len(address) <= 100 else address[:99] + "…"
        try:
            with picture_of(self._bytes(address, shown)) as image:
                image.load()
                return image
        except InputError:
            raise
        except Exception as error:  # Pillow's decoders raise anything
            raise InputError(f"{shown}: expected a picture, cannot read it: {error}") from error

    def _bytes(self, address: str, shown: str) -> bytes:
        if address.startswith("data:"):
            head, _, body = address.partition(",")
            try:
                return base64.b64decode(body, validate=True) if head.endswith(";base64") else b""
            except binascii.Error as error:
                raise InputError(f"{shown}: not base64: {error}") from error
        try:
            url = urllib.parse.urlsplit(
                urllib.parse.urljoin(self.label_studio.rstrip("/") + "/", address)
            )
        except ValueError as error:
            raise InputError(f"{shown}: no valid address: {error}") from error
        home = urllib.parse.urlsplit(self.label_studio)
        at_home = (url.scheme, url.netloc) == (home.scheme, home.netloc)
        if at_home and url.path.startswith(LOCAL_FILES) and self.folder is not None:
            return self._local(urllib.parse.parse_qs(url.query).get("d", [""])[0], shown)
        if not at_home and (url.scheme not in ("http", "https") or url.hostname not in self.hosts):
            raise InputError(
                f"{shown}: images come from {self.label_studio}; to allow "
                f"{url.netloc or url.scheme}: --allow-host"
            )
        request = urllib.request.Request(url.geturl())
        if at_home and self.token:
            # Not sent on if Label Studio redirects to its storage.
            request.add_unredirected_header("Authorization", self._authorization())
        return _read(request, shown)

    def _local(self, name: str, shown: str) -> bytes:
        assert self.folder is not None
        folder = Path(self.folder).resolve()
        path = (folder / name).resolve()
        if not path.is_relative_to(folder) or not path.is_file():
            raise InputError(f"{shown}: no such file below {folder} (--images)")
        return read_regular(path, LARGEST)

    def _authorization(self) -> str:
        """The header: a legacy token, or the short-lived one of a personal token (three parts)."""
        if self.token.count(".") != 2:
            return f"Token {self.token}"
        request = urllib.request.Request(
            self.label_studio.rstrip("/") + "/api/token/refresh",
            json.dumps({"refresh": self.token}).encode(),
            {"Content-Type": "application/json"},
        )
        return f"Bearer {json.loads(_read(request, self.label_studio))['access']}"


def _read(request: urllib.request.Request, shown: str) -> bytes:
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            data: bytes = answer.read(LARGEST + 1)
    except urllib.error.HTTPError as error:
        fix = "; give a token of Label Studio's: --token" if error.code in (401, 403) else ""
        raise InputError(f"{shown}: the server answers {error.code} {error.reason}{fix}") from error
    except OSError as error:
        raise InputError(f"{shown}: no answer: {error}") from error
    if len(data) > LARGEST:
        raise InputError(f"{shown}: more than {LARGEST // 1_000_000} MB")
    return data
