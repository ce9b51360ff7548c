"""``surefoot validate`` as typed: exit status, files, messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from surefoot.cli import main
from tests.experiments.validation_worlds import small_set, with_mutants


@pytest.fixture(scope="module")
def policy_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sets") / "small.sf"
    small_set().save(path)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    status = 0
    try:
        main(["validate", *map(str, arguments)])
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err


SMALL = ("--runs", 3, "--episodes", 60, "--calibration-runs", 0, "--scenarios", "family")


def test_help_documents_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--help")
    assert status == 0
    assert "0 when every judged row and every calibration passes, 4 when one" in " ".join(out.split())
    assert {"--agent", "--family", "--runs", "--episodes", "--delta", "--seed", "--workers", "--out", "--json"} <= set(
        out.split()
    )


def test_a_sound_agent_exits_with_zero_and_leaves_log_and_figure(
    capsys: pytest.CaptureFixture[str], policy_set: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    status, said, _ = run(capsys, "--agent", "certified:data", "--policy-set", policy_set, *SMALL, "--out", out)
    assert status == 0
    assert "certified:data" in said and "all judged rows pass" in said
    assert {p.name for p in out.iterdir()} == {"validation.json", "validation.png"}


def test_a_broken_agent_exits_with_four_and_json_is_the_file(
    capsys: pytest.CaptureFixture[str], policy_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_mutants(monkeypatch)
    out = tmp_path / "out"
    status, said, _ = run(
        capsys, "--agent", "halving:data", "--policy-set", policy_set, *SMALL, "--json", "--no-figures", "--out", out
    )
    assert status == 4
    assert json.loads(said) == json.loads((out / "validation.json").read_text())
    assert {p.name for p in out.iterdir()} == {"validation.json"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scenarios", "family,moon"), "SF-ARGUMENT-CHOICE: scenarios "),
        (("--agent", "sage"), "SF-ARGUMENT-CHOICE: agent "),
        (("--runs", "0"), "SF-ARGUMENT-RANGE: runs "),
        (("--family", "moon"), "SF-ARGUMENT-CHOICE: family "),
        (("--policy-set", "nowhere.sf"), "nowhere.sf"),
    ],
)
def test_mistakes_exit_with_two_and_say_how_to_mend_them(
    capsys: pytest.CaptureFixture[str], policy_set: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    out = tmp_path / "out"
    status, _, err = run(capsys, "--policy-set", policy_set, *SMALL, "--no-figures", "--out", out, *arguments)
    assert (status, message in err, out.exists()) == (2, True, False)
