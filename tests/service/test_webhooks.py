"""``surefoot serve --webhook``: from a request to the receiver, keys from files and the environment, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import surefoot as sf
from surefoot.service import make_app, read_webhook_key, serve
from surefoot.service.token import WEBHOOK_VARIABLE
from tests.cli.running import run
from tests.journal.plants import small_set
from tests.refusals import refused
from tests.service.client import call

KEY = "a-key-of-some-thirty-characters"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deployment, and a state folder."""
    monkeypatch.setenv("SUREFOOT_STATE", str(tmp_path / "state"))
    monkeypatch.delenv(WEBHOOK_VARIABLE, raising=False)
    with sf.Deployment.open(tmp_path / "plant.db", small_set()):
        pass
    return tmp_path / "plant.db"


def test_what_is_asked_over_http_reaches_the_receiver(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is real but for its sockets; the receiver is a function."""
    got: list[dict[str, Any]] = []

    def post(url: str, body: bytes, headers: Any, timeout: float) -> int:
        got.append(json.loads(body))
        return 200

    def run_server(self: Any, sockets: Any) -> None:
        app = self.config.app
        assert call(app, "POST", "/pause", {"reason": "lunch"}).status == 200
        assert call(app, "POST", "/abort", {"reason": "smoke"}).status == 200
        assert call(app, "GET", "/status").json["stage"] == "stopped"
        hook.close(60.0)
        hook._closed = False  # its thread has ended; what it left is delivered here
        hook.step()

    hook = sf.Webhook("http://receiver/", post=post)
    monkeypatch.setattr("surefoot.service.server._Server.run", run_server)
    with sf.Deployment.open(database, create=False) as plant:
        serve(plant, port=0, webhooks=[hook])
        assert [(body["event"], body["stage"]) for body in got] == [
            ("paused", "comparing"), ("aborted", "stopped"), ("stage", "stopped"),
        ]  # fmt: skip
        assert hook._closed


def test_the_status_shows_what_cannot_be_delivered(database: Path) -> None:
    hook = sf.Webhook("http://receiver/", post=lambda *request: 503)
    with sf.Deployment.open(database, create=False) as plant:
        app = make_app(plant)
        hook.attach(plant, start=False)
        call(app, "POST", "/pause", {"reason": "lunch"})
        hook.step()
        found = call(app, "GET", "/status").json
        assert found["hook_failures"] == 1 and any("receiver" in note and "503" in note for note in found["notes"])


def test_the_command_takes_addresses_and_a_key(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[Any] = []
    monkeypatch.setattr("surefoot.service.serve", lambda plant, webhooks, **options: served.append(webhooks))
    (tmp_path / "key").write_text(KEY + "\n")
    (tmp_path / "key").chmod(0o600)
    given = [
        "--webhook",
        "http://one/",
        "--webhook",
        "https://two:8443/plant",
        "--webhook-key-file",
        str(tmp_path / "key"),
    ]
    assert run(["serve", str(database), *given], capsys).status == 0
    assert [(hook.host, hook._key) for hook in served[0]] == [("one", KEY.encode()), ("two:8443", KEY.encode())]
    assert run(["serve", str(database)], capsys).status == 0 and served[1] == []
    result = run(["serve", str(database), "--webhook", "ftp://one/"], capsys)
    assert result.status == 2 and "http or https" in result.err and len(served) == 2


def test_keys_come_from_a_file_or_the_environment_and_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(WEBHOOK_VARIABLE, raising=False)
    assert read_webhook_key() is None
    monkeypatch.setenv(WEBHOOK_VARIABLE, KEY)
    assert read_webhook_key() == KEY
    monkeypatch.setenv(WEBHOOK_VARIABLE, "short")
    with refused("SF-SERVICE-TOKEN", WEBHOOK_VARIABLE):
        read_webhook_key()
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "key").chmod(0o644)
    with refused("SF-SERVICE-TOKEN-RIGHTS", "644"):
        read_webhook_key(tmp_path / "key")
