"""Fifty reviewers at once, a large file, and random requests."""

from __future__ import annotations

import http.client
import io
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from halfmask.web import tryout_app as tryout_module
from halfmask.web.review.app import review_server
from halfmask.web.segmenting import Segmenter
from halfmask.web.tryout_app import tryout_server
from halfmask.web.uploads import Uploads

from .conftest import Case, filled

pytestmark = pytest.mark.slow

HELD = 1 << 25
"""Bytes of photographs that the page may hold here: full after some seconds."""
LEAST = 4
"""Masks that each reviewer decides, however long it takes."""
JSON = {"content-type": "application/json"}

BYTES = {"content-type": "application/octet-stream"}

Ask = Callable[..., tuple[int, Any]]
Visit = Callable[[Ask, str, float], None]
"""What one client does: how it asks, its name, until when (time.monotonic)."""


def reviewer(ask: Ask, name: str, until: float, made: list[tuple[int, int]]) -> None:
    """Looks at the next mask and its photograph, accepts it, goes on; now and then asks
    the model. Stops at `until`, but not before LEAST decisions: a slow machine decides
    later, not less.
    """
    count = 0
    while count < LEAST or time.monotonic() < until:
        entries = ask("GET", f"/api/queue?state=filled&count=2&client={name}")[1]["items"]
        if not entries:
            break
        position = entries[0]["position"]
        item = ask("GET", f"/api/items/{position}?client={name}")[1]
        ask("GET", f"/api/photos/{item['image']['row']}")
        if count % 20 == 5:
            ask("POST", f"/api/items/{position}/segment", {"box": item["box"]})
        body = {"version": item["version"], "state": "accepted", "by": name}
        status, answer = ask("POST", f"/api/items/{position}/decision", body)
        if status == 200:
            made.append((position, answer["version"]))
        count += 1


def visitor(ask: Ask, name: str, until: float) -> None:
    """Drops a photograph, looks at it, draws some boxes, asks for what cannot be had,
    drops the next one.
    """
    count = int(name[1:])
    while time.monotonic() < until:
        photo = ask("POST", "/api/photos", noise(count))[1]["photo"]
        ask("GET", f"/api/photos/{photo}")
        for k in range(3):
            box = [10 + k, 10, 100 + 3 * (count % 50), 120]
            status, drawn = ask("POST", f"/api/photos/{photo}/segment", {"box": box, "label": 0})
            assert status != 200 or drawn["mask"]["size"] == [240, 320]
        ask("POST", f"/api/photos/{photo}/segment", {"box": [900, 900, 5, 5], "label": 0})
        count += 50


def noise(seed: int) -> bytes:
    """A photograph of 320 × 240 pixels that no other seed has, some 80 kB."""
    out = io.BytesIO()
    Image.effect_noise((320, 240), 40 + seed % 60).convert("RGB").save(out, "JPEG", quality=95)
    return out.getvalue()


def crowd(address: str, clients: int, seconds: float, visit: Visit) -> Counter[str]:
    """Statuses by request, of many clients at once; `lost` counts clients that ended
    with an exception.
    """
    statuses: Counter[str] = Counter()
    until = time.monotonic() + seconds

    def client(name: str) -> None:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)

        def ask(method: str, path: str, body: object = None) -> tuple[int, Any]:
            raw = isinstance(body, bytes)
            sent = body if raw or body is None else json.dumps(body)
            connection.request(method, path, sent, BYTES if raw else JSON)  # type: ignore[arg-type]
            answer = connection.getresponse()
            data = answer.read()
            what = " ".join([path.split("/")[2].split("?")[0], *path.split("/")[4:]])
            statuses[f"{method} {what} {answer.status}"] += 1
            return answer.status, json.loads(data) if answer.headers[
                "content-type"
            ] == "application/json" else data

        try:
            visit(ask, name, until)
        except Exception as error:
            statuses[f"lost: {error!r} 0"] += 1
        connection.close()

    threads = [threading.Thread(target=client, args=(f"r{k}",)) for k in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def test_fifty_reviewers_lose_nothing(
    case: Callable[..., Case], open_review: Callable[[Case], Any]
) -> None:
    seconds = float(os.environ.get("HALFMASK_LOAD_SECONDS", "5"))
    rows = max(
        20_000, int(200 * seconds)
    )  # more than fifty reviewers get through: at the end of a queue they share what is left
    written = case([filled(k % 20, score=k / rows) | {"id": k} for k in range(1, rows + 1)])
    review = open_review(written)
    review.segmenter.predictor()
    made: list[tuple[int, int]] = []
    with review_server(review) as server:
        statuses = crowd(
            server.address, 50, seconds, lambda ask, name, until: reviewer(ask, name, until, made)
        )
    print(
        f"{len(made)} decisions of 50 reviewers, {dict(statuses)}, {resident()} MB with "
        "reviewers and model"
    )
    assert not [kind for kind in statuses if kind.split()[-1] not in ("200", "409", "503")], (
        statuses
    )
    assert statuses["POST items decision 200"] >= 50 * LEAST, statuses
    lines = [json.loads(line) for line in written.journal.read_text().splitlines()[1:]]
    assert sorted(made) == sorted((line["at"], line["version"]) for line in lines)
    assert len({at for at, _ in made}) == len(
        made
    )  # what one looks at is held: nobody's work is done twice


def test_fifty_visitors_of_the_tryout_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped model, one at a time: requests beyond the queue get 503, and
    uploads take no more memory than they may.
    """
    seconds = float(os.environ.get("HALFMASK_LOAD_SECONDS", "5"))
    monkeypatch.setattr(tryout_module, "Uploads", lambda: Uploads(HELD))
    segmenter = Segmenter("box-segmenter", device="cpu")
    segmenter.warm_up()
    segmenter.predictor()
    with tryout_server(segmenter) as server:
        crowd(server.address, 50, 2, visitor)  # threads and buffers are no growth
        before = resident()
        statuses = crowd(server.address, 50, seconds, visitor)
    grown = resident() - before
    print(
        f"{sum(statuses.values())} requests of 50 visitors, {dict(statuses)}; {before} MB and "
        f"{grown} more"
    )
    assert not [kind for kind in statuses if kind.split()[-1] not in ("200", "422", "503")], (
        statuses
    )
    assert statuses["POST photos 200"] >= 50, statuses
    assert statuses["POST photos segment 200"] >= 5, statuses
    assert grown < 150


def resident() -> int:
    """Megabytes of this process's memory at its largest."""
    # ru_maxrss would also know the memory of the process that started this one.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) >> 10


MEASURED = """
import json, sys, time
from pathlib import Path
from halfmask.web.review.filters import Filter
from halfmask.web.review.log.undo import take_back
from halfmask.web.review.queue import Order
from halfmask.web.review.review import Review
from halfmask.web.schema import DecisionRequest
from halfmask.web.segmenting import Segmenter
folder = Path(sys.argv[1])
def measured(count, work):
    start = time.perf_counter()
    for k in range(count):
        work(k)
    return (time.perf_counter() - start) / count
def memory():  # getrusage would count what the parent had
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
before = memory()
opened = []
places = {"images": folder, "journal": folder / "journal", "out": folder / "out.json"}
data = folder / "filled.json"
found = {"open s": measured(1, lambda _: opened.append(Review(data, Segmenter("box-segmenter"), **places)))}
review = opened[0]
filled = Filter(states=frozenset({"filled"}))
found["start MB"] = memory()
found["page ms"] = 1e3 * measured(20, lambda k: review.queue.page(filled, 1000 * k, 12, backwards=False, client="a"))
found["mask ms"] = 1e3 * measured(200, lambda k: review.item(int(review.index.queue[400 * k])))
accepted = DecisionRequest(version=0, state="accepted", by="A")
found["decision ms"] = 1e3 * measured(1000, lambda k: review.decide(int(review.index.queue[k]), accepted))
queue, accepted_now = review.queue, Filter(states=frozenset({"accepted"}))
found["count ms"] = 1e3 * measured(20, lambda k: queue.count(Filter(text="do", low=k / 50)))
for sort in ("class", "size", "file"):
    found[f"sort by {sort} ms"] = 1e3 * measured(1, lambda _: queue.page(filled, -1, 12, order=Order(sort=sort)))
found["next by class ms"] = 1e3 * measured(20, lambda k: queue.page(filled, 900 * k, 12, order=Order(sort="class"), step="class"))
found["peak MB"] = memory()
some = review.batch.selected(filled)[-10_000:]
found["batch of 10,000 s"] = measured(1, lambda _: review.batch.run("reject", "A", some))
found["its undo s"] = measured(1, lambda _: take_back(review.decisions, "A"))
found["accept of 10,000 s"] = measured(1, lambda _: review.batch.run("accept", "A", some))
found["its undo s, too"] = measured(1, lambda _: take_back(review.decisions, "A"))
found["statistics s"] = measured(1, lambda _: review.statistics.view())
found["export s"] = measured(1, lambda _: review.export())
review.close()
opened.clear()
found["open again s"] = measured(1, lambda _: opened.append(Review(data, Segmenter("box-segmenter"), **places)))
print(json.dumps(found | {"before MB": before, "peak with batches MB": memory()}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from /proc")
def test_a_hundred_thousand_annotations_are_not_loaded(case: Callable[..., Case]) -> None:
    rows = [
        filled(k % 20, score=k % 997 / 997, image=k % 20_000 + 1) | {"id": k}
        for k in range(100_000)
    ]
    for row in rows:  # as long as those of real objects
        row["segmentation"]["counts"] = [
            row["segmentation"]["counts"][0],
            *[1, 1] * 75,
            3072 - 150 - row["segmentation"]["counts"][0],
        ]
    images = [
        {"id": i, "file_name": f"{i}.jpg", "height": 48, "width": 64} for i in range(1, 20_001)
    ]
    written = case(rows, images=images)
    size = written.data.stat().st_size / 1e6
    command = [sys.executable, "-c", MEASURED, str(written.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    print(f"{size:.0f} MB", {key: round(value, 1) for key, value in found.items()})
    assert found["peak MB"] - found["before MB"] < size / 2
    assert found["open s"] < 60
    assert found["page ms"] < 100
    assert found["batch of 10,000 s"] < 30
    out = json.loads((written.folder / "out.json").read_text())
    assert sum(row["halfmask"]["state"] == "accepted" for row in out["annotations"]) == 1000


DOUBTS = """
import json, sys, time
from pathlib import Path
from halfmask.web.review.filters import Filter
from halfmask.web.review.queue import Order
from halfmask.web.review.review import Review
from halfmask.web.segmenting import Segmenter
folder = Path(sys.argv[1])
def memory():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
places = {"images": folder / "photos", "journal": folder / "journal", "out": folder / "out.json"}
segmenter = Segmenter(sys.argv[2], device="cpu")
review = Review(folder / "filled.json", segmenter, **places)
segmenter.predictor()
order, position, pages, start = Order(sort="disagreement"), -1, [], time.perf_counter()
before = memory()
review.doubts.start()
found = {"start ms": 1e3 * (time.perf_counter() - start)}
while review.doubts.view().state == "looking":
    began = time.perf_counter()
    if position < 0:
        found_now = review.queue.page(Filter(), -1, 12, order=order, client="a")
    else:
        found_now = review.queue.follow(Filter(), position, 12, order=order, step="item", client="a")
    position = found_now[0] if found_now else -1
    pages.append(time.perf_counter() - began)
    time.sleep(0.1)
found |= {"all s": time.perf_counter() - start, "page ms": 1e3 * max(pages), "MB": memory() - before}
began = time.perf_counter()
review.close()
found["close s"] = time.perf_counter() - began
print(json.dumps(found | {"state": review.doubts.view().state, "looked at": review.doubts.view().looked_at}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from /proc")
def test_a_hundred_thousand_masks_of_people_are_sorted_beside_the_review(
    case: Callable[..., Case], tiny_segmenter: Path
) -> None:
    """Three of 20,000 photographs are there: what needs no model is what takes the time."""
    ring = [8.0, 5.0, 28.0, 5.0, 30.0, 21.0, 18.0, 27.0, 8.0, 25.0]
    rows = [
        {"id": k, "image_id": k % 20_000 + 1, "category_id": 5, "bbox": [8.0, 5.0, 22.0, 22.0]}
        | {"iscrowd": 0, "area": 400, "segmentation": [[v + k % 29 / 3 for v in ring]]}
        for k in range(100_000)
    ]
    images = [
        {"id": i, "file_name": f"{i}.jpg", "height": 48, "width": 64} for i in range(1, 20_001)
    ]
    written = case(rows, images=images)
    command = [sys.executable, "-c", DOUBTS, str(written.folder), str(tiny_segmenter)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    print(found)
    assert (found["state"], found["looked at"]) == ("done", 15)
    assert found["start ms"] < 2000
    assert found["page ms"] < 2000
    assert found["MB"] < 150
    assert found["close s"] < 20


def upload(address: str) -> str:
    """The name of a photograph that the try-out page holds."""
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 30)).save(out, "PNG")
    request = urllib.request.Request(
        f"{address}api/photos", out.getvalue(), {"content-type": "application/octet-stream"}
    )
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["photo"])


@pytest.mark.parametrize("page", ["review", "tryout"])
def test_no_request_that_fits_the_description_is_a_server_error(
    page: str, case: Callable[..., Case], open_review: Callable[[Case], Any], tiny_segmenter: Path
) -> None:
    schemathesis = pytest.importorskip(
        "schemathesis", reason="needs schemathesis (pip install 'halfmask[dev]')"
    )
    from hypothesis import strategies as st

    opened = (
        review_server(open_review(case()))
        if page == "review"
        else tryout_server(Segmenter(str(tiny_segmenter)))
    )
    seen: Counter[int] = Counter()
    with opened as server:
        known = {"position": st.integers(0, 7), "row": st.integers(0, 3)}
        if page == "tryout":
            known["photo"] = st.just(upload(server.address)) | st.text(max_size=5)
        for found in schemathesis.openapi.from_url(
            f"{server.address}openapi.json"
        ).get_all_operations():
            send(found.ok(), st.fixed_dictionaries(known), seen)
    assert seen[200] > 20, seen


def send(operation: Any, places: Any, seen: Counter[int]) -> None:
    """Forty requests that fit an operation's description, about what is there."""
    from hypothesis import HealthCheck, given, settings

    @settings(
        max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(asked=operation.as_strategy(), there=places)
    def one(asked: Any, there: dict[str, object]) -> None:
        for name in set(there) & set(asked.path_parameters or {}):
            asked.path_parameters[name] = there[name]
        answer = asked.call()
        seen[answer.status_code] += 1
        assert answer.status_code < 500, (asked.as_curl_command(), answer.text)

    one()
