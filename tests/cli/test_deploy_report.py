"""``surefoot deploy report`` as typed."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

import surefoot as sf
from tests.cli.running import run
from tests.experiments.validation_worlds import small_set


@pytest.fixture
def plant(tmp_path: Path) -> Path:
    """A journal with twenty episodes."""
    path = tmp_path / "plant.db"
    with sf.Deployment.open(path, small_set(), name="line") as deployment:
        tickets = deployment.ask(20)
        deployment.tell([t.id for t in tickets], [30.0] * 20, [[0.5]] * 20)
    return path


@pytest.mark.slow
def test_a_page_is_written(plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    result = run(["deploy", "report", str(plant), "--name", "line", "--out", str(out)], capsys)
    assert (result.status, result.out.strip(), result.err) == (0, f"written: {out}", "")
    text = out.read_text(encoding="utf-8")
    assert "<h1>line</h1>" in text and "episodes handed out" in text
    assert "not run for this page" in text
    assert sorted(p.suffix for p in tmp_path.iterdir() if p.suffix == ".part") == []


def test_an_audit_is_told_on_the_page_and_to_programs(
    plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    arguments = ["deploy", "report", str(plant), "--name", "line", "--out", str(out), "--audit", "--json"]
    result = run([*arguments, "--policy-name", "0=our controller"], capsys)
    answer = json.loads(result.out)
    assert (result.status, answer["ok"], answer["bytes"]) == (0, True, out.stat().st_size)
    text = out.read_text(encoding="utf-8")
    assert "every decision follows from the events before it" in text
    assert "the safe policy (our controller)" in text


def test_an_audit_that_fails_is_the_exit_status(
    plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from surefoot.journal import Deployment, Verification

    monkeypatch.setattr(Deployment, "verify", lambda self: Verification(False, 3, "event 4 is <odd>"))
    out = tmp_path / "page.html"
    result = run(["deploy", "report", str(plant), "--name", "line", "--out", str(out), "--audit"], capsys)
    assert result.status == 4
    assert "The journal cannot be trusted: after 3 events, event 4 is &lt;odd&gt;" in out.read_text(encoding="utf-8")


def test_a_page_that_is_there_is_replaced(plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    out.write_text("old", encoding="utf-8")
    assert run(["deploy", "report", str(plant), "--name", "line", "--out", str(out)], capsys).status == 0
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--name", "other"], 2, "SF-DEPLOYMENT-UNKNOWN: name "),
        (["--name", "line", "--out", "nowhere/page.html"], 2, "SF-OUTPUT-WRITE: out "),
        (["--name", "line", "--policy-name", "fast"], 2, "--policy-name must look like 3=fast"),
    ],
)
def test_mistakes_exit_with_two(
    plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], status: int, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    result = run(["deploy", "report", str(plant), *arguments], capsys)
    assert (result.status, message in result.err) == (status, True), result.err


def test_a_journal_that_was_edited_gives_no_page(
    plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(plant) as connection:
        connection.execute("update events set at = at + 1 where number = 3")
        connection.execute("delete from snapshots")
    connection.close()
    out = tmp_path / "page.html"
    result = run(["deploy", "report", str(plant), "--name", "line", "--out", str(out), "--json"], capsys)
    assert (result.status, out.exists()) == (7, False)
    assert json.loads(result.out)["error"] == "JournalError"


def forecast(policy_set: str) -> str:
    row = {"refused": None, "optimal": {"low": 5, "median": 90, "high": None}}
    found = {"experiment": "forecast", "schema": 1, "policy_set": policy_set, "runs": 3, "episodes": 99, "eps": 0.1}
    return json.dumps({**found, "trust": {"cells": row}})


def test_a_forecast_is_shown_and_another_sets_is_refused(
    plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with sf.Deployment.open(plant, name="line", create=False) as deployment:
        mine = deployment.policy_set.hash
    plan, out = tmp_path / "plan.json", tmp_path / "page.html"
    arguments = ["deploy", "report", str(plant), "--name", "line", "--out", str(out), "--forecast", str(plan), "--json"]
    plan.write_text(forecast("0" * 64), encoding="utf-8")
    result = run(arguments, capsys)
    assert (result.status, out.exists()) == (2, False)
    assert "SF-ARGUMENT-MISMATCH" in result.out + result.err
    plan.write_text(forecast(mine), encoding="utf-8")
    assert run(arguments, capsys).status == 0
    assert "By the median, 70 episodes remain." in out.read_text(encoding="utf-8")
