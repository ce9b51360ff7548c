"""Webhooks: at least once and in order, with patience, without ever being in the way; signed as the receiver recomputes it."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from surefoot import InvalidInput, PolicySet
from surefoot.journal import Deployment, Notice, Webhook
from tests.journal.plants import Plant, drive, open_plant
from tests.refusals import refused

URL, KEY = "http://127.0.0.1:9/plant", b"a key of thirty-two bytes or so.."


@dataclass
class Receiver:
    """Answers with these statuses in turn, then with 200; an exception is raised. Time passes only when a test says so."""

    statuses: list[Any] = field(default_factory=list)
    now: float = 1000.0
    got: list[dict[str, Any]] = field(default_factory=list)
    tries: list[float] = field(default_factory=list)

    def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> int:
        self.tries.append(self.now)
        status = self.statuses.pop(0) if self.statuses else 200
        if isinstance(status, BaseException):
            raise status
        if status == 200:
            self.got.append(json.loads(body))
        return int(status)

    def clock(self) -> float:
        return self.now

    def hook(self, **options: Any) -> Webhook:
        return Webhook(URL, **{"post": self.post, "clock": self.clock, "remember": False, **options})


def notice(seq: int, event: str = "alarm") -> Notice:
    return Notice(f"ab-{seq}", "north line", event, seq, "stopped", 3, "why")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder."""
    monkeypatch.setenv("SUREFOOT_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


# ------------------------------------------------------------------------------------------------------------- patience


def test_failures_are_tried_again_with_growing_waits_and_in_order() -> None:
    receiver = Receiver([500, 302, ConnectionRefusedError(), TimeoutError(), 404, 503, ValueError("no HTTP")])
    hook = receiver.hook(first=1.0, longest=10.0)
    hook(notice(4))
    hook(notice(5))
    waits = []
    while (wait := hook.step()) < float("inf"):
        waits.append(wait)
        assert receiver.got == [] and "2 notices wait" in hook.trouble and "127.0.0.1:9" in hook.trouble
        assert hook.step() == wait and len(receiver.tries) == len(waits)  # too early
        receiver.now += wait
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert [body["seq"] for body in receiver.got] == [4, 5] and (hook.delivered, hook.failures) == (2, 7)
    assert hook.trouble == ""


def test_after_a_success_the_waits_begin_anew() -> None:
    receiver = Receiver([500, 500, 200, 500])
    hook = receiver.hook(first=1.0)
    hook(notice(4))
    hook(notice(5))
    for wanted in (1.0, 2.0, 1.0):
        assert hook.step() == wanted
        receiver.now += wanted
    assert hook.step() == float("inf") and hook.delivered == 2


def test_a_receiver_down_for_long_waits_no_longer_than_longest() -> None:
    receiver = Receiver([503] * 2000)
    hook = receiver.hook(first=1.0, longest=900.0)
    hook(notice(4))
    for _ in range(2000):
        receiver.now += (wait := hook.step())
        assert wait <= 900.0
    assert hook.step() == float("inf") and len(receiver.got) == 1


# --------------------------------------------------------------------------------------------------------- deployments


def follow(receiver: Receiver, plant: Deployment, **options: Any) -> Webhook:
    hook = receiver.hook(**{"remember": True, **options})
    hook.attach(plant, start=False)
    return hook


def test_the_body_says_everything_and_the_same_as_a_callback(disk: Path, tiny_set: PolicySet, state: Path) -> None:
    receiver, told = Receiver(), list[Notice]()
    with open_plant(disk / "plant.db", tiny_set, ramp=3, on_event=told.append) as plant:
        hook = follow(receiver, plant)
        drive(plant, Plant(tiny_set), 100)
        plant.abort("enough")
        hook.step()
        assert receiver.got == [n.as_dict() for n in told]
        assert set(receiver.got[0]) == {"id", "deployment", "event", "seq", "stage", "episode", "text"}
        assert [body["stage"] for body in receiver.got] == ["ramping", "learned", "stopped", "stopped"]


def test_a_process_goes_on_where_the_last_one_ended(disk: Path, tiny_set: PolicySet, state: Path) -> None:
    """Nothing of before it was first attached; then everything, whatever happened in between, and in order."""
    down, up = Receiver([200, *[503] * 50]), Receiver()
    with open_plant(disk / "plant.db", tiny_set) as plant:
        plant.pause("long ago")
        plant.resume()
        hook = follow(down, plant)
        plant.pause("first")
        plant.resume()
        hook.step()
        assert [body["text"] for body in down.got] == ["first"] and hook.failures == 1
        hook.close()
    with open_plant(disk / "plant.db", tiny_set) as plant:
        plant.pause("without anybody")
    with open_plant(disk / "plant.db", tiny_set) as plant:
        hook = follow(up, plant)
        plant.resume()
        hook.step()
        assert [body["text"] for body in up.got] == ["the pause is over", "without anybody", "the pause is over"]
        again = Receiver()
        follow(again, plant).step()
        assert again.got == []


def test_what_memory_has_no_room_for_is_read_from_the_journal(disk: Path, tiny_set: PolicySet, state: Path) -> None:
    receiver = Receiver([503])
    with open_plant(disk / "plant.db", tiny_set) as plant:
        hook = follow(receiver, plant, most=3)
        for k in range(20):
            plant.pause(f"pause {k}")
            plant.resume()
            if k == 4:
                hook.step()
                assert len(hook._queue) == 3 and "3 or more notices wait" in plant.status().text
        assert len(hook._queue) == 3
        receiver.now += 100.0
        hook.step()
        assert receiver.got == [n.as_dict() for n in plant.notices()] and len(receiver.got) == 40
        assert hook.dropped == 0


def test_what_comes_while_the_journal_is_read_is_neither_lost_nor_told_twice(
    disk: Path, tiny_set: PolicySet, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver()
    with open_plant(disk / "plant.db", tiny_set) as plant:
        hook = follow(receiver, plant, most=4)
        for k in range(6):
            plant.pause(f"pause {k}")
            plant.resume()
        look_up, left = plant.notices, [3]

        def busy(since: int, many: int) -> list[Notice]:
            found = look_up(since, many)
            if left[0]:
                left[0] -= 1
                plant.pause("meanwhile")
                plant.resume()
            return found

        monkeypatch.setattr(plant, "notices", busy)
        hook.step()
        assert receiver.got == [n.as_dict() for n in look_up()] and len(receiver.got) == 18


def test_a_hook_that_is_merely_subscribed_drops_and_says_so(disk: Path, tiny_set: PolicySet) -> None:
    hook = Receiver([503] * 9).hook(most=3)
    with open_plant(disk / "plant.db", tiny_set, on_event=hook) as plant:
        plant.pause("one")
        plant.resume()
        hook.step()
        plant.abort("two")
        assert hook.dropped == 1
        status = plant.status()
        assert "dropped 1 notices" in status.text and status.hook_failures == 1


def test_a_folder_that_cannot_be_written_is_said(
    disk: Path, tiny_set: PolicySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SUREFOOT_STATE", str(tmp_path / "file"))
    receiver = Receiver()
    with open_plant(disk / "plant.db", tiny_set) as plant:
        hook = follow(receiver, plant)
        plant.pause("one")
        hook.step()
        assert len(receiver.got) == 1 and "cannot keep" in plant.status().text


def test_it_looks_at_what_other_processes_wrote(disk: Path, tiny_set: PolicySet, state: Path) -> None:
    receiver = Receiver()
    with open_plant(disk / "plant.db", tiny_set) as plant:
        hook = follow(receiver, plant, look=30.0)
        assert hook.step() == 30.0
        with Deployment.open(disk / "plant.db", create=False) as other:
            other.pause("lunch")
        assert hook.step() == 30.0 and receiver.got == []
        receiver.now += 30.0
        assert hook.step() == 30.0 and [body["text"] for body in receiver.got] == ["lunch"]


# ------------------------------------------------------------------------------------------------------- a real receiver


class Served:
    """A receiver on this machine that checks signatures, redirects once and fails once."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.answers = [503, 302]
        self.enough, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                served.gate.wait(60.0)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                mac = "sha256=" + hmac.new(KEY, body, hashlib.sha256).hexdigest()
                right = hmac.compare_digest(mac, self.headers["X-Surefoot-Signature"])
                right &= self.headers["Content-Type"] == "application/json"
                right &= json.loads(body)["id"] == self.headers["X-Surefoot-Id"]
                status = (served.answers.pop(0) if served.answers else 204) if right else 401
                if status == 204:
                    served.bodies.append(json.loads(body))
                    if len(served.bodies) == 2:
                        served.enough.set()
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                served.bodies.append({"followed": "a redirection"})

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/plant"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The receiver, running."""
    monkeypatch.setenv("no_proxy", "*")
    one = Served()
    one.thread.start()
    yield one
    one.gate.set()
    one.server.shutdown()
    one.thread.join()
    one.server.server_close()


def test_a_thread_delivers_signed_requests_over_http_and_keeps_nobody_waiting(
    disk: Path, tiny_set: PolicySet, served: Served, state: Path
) -> None:
    with open_plant(disk / "plant.db", tiny_set) as plant:
        hook = Webhook(served.url, key=KEY, first=0.01, longest=0.01)
        served.gate.clear()  # the receiver takes requests and does not answer
        hook.attach(plant)
        plant.pause("lunch")
        plant.resume()
        drive(plant, Plant(tiny_set), 5)
        assert served.bodies == []
        served.gate.set()
        assert served.enough.wait(60.0)
        hook.close(60.0)
        assert hook.failures == 2
        assert served.bodies == [n.as_dict() for n in plant.notices()[:2]]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://receiver/plant", "file:///etc/passwd", "receiver", "http://", "http:///plant", "http://user:secret@receiver/", "http://re ceiver/",
        "http://receiver:port/", "http://receiver/\n", "http://r\u00e9ceiver/", "", 7,
    ],
)  # fmt: skip
def test_only_addresses_of_receivers_are_taken(url: Any) -> None:
    with refused("SF-ARGUMENT-SYNTAX", "url", error=InvalidInput) as caught:
        Webhook(url)
    assert "secret" not in str(caught.value).replace("put secrets", "")


def test_keys_are_long_and_addresses_are_not_shown() -> None:
    with refused("SF-ARGUMENT-LENGTH", "key"):
        Webhook(URL, key="short")
    with refused("SF-ARGUMENT-RANGE", "timeout"):
        Webhook(URL, timeout=0.0)
    hook = Receiver([500]).hook()
    hook(notice(4))
    hook.step()
    assert "plant" not in hook.trouble
