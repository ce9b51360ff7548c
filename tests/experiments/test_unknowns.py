"""Every trust level against the number of unknown parameters, in small: what is written, what is counted, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.deploy.trace import Trace
from surefoot.errors import AssumptionError
from surefoot.experiments import looks as looks_module
from surefoot.experiments.comparison import fresh_tasks
from surefoot.experiments.unknowns import reproduce
from surefoot.experiments.unknowns import run as module
from surefoot.policyset.schema import PolicySet
from surefoot.training import pipeline
from tests.refusals import refused

SMALL: dict[str, Any] = {
    "unknowns": (1, 2), "tasks": 2, "episodes": 10, "plants": 12, "alpha": 0.4, "p_max": 0.3, "holdout": 30, "cells": (6, 2), "policies": 3,
    "training_tasks": 40, "seed": 3, "progress": False,
}  # fmt: skip
WORLD = sf.tasks.ZonedGridworld(zones=1)


def sizes(**changes: Any) -> module._Sizes:
    found = {**SMALL, "delta": 0.05, "delta_coverage": 0.05, "workers": 1} | changes
    del found["unknowns"]
    return module._Sizes(**found)


@pytest.mark.slow
def test_a_row_has_regret_against_each_tasks_own_optimum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "BELIEF_TASKS", 40)
    summary = reproduce(tmp_path / "run", **SMALL | {"unknowns": (1,)})
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    assert (summary["schema"], summary["experiment"], summary["levels"]) == (1, "unknowns", list(module.LEVELS))
    assert [row["unknowns"] for row in summary["rows"]] == [1]
    for row in summary["rows"]:
        family = WORLD
        models = [family.cmdp(p) for p in fresh_tasks(family, 2, 3)]
        given_up = [10 * (sf.solve(m).value - sf.evaluate(m, family.safe_policy()).reward) for m in models]
        np.testing.assert_allclose(row["never_adapting"], given_up, rtol=1e-9)
        # the first ten episodes are one batch; before it nothing is proved, so that all but a sliver is the safe policy's
        np.testing.assert_allclose(row["levels"]["data"]["regret"], given_up, rtol=5e-3)
        assert row["levels"]["data"]["violating_runs"] == 0
        chosen = [rung for rung in row["rehearsal"]["rungs"] if rung["accepted"]][-1]
        assert row["rehearsal"]["chosen"] == chosen["name"] and chosen["upper"] <= 0.4
    assert row["cells"][-1]["refused"] is None and row["cells"][-1]["upper"] <= 0.3


def test_an_interrupted_call_goes_on_and_no_other_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def row(family: Any, _: Any) -> dict[str, Any]:
        asked.append(family.zones)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"unknowns": family.zones}

    monkeypatch.setattr(module, "_row", row)
    with pytest.raises(KeyboardInterrupt):
        reproduce(tmp_path / "run", **SMALL)
    with refused("SF-OUTPUT-EXISTS", "run"):
        reproduce(tmp_path / "run", **SMALL | {"seed": 4})
    found = reproduce(tmp_path / "run", **SMALL)
    assert asked == [1, 2, 2], "what was finished is not done again"
    assert found["rows"] == [{"unknowns": 1}, {"unknowns": 2}]
    with refused("SF-OUTPUT-EXISTS", "run"):
        reproduce(tmp_path / "run", **SMALL)
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == found


def test_numbers_of_cells_are_looks_that_hand_on_what_was_seen(
    gridworld_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first number fails at training, the second at its hold-out, the third passes; the fourth is not tried."""
    made: list[Any] = []
    seen: list[tuple[int, Any]] = []

    def train(family: Any, *, cells: int, previous: Any, **_: Any) -> Any:
        seen.append((cells, previous))
        if cells == 9:
            raise AssumptionError("none feasible")
        made.append(SimpleNamespace(certificate=gridworld_set.certificate, safe_margin=0.1, criterion=WORLD.criterion))
        return made[-1]

    def check(policy_set: Any, p_max: float, delta: float) -> None:
        assert (p_max, delta) == (0.3, 0.05)
        if policy_set is made[0]:
            raise AssumptionError("uncovered")

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(looks_module, "check_certificate", check)
    found, looks = module._cells(WORLD, sizes(cells=(9, 7, 5, 3)))
    assert found is made[1]
    assert seen == [(9, None), (7, None), (5, made[0])]
    assert [(look["cells"], look["refused"]) for look in looks] == [(9, "none feasible"), (7, "uncovered"), (5, None)]


@pytest.mark.slow
def test_an_earlier_look_is_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two looks through real trainings: the second pays half of the first."""
    monkeypatch.setattr(looks_module, "check_certificate", lambda *_: (_ for _ in ()).throw(AssumptionError("no")))
    kept: list[PolicySet] = []
    real = module.train
    monkeypatch.setattr(module, "train", lambda *a, **k: kept.append(real(*a, **k)) or kept[-1])  # type: ignore[func-returns-value]
    found, looks = module._cells(WORLD, sizes(cells=(4, 2), training_tasks=12))
    assert found is None and len(looks) == 2
    assert [p.attempt for p in kept] == [1, 2]


@pytest.mark.parametrize(("excess", "violates"), [(0.25, True), (0.0, False), (-0.25, False)])
def test_a_run_violates_when_some_mixture_costs_more_than_the_limit(
    excess: float, violates: bool, gridworld_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = np.array([[1.0], [1.5 + excess]])
    made_up = Trace(np.array([4, 10]), np.array([50.0, 52.0]), costs, np.zeros(2), 0.5, 0.0)
    monkeypatch.setattr(module, "play", lambda *_, **__: made_up)
    regret, bad, worst, seconds = module._play(WORLD, gridworld_set, "data", None, sizes(), 0, np.array([0.3]), 53.0)
    assert (regret, bad, seconds) == (4 * 3.0 + 6 * 1.0, violates, 0.5)
    assert worst == pytest.approx(max(excess, -0.5))


@pytest.mark.parametrize(
    ("changes", "code", "names"),
    [
        ({"unknowns": ()}, "SF-ARGUMENT-ORDER", ("unknowns",)),
        ({"unknowns": (2, 1)}, "SF-ARGUMENT-ORDER", ("unknowns",)),
        ({"unknowns": (0, 1)}, "SF-ARGUMENT-RANGE", ("unknowns", "0")),
        ({"unknowns": (1, 50)}, "SF-ARGUMENT-RANGE", ("unknowns", "50")),
        ({"cells": (4, 8)}, "SF-ARGUMENT-ORDER", ("cells",)),
        ({"cells": (4, 1)}, "SF-ARGUMENT-RANGE", ("cells", "1")),
        ({"tasks": 0}, "SF-ARGUMENT-RANGE", ("tasks", "0")),
        ({"episodes": 0}, "SF-ARGUMENT-RANGE", ("episodes", "0")),
        ({"workers": 0}, "SF-ARGUMENT-RANGE", ("workers", "0")),
        ({"training_tasks": 1}, "SF-ARGUMENT-RANGE", ("training_tasks", "1")),
        ({"delta": 1.0}, "SF-ARGUMENT-RANGE", ("delta", "1")),
        ({"p_max": 0.0}, "SF-ARGUMENT-RANGE", ("p_max", "0")),
        # the first look at a rehearsal pays .025: (1 - .05)^m <= .025 from 72 plants on; at a hold-out .0125: from 86 tasks on
        ({"alpha": 0.05, "plants": 71}, "SF-ARGUMENT-RANGE", ("plants", "72", "71")),
        ({"p_max": 0.05, "holdout": 85}, "SF-TRAINING-HOLDOUT", ("holdout", "86", "85")),
    ],
)
def test_what_could_not_end_well_is_refused_before_anything_is_made(
    changes: dict[str, Any], code: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    with refused(code, *names):
        reproduce(tmp_path / "run", **SMALL | changes)
    assert not (tmp_path / "run").exists()
