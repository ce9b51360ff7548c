"""Forecasts: against real deployments, quantiles with runs that never get there, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.experiments.runner import play
from surefoot.planning import forecast as module
from surefoot.planning.forecast import ForecastSettings, forecast, render_forecast
from tests.journal.rehearsed import rehearsed_set, rehearsing
from tests.refusals import refused

FAMILY = sf.tasks.NoisyGridworld()
SMALL = ForecastSettings(runs=8, episodes=1500, eps=0.2, seed=3)


@pytest.fixture(scope="module")
def found(deploy_set: sf.PolicySet) -> dict[str, Any]:
    return forecast(deploy_set, settings=SMALL, progress=False)


@pytest.mark.slow
def test_a_forecast_is_what_real_deployments_take(deploy_set: sf.PolicySet, found: dict[str, Any]) -> None:
    """The true tasks are those at the centres of the cells, which the forecast never saw."""
    cells, took = deploy_set.cells, []
    for run in found["trust"]["cells"]["runs"]:
        task = FAMILY.cmdp(cells.parameters[run["cell"]])
        safe, best = sf.evaluate(task, deploy_set.policies[0]).reward, sf.solve(task).value_or_raise().value
        trace = play(sf.CertifiedAgent(deploy_set, seed=run["cell"]), task, SMALL.episodes, 9)
        there = trace.reward >= best - SMALL.eps * (best - safe)
        took.append(int(np.concatenate([[0], trace.ends])[there.argmax()]) if there.any() else None)
    real, promised = module._quantiles(took), found["trust"]["cells"]["optimal"]
    assert abs(real["reached"] - promised["reached"]) <= 0.4
    assert real["median"] / 3 <= promised["median"] <= 3 * real["median"]


def test_more_trust_is_faster(found: dict[str, Any]) -> None:
    reached = [found["trust"][level]["optimal"]["reached"] for level in ("cells", "envelope", "data")]
    assert reached[0] > reached[2]
    assert reached == sorted(reached, reverse=True)


def test_every_cell_is_the_truth_equally_often(deploy_set: sf.PolicySet) -> None:
    n = len(deploy_set.cells)
    counts = np.bincount(module._truths(deploy_set, ForecastSettings(runs=2 * n + 7)), minlength=n)
    assert set(counts.tolist()) == {2, 3}


def test_what_lies_beyond_the_horizon_is_said_to_lie_there(deploy_set: sf.PolicySet) -> None:
    short = forecast(deploy_set, ("data",), ForecastSettings(runs=3, episodes=40), progress=False)
    row = short["trust"]["data"]
    assert row["half"] == {"low": None, "median": None, "high": None, "reached": 0.0}
    assert row["optimal"]["reached"] == 0.0
    assert row["gained"] == pytest.approx(0.0, abs=0.02)
    text = " ".join(render_forecast(short).split())
    assert ">40" in text
    assert "data: after 40 episodes the median deployment has made " in text


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ([5, 1, 3, 2, 4, 6, 7, 8, 9, 10], {"low": 1, "median": 5, "high": 9, "reached": 1.0}),
        ([None, 7, None, 3], {"low": 3, "median": 7, "high": None, "reached": 0.5}),
        ([0], {"low": 0, "median": 0, "high": 0, "reached": 1.0}),
    ],
)
def test_quantiles_with_runs_that_never_got_there(counts: list[int | None], wanted: dict[str, Any]) -> None:
    assert module._quantiles(counts) == wanted


@pytest.mark.slow
def test_the_result_does_not_depend_on_the_number_of_workers(deploy_set: sf.PolicySet) -> None:
    settings = replace(SMALL, runs=5, episodes=60)
    one, two = (forecast(deploy_set, ("cells", "data"), settings, workers=w, progress=False) for w in (1, 2))
    assert one == two
    assert json.loads(json.dumps(one, allow_nan=False)) == one


def test_a_refused_trust_level_is_listed_with_its_reason(deploy_set: sf.PolicySet) -> None:
    bare = replace(deploy_set, certificate=None)
    result = forecast(bare, ("cells", "data"), replace(SMALL, runs=1, episodes=20), progress=False)
    assert "no hold-out" in result["trust"]["cells"]["refused"]
    assert result["trust"]["data"]["refused"] is None
    assert "refused: trust='cells' needs" in render_forecast(result)


def test_a_rehearsed_level_is_forecast_by_its_rehearsal() -> None:
    policy_set = rehearsed_set("returns", rehearsing())
    settings = replace(SMALL, runs=1, episodes=20)
    result = forecast(policy_set, ("data", "rehearsed"), settings, progress=False)
    assert result["trust"]["data"]["runs"] and any(
        "40 episodes" in s for s in result["trust"]["rehearsed"]["statements"]
    )
    text = " ".join(render_forecast(result).split())
    assert "rehearsed, from its rehearsal: At least 90% of plants" in text
    bare = forecast(replace(policy_set, rehearsed=None), ("rehearsed",), settings, progress=False)
    assert "was rehearsed" in bare["trust"]["rehearsed"]["refused"]
    assert "rehearsed refused:" in render_forecast(bare)


def test_without_transitions_the_forecast_says_so(deploy_set: sf.PolicySet) -> None:
    settings = replace(SMALL, runs=2, episodes=200, evidence="returns")
    result = forecast(deploy_set, ("cells",), settings, progress=False)
    assert not result["transitions"]
    assert "The plant reports returns and costs, no transitions." in render_forecast(result)


def test_the_text_names_its_assumptions(found: dict[str, Any]) -> None:
    text = " ".join(render_forecast(found).split())
    assert "kernels are those at the centres of cells" in text
    assert "within 20% of the optimum" in text
    assert "A forecast, not a promise" in text


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda s: forecast(s, ("moon",)), ("SF-ARGUMENT-CHOICE", "trust", "cells, envelope, data, rehearsed", "moon")),
        (lambda s: forecast(s, ()), ("SF-ARGUMENT-DISTINCT", "trust")),
        (lambda s: forecast(s, ("data", "data")), ("SF-ARGUMENT-DISTINCT", "trust")),
        (lambda s: forecast(s, workers=0), ("SF-ARGUMENT-RANGE", "workers", "1")),
        (lambda s: ForecastSettings(runs=0), ("SF-ARGUMENT-RANGE", "runs", "1")),
        (lambda s: ForecastSettings(eps=1.0), ("SF-ARGUMENT-RANGE", "eps", "(0, 1)")),
        (lambda s: forecast(s, ("data",), ForecastSettings(delta=2.0)), ("SF-ARGUMENT-RANGE", "delta")),
    ],
)
def test_wrong_arguments_are_refused(deploy_set: sf.PolicySet, call: Any, refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        call(deploy_set)


def test_logged_episodes_make_it_quicker(deploy_set: sf.PolicySet) -> None:
    """The ramp is over before the first episode, and what to aim at is known."""
    bare = ForecastSettings(runs=3, episodes=200, ramp=100, seed=3)
    slow, quick = (forecast(deploy_set, ("cells",), replace(bare, history=n), progress=False) for n in (0, 300))
    assert all(run["half"] is None or run["half"] >= 100 for run in slow["trust"]["cells"]["runs"])
    assert any(run["half"] is not None and run["half"] < 100 for run in quick["trust"]["cells"]["runs"])
    assert "300 logged episodes" in render_forecast(quick) and "logged" not in render_forecast(slow)
    with refused("SF-ARGUMENT-RANGE", "history"):
        ForecastSettings(history=-1)
