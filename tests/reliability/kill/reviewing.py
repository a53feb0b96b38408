"""The case that decides and saves through `halfmask review`'s own
server: a decision that was confirmed is never lost.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

from halfmask.web import server
from halfmask.web.review.index import STATES
from tests.reliability.kill.cases import Case

STATES_GIVEN = ("accepted", "rejected")
PAGE, WORST = 10, 0.45
"""Masks decided on between two saves, and the scores below which a mask is looked at."""
JSON = {"content-type": "application/json"}


class Reviewing(Case):
    """A reviewer in a thread of the killed process decides on the worst masks, worst
    first, saves after every few, and goes.
    """

    verb, name = "review", "review"

    def arguments(self, folder: Path) -> list[str]:
        data, model, photographs = (
            str(self.inputs / n) for n in ("filled.json", "model.safetensors", "images")
        )
        places = [
            "--journal",
            str(folder / "out" / "review.jsonl"),
            "--out",
            str(folder / "out" / "reviewed.json"),
        ]
        return ["review", data, model, "--images", photographs, "--port", "0", *places]

    def watch(self, folder: Path) -> None:
        bind = server.bind
        confirmed = os.open(folder / "confirmed.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def noted(host: str, port: int | None) -> socket.socket:
            place = bind(host, port)
            threading.Thread(
                target=_review, args=(place.getsockname()[1], confirmed), daemon=True
            ).start()
            return place

        server.bind = noted  # type: ignore[assignment]

    def left(self, folder: Path, reference: Path) -> tuple[str, list[str]]:
        out = folder / "out"
        lost = _confirmed(folder) - _noted(out)
        wrong = (
            [f"{len(lost)} confirmed decisions are not in the journal: {sorted(lost)[:3]}"]
            if lost
            else []
        )
        if not (out / "reviewed.json").exists():
            return ("between decisions" if _noted(out) else "before the first decision"), wrong
        saved = _states(out / "reviewed.json")
        stray = set(saved.items()) - _noted(out) - set(_states(self.inputs / "filled.json").items())
        return "after a save", wrong + [
            f"the saved file has decisions that the journal has not: {sorted(stray)[:3]}"
        ] * bool(stray)

    def finished(self, folder: Path, reference: Path) -> list[str]:
        out, whole = folder / "out", reference / "out"
        scraps = [
            path.name
            for path in out.iterdir()
            if path.name not in {"review.jsonl", "reviewed.json"}
        ]
        wrong = [f"{name} is left over" for name in scraps if (out / name).stat().st_size]
        lost = _confirmed(folder) - _noted(out)
        wrong += [f"{len(lost)} confirmed decisions are lost"] * bool(lost)
        if _rows(out / "reviewed.json") != _rows(whole / "reviewed.json"):
            wrong.append("reviewed.json is not as without the kill")
        decided = [position for position, _ in _lines(out)]
        return wrong + ["a mask was decided on twice"] * (len(set(decided)) != len(decided))


def _review(port: int, confirmed: int) -> None:
    """Decides by the parity of the position; notes what the server confirmed; ends the
    server as Ctrl-C would.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connect(connection)

    def ask(method: str, path: str, body: object = None) -> Any:
        connection.request(method, path, None if body is None else json.dumps(body), JSON)
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, (path, answer.status, data)
        return json.loads(data)

    while entries := ask("GET", f"/api/queue?state=filled&high={WORST}&count={PAGE}")["items"]:
        for entry in entries:
            position = entry["position"]
            version = ask("GET", f"/api/items/{position}")["version"]
            wanted = {"version": version, "state": STATES_GIVEN[position % 2], "by": "killed"}
            state = ask("POST", f"/api/items/{position}/decision", wanted)["state"]
            os.write(confirmed, f"{position} {state}\n".encode())
        ask("POST", "/api/export")
    ask("POST", "/api/export")  # where the last decision was made before the kill and not saved
    os.kill(os.getpid(), signal.SIGINT)


def connect(connection: http.client.HTTPConnection) -> None:
    """The port is bound before the server listens: until then it is refused."""
    while True:
        try:
            return connection.connect()
        except ConnectionRefusedError:
            time.sleep(0.01)


def _confirmed(folder: Path) -> set[tuple[int, str]]:
    lines = (
        (folder / "confirmed.txt").read_text().splitlines()
        if (folder / "confirmed.txt").exists()
        else []
    )
    return {(int(position), state) for position, state in (line.split() for line in lines)}


def _noted(out: Path) -> set[tuple[int, str]]:
    return set(_lines(out))


def _lines(out: Path) -> list[tuple[int, str]]:
    """Position and state of every whole line of the journal but its header."""
    if not (out / "review.jsonl").exists():
        return []
    whole = (out / "review.jsonl").read_bytes().rpartition(b"\n")[0].splitlines()[1:]
    rows = [json.loads(line) for line in whole]
    assert all(row["state"] in STATES for row in rows)
    return [(row["at"], row["state"]) for row in rows]


def _rows(file: Path) -> list[Any]:
    """The annotations without the moment of their decision; a file that is cut off is
    no JSON and raises.
    """
    rows: list[Any] = json.loads(file.read_text())["annotations"]
    for row in rows:
        row.get("halfmask", {}).pop("when", None)
    return rows


def _states(file: Path) -> dict[int, str]:
    return {i: row["halfmask"]["state"] for i, row in enumerate(_rows(file)) if "halfmask" in row}
