"""Access control of a page."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from halfmask.web.security import CONTENT_SECURITY, Access, Guard, access_for, is_loopback

JSON = {"content-type": "application/json"}
Client = Callable[..., TestClient]


@pytest.fixture
def client() -> Client:
    app = FastAPI()

    @app.get("/")
    def page() -> str:
        return "page"

    @app.get("/api/read")
    def read() -> str:
        return "read"

    @app.post("/api/write")
    async def write(request: Request) -> int:
        return len(await request.body())

    def make(access: Access | None = None, host: str = "127.0.0.1:8000") -> TestClient:
        guarded: Any = Guard(app, access or Access(most_bytes=1000))
        return TestClient(guarded, base_url=f"http://{host}", follow_redirects=False)

    return make


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "192.168.1.5:8000"]
)
def test_own_names_and_bare_addresses_are_served(client: Client, host: str) -> None:
    assert client().get("/api/read", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "[::1",
        "a b",
    ],
)
def test_foreign_names_are_refused_whoever_made_them_point_here(client: Client, host: str) -> None:
    assert client().get("/api/read", headers={"host": host}).status_code == 421


def test_a_name_that_was_given_is_served(client: Client) -> None:
    access = Access(host="box.lan", names=frozenset({"box.lan"}))
    assert client(access).get("/api/read", headers={"host": "Box.lan:8000"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
    ],
)
def test_other_sites_cannot_write(client: Client, headers: dict[str, str]) -> None:
    assert client().post("/api/write", content=b"{}", headers=JSON | headers).status_code == 403


def test_the_page_itself_and_programs_can_write(client: Client) -> None:
    own = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    assert client().post("/api/write", content=b"{}", headers=JSON | own).json() == 2
    assert client().post("/api/write", content=b"{}", headers=JSON).json() == 2
    assert client().post("/api/write", content=b"{}").status_code == 403


def test_other_sites_cannot_read(client: Client) -> None:
    assert (
        client()
        .get("/api/read", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"})
        .status_code
        == 403
    )
    followed = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
    }
    assert client().get("/", headers=followed).status_code == 200
    framed = followed | {"sec-fetch-dest": "iframe"}
    assert client().get("/", headers=framed).status_code == 403


def test_a_token_is_asked_for_and_moves_into_a_cookie(client: Client) -> None:
    access = access_for("0.0.0.0", 8000, 1000)
    assert access.token is not None
    visitor = client(access)
    assert visitor.get("/").status_code == 401
    assert visitor.get("/?token=wrong").status_code == 401
    assert visitor.post("/api/write", content=b"{}", headers=JSON).status_code == 401
    assert visitor.get("/", headers={"authorization": "Bearer é".encode()}).status_code == 401
    answer = visitor.get(f"/?token={access.token}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert all(
        part in answer.headers["set-cookie"]
        for part in ("HttpOnly", "SameSite=Strict", access.cookie)
    )
    assert visitor.get("/").json() == "page"
    assert visitor.post("/api/write", content=b"{}", headers=JSON).status_code == 200
    program = client(access)
    among = f"{{bad; =; é=1; {access.cookie}={access.token}; x"
    assert program.get("/api/read", headers={"cookie": among.encode()}).status_code == 200
    assert (
        program.get("/api/read", headers={"authorization": f"Bearer {access.token}"}).status_code
        == 200
    )


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("10.0.0.3", True),
    ],
)
def test_only_the_loopback_needs_no_token(host: str, asked: bool) -> None:
    assert is_loopback(host) != asked
    assert (access_for(host, 1, 1).token is not None) == asked
    assert access_for(host, 1, 1, demand_token=True).token


def test_bodies_are_counted_whatever_the_header_says(client: Client) -> None:
    visitor = client()
    assert visitor.post("/api/write", content=b"x" * 1000, headers=JSON).json() == 1000
    assert visitor.post("/api/write", content=b"x" * 1001, headers=JSON).status_code == 413
    pieces = (b"x" * 400 for _ in range(5))
    assert visitor.post("/api/write", content=pieces, headers=JSON).status_code == 413
    for length in ("-1", "1e9", "x", "9" * 50):
        assert visitor.post(
            "/api/write", content=b"", headers=JSON | {"content-length": length}
        ).status_code in (400, 413)
    assert visitor.get("/api/read?" + "x" * 5000).status_code == 414


def test_every_answer_carries_the_headers(client: Client) -> None:
    visitor = client()
    for answer in (
        visitor.get("/"),
        visitor.get("/absent"),
        visitor.get("/", headers={"host": "evil"}),
        visitor.put("/"),
    ):
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
    assert "unsafe" not in CONTENT_SECURITY
    assert "http" not in CONTENT_SECURITY
