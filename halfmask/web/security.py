"""Access control of a page: host names, origins, token, sizes, and browser policies."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse

from halfmask.web.budget import ASKING, HELD, Budget, BusyError, Holds
from halfmask.web.flow import (
    ANSWER_BYTES,
    ARRIVING_BYTES,
    JSON_BYTES,
    JSON_COST,
    Answer,
    Body,
    ClientTurns,
    Message,
    Receive,
    Scope,
    Send,
    busy_answer,
)

App = Callable[[Scope, Receive, Send], Awaitable[None]]

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
        uploads: paths whose body is a file, kept in memory once.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    names: frozenset[str] = field(default_factory=frozenset)
    most_bytes: int = JSON_BYTES
    uploads: frozenset[str] = frozenset()

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


def access_for(
    host: str,
    port: int,
    most_bytes: int,
    *,
    demand_token: bool = False,
    uploads: frozenset[str] = frozenset(),
) -> Access:
    """Returns the rules for an address, with a token if other machines can reach it."""
    token = secrets.token_urlsafe(24) if demand_token or not is_loopback(host) else None
    names = (
        {socket.gethostname().lower(), socket.getfqdn().lower(), host.lower()}
        if not is_loopback(host)
        else set()
    )
    return Access(
        host=host,
        port=port,
        token=token,
        names=frozenset(names),
        most_bytes=most_bytes,
        uploads=uploads,
    )


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
    - Answers go out in pieces as the visitor takes them. The large ones are counted.
    """

    def __init__(self, app: App, access: Access) -> None:
        self._app, self._access = app, access
        self._arriving, self._leaving = Budget(ARRIVING_BYTES), Budget(ANSWER_BYTES)
        self._turns = ClientTurns()

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
            try:
                async with self._turns.one(ASKING.get()):
                    await self._pass_on(scope, receive, guarded)
            except BusyError:  # of the turn; the application answers its own
                await busy_answer()(scope, receive, guarded)

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
        if int(length[:20]) > (most := self._most(scope, headers)):
            return 413, f"larger than {most >> 20} MB"
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
        """Passes the request on; counts its body, and its answer until it is sent."""
        headers = Headers(scope=scope)
        is_upload = self._is_upload(scope, headers)
        length = headers.get("content-length")
        body = Body(
            receive,
            most=self._most(scope, headers),
            declared=None if length is None else int(length),
            # An upload of unknown length is in memory twice when its pieces are joined.
            cost=(2 - (length is not None)) if is_upload else JSON_COST,
            arriving=self._arriving,
        )
        with Holds() as held:
            HELD.set(held)
            answer = Answer(send, body, held, self._leaving)
            try:
                await self._app(scope, body.receive, answer.send)
                if answer.is_refused:
                    await busy_answer()(scope, receive, send)
            finally:
                body.forget()

    def _is_upload(self, scope: Scope, headers: Headers) -> bool:
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        return scope["path"] in self._access.uploads and kind == "application/octet-stream"

    def _most(self, scope: Scope, headers: Headers) -> int:
        most = self._access.most_bytes
        return most if self._is_upload(scope, headers) else min(most, JSON_BYTES)


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
