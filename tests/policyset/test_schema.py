"""What no policy set may contain, each with the message that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surefoot.errors import InvalidInput
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import (
    AssumptionReport,
    Certificate,
    ConditionalPredictions,
    EpisodeBounds,
    KernelBoxes,
    PolicySet,
    Predictions,
    SignalPredictions,
    TrainingReport,
)
from tests.strategies import random_policy_set

SUPPORT = [[0, 0, 0], [0, 0, 1], [1, 0, 1]]
ONES = np.ones((1, 1))


def full(**changes: Any) -> PolicySet:
    rng = np.random.default_rng(5)
    return random_policy_set(rng, conditional=True, kernel=True, signals=1, **changes)


def kernel(**changes: Any) -> KernelBoxes:
    boxes = {"support": SUPPORT, "lower": [[0, 0.25, 1]], "upper": [[0.5, 1, 1]], "center": [[0.5, 0.5, 1]]}
    return KernelBoxes(**(boxes | changes))


def outside(**changes: Any) -> PolicySet:
    """A set with tasks outside, some of whose arrays are replaced."""
    policy_set = full(outside=1)
    assert policy_set.cells.outside is not None
    cells = replace(policy_set.cells, outside=replace(policy_set.cells.outside, **changes))
    return replace(policy_set, cells=cells)


def report(**changes: Any) -> TrainingReport:
    fields = {"family": "f", "parameter_names": ("a",), "oracle": "o", "radius": 0.1, "tasks_sampled": 5, "rounds": 1}
    return TrainingReport(**({**fields, "uncovered_fraction": 0.0, "level": 0.1} | changes))


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "crossed costs": (
        lambda: Predictions(ONES, ONES, ONES[..., None] + 1.0, ONES[..., None], ONES, ONES[..., None]),
        "cost_lower[0, 0, 0] must not exceed cost_upper, got 2 > 1; swap them",
    ),
    "states repeat": (
        lambda: ConditionalPredictions([1, 1], *[np.ones((1, 1, 2))] * 2, *[np.ones((1, 1, 1, 2))] * 2),
        "initial_states must increase strictly, got [1, 1]",
    ),
    "state too large to be exact": (
        lambda: ConditionalPredictions([1e300], *[np.ones((1, 1, 1))] * 2, *[np.ones((1, 1, 1, 1))] * 2),
        "initial_states[0] must be a whole number in [0, 9007199254740992), got 1e+300",
    ),
    "fractional state": (
        lambda: ConditionalPredictions([0.5], *[np.ones((1, 1, 1))] * 2, *[np.ones((1, 1, 1, 1))] * 2),
        "initial_states[0] must be a whole number in [0, 9007199254740992), got 0.5",
    ),
    "signal names repeat": (
        lambda: SignalPredictions(("a", "a"), [[0, 1]] * 2, np.ones((1, 1, 2)), np.ones((1, 1, 2))),
        "signal names[1] must be non-empty and new, got 'a'",
    ),
    "one string for names": (
        lambda: SignalPredictions("a", [[0, 1]], np.ones((1, 1, 1)), np.ones((1, 1, 1))),
        "signal names must be a tuple of strings, got one string",
    ),
    "support repeats": (
        lambda: kernel(support=[[0, 0, 0], [0, 0, 0], [1, 0, 1]]),
        "support[1] must follow its predecessor in lexicographic order, got [0, 0, 0] after [0, 0, 0]",
    ),
    "support unsorted": (
        lambda: kernel(support=[[0, 0, 1], [1, 0, 1], [0, 2, 9]]),
        "support[2] must follow its predecessor in lexicographic order, got [0, 2, 9] after [1, 0, 1]",
    ),
    "box too low": (
        lambda: kernel(upper=[[0.25, 0.5, 1.0]]),
        "kernel box of cell 0 at (s, a) = (0, 0) must contain a probability vector, got sums between 0.25 and 0.75",
    ),
    "box too high": (
        lambda: kernel(lower=[[0.5, 0.75, 1.0]]),
        "kernel box of cell 0 at (s, a) = (0, 0) must contain a probability vector, got sums between 1.25 and 1.5",
    ),
    "not a probability": (
        lambda: kernel(center=[[0.5, 1.5, 1.0]]),
        "kernel center[0, 1] must be a probability in [0, 1], got 1.5",
    ),
    "outside kernel not a probability": (
        lambda: outside(kernel=-np.ones((1, 1))),
        "outside kernel[0, 0] must be a probability in [0, 1], got -1",
    ),
    "outside other policies": (
        lambda: replace(full(outside=1).cells, outside=full(policies=3, outside=1).cells.outside),
        "outside reward must have shape (any, 2), got (1, 3)",
    ),
    "outside other constraints": (
        lambda: replace(full(outside=1).cells, outside=full(constraints=2, outside=1).cells.outside),
        "outside cost must have shape (any, 2, 1), got (1, 2, 2)",
    ),
    "outside other parameters": (
        lambda: outside(parameters=np.zeros((1, 3))),
        "outside parameters must have shape (any, 1), got (1, 3)",
    ),
    "outside other support": (
        lambda: outside(kernel=np.zeros((1, 1))),
        "outside kernel must have shape (any, ",
    ),
    "outside other initial states": (
        lambda: outside(reward_by_state=np.zeros((1, 2, 7)), cost_by_state=np.zeros((1, 2, 1, 7))),
        "outside reward_by_state must have shape (any, 2, ",
    ),
    "outside too few costs": (
        lambda: outside(cost=np.zeros((2, 2, 1))),
        "outside cost must have shape (1, 2, any), got (2, 2, 1)",
    ),
    "endless return": (lambda: EpisodeBounds(0.0, np.inf, (1.0,)), "return_upper must be a number in [0, "),
    "crossed return": (lambda: EpisodeBounds(1.0, 0.0, (1.0,)), "return_upper must be a number in [1, "),
    "negative ceiling": (lambda: EpisodeBounds(0.0, 1.0, (1.0, -1.0)), "cost_ceilings[1] must be a number in [0, "),
    "limit below the fraction seen": (
        lambda: Certificate(100, 5, 0.04, 0, 0.02, 0.05),
        "uncovered_upper must be a number in [0.05, 1], got 0.04",
    ),
    "margin limit below the fraction seen": (
        lambda: Certificate(100, 5, 0.06, 50, 0.02, 0.05),
        "margin_failure_upper must be a number in [0.5, 1], got 0.02",
    ),
    "no hold-out proves nothing": (
        lambda: Certificate(0, 0, 0.01, 0, 1.0, 0.05),
        "uncovered_upper must be a number in [1, 1], got 0.01",
    ),
    "family": (lambda: report(family=3), "family must be a string, got int"),
    "parameter name empty": (lambda: report(parameter_names=("",)), "parameter_names[0] must be non-empty and new"),
    "radius": (lambda: report(radius=float("nan")), "radius must be a number in [0, "),
    "tasks": (lambda: report(tasks_sampled=0), "tasks_sampled must be an integer >= 1, got 0"),
    "rounds": (lambda: report(rounds=1.0), "rounds must be an integer >= 1, got 1.0"),
    "fraction": (lambda: report(uncovered_fraction=1.5), "uncovered_fraction must be a number in [0, 1], got 1.5"),
    "level": (lambda: report(level=np.inf), "level must be a number in [0, "),
    "holds": (lambda: AssumptionReport("yes", 0.1), "holds must be True or False, got str"),
    "holds despite offenders": (
        lambda: AssumptionReport(True, 0.1, ((0.5,),), ((1.0,),)),
        "holds must be False when tasks offend, got 1 offenders",
    ),
    "offenders without costs": (
        lambda: AssumptionReport(False, 0.1, ((0.5,),)),
        "minimum_costs must hold one row per offender (1), got 0",
    ),
    "margin": (lambda: AssumptionReport(True, float("nan")), "safe_margin must be a number in"),
    "policies missing": (lambda: replace(full(), policies=()), "policies must hold 2 entries, got 0"),
    "no cells": (
        lambda: random_policy_set(np.random.default_rng(0), cells=0),
        "must hold a safe policy and a cell, got 2 policies and 0 cells",
    ),
    "policy cannot act": (
        lambda: replace(full(), policies=(TabularPolicy([[1.0]]), 3)),
        "policies[1] must have a method predict, got int",
    ),
    "ceilings": (
        lambda: replace(full(), bounds=EpisodeBounds(0.0, 1.0, ())),
        "cost_ceilings must hold 1 entries, got 0",
    ),
    "parameters": (
        lambda: replace(full(), training=report(parameter_names=("a", "b"))),
        "parameter_names must hold 1 entries, got 2",
    ),
    "offender of other length": (
        lambda: replace(full(), assumption=AssumptionReport(False, 0.1, ((0.5, 1.0),), ((1.0,),))),
        "offenders[0] must hold 1 entries, got 2",
    ),
    "costs of other length": (
        lambda: replace(full(), assumption=AssumptionReport(False, 0.1, ((0.5,),), ((1.0, 2.0),))),
        "minimum_costs[0] must hold 1 entries, got 2",
    ),
    "states beyond the tables": (
        lambda: replace(full(), policies=(TabularPolicy([[0.5, 0.5]]),) * 2),
        "support states[",
    ),
    "actions beyond the tables": (
        lambda: replace(full(), policies=(TabularPolicy(np.ones((3, 1))),) * 2),
        "support actions[",
    ),
    "initial states beyond the tables": (
        lambda: replace(
            random_policy_set(np.random.default_rng(0), conditional=True, states=9),
            policies=(TabularPolicy(np.ones((1, 1))),) * 2,
        ),
        "initial_states[",
    ),
    "seed": (lambda: full(seed=-1), "seed must be an integer >= 0, got -1"),
    "version": (lambda: full(version=1), "version must be a string, got int"),
    "cells of a part": (
        lambda: replace(full().cells, kernel=full(cells=3).cells.kernel),
        "kernel must describe 2 cells and 2 policies, got (3, 2)",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_a_reason(name: str) -> None:
    build, message = CASES[name]
    with pytest.raises(InvalidInput) as caught:
        build()
    assert message in str(caught.value)


def test_boxes_of_every_cell_and_pair_are_checked() -> None:
    """An impossible box is found wherever it stands."""
    cells = full(cells=3).cells
    assert cells.kernel is not None
    pairs = np.unique(cells.kernel.support[:, :2], axis=0)
    for cell in range(3):
        for state, action in pairs.tolist():
            inside = (cells.kernel.support[:, :2] == [state, action]).all(axis=1)
            lower = cells.kernel.lower.copy()
            lower[cell, inside] = 0.0
            upper = cells.kernel.upper.copy()
            upper[cell, inside] = 0.9 / inside.sum()
            with pytest.raises(InvalidInput, match=rf"cell {cell} at \(s, a\) = \({state}, {action}\)"):
                replace(cells.kernel, lower=lower, upper=upper)


def test_set_without_optional_parts_is_complete() -> None:
    plain = random_policy_set(np.random.default_rng(2), constraints=0, parameters=0, certificate=None)
    assert plain.cells.kernel is None and plain.cells.conditional is None and plain.cells.signals is None
    assert plain.safe_policy is plain.policies[0]
    assert plain.safe_margin == 0.25
