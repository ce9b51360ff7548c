"""``surefoot rehearse``: from a policy set to a certificate, in a file and in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import surefoot as sf
from tests.cli.running import run
from tests.rehearsal.test_lockstep import believing_set

SMALL = "rehearse set.sf --family gridworld --episodes 30 --plants 80 --ladder 4,3 --out new.sf".split()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    believing_set().save(tmp_path / "set.sf")
    return tmp_path


def test_the_file_carries_the_certificate_and_can_be_deployed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run([*SMALL, "--json"], capsys)
    assert done.status == 0, done.err
    told = json.loads(done.out)
    found = sf.PolicySet.load(folder / "new.sf")
    assert found.rehearsed is not None and found.rehearsed.judged == told["certificate"]["judged"]
    assert found.rehearsed.chosen == told["certificate"]["chosen"] >= 0
    sf.CertifiedAgent(found, trust="rehearsed").ask()
    again = run([*SMALL, "--json"], capsys)
    assert again.status == 2 and "new.sf" in again.out + again.err


def test_words_name_the_rungs_and_the_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--batch", "10", "--delay", "5", "--lost", "0.05", "--figure", "r.png", "--page", "r.html"]
    done = run([*SMALL, *more], capsys)
    assert done.status == 0
    assert (folder / "r.png").read_bytes()[:4] == b"\x89PNG" and "80 rehearsals" in (folder / "r.html").read_text()
    for word in ("80 rehearsals", "10 episodes at a time", "at most 5 episodes later", "5%", "worst excess"):
        assert word in done.out
    found = sf.PolicySet.load(folder / "new.sf").rehearsed
    assert found is not None and found.protocol == sf.Protocol(batch=10, delay=5, lost=0.05)


def test_no_rung_is_said_and_leaves_with_the_status_of_a_refused_certificate(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run([*SMALL, "--plants", "10"], capsys)
    assert done.status == 3 and "Do not deploy" in done.out
    assert sf.PolicySet.load(folder / "new.sf").rehearsed is not None


def test_a_belief_is_learned_first_where_there_is_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import replace

    replace(believing_set(), beliefs={}).save(folder / "bare.sf")
    words = "rehearse bare.sf --family gridworld --episodes 20 --plants 74 --ladder 4 --belief-tasks 60 --out new.sf"
    done = run(words.split(), capsys)
    assert done.status == 0 and "belief" in done.err
    assert set(sf.PolicySet.load(folder / "new.sf").beliefs) == {"all"}


def test_looks_are_counted_over_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(SMALL, capsys).status == 0
    second = "rehearse new.sf --family gridworld --episodes 20 --plants 5 --ladder 4 --out second.sf".split()
    assert run(second, capsys).status == 3
    third = "rehearse set.sf --family gridworld --episodes 20 --plants 5 --ladder 4 --previous second.sf --out third.sf".split()
    assert run(third, capsys).status == 3
    found = sf.PolicySet.load(folder / "third.sf")
    assert found.rehearsed is not None and found.rehearsed.attempt == 3


def test_a_family_of_ones_own_is_named_by_module(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine_to_rehearse.py").write_text(
        "from surefoot.tasks import NoisyGridworld\nFAMILY = NoisyGridworld()\nMade = NoisyGridworld\n"
    )
    for k, name in enumerate(("mine_to_rehearse:FAMILY", "mine_to_rehearse:Made")):
        words = [
            "rehearse",
            "set.sf",
            "--family",
            name,
            "--episodes",
            "10",
            "--plants",
            "74",
            "--ladder",
            "4",
            "--out",
            f"{k}.sf",
        ]
        assert run(words, capsys).status == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--family", "nothing"], "nothing"),
        (["--family", "nowhere:at_all"], "nowhere"),
        (["--family", "json:dumps"], "family"),
        (["--ladder", "3,x"], "ladder"),
        (["--ladder", "3,4"], "ladder"),
        (["--lost", "2"], "lost"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], named: str) -> None:
    done = run([*SMALL, *words], capsys)
    assert done.status == 2 and named in done.err and not (folder / "new.sf").exists()


def test_other_families_can_be_trained_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "train zoned-gridworld:2 --tasks 20 --holdout 0 --cells 3 --policies 2 --lenient --out zoned.sf".split()
    assert run(words, capsys).status == 0
    assert sf.PolicySet.load(folder / "zoned.sf").training.parameter_names == ("noise 1", "noise 2")


def test_an_interrupted_rehearsal_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run([*SMALL, "--json"], capsys)
    assert not (folder / "new.sf.unfinished").exists()
    (folder / "new.sf").rename(folder / "whole.sf")
    saved = sf.PolicySet.save

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sf.PolicySet, "save", stop)  # all runs are done by then
    assert run(SMALL, capsys).status == 130
    assert any((folder / "new.sf.unfinished").glob("*.npz"))
    monkeypatch.setattr(sf.PolicySet, "save", saved)
    monkeypatch.setattr("surefoot.rehearsal.core.iter_tasks", lambda work, calls, **how: [stop() for _ in calls])
    again, first = (json.loads(done.out) | {"seconds": 0} for done in (run([*SMALL, "--json"], capsys), whole))
    assert again == first
    assert sf.PolicySet.load(folder / "new.sf").hash == sf.PolicySet.load(folder / "whole.sf").hash
