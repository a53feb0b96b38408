"""Access control of a page: host names, origins, token, sizes, and browser policies."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse

from halfmask.web.budget import ASKING

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_SECONDS = 60.0
"""A request that sends nothing for this long is refused."""
ARRIVING_BYTES = 1 << 28
"""Bytes of all requests' bodies at the same time; a request beyond them gets 429."""
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


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where a page is served and to whom.

    Attributes:
        host: the address that the server is bound to.
        port: its port.
        token: secret that visitors need; None if only this machine reaches the page.
        names: host names that requests may use, besides localhost and IP addresses.
        most_bytes: the largest body of a request.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    names: frozenset[str] = field(default_factory=frozenset)
    most_bytes: int = 1 << 23

    @property
    def cookie(self) -> str:
        """The cookie's name; it has the port, since the ports of a host share cookies."""
        return f"halfmask_{self.port}"

    @property
    def address(self) -> str:
        """The address to open in a browser."""
        host = socket.gethostname() if is_any(self.host) else self.host
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port}/" + (f"?token={self.token}" if self.token else "")


def access_for(host: str, port: int, most_bytes: int, *, demand_token: bool = False) -> Access:
    """Returns the rules for an address, with a token if other machines can reach it."""
    token = secrets.token_urlsafe(24) if demand_token or not is_loopback(host) else None
    names = (
        {socket.gethostname().lower(), socket.getfqdn().lower(), host.lower()}
        if not is_loopback(host)
        else set()
    )
    return Access(host=host, port=port, token=token, names=frozenset(names), most_bytes=most_bytes)


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches a server that is bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_any(host: str) -> bool:
    """Returns whether `host` means every address of the machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


class Guard:
    """Wraps a page's application and refuses foreign requests.

    - The host name must be localhost, an IP address or one of `Access.names`. Other
      names may have been made to point here (DNS rebinding).
    - A request that changes something must come from this page or from no browser.
      Origin and Sec-Fetch-Site decide, and the content type must be one that a form of
      another site cannot send.
    - A token, if there is one, comes once in the address, then in a cookie that scripts
      cannot read, or in `Authorization: Bearer`.
    - Bodies are counted as they arrive, whatever their header says, each and all.
    """

    def __init__(self, app: App, access: Access) -> None:
        self._app, self._access = app, access
        self._arriving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets
        guarded = _with_headers(send, scope["path"])
        if refusal := self._refusal(scope, Headers(scope=scope)):
            status, text = refusal
            await JSONResponse({"detail": text}, status)(scope, receive, guarded)
        elif cookie := self._exchange(scope):
            answer = RedirectResponse("/", 303, {"set-cookie": cookie})
            await answer(scope, receive, guarded)
        else:
            ASKING.set(str((scope.get("client") or ("",))[0]))
            await self._pass_on(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
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

    def _foreign(self, method: str, headers: Headers) -> str | None:
        """Returns why a request seems to come from another site; None if it does not."""
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

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        if self._access.token is None:
            return True
        offered = [
            headers.get("authorization", "").removeprefix("Bearer ").strip(),
            _asked_token(scope),
        ]
        for pair in headers.get("cookie", "").split(";"):  # also cookies of other pages
            name, _, value = pair.strip().partition("=")
            offered += [value] if name == self._access.cookie else []
        right = self._access.token.encode()
        return any(hmac.compare_digest(text.encode("utf-8", "replace"), right) for text in offered)

    def _exchange(self, scope: Scope) -> str | None:
        """Returns the cookie to set if the token came in the address; it leaves the address."""
        if self._access.token is None or scope["path"] != "/" or not _asked_token(scope):
            return None
        return f"{self._access.cookie}={self._access.token}; HttpOnly; SameSite=Strict; Path=/"

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and counts its body."""
        left = most = self._access.most_bytes
        answered = False

        async def counted() -> Message:
            nonlocal left
            if answered:  # now only the visitor's disconnection can follow
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), BODY_SECONDS)
            except TimeoutError:
                raise HTTPException(408, "the request did not come in time") from None
            size = len(message.get("body", b""))
            left -= size
            self._arriving += size
            if left < 0:
                raise HTTPException(413, f"larger than {most >> 20} MB")
            if self._arriving > ARRIVING_BYTES:
                raise HTTPException(429, "busy with other uploads; try again in a moment")
            return message

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        finally:
            self._arriving -= most - left


def _same(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:  # no valid address, as http://[ is
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _asked_token(scope: Scope) -> str:
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]


def _with_headers(send: Send, path: str) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault(
                "cache-control", "no-cache" if path.startswith("/static/") else "no-store"
            )
            headers.update(HEADERS)
        await send(message)

    return guarded
