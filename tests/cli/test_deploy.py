"""``surefoot deploy``: every subcommand, its JSON and its exit status."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from surefoot import PolicySet
from surefoot.cli import main
from surefoot.cli.printing import printable
from tests.cli.running import Run, run
from tests.journal.plants import Plant, small_set

SET = small_set(states=True)


class Shell:
    """Runs ``surefoot deploy COMMAND URL ...``."""

    def __init__(self, url: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.url, self._capsys = str(url), capsys

    def __call__(self, command: str, *arguments: str) -> Run:
        return run(["deploy", command, self.url, *arguments], self._capsys)

    def json(self, command: str, *arguments: str, status: int = 0) -> Any:
        """The object that ``--json`` prints."""
        found = self(command, *arguments, "--json")
        assert (found.status, found.err) == (status, "")
        return json.loads(found.out)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    SET.save(tmp_path / "set.sf")
    found = Shell(tmp_path / "plant.db", capsys)
    opened = found.json("open", "--policy-set", str(tmp_path / "set.sf"), "--ramp", "0", "--seed", "7")
    assert opened["state"] == "running"
    return found


def test_a_day_at_the_plant(shell: Shell, tmp_path: Path) -> None:
    truth = Plant(SET)
    asked = shell.json("ask", "-n", "3", "--request", "monday")
    assert asked == shell.json("ask", "-n", "3", "--request", "monday")
    assert [episode["id"] for episode in asked["episodes"]] == [0, 1, 2]
    assert sum(asked["weights"].values()) == pytest.approx(1.0)
    policies = [episode["policy"] for episode in asked["episodes"]]
    report = truth.report(0, policies[0])
    told = shell.json(
        "tell", "0", "--reward", repr(report["reward"]), "--cost", repr(report["costs"][0]),
        "--initial-state", str(report["initial_state"]), "--transitions", "[[0, 0, 1, 2]]",
    )  # fmt: skip
    assert (told["told"], told["pending"]) == (0, 2)
    batch = tmp_path / "report.json"
    batch.write_text(json.dumps(truth.batch([1], [policies[1]])), encoding="utf-8")
    assert shell.json("tell", "--report", str(batch))["pending"] == 1
    assert shell.json("lost", "2")["pending"] == 0
    assert shell.json("pause", "--reason", "lunch")["why"] == "lunch"
    paused = shell.json("ask", status=5)
    assert (paused["error"], paused["code"]) == ("PausedError", "SF-DEPLOYMENT-PAUSED")
    assert shell.json("resume")["state"] == "running"
    assert shell.json("cap", "0.1")["cap"] == 0.1
    assert shell.json("abort")["state"] == "aborted"
    assert shell.json("verify") == {
        "ok": True,
        "checked": 13,
        "first_disagreement": None,
        "not_audited": [],
    }
    events = shell.json("log")["events"]
    assert [event["seq"] for event in events] == list(range(1, 14))
    assert shell.json("log", "--since", "3", "--limit", "2")["events"] == events[3:5]
    assert shell.json("status")["seq"] == 13


def test_people_get_words(shell: Shell) -> None:
    assert "Deployment 'default': running" in shell("status").out
    assert "episode 0: run policy" in shell("ask").out
    assert shell("tell", "0", "--reward", "3", "--cost", "0.5", "--initial-state", "1").out == "told; 0 pending\n"
    assert "ABORTED" in shell("abort").out
    assert "every decision follows" in shell("verify").out
    lines = shell("log").out.splitlines()
    assert "opened" in lines[0] and lines[0].endswith("...") and len(lines) == 7
    assert "certified is the mixture" in shell("status").out


def test_approval_from_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SET.save(tmp_path / "set.sf")
    shell = Shell(tmp_path / "plant.db", capsys)
    opened = shell.json("open", "--policy-set", str(tmp_path / "set.sf"), "--ramp", "0", "--approve")
    assert opened["waiting"] is not None and opened["weights"] == {"0": 1.0}
    other = shell.json("approve", "--plan", "77", status=6)
    assert (other["error"], other["code"]) == ("ConflictError", "SF-CONFLICT-PLAN")
    assert shell.json("approve", "--plan", str(opened["plan"]))["weights"] == opened["waiting"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["tell", "0", "--reward", "nan", "--cost", "0.5"], 2),
        (["tell", "9", "--reward", "1", "--cost", "0.5"], 2),
        (["tell", "0"], 2),
        (["tell", "0", "--reward", "1", "--cost", "0.5", "--transitions", "{"], 2),
        (["tell", "1", "--reward", "1", "--cost", "0.5"], 6),
        (["lost", "0", "44"], 2),
        (["lost"], 2),
        (["cap", "2"], 2),
        (["ask", "-n", "0"], 2),
        (["ask", "--name", "other"], 2),
        (["open", "--trust", "data"], 7),
        (["approve"], 6),
    ],
)
def test_errors_exit_with_their_status(shell: Shell, arguments: list[str], status: int) -> None:
    shell("ask", "-n", "2")
    shell("lost", "1")
    found = shell(*arguments)
    assert found.status == status and found.out == "" and found.err


def test_a_refused_assumption_exits_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SET.save(tmp_path / "set.sf")
    shell = Shell(tmp_path / "plant.db", capsys)
    found = shell("open", "--policy-set", str(tmp_path / "set.sf"), "--p-max", "0.001")
    assert (found.status, "p_max" in found.err) == (3, True)


def test_a_damaged_journal_exits_with_7(shell: Shell) -> None:
    Path(shell.url).write_bytes(b"no database, but long enough to be read as one" * 100)
    assert shell.json("status", status=7)["error"] == "JournalError"


def test_a_disagreement_exits_with_4(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from surefoot.journal import Verification, deployment

    monkeypatch.setattr(deployment, "verify", lambda *_: Verification(False, 3, "event 4: it lies"))
    found = shell("verify")
    assert (found.status, found.out) == (4, "after 3 events: event 4: it lies\n")
    assert shell.json("verify", status=4)["ok"] is False


@pytest.mark.parametrize(
    "report",
    [
        "[]",
        "{}",
        '{"ids": [0], "reward": [1.0], "costs": [[1.0]], "more": 1}',
        "{",
        '{"ids": [0], "reward": [1.0], "costs": [[9.0]], "costs": [[0.0]]}',
    ],
)
def test_a_report_of_another_shape_is_refused(shell: Shell, tmp_path: Path, report: str) -> None:
    file = tmp_path / "report.json"
    file.write_text(report, encoding="utf-8")
    shell("ask")
    assert shell("tell", "--report", str(file)).status == 2


def test_a_report_too_large_is_refused_before_it_is_read(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surefoot.cli.deploy.LARGEST_REPORT", 10)
    file = tmp_path / "report.json"
    file.write_text('{"ids": [0]}', encoding="utf-8")
    found = shell("tell", "--report", str(file))
    assert (found.status, "at most 10 characters" in found.err) == (2, True)


def test_who_did_it_is_recorded(shell: Shell) -> None:
    shell("pause", "--by", "anna")
    shell("resume", "--by", "ben")
    by = {event["kind"]: event["body"].get("by") for event in shell.json("log")["events"]}
    assert (by["paused"], by["resumed"]) == ("anna", "ben")


def test_a_stop_from_the_shell_waits_for_no_lock(shell: Shell) -> None:
    with closing(sqlite3.connect(shell.url, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        status = shell.json("abort", "--reason", "fire", "--by", "anna")
        assert (status["state"], status["why"]) == ("aborted", "fire")
        assert any("recorded in the journal as soon as its lock is free" in note for note in status["notes"])
    assert {episode["policy"] for episode in shell.json("ask", "-n", "20")["episodes"]} == {0}
    (event,) = [event for event in shell.json("log")["events"] if event["kind"] == "aborted"]
    assert event["body"] == {"reason": "fire", "by": "anna"}


def test_a_deployment_that_is_not_degraded_recovers_without_effect(shell: Shell) -> None:
    before = shell.json("status")
    assert shell.json("recover") == before


def test_the_policy_set_travels_with_the_journal(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "set.sf").unlink()
    assert shell.json("status")["policy_set"] == SET.hash
    assert isinstance(SET, PolicySet)


def test_a_deployment_is_removed_with_its_files_after_asking(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.json("ask")
    (tmp_path / "set.sf").unlink()
    monkeypatch.setattr("click.confirm", lambda text, err: False)
    kept = shell("remove")
    assert "plant.db-mark-" in kept.err and kept.out == "nothing was removed\n" and (tmp_path / "plant.db").exists()
    gone = shell.json("remove", "--yes")
    assert gone["removed"] and gone["events"] == 3
    assert not any(tmp_path.iterdir())
    assert shell.json("remove", "--yes", status=2)["error"] == "InvalidInput"


def test_an_anchor_is_kept_and_asked(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "anchor.txt"
    shell.json("ask", "--anchor", str(place))
    monkeypatch.setenv("SUREFOOT_ANCHOR", str(place))
    shell.json("ask")
    assert int(place.read_text(encoding="ascii").split()[1]) == 4
    place.write_text("something else", encoding="ascii")
    assert shell.json("status", status=7)["error"] == "JournalError"


def test_nothing_reaches_the_terminal_but_text(
    shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(["deploy", "status", str(tmp_path / "a\x1b[2J\x9b\u202eb.db")], capsys)
    assert found.status == 2 and "\\x1b[2J\\x9b\\u202eb" in found.err
    with closing(sqlite3.connect(shell.url)) as table, table:
        table.execute("UPDATE deployments SET name = name || char(27) || '[2J'")
        table.execute("DELETE FROM snapshots")
    name = "default\x1b[2J"
    for arguments in (("status",), ("log",), ("verify",), ("remove", "--yes")):
        found = run(["deploy", arguments[0], shell.url, "--name", name, *arguments[1:]], capsys)
        assert all(c.isprintable() or c == "\n" for c in found.out + found.err)
    assert printable("\x1b]0;x\x07\ttwo\nlines ö") == "\\x1b]0;x\\x07\\ttwo\nlines ö"


def test_an_answer_that_cannot_be_written_is_said(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", full)
        with pytest.raises(SystemExit) as left:
            main(["deploy", "ask", shell.url])
    assert left.value.code == 2
    assert "could not be written" in capsys.readouterr().err
    assert shell.json("status")["episodes"] == 1


def test_a_folder_that_was_deleted_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    for before in ([], ["--import", "no_such_module"]):
        found = run([*before, "deploy", "status", "plant.db"], capsys)
        assert found.status == 2 and "Traceback" not in found.err


def test_the_current_folder_stands_in_for_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('the wrong one')")
    (tmp_path / "my_controllers.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path])
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    assert run(["--import", "my_controllers", "--import", "colorsys", "deploy", "--help"], capsys).status == 0


# ------------------------------------------------------------------------------------------------------------ history


def test_logged_episodes_come_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SET.save(tmp_path / "set.sf")
    shell, days, more = Shell(tmp_path / "plant.db", capsys), tmp_path / "days.csv", tmp_path / "more.csv"
    given = Plant(SET, seed=5).batch(list(range(60)), [0] * 60)
    rows = [
        f"{k};{r:.6f};{c[0]:.6f};{b}\n"
        for k, (r, c, b) in enumerate(zip(given["reward"], given["costs"], given["initial_state"]))
    ]
    days.write_text("day;comfort;energy;start\n" + "".join(rows[:40]).replace(".", ","))
    more.write_text("day;comfort;energy;start\n" + "".join(rows[40:]))
    roles = "reward=comfort,cost=energy,initial_state=start,episode=day"
    opening = [
        "--policy-set",
        str(tmp_path / "set.sf"),
        "--seed",
        "7",
        "--trust",
        "envelope",
        "--history",
        str(days),
        "--columns",
    ]
    broken = tmp_path / "broken.csv"
    broken.write_text("day;comfort;energy;start\n1;2;;0\n")
    found = shell.json("open", *opening, roles, "--history", str(broken), status=2)
    assert found["code"] == "SF-REPORT-ROW" and "row 1 (line 2)" in found["message"]
    assert not (tmp_path / "plant.db").exists()  # refused before anything was opened
    assert shell.json("open", *opening, "reward", status=2)["code"] == "SF-ARGUMENT-SYNTAX"
    opened = shell.json("open", *opening, roles)
    assert opened["logged"] == 40 and "40 logged episodes" in shell("status").out
    again = shell.json("open", "--history", str(days), "--history", str(more), "--columns", roles)
    assert again["logged"] == 60 and [event["kind"] for event in shell.json("log")["events"]].count("recalled") == 2
    assert shell.json("verify")["ok"]
    shell.json("ask")
    assert shell.json("open", *opening, roles)["logged"] == 60
    more.write_text("comfort;energy\n1;0.25\n")
    assert (
        shell.json("open", "--history", str(more), "--columns", "reward=comfort,cost=energy", status=6)["code"]
        == "SF-CONFLICT-HISTORY"
    )
    assert "--history" in shell("open", "--columns", roles).err
