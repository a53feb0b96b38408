"""The case that edits through `halfmask review`'s own server: a step of several
annotations is whole or never was, and undo and redo go on after a kill.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from halfmask.web import server
from tests.reliability.kill.reviewing import Reviewing, connect

BY = "killed"
ADDED, DELETED = 3, 4
JSON = {"content-type": "application/json"}


class Editing(Reviewing):
    """A reviewer sets the class of all in one batch, adds, comments, deletes, splits,
    rejects all in one batch, takes that back, does it again and takes it back, and
    saves. What is done already, the journal says.
    """

    name = "review, edits"

    def watch(self, folder: Path) -> None:
        bind = server.bind
        confirmed = os.open(folder / "confirmed.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def noted(host: str, port: int | None) -> socket.socket:
            place = bind(host, port)
            port = place.getsockname()[1]
            threading.Thread(target=_edit, args=(port, confirmed), daemon=True).start()
            return place

        server.bind = noted  # type: ignore[assignment]

    def left(self, folder: Path, reference: Path) -> tuple[str, list[str]]:
        out, groups = folder / "out", _groups(folder / "out")
        broken = [number for number, group in enumerate(groups) if not _is_whole(group)]
        wrong = ["a step has a gap"] if any(n < len(groups) - 1 for n in broken) else []
        steps = [group[0]["what"] for group in groups if _is_whole(group)]
        lost = Counter(_confirmed(folder)) - Counter(steps)
        wrong += [f"confirmed steps are not in the journal: {dict(lost)}"] * bool(lost)
        if broken:
            return "within a step", wrong
        if not groups:
            return "before the first step", wrong
        saved = (out / "reviewed.json").exists()
        return ("after a save" if saved else f"after {steps[-1]}"), wrong

    def finished(self, folder: Path, reference: Path) -> list[str]:
        out, whole = folder / "out", reference / "out"
        wrong = ["a step is not whole"] * any(not _is_whole(group) for group in _groups(out))
        if _plain(out / "reviewed.json") != _plain(whole / "reviewed.json"):
            wrong.append("reviewed.json is not as without the kill")
        counts = [
            sum(group[0]["what"] == what for group in _groups(out)) for what in ("add", "undo")
        ]
        return wrong + [f"done twice: {counts}"] * (counts != [ADDED, 2])


class Asking:
    """A client that notes what the server confirmed."""

    def __init__(self, port: int, confirmed: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._confirmed = confirmed
        connect(self._connection)

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def post(self, path: str, what: str, **body: object) -> Any:
        answer = self._ask("POST", path, json.dumps(body | ({"by": BY} if what else {})))
        os.write(self._confirmed, f"{what}\n".encode())
        return answer

    def _ask(self, method: str, path: str, body: str | None) -> Any:
        self._connection.request(method, f"/api/{path}", body, JSON)
        answer = self._connection.getresponse()
        data = answer.read()
        assert answer.status == 200, (path, answer.status, data)
        return json.loads(data)


def _edit(port: int, confirmed: int) -> None:
    """Every step looks first whether it is done: the page was killed at any moment."""
    page = Asking(port, confirmed)
    session = page.get("session")
    category = session["all_categories"][0]["id"]
    steps = page.get(f"undo?by={BY}")
    if steps["undo"] != "reject" and steps["redo"] != "reject":
        _first_part(page, category)
        page.post("batch", "reject", action="reject", filter={"state": ["filled"]})
    _to_and_fro(page)
    page.post("export", "")
    os.kill(os.getpid(), signal.SIGINT)


def _first_part(page: Asking, category: int) -> None:
    """Steps whose result shows that they are done."""
    entries = page.get("queue?count=500&origin=filled")["items"]
    if any(entry["category_id"] != category for entry in entries):
        page.post("batch", "class", action="class", category=category, filter={})
    added = page.get("photos/0/items")["items"]
    for k in range(sum(entry["origin"] == "added" for entry in added), ADDED):
        page.post("photos/0/add", "add", category=category, box=[2 + k, 3, 9, 9])
    if not page.get("items/0")["comments"]:
        page.post("items/0/comments", "comment", text="look again")
    gone = page.get("queue?state=deleted&origin=all")["items"]
    for entry in page.get("queue?sort=file&state=filled")["items"][: DELETED - len(gone)]:
        page.post(f"items/{entry['position']}/delete", "delete", version=entry["version"])


def _to_and_fro(page: Asking) -> None:
    """Undoes the last batch, does it again and undoes it again; its history says how far."""
    last = page.get("queue?sort=file&reverse=true&origin=filled")["items"][0]["position"]
    for undos in (1, 2):
        entries = page.get(f"items/{last}/history")["entries"]
        if sum(entry["what"] == "undo" for entry in entries) >= undos:
            continue
        if page.get(f"undo?by={BY}")["redo"] == "reject":
            page.post("redo", "redo")
        page.post("undo", "undo")


def _confirmed(folder: Path) -> list[str]:
    path = folder / "confirmed.txt"
    return [line for line in path.read_text().splitlines() if line] if path.exists() else []


def _groups(out: Path) -> list[list[dict[str, Any]]]:
    """The whole lines of the journal, those of a step together."""
    if not (out / "review.jsonl").exists():
        return []
    whole = (out / "review.jsonl").read_bytes().rpartition(b"\n")[0].splitlines()[1:]
    groups: list[list[dict[str, Any]]] = []
    for line in map(json.loads, whole):
        if line.get("part", [1])[0] == 1 or not groups:
            groups.append([])
        groups[-1].append(line)
    return groups


def _is_whole(group: list[dict[str, Any]]) -> bool:
    total = group[0].get("part", [1, 1])[1]
    return [line.get("part", [1, 1])[0] for line in group] == list(range(1, total + 1))


def _plain(file: Path) -> Any:
    """The annotations without the moments of their changes."""
    rows = json.loads(file.read_text())["annotations"]
    for row in rows:
        note = row.get("halfmask", {})
        for change in [note, *note.get("changes", [])]:
            change.pop("when", None)
    return rows
