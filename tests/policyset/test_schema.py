"""What no policy set may contain, each with the message that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

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
from tests.refusals import refused
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
        ("SF-ARGUMENT-ORDER", "cost_lower[0, 0, 0]", "2 > 1"),
    ),
    "states repeat": (
        lambda: ConditionalPredictions([1, 1], *[np.ones((1, 1, 2))] * 2, *[np.ones((1, 1, 1, 2))] * 2),
        ("SF-ARGUMENT-ORDER", "initial_states", "[1, 1]"),
    ),
    "state too large to be exact": (
        lambda: ConditionalPredictions([1e300], *[np.ones((1, 1, 1))] * 2, *[np.ones((1, 1, 1, 1))] * 2),
        ("SF-ARGUMENT-RANGE", "initial_states[0]", "[0, 9007199254740992)", "1e+300"),
    ),
    "fractional state": (
        lambda: ConditionalPredictions([0.5], *[np.ones((1, 1, 1))] * 2, *[np.ones((1, 1, 1, 1))] * 2),
        ("SF-ARGUMENT-RANGE", "initial_states[0]", "[0, 9007199254740992)", "0.5"),
    ),
    "signal names repeat": (
        lambda: SignalPredictions(("a", "a"), [[0, 1]] * 2, np.ones((1, 1, 2)), np.ones((1, 1, 2))),
        ("SF-ARGUMENT-DISTINCT", "names[1]", "'a'"),
    ),
    "one string for names": (
        lambda: SignalPredictions("a", [[0, 1]], np.ones((1, 1, 1)), np.ones((1, 1, 1))),
        ("SF-ARGUMENT-TYPE", "names"),
    ),
    "support repeats": (
        lambda: kernel(support=[[0, 0, 0], [0, 0, 0], [1, 0, 1]]),
        ("SF-ARGUMENT-ORDER", "support[1]", "[0, 0, 0] after [0, 0, 0]"),
    ),
    "support unsorted": (
        lambda: kernel(support=[[0, 0, 1], [1, 0, 1], [0, 2, 9]]),
        ("SF-ARGUMENT-ORDER", "support[2]", "[0, 2, 9] after [1, 0, 1]"),
    ),
    "box too low": (
        lambda: kernel(upper=[[0.25, 0.5, 1.0]]),
        ("SF-ARGUMENT-SIMPLEX", "cell 0", "0.25 and 0.75"),
    ),
    "box too high": (
        lambda: kernel(lower=[[0.5, 0.75, 1.0]]),
        ("SF-ARGUMENT-SIMPLEX", "cell 0", "1.25 and 1.5"),
    ),
    "not a probability": (
        lambda: kernel(center=[[0.5, 1.5, 1.0]]),
        ("SF-ARGUMENT-RANGE", "center[0, 1]", "[0, 1]", "1.5"),
    ),
    "outside kernel not a probability": (
        lambda: outside(kernel=-np.ones((1, 1))),
        ("SF-ARGUMENT-RANGE", "kernel[0, 0]", "[0, 1]", "-1"),
    ),
    "outside other policies": (
        lambda: replace(full(outside=1).cells, outside=full(policies=3, outside=1).cells.outside),
        ("SF-ARGUMENT-SHAPE", "reward", "(any, 2)", "(1, 3)"),
    ),
    "outside other constraints": (
        lambda: replace(full(outside=1).cells, outside=full(constraints=2, outside=1).cells.outside),
        ("SF-ARGUMENT-SHAPE", "cost", "(any, 2, 1)", "(1, 2, 2)"),
    ),
    "outside other parameters": (
        lambda: outside(parameters=np.zeros((1, 3))),
        ("SF-ARGUMENT-SHAPE", "parameters", "(any, 1)", "(1, 3)"),
    ),
    "outside other support": (
        lambda: outside(kernel=np.zeros((1, 1))),
        ("SF-ARGUMENT-SHAPE", "kernel"),
    ),
    "outside other initial states": (
        lambda: outside(reward_by_state=np.zeros((1, 2, 7)), cost_by_state=np.zeros((1, 2, 1, 7))),
        ("SF-ARGUMENT-SHAPE", "reward_by_state", "2"),
    ),
    "outside too few costs": (
        lambda: outside(cost=np.zeros((2, 2, 1))),
        ("SF-ARGUMENT-SHAPE", "cost", "(1, 2, any)", "(2, 2, 1)"),
    ),
    "endless return": (lambda: EpisodeBounds(0.0, np.inf, (1.0,)), ("SF-ARGUMENT-RANGE", "return_upper", "0")),
    "crossed return": (lambda: EpisodeBounds(1.0, 0.0, (1.0,)), ("SF-ARGUMENT-RANGE", "return_upper", "1")),
    "negative ceiling": (lambda: EpisodeBounds(0.0, 1.0, (1.0, -1.0)), ("SF-ARGUMENT-RANGE", "cost_ceilings[1]", "0")),
    "limit below the fraction seen": (
        lambda: Certificate(100, 5, 0.04, 0, 0.02, 0.05),
        ("SF-ARGUMENT-RANGE", "uncovered_upper", "[0.05, 1]", "0.04"),
    ),
    "margin limit below the fraction seen": (
        lambda: Certificate(100, 5, 0.06, 50, 0.02, 0.05),
        ("SF-ARGUMENT-RANGE", "margin_failure_upper", "[0.5, 1]", "0.02"),
    ),
    "no hold-out proves nothing": (
        lambda: Certificate(0, 0, 0.01, 0, 1.0, 0.05),
        ("SF-ARGUMENT-RANGE", "uncovered_upper", "[1, 1]", "0.01"),
    ),
    "family": (lambda: report(family=3), ("SF-ARGUMENT-TYPE", "family", "int")),
    "parameter name empty": (lambda: report(parameter_names=("",)), ("SF-ARGUMENT-DISTINCT", "parameter_names[0]")),
    "radius": (lambda: report(radius=float("nan")), ("SF-ARGUMENT-RANGE", "radius", "0")),
    "tasks": (lambda: report(tasks_sampled=0), ("SF-ARGUMENT-RANGE", "tasks_sampled", "1", "0")),
    "rounds": (lambda: report(rounds=1.0), ("SF-ARGUMENT-TYPE", "rounds", "1", "1.0")),
    "fraction": (lambda: report(uncovered_fraction=1.5), ("SF-ARGUMENT-RANGE", "uncovered_fraction", "[0, 1]", "1.5")),
    "level": (lambda: report(level=np.inf), ("SF-ARGUMENT-RANGE", "level", "0")),
    "holds": (lambda: AssumptionReport("yes", 0.1), ("SF-ARGUMENT-TYPE", "holds", "str")),
    "holds despite offenders": (
        lambda: AssumptionReport(True, 0.1, ((0.5,),), ((1.0,),)),
        ("SF-ARGUMENT-COMBINATION", "holds", "1 offenders"),
    ),
    "offenders without costs": (
        lambda: AssumptionReport(False, 0.1, ((0.5,),)),
        ("SF-ARGUMENT-LENGTH", "minimum_costs", "(1)", "0"),
    ),
    "margin": (lambda: AssumptionReport(True, float("nan")), ("SF-ARGUMENT-RANGE", "safe_margin")),
    "policies missing": (lambda: replace(full(), policies=()), ("SF-ARGUMENT-LENGTH", "policies", "2", "0")),
    "no cells": (
        lambda: random_policy_set(np.random.default_rng(0), cells=0),
        ("SF-ARGUMENT-EMPTY", "2 policies and 0 cells"),
    ),
    "policy cannot act": (
        lambda: replace(full(), policies=(TabularPolicy([[1.0]]), 3)),
        ("SF-POLICY-KIND", "policies[1]", "int"),
    ),
    "ceilings": (
        lambda: replace(full(), bounds=EpisodeBounds(0.0, 1.0, ())),
        ("SF-ARGUMENT-LENGTH", "cost_ceilings", "1", "0"),
    ),
    "parameters": (
        lambda: replace(full(), training=report(parameter_names=("a", "b"))),
        ("SF-ARGUMENT-LENGTH", "parameter_names", "1", "2"),
    ),
    "offender of other length": (
        lambda: replace(full(), assumption=AssumptionReport(False, 0.1, ((0.5, 1.0),), ((1.0,),))),
        ("SF-ARGUMENT-LENGTH", "offenders[0]", "1", "2"),
    ),
    "costs of other length": (
        lambda: replace(full(), assumption=AssumptionReport(False, 0.1, ((0.5,),), ((1.0, 2.0),))),
        ("SF-ARGUMENT-LENGTH", "minimum_costs[0]", "1", "2"),
    ),
    "states beyond the tables": (
        lambda: replace(full(), policies=(TabularPolicy([[0.5, 0.5]]),) * 2),
        ("SF-ARGUMENT-RANGE", "support states[1, 1]", "[0, 1)", "2"),
    ),
    "actions beyond the tables": (
        lambda: replace(full(), policies=(TabularPolicy(np.ones((3, 1))),) * 2),
        ("SF-ARGUMENT-RANGE", "support actions[1]", "[0, 1)", "1"),
    ),
    "initial states beyond the tables": (
        lambda: replace(
            random_policy_set(np.random.default_rng(0), conditional=True, states=9),
            policies=(TabularPolicy(np.ones((1, 1))),) * 2,
        ),
        ("SF-ARGUMENT-RANGE", "initial_states[0]", "[0, 1)", "3"),
    ),
    "seed": (lambda: full(seed=-1), ("SF-ARGUMENT-RANGE", "seed", "0", "-1")),
    "version": (lambda: full(version=1), ("SF-ARGUMENT-TYPE", "version", "int")),
    "cells of a part": (
        lambda: replace(full().cells, kernel=full(cells=3).cells.kernel),
        ("SF-ARGUMENT-SHAPE", "kernel", "2", "2", "(3, 2)"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_a_reason(name: str) -> None:
    build, refusal = CASES[name]
    with refused(*refusal):
        build()


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
            with refused("SF-ARGUMENT-SIMPLEX", f"cell {cell}", f"({state}, {action})"):
                replace(cells.kernel, lower=lower, upper=upper)


def test_set_without_optional_parts_is_complete() -> None:
    plain = random_policy_set(np.random.default_rng(2), constraints=0, parameters=0, certificate=None)
    assert plain.cells.kernel is None and plain.cells.conditional is None and plain.cells.signals is None
    assert plain.safe_policy is plain.policies[0]
    assert plain.safe_margin == 0.25
