"""``surefoot serve`` as typed, and as a process that is really connected to."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import surefoot as sf
from tests.cli.running import run
from tests.experiments.validation_worlds import small_set
from tests.service.client import Answer
from tests.service.described import Described

TOKEN = "a-token-of-thirty-two-characters"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "plant.db"
    sf.Deployment.open(path, small_set()).close()
    return path


@contextmanager
def serving(database: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process and its address; killed at the end if it still runs."""
    command = [sys.executable, "-m", "surefoot", "serve", str(database), "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if " on http" not in line:
                pytest.fail(f"the server said {line!r} and {process.communicate()[1]!r}")
            yield process, line.split(" on ")[1].split(",")[0].strip()
        finally:
            process.kill()


def request(address: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
    try:
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


@pytest.mark.process
def test_a_controller_takes_part_and_the_server_ends_when_told(database: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    with serving(database, "--token-file", str(token)) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        bearer = f"Bearer {TOKEN}"
        described = Described(request(address, "GET", "/openapi.json", Authorization=bearer)[1])

        def send(method: str, path: str, body: Any = None, **headers: str) -> Answer:
            status, answer = request(address, method, path, body, **headers)
            sent = Answer(status, {"content-type": "application/json"}, json.dumps(answer).encode())
            return described.check(method, path, sent)

        assert send("GET", "/status").status == 401
        asked = send("POST", "/ask", {"n": 2}, Authorization=bearer, Idempotency_Key="a")
        assert asked.status == 200
        report = {"ids": [e["id"] for e in asked.json["episodes"]], "reward": [30.0, 31.0], "costs": [[0.5], [0.0]]}
        assert send("POST", "/tell", report, Authorization=bearer).status == 200
        # While it serves, others may work on the same journal.
        with sf.Deployment.open(database) as plant:
            assert plant.status().episodes == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)
    with sf.Deployment.open(database) as plant:
        assert (plant.status().pending, plant.verify().ok) == (0, True)


@pytest.mark.slow
def test_the_owner_is_served_whatever_strangers_hold_open(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUREFOOT_TOKEN", TOKEN)
    with serving(database) as (_, address), ExitStack() as stack:
        where = urlsplit(address)
        for k in range(600):
            stranger = stack.enter_context(socket.create_connection((where.hostname, where.port)))
            if k % 2:
                stranger.sendall(b"GET /status HTTP/1.1\r\nHo")
        honest = [http.client.HTTPConnection(where.hostname or "", where.port, timeout=60) for _ in range(64)]
        for _ in range(2):  # clients that keep their connections
            for client in honest:
                client.request("GET", "/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"})
                answer = client.getresponse()
                assert (answer.status, bool(answer.read())) == (200, True)
        assert request(address, "GET", "/status", Authorization=f"Bearer {TOKEN}")[0] == 200
        for client in honest:
            client.close()


@pytest.mark.slow
def test_told_to_end_it_waits_for_nobody(database: Path) -> None:
    with serving(database) as (process, address), closing(sqlite3.connect(database, isolation_level=None)) as writer:
        where = urlsplit(address)
        with socket.create_connection((where.hostname, where.port)) as client:
            head = b"POST /tell HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
            client.sendall(head)
            writer.execute("BEGIN IMMEDIATE")
            assert request(address, "POST", "/abort", {"reason": "fire"})[1]["recorded"] is False
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) in (0, -signal.SIGTERM)
            answer = client.makefile("rb").read()
            assert b'"error": "TooBusy"' in answer and b"told to end" in answer  # it did not wait for the body
        writer.execute("ROLLBACK")
    with sf.Deployment.open(database) as plant:
        assert plant.ask().policy_index == 0
        assert plant.status().state == "aborted"


def test_a_journal_that_lacks_what_the_anchor_remembers_is_not_served(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    anchor, older = tmp_path / "plant.anchor", tmp_path / "older.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(older)) as copy:
        source.backup(copy)
    served: list[str] = []
    monkeypatch.setattr("surefoot.service.serve", lambda plant, **options: served.append(plant.ask(request="a").reason))
    assert run(["serve", str(database), "--anchor", str(anchor)], capsys).status == 0
    assert len(served) == 1 and anchor.exists()
    for given in (["--anchor", str(anchor)], []):
        if not given:
            monkeypatch.setenv("SUREFOOT_ANCHOR", str(anchor))
        result = run(["serve", str(older), *given], capsys)
        assert (result.status, "anchor" in result.err) == (2, True), result.err
        result = run(["deploy", "report", str(older), *given, "--out", str(tmp_path / "page.html")], capsys)
        assert (result.status, "anchor" in result.err) == (7, True), result.err
        assert not (tmp_path / "page.html").exists()
    assert run(["deploy", "report", str(database), "--out", str(tmp_path / "page.html")], capsys).status == 0
    assert len(served) == 1


def test_the_token_is_no_argument(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(["serve", "--help"], capsys)
    assert "--token-file" in result.out
    assert "--token " not in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "SF-SERVICE-OPEN: host "),
        (["--host", "plant.example"], "SF-SERVICE-OPEN: host "),
        (["--host", "127.0.0.1.example"], "SF-SERVICE-OPEN: host "),
        (["--name", "other"], "SF-DEPLOYMENT-UNKNOWN: name "),
        (["--token-file", "nowhere"], "SF-SERVICE-TOKEN-READ: token file "),
        (["--port", "70000"], "SF-ARGUMENT-RANGE: port "),
        (["--rate", "0"], "SF-ARGUMENT-RANGE: rate "),
        (["--max-body", "600000000"], "SF-ARGUMENT-RANGE: body_bytes "),
    ],
)
def test_it_refuses_to_start_and_says_why(
    database: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:  # fmt: skip
    monkeypatch.delenv("SUREFOOT_TOKEN", raising=False)
    monkeypatch.setattr("uvicorn.Server.run", lambda *given, **options: pytest.fail("it serves"))
    result = run(["serve", str(database), *arguments], capsys)
    assert (result.status, message in result.err) == (2, True), result.err


def test_an_address_that_is_taken_is_told(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(["serve", str(database), "--port", str(port)], capsys)
    assert (result.status, "SF-SERVICE-ADDRESS: " in result.err) == (2, True), result.err


def test_a_certificate_needs_its_key(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUREFOOT_TOKEN", TOKEN)
    (tmp_path / "cert.pem").touch()
    result = run(["serve", str(database), "--host", "0.0.0.0", "--tls-certificate", str(tmp_path / "cert.pem")], capsys)
    assert (result.status, "must be given together" in result.err) == (2, True), result.err
    assert os.environ["SUREFOOT_TOKEN"] not in result.err
