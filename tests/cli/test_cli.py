"""The command line as a whole: quick help, one way to fail, and a message for every malformed command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from surefoot.cli import COMMANDS, main
from tests.cli.running import Run, run

HEAVY = ["numpy", "scipy", "numba", "matplotlib", "highspy"]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a file and a directory that must not be written over, and a damaged policy set."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.sf").write_bytes(b"precious")
    (tmp_path / "there").mkdir()
    (tmp_path / "broken.sf").write_bytes(b"PK\x03\x04 no archive")
    return tmp_path


MALFORMED = [
    ("fly", "No such command 'fly'"),
    ("train", "Missing argument"),
    ("train gridworld", "Missing option '--out'"),
    ("train moon --out x.sf", "SF-ARGUMENT-CHOICE: family "),
    ("train gridworld --out x.sf --tasks many", "'many' is not a valid integer"),
    ("train gridworld --out x.sf --tasks 1", "SF-ARGUMENT-RANGE: tasks "),
    ("train gridworld --out x.sf --cells 0", "SF-ARGUMENT-RANGE: cells "),
    ("train gridworld --out x.sf --policies 0", "SF-ARGUMENT-RANGE: policies "),
    ("train gridworld --out x.sf --holdout -1", "SF-ARGUMENT-RANGE: holdout "),
    ("train gridworld --out x.sf --delta 0", "SF-ARGUMENT-RANGE: delta "),
    ("train gridworld --out x.sf --delta 1.5", "SF-ARGUMENT-RANGE: delta "),
    ("train gridworld --out x.sf --seed -1", "SF-ARGUMENT-RANGE: seed "),
    ("train gridworld --out x.sf --workers 0", "SF-ARGUMENT-RANGE: workers "),
    ("train gridworld --out x.sf --fast", "No such option"),
    ("train gridworld --out there.sf", "SF-OUTPUT-EXISTS: out "),
    ("show", "Missing argument 'PATH'"),
    ("show nowhere.sf", "nowhere.sf"),
    ("show broken.sf", "broken.sf"),
    ("show there", "there"),
    ("show there.sf more", "Got unexpected extra argument (more)"),
    ("reproduce moonwalk --out x", "No such command 'moonwalk'"),
    ("reproduce gridworld", "Missing option '--out'"),
    ("reproduce gridworld --out x --episodes 0", "SF-ARGUMENT-RANGE: episodes "),
    ("reproduce gridworld --out x --agents nobody", "SF-ARGUMENT-CHOICE: agent "),
    ("reproduce gridworld --out x --agents oracle,oracle", "SF-ARGUMENT-DISTINCT: agents "),
    ("reproduce gridworld --out x --tasks fresh:0", "SF-ARGUMENT-SYNTAX: tasks "),
    ("reproduce gridworld --out x --tasks some", "SF-ARGUMENT-SYNTAX: tasks "),
    ("reproduce gridworld --out x --family moon", "'moon' is not one of 'truncated', 'published'"),
    ("reproduce gridworld --out there", "SF-OUTPUT-EXISTS: out "),
    ("validate", "Missing option '--out'"),
]


@pytest.mark.parametrize(("line", "message"), MALFORMED, ids=[line for line, _ in MALFORMED])
def test_a_malformed_command_line_exits_with_2_and_says_what_to_mend(
    line: str, message: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(line.split(), capsys)
    assert (found.status, found.out) == (2, "")
    assert message in found.err
    assert "Traceback" not in found.err
    assert sorted(p.name for p in files.iterdir()) == ["broken.sf", "there", "there.sf"]
    assert (files / "there.sf").read_bytes() == b"precious"


SMALL = "--episodes 20 --tasks fresh:1 --training-tasks 40 --cells 3 --policies 3 --no-figures --out x"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("--holdout 0 --agents robust-fixed:abc", 2, "SF-ARGUMENT-SYNTAX: robust-fixed "),
        ("--holdout 0 --agents safe-pce:fast", 2, "SF-ARGUMENT-CHOICE: preset of "),
        ("--holdout 0 --agents certified:hope", 2, "SF-ARGUMENT-SYNTAX: certified "),
        ("--holdout 0 --agents oracle:3", 2, "SF-ARGUMENT-SYNTAX: oracle "),
        ("--holdout 0 --agents certified:cells", 3, "SF-ASSUMPTION-COVERAGE: "),
        ("--holdout 20 --agents certified:cells", 3, "holdout=99 "),
    ],
)
def test_what_an_agent_refuses_reaches_the_user(
    line: str, status: int, message: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(["reproduce", "gridworld", *SMALL.split(), *line.split()], capsys)
    assert found.status == status
    assert message in found.err


@pytest.mark.slow
def test_training_reports_where_the_published_family_breaks_the_assumption(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run("train gridworld-published --tasks 40 --cells 3 --holdout 0 --out x.sf".split(), capsys)
    assert found.status == 0
    assert "noise=0.5: no policy is feasible" in found.out


def test_help_is_a_success_and_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(["--help"], capsys)
    assert found.status == 0
    assert all(f"  {name} " in found.out for name in COMMANDS)


def test_no_arguments_print_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    found = run([], capsys)
    assert "Usage: surefoot" in found.out + found.err


def test_help_of_every_command_imports_nothing_heavy() -> None:
    lines = [[], *([name] for name in COMMANDS), ["reproduce", "gridworld"]]
    code = (
        "import sys\nfrom surefoot.cli import main\n"
        f"for line in {lines}:\n    main([*line, '--help'])\n"
        f"print('heavy:', [m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith("heavy: []\n")
    assert result.stdout.count("Usage:") == len(lines)


def test_python_dash_m_is_the_same_command() -> None:
    result = subprocess.run([sys.executable, "-m", "surefoot", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("surefoot, version ")


def test_an_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("surefoot.cli.cli.main", interrupt)
    assert run([], capsys) == Run(130, "", "interrupted\n")


def test_a_bug_is_not_dressed_up_as_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("surefoot.cli.cli.main", fail)
    with pytest.raises(ZeroDivisionError):
        main([])
