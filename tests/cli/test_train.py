"""``surefoot train`` and ``surefoot show``: from a command to a file to words, the same for the same seed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import surefoot as sf
from tests.cli.running import run
from tests.journal.rehearsed import rehearsed_set, rehearsing

TINY = "train gridworld --tasks 40 --holdout 20 --cells 3 --policies 2 --seed 7".split()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_writes_a_file_and_describes_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = run([*TINY, "--out", "a.sf", "--json"], capsys)
    assert trained.status == 0
    described = json.loads(trained.out)
    policy_set = sf.PolicySet.load(folder / "a.sf")
    assert described["hash"] == policy_set.hash
    assert described["seed"] == 7
    assert described["sizes"]["cells"] == len(policy_set.cells) <= 3
    assert described["sizes"]["policies"] == len(policy_set.policies) <= 3
    assert described["training"]["tasks_sampled"] == 40
    assert described["certificate"]["holdout"] == 20
    # What show prints about the file is what train printed.
    assert json.loads(run(["show", "a.sf", "--json"], capsys).out) == described


@pytest.mark.slow
def test_same_seed_same_bytes_and_another_seed_another_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, more in (("a.sf", []), ("b.sf", []), ("c.sf", ["--seed", "8"])):
        assert run([*TINY, *more, "--out", name], capsys).status == 0
    first, second, other = ((folder / name).read_bytes() for name in ("a.sf", "b.sf", "c.sf"))
    assert first == second
    assert first != other


def test_show_says_in_words_what_is_known(
    folder: Path, gridworld_set: sf.PolicySet, capsys: pytest.CaptureFixture[str]
) -> None:
    gridworld_set.save(folder / "a.sf")
    shown = run(["show", "a.sf"], capsys)
    certificate = gridworld_set.certificate
    assert shown.status == 0
    assert certificate is not None
    for words in (
        "policy set for gridworld (truncated)",
        gridworld_set.hash,
        "limits cost <= 1.5",
        f"{certificate.uncovered} of 60 fresh tasks in no cell: at most {certificate.uncovered_upper:.2%}",
        "One policy keeps a margin of",
    ):
        assert words in shown.out
    rows = [line for line in shown.out.splitlines() if line.strip()[:1].isdigit()]
    assert len(rows) == len(gridworld_set.cells)


def test_a_set_without_hold_out_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = run([*TINY, "--holdout", "0", "--out", "a.sf"], capsys)
    assert "none: no hold-out was drawn" in trained.out


def test_a_file_with_one_flipped_byte_is_refused(
    folder: Path, gridworld_set: sf.PolicySet, capsys: pytest.CaptureFixture[str]
) -> None:
    gridworld_set.save(folder / "a.sf")
    data = bytearray((folder / "a.sf").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "a.sf").write_bytes(data)
    shown = run(["show", "a.sf"], capsys)
    assert (shown.status, shown.out) == (2, "")
    assert shown.err.startswith("error SF-POLICYSET-")


def test_show_tells_what_a_rehearsal_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy_set = rehearsed_set("returns", rehearsing())
    policy_set.save(folder / "a.sf")
    shown = run(["show", "a.sf"], capsys)
    for words in (
        "belief       all: 2 latents, from 40 tasks",
        "look 1: 500 rehearsals",
        "14 broke the limit",
        "At least 90% of plants",
    ):
        assert words in shown.out
    certificate = policy_set.rehearsed
    assert certificate is not None
    replace(policy_set, rehearsed=None, rehearsal_looks=(certificate.look,)).save(folder / "b.sf")
    assert "1 were looked at before" in run(["show", "b.sf"], capsys).out


def test_show_says_in_words_what_can_be_deployed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden = Path(__file__).parents[1] / "golden" / "policyset-v2.sf"
    said = run(["show", str(golden)], capsys).out
    assert "In words: the safe policy and 1 other policy" in said and "cells      yes" in said
    bare = sf.train(sf.tasks.NoisyGridworld(), tasks=12, holdout=0, cells=1, policies=2, progress=False)
    bare.save(tmp_path / "bare.sf")
    said = run(["show", str(tmp_path / "bare.sf")], capsys).out
    assert "cells      no: trust='cells' needs" in said and "data       yes" in said
