"""The certificate of a rehearsal: what it must satisfy, and its way through a file."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

import surefoot as sf
from surefoot.policyset.rehearsed import RehearsalLook, Rehearsed, RungRecord, Slice, SpeedStatement
from surefoot.protocol import Protocol
from surefoot.tasks import NoisyGridworld
from tests.refusals import refused


def record(name: str, violating: int, accepted: bool, upper: float) -> RungRecord:
    return RungRecord(
        name, 3.0, 500, violating, upper, accepted, True, 2500.0, (1.0, 2.0, 3.0, 4.0, 5.0), 20000.0, 0.03
    )


def certificate(**changes: Any) -> Rehearsed:
    values: dict[str, Any] = {
        "family": "gridworld",
        "judged": "abc",
        "library": "def",
        "seed": 0,
        "attempt": 1,
        "alpha": 0.05,
        "delta_coverage": 0.05,
        "share": 0.025,
        "plants": 500,
        "episodes": 10_000,
        "evidence": "all",
        "protocol": Protocol(
            batch=10, delay=[(0, 0.75), (20, 0.25)], lost=0.01, lost_if_costly=(2.0, 0.1), history=50, exposure=0.5
        ),
        "rungs": (record("4", 2, True, 0.014), record("3", 14, True, 0.047), record("2", 60, False, 0.15)),
        "chosen": 1,
        "upper": 0.047,
        "judging_error": 0.0,
        "surprise": math.inf,
        "surprise_alarm": 0.01,
        "slices": (Slice("noise", 0.2, 0.25, 100, 4, 0.09),),
        "speed": (
            SpeedStatement("episodes", "quantile", 0.9, math.inf, 0.01),
            SpeedStatement("regret", "mean", 0.0, 2600.0, 0.01),
        ),
    }
    return Rehearsed(**{**values, **changes})


def test_a_certificate_says_what_a_plant_owner_has_to_know() -> None:
    found = certificate()
    assert found.rung is not None and found.rung.name == "3"
    assert found.density_ratio == pytest.approx(0.05 / 0.047)
    for words in ("500 rehearsals", "14 broke the limit", "0.03", "97.5%", "4.7%", "10 episodes at a time"):
        assert words in found.text
    nothing = certificate(rungs=(record("4", 60, False, 0.15),), chosen=-1, upper=1.0)
    assert nothing.rung is None and "Do not deploy" in nothing.text


def test_it_comes_back_from_its_file_and_leaves_older_files_alone(tmp_path: Any) -> None:
    bare = sf.train(NoisyGridworld(), tasks=20, holdout=0, cells=3, seed=1, progress=False)
    look = RehearsalLook("def", 124, (0, 3), 0.05)
    found = replace(bare, rehearsed=certificate(attempt=2, share=0.0125), rehearsal_looks=(look,))
    assert found.hash != bare.hash
    found.save(tmp_path / "set.sf")
    again = sf.PolicySet.load(tmp_path / "set.sf")
    assert again.rehearsed == found.rehearsed and again.rehearsal_looks == (look,)
    assert again.hash == found.hash
    assert replace(again, rehearsed=None, rehearsal_looks=()).hash == bare.hash


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"chosen": 2}, "SF-ARGUMENT-RANGE", "chosen"),
        ({"rungs": (record("4", 2, False, 0.01), record("3", 2, True, 0.01))}, "SF-ARGUMENT-RANGE", "rungs"),
        ({"share": 0.05}, "SF-ARGUMENT-RANGE", "share"),
        ({"upper": 0.01}, "SF-ARGUMENT-RANGE", "upper"),
        ({"alpha": 0.04}, "SF-ARGUMENT-RANGE", "upper"),
        ({"plants": 499}, "SF-ARGUMENT-RANGE", "plants"),
        ({"surprise": math.nan}, "SF-ARGUMENT-RANGE", "surprise"),
        ({"evidence": "some"}, "SF-ARGUMENT-RANGE", "evidence"),
    ],
)
def test_a_certificate_that_contradicts_itself_is_refused(changes: dict[str, Any], code: str, word: str) -> None:
    with refused(code, word):
        certificate(**changes)


@pytest.mark.parametrize(
    ("values", "code", "word"),
    [
        ({"batch": 0}, "SF-ARGUMENT-RANGE", "batch"),
        ({"delay": -1}, "SF-ARGUMENT-RANGE", "delay"),
        ({"delay": [(0, 0.5)]}, "SF-ARGUMENT-SIMPLEX", "delay"),
        ({"delay": [0, 1]}, "SF-ARGUMENT-TYPE", "delay"),
        ({"lost": 1.0}, "SF-ARGUMENT-RANGE", "lost"),
        ({"exposure": 1.5}, "SF-ARGUMENT-RANGE", "exposure"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(values: dict[str, Any], code: str, word: str) -> None:
    with refused(code, word):
        Protocol(**values)


def test_a_protocol_knows_its_extremes() -> None:
    found = Protocol(delay=[(0, 0.75), (20, 0.25)], lost=0.1, lost_if_costly=(2.0, 0.5))
    assert found.longest_delay == 20 and found.largest_loss == pytest.approx(0.55)
    assert Protocol.of(found.data()) == found and Protocol() == Protocol(delay=0)
