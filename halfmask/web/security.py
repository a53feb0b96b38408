"""Who may speak to a page: hosts, origins, token, sizes; and what the browser may do with it."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_SECONDS = 60.0
"""A request whose next piece does not come for so long is given up."""
LONGEST_URL = 4096
SAFE_METHODS = frozenset({"GET", "HEAD"})
CONTENT_SECURITY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": CONTENT_SECURITY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True)
class Access:
    """Where a page is served and to whom.

    Attributes:
        host: the address it is bound to.
        port: its port.
        token: what a visitor has to bring; None where the page is bound to the loopback
            only.
        names: host names by which it may be called, besides localhost and bare
            addresses.
        most_bytes: of a request's body.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    names: frozenset[str] = field(default_factory=frozenset)
    most_bytes: int = 1 << 23

    @property
    def cookie(self) -> str:
        """Browsers share cookies between the ports of a host, so the name tells them apart."""
        return f"halfmask_{self.port}"

    @property
    def address(self) -> str:
        """What to open in a browser."""
        host = socket.gethostname() if is_any(self.host) else self.host
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port}/" + (f"?token={self.token}" if self.token else "")


def access_for(host: str, port: int, most_bytes: int, demand_token: bool = False) -> Access:
    """The rules for an address: a token wherever others than this machine can reach it."""
    token = secrets.token_urlsafe(24) if demand_token or not is_loopback(host) else None
    names = (
        {socket.gethostname().lower(), socket.getfqdn().lower(), host.lower()}
        if not is_loopback(host)
        else set()
    )
    return Access(host, port, token, frozenset(names), most_bytes)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that is bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_any(host: str) -> bool:
    """Whether `host` stands for every address of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


class Guard:
    """Stands before a page's application and refuses what is not meant for it.

    - Host names: localhost, bare addresses and `Access.names` only. A foreign name that
      was made to point here (DNS rebinding) is refused;
      an address cannot be made to point elsewhere.
    - Requests that change something come from this page or from no browser: Origin and
      Sec-Fetch-Site say so, and the content type is
      none that a form of another site can send.
    - The token, where there is one: once in the address, from then on in a cookie that
      scripts cannot read; or `Authorization: Bearer`.
    - Bodies are counted as they come in, whatever their header says.
    """

    def __init__(self, app: App, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets here
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        guarded = _with_headers(send, scope["path"])
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(guarded, *refusal)
        elif cookie := self._exchange(scope):
            await _redirect(guarded, cookie)
        else:
            await self._pass_on(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST_URL:
            return 414, "the address is too long"
        if not self._knows_host(headers.get("host", "")):
            return (
                421,
                "this page is not served under that host name; use the address that halfmask "
                "printed",
            )
        if fault := self._foreign(scope["method"], headers):
            return 403, fault
        if not self._has_token(scope, headers):
            return 401, "open the page by the address that halfmask printed: it carries the token"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return 400, "content-length is no number"
        if int(length[:20]) > self._access.most_bytes:
            return 413, f"larger than {self._access.most_bytes >> 20} MB"
        return None

    def _knows_host(self, value: str) -> bool:
        try:
            name = (urlsplit(f"//{value}").hostname or "").lower()
            ipaddress.ip_address(name)
        except ValueError:
            name = value.rsplit(":", 1)[0].lower()
            return name == "localhost" or name in self._access.names
        return True

    def _foreign(self, method: str, headers: dict[str, str]) -> str | None:
        """Why a request is taken for another site's; None where it is not."""
        site = headers.get("sec-fetch-site", "none")
        if method in SAFE_METHODS:
            opened = (
                headers.get("sec-fetch-mode") == "navigate"
                and headers.get("sec-fetch-dest") == "document"
            )
            return (
                None if site in ("same-origin", "none") or opened else "asked for by another site"
            )
        origin = headers.get("origin")
        if site not in ("same-origin", "none") or (
            origin is not None and not _same(origin, headers.get("host", ""))
        ):
            return "sent by another site"
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        if kind not in ("application/json", "application/octet-stream"):
            return "expected content-type application/json or application/octet-stream"
        return None

    def _has_token(self, scope: Scope, headers: dict[str, str]) -> bool:
        if self._access.token is None:
            return True
        offered = [
            headers.get("authorization", "").removeprefix("Bearer ").strip(),
            _asked_token(scope),
        ]
        for pair in headers.get("cookie", "").split(
            ";"
        ):  # cookies of other pages on this host may be anything
            name, _, value = pair.strip().partition("=")
            offered += [value] if name == self._access.cookie else []
        right = self._access.token.encode()
        return any(hmac.compare_digest(text.encode("utf-8", "replace"), right) for text in offered)

    def _exchange(self, scope: Scope) -> str | None:
        """The cookie to set where the token came in the address, so that it does not stay there."""
        if self._access.token is None or scope["path"] != "/" or not _asked_token(scope):
            return None
        return f"{self._access.cookie}={self._access.token}; HttpOnly; SameSite=Strict; Path=/"

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands the request on, and its body piece by piece."""
        left = self._access.most_bytes
        answered = False

        async def counted() -> Message:
            nonlocal left
            if answered:  # waits for the visitor to go, however long that takes
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), BODY_SECONDS)
            except TimeoutError:
                raise HTTPException(408, "the request did not come in time") from None
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"larger than {self._access.most_bytes >> 20} MB")
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        await self._app(scope, counted, noted)


def _same(origin: str, host: str) -> bool:
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _asked_token(scope: Scope) -> str:
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]


def _with_headers(send: Send, path: str) -> Send:
    fixed = [(key.encode(), value.encode()) for key, value in HEADERS.items()]

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", []))
            if not any(key.lower() == b"cache-control" for key, _ in own):
                own.append(
                    (b"cache-control", b"no-cache" if path.startswith("/static/") else b"no-store")
                )
            message = {**message, "headers": [*own, *fixed]}
        await send(message)

    return guarded


async def _answer(send: Send, status: int, text: str) -> None:
    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _redirect(send: Send, cookie: str) -> None:
    headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
