"""``surefoot serve`` as typed, and as a process that is really connected to."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import surefoot as sf
from tests.cli.running import run
from tests.experiments.validation_worlds import small_set

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
        assert request(address, "GET", "/status")[0] == 401
        bearer = f"Bearer {TOKEN}"
        status, asked = request(address, "POST", "/ask", {"n": 2}, Authorization=bearer, Idempotency_Key="a")
        assert status == 200
        report = {"ids": [e["id"] for e in asked["episodes"]], "reward": [30.0, 31.0], "costs": [[0.5], [0.0]]}
        assert request(address, "POST", "/tell", report, Authorization=bearer)[0] == 200
        # While it serves, others may work on the same journal.
        with sf.Deployment.open(database) as plant:
            assert plant.status().episodes == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)
    with sf.Deployment.open(database) as plant:
        assert (plant.status().pending, plant.verify().ok) == (0, True)


def test_the_token_is_no_argument(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(["serve", "--help"], capsys)
    assert "--token-file" in result.out
    assert "--token " not in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "host must be the loopback where there is no token, got '0.0.0.0'"),
        (["--host", "plant.example"], "host must be the loopback where there is no token"),
        (["--host", "127.0.0.1.example"], "host must be the loopback"),
        (["--name", "other"], "name must be that of a deployment"),
        (["--token-file", "nowhere"], "token file must be readable"),
        (["--port", "70000"], "port must be an integer >= 0 and <= 65535, got 70000"),
        (["--rate", "0"], "rate must be a number in (0, inf]"),
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
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(["serve", str(database), "--port", str(port)], capsys)
    assert (result.status, "host and port must be an address" in result.err) == (2, True), result.err


def test_a_certificate_needs_its_key(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUREFOOT_TOKEN", TOKEN)
    (tmp_path / "cert.pem").touch()
    result = run(["serve", str(database), "--host", "0.0.0.0", "--tls-certificate", str(tmp_path / "cert.pem")], capsys)
    assert (result.status, "must be given together" in result.err) == (2, True), result.err
    assert os.environ["SUREFOOT_TOKEN"] not in result.err
