"""``cells="auto"``: the number of cells that training tasks support."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.cli import main
from surefoot.stats.binomial import clopper_pearson_upper
from surefoot.training import choice
from surefoot.training.choice import CellsChoice, choose_cells, folds
from tests.refusals import refused
from tests.training.families import Arm, ArmOptimum

LEVEL = 0.0125


def chosen(misses: Any, *, tasks: int = 400, holdout: int = 400, p_max: float = 0.05) -> CellsChoice:
    return choose_cells(
        misses, tasks=tasks, holdout=holdout, level=LEVEL, p_max=p_max,
        upper=lambda k: clopper_pearson_upper(k, holdout, LEVEL),
    )  # fmt: skip


def test_the_largest_number_with_a_fair_chance_is_taken() -> None:
    # 133, 66, 33, 16, 8 fail, 4 passes; 6 lies between.
    found = chosen(lambda n: n)
    assert [row[0] for row in found.tried] == [4, 6, 8, 16, 33, 66, 133]
    chances = {n: chance for n, _, chance in found.tried}
    assert found.cells == max(n for n, chance in chances.items() if chance >= choice.CHANCE) == 4
    assert list(chances.values()) == sorted(chances.values(), reverse=True)
    assert chosen(lambda n: 0).cells == 133, "where everything is covered there is no reason for fewer"


def test_the_chance_is_that_of_passing_with_one_standard_error_more() -> None:
    found = chosen(lambda n: 4)
    rng, share = np.random.default_rng(0), (4 + 5**0.5) / 400
    limits = np.array([clopper_pearson_upper(k, 400, LEVEL) for k in range(401)])
    passes = (limits[rng.binomial(400, share, 20_000)] <= 0.05).mean()
    assert found.tried[-1][2] == pytest.approx(passes, abs=0.02)


def test_a_hopeless_choice_is_refused_before_the_hold_out() -> None:
    with refused("SF-ASSUMPTION-CELLS", "1", "80", "2", "80", "800"):
        chosen(lambda n: 80)
    with refused("SF-TRAINING-HOLDOUT", "holdout", "86", "0.05", "0.0125", "50"):
        chosen(lambda n: 0, holdout=50)


def test_a_doubtful_choice_is_better_than_none() -> None:
    found = chosen(lambda n: 6 if n == 1 else 8)
    assert choice.HOPELESS <= found.tried[0][2] < choice.CHANCE and found.cells == 1


def test_states_leave_out_every_task_once() -> None:
    assert sorted(itertools.chain.from_iterable(f.tolist() for f in folds(10))) == list(range(10))
    assert len(folds(3)) == 3


class Given(Arm):
    """The arm, with tasks from a list: those of the first sample, then those of the hold-out."""

    def __init__(self, *samples: np.ndarray) -> None:
        super().__init__()
        self._samples = list(samples)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self._samples.pop(0)


SAFE = np.array([[0.9, 0.1]])
OPTIONS: dict[str, Any] = {"optimal": ArmOptimum(), "safe_policy": SAFE, "strict": False, "progress": False}


def auto(**changes: Any) -> sf.PolicySet:
    return sf.train(
        Arm(),
        **(OPTIONS | {"tasks": 60, "holdout": 200, "cells": "auto", "policies": 4, "seed": 3, "p_max": 0.1} | changes),
    )


def test_misses_are_those_of_training_on_the_other_folds() -> None:
    """Each fold again through the front door: the others as training tasks, the fold as hold-out."""
    tried = {row["cells"]: row["missed"] for row in auto().extra["cells"]["tried"]}
    tasks = np.asarray(Arm().sample(60, np.random.default_rng(np.random.SeedSequence(3).spawn(1)[0])))
    assert len(tried) >= 1
    for cells, missed in tried.items():
        total = 0
        for out in folds(60):
            kept = np.setdiff1d(np.arange(60), out)
            made = sf.train(Given(tasks[kept], tasks[out]), tasks=45, holdout=15, cells=cells, policies=4, **OPTIONS)
            assert made.certificate is not None
            total += made.certificate.uncovered
        assert total == missed


def test_the_choice_never_reads_the_hold_out(monkeypatch: pytest.MonkeyPatch) -> None:
    first = auto()
    assert len(first.cells) <= first.extra["cells"]["cells"] and auto().extra == first.extra
    monkeypatch.setattr("surefoot.training.holdout.holdout_stream", lambda *_: np.random.default_rng(99))
    assert auto().extra == first.extra
    again = auto(previous=first)
    assert again.extra["cells"]["level"] == first.extra["cells"]["level"] / 2, "the next look pays less"


def test_the_chosen_number_is_the_one_that_is_made() -> None:
    found = auto()
    other = sf.train(
        Arm(), **OPTIONS, tasks=60, holdout=200, cells=found.extra["cells"]["cells"], policies=4, seed=3
    )  # fmt: skip
    np.testing.assert_array_equal(found.cells.predictions.cost_upper, other.cells.predictions.cost_upper)
    assert other.extra == {}


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"cells": "many"}, ("SF-ARGUMENT-CHOICE", "cells", "1", '"auto"', "'many'")),
        ({"holdout": 0}, ("SF-TRAINING-HOLDOUT", "holdout", "1", '"auto"', "0")),
        ({"radius": 0.1}, ("SF-ARGUMENT-COMBINATION", "cells", '"auto"')),
        ({"p_max": 0.0}, ("SF-ARGUMENT-RANGE", "p_max", "(0, 1)", "0")),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        auto(**changes)


@pytest.mark.slow
def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "set.sf"
    main(
        ["train", "gridworld", "--cells", "auto", "--tasks", "40", "--holdout", "120", "--policies", "3", "--p-max", "0.1", "--out", str(out)]
    )  # fmt: skip
    found = sf.PolicySet.load(out)
    assert found.extra["cells"]["p_max"] == 0.1 and len(found.cells) <= found.extra["cells"]["cells"]
    assert "chosen on the training tasks for p_max 0.1; of 40 left out once each" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["train", "gridworld", "--cells", "many", "--out", str(tmp_path / "other.sf")])
    assert "cells must be a number >= 1 or" in capsys.readouterr().err
