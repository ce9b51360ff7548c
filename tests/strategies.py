"""Hypothesis strategies, and the random objects behind them, for everything that tests share.

``random_policy_set(rng, ...)`` builds one valid :class:`~surefoot.policyset.schema.PolicySet` of stated sizes;
``policy_sets()`` draws sizes, optional parts and the awkward scalars (subnormal, huge, -0.0, text of any script).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from surefoot.arrays import FloatArray
from surefoot.criterion import Criterion
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import (
    AssumptionReport,
    Cells,
    Certificate,
    ConditionalPredictions,
    EpisodeBounds,
    KernelBoxes,
    Look,
    OutsideTasks,
    PolicySet,
    Predictions,
    SignalPredictions,
    TrainingReport,
)
from surefoot.stats.ledger import Ledger

__all__ = ["finite", "plain_data", "policy_sets", "random_policy_set", "texts"]

finite = st.floats(allow_nan=False, allow_infinity=False)
fractions = st.floats(0.0, 1.0)
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=12)
plain_data = st.dictionaries(
    texts,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**100), 2**100) | finite | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=3,
)


def _around(rng: np.random.Generator, center: FloatArray, width: float) -> tuple[FloatArray, FloatArray]:
    """Intervals that contain ``center``, of random widths on both sides."""
    return center - width * rng.random(center.shape), center + width * rng.random(center.shape)


def _predictions(rng: np.random.Generator, n: int, j: int, i: int) -> Predictions:
    reward, cost = 10.0 * rng.random((n, j)), 3.0 * rng.random((n, j, i))
    reward_lower, reward_upper = _around(rng, reward, 0.5)
    cost_lower, cost_upper = _around(rng, cost, 0.2)
    return Predictions(reward_lower, reward_upper, np.maximum(cost_lower, 0.0), cost_upper, reward, cost)


def _conditional(rng: np.random.Generator, n: int, j: int, i: int, states: int) -> ConditionalPredictions:
    labels = np.sort(rng.choice(states, size=rng.integers(1, states + 1), replace=False))
    reward = _around(rng, 10.0 * rng.random((n, j, labels.size)), 0.5)
    cost = _around(rng, 1.0 + 3.0 * rng.random((n, j, i, labels.size)), 0.2)
    return ConditionalPredictions(labels, *reward, *cost)


def _signals(rng: np.random.Generator, n: int, j: int, count: int) -> SignalPredictions:
    lower, upper = _around(rng, rng.random((n, j, count)), 0.1)
    names = tuple(f"signal {x}" for x in range(count))
    return SignalPredictions(names, np.tile([-1.0, 2.0], (count, 1)), lower, upper)


def _kernel(
    rng: np.random.Generator, n: int, states: int, actions: int, outside: int
) -> tuple[KernelBoxes, FloatArray]:
    """Boxes around random kernels on a joint support that leaves no (s, a) without successor, and kernels outside."""
    present = rng.random((states, actions, states)) < 0.5
    present[..., 0] |= ~present.any(axis=-1)
    support = np.argwhere(present)

    def kernel() -> FloatArray:
        weights = np.where(present, rng.random(present.shape) + 0.1, 0.0)
        return (weights / weights.sum(axis=-1, keepdims=True))[present]

    middle = np.array([kernel() for _ in range(n)])
    lower, upper = _around(rng, middle, 0.05)
    others = np.array([kernel() for _ in range(outside)]).reshape(outside, len(support))
    return KernelBoxes(support, np.maximum(lower, 0.0), np.minimum(upper, 1.0), middle), others


def _outside(
    rng: np.random.Generator, count: int, predictions: Predictions, starts: int, parameters: int, kernel: FloatArray
) -> OutsideTasks:
    _, j, i = predictions.cost_lower.shape
    return OutsideTasks(
        parameters=rng.random((count, parameters)),
        reward=10.0 * rng.random((count, j)),
        cost=3.0 * rng.random((count, j, i)),
        reward_by_state=10.0 * rng.random((count, j, starts)),
        cost_by_state=3.0 * rng.random((count, j, i, starts)),
        kernel=kernel,
    )


def random_policy_set(
    rng: np.random.Generator,
    *,
    cells: int = 2,
    policies: int = 2,
    constraints: int = 1,
    states: int = 3,
    actions: int = 2,
    parameters: int = 1,
    signals: int | None = None,
    conditional: bool = False,
    kernel: bool = False,
    outside: int | None = None,
    **changes: Any,
) -> PolicySet:
    """A valid set of the stated sizes; ``changes`` replace fields of the :class:`PolicySet`."""
    predictions = _predictions(rng, cells, policies, constraints)
    optimal = predictions.reward_center.max(axis=1)
    by_state = _conditional(rng, cells, policies, constraints, states) if conditional else None
    boxes, others = (
        _kernel(rng, cells, states, actions, outside or 0) if kernel else (None, np.zeros((outside or 0, 0)))
    )
    starts = 0 if by_state is None else by_state.initial_states.size
    described = Cells(
        policy_index=rng.integers(0, policies, cells),
        optimal_center=optimal,
        optimal_upper=optimal + rng.random(cells),
        parameters=rng.random((cells, parameters)),
        predictions=predictions,
        conditional=by_state,
        signals=None if signals is None else _signals(rng, cells, policies, signals),
        kernel=boxes,
        outside=None if outside is None else _outside(rng, outside, predictions, starts, parameters, others),
    )
    fields: dict[str, Any] = {
        "criterion": Criterion(0.9, np.full(constraints, 2.0), (0.0, 1.0), np.ones(constraints)),
        "policies": tuple(TabularPolicy(rng.dirichlet(np.ones(actions), size=states)) for _ in range(policies)),
        "cells": described,
        "bounds": EpisodeBounds(0.0, 10.0, (10.0,) * constraints),
        "certificate": Certificate(200, 1, 0.03, 0, 0.02, 0.05),
        "training": TrainingReport(
            "random", tuple(f"p{k}" for k in range(parameters)), "distance", 0.1, 500, 1, 0.0, 0.1
        ),
        "assumption": AssumptionReport(True, 0.25, statement="One policy is feasible for every task."),
        "ledger": Ledger(0.05).spend("coverage", 0.025, "hold-out").spend("margin", 0.025, "margin on the hold-out"),
        "seed": 0,
        "version": "0.1.0",
    }
    return PolicySet(**(fields | changes))


@st.composite
def _criteria(draw: st.DrawFn, constraints: int) -> Criterion:
    horizon = draw(st.none() | st.integers(1, 10**6))
    positive = st.floats(0.0, 1e300, exclude_min=True)
    low = draw(st.floats(-1e300, 1e300))
    return Criterion(
        discount=draw(st.floats(0.0, 1.0, exclude_min=True, exclude_max=horizon is None)),
        cost_limits=np.array(draw(st.lists(st.floats(0.0, 1e300), min_size=constraints, max_size=constraints))),
        reward_bounds=(low, draw(st.floats(math.nextafter(low, math.inf), 1.7e308))),
        cost_bounds=np.array(draw(st.lists(positive, min_size=constraints, max_size=constraints))),
        horizon=horizon,
        cost_names=tuple(draw(st.lists(texts, min_size=constraints, max_size=constraints))),
    )


@st.composite
def _certificates(draw: st.DrawFn) -> Certificate:
    holdout = draw(st.integers(1, 10**6))
    counts = st.integers(0, holdout)
    missed, failed = draw(counts), draw(counts)
    return Certificate(
        holdout,
        missed,
        draw(st.floats(missed / holdout, 1.0)),
        failed,
        draw(st.floats(failed / holdout, 1.0)),
        draw(st.floats(1e-9, 0.5)),
        draw(st.floats(0.0, 0.5)),
    )


@st.composite
def _assumptions(draw: st.DrawFn, parameters: int, constraints: int) -> AssumptionReport:
    offenders = draw(st.integers(0, 2))

    def rows(width: int) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(draw(finite) for _ in range(width)) for _ in range(offenders))

    return AssumptionReport(
        holds=offenders == 0 and draw(st.booleans()),
        safe_margin=draw(finite),
        offenders=rows(parameters),
        minimum_costs=rows(constraints),
        statement=draw(texts),
    )


@st.composite
def _ledgers(draw: st.DrawFn) -> Ledger:
    ledger = Ledger(draw(st.floats(1e-6, 0.5)))
    for name in draw(st.lists(texts.filter(str.strip), unique=True, max_size=3)):
        ledger = ledger.spend(name, ledger.total / 4.0, draw(texts.filter(str.strip)))
    return ledger


@st.composite
def policy_sets(draw: st.DrawFn) -> PolicySet:
    """Valid policy sets with every combination of optional parts."""
    constraints, parameters = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    names = draw(st.lists(texts.filter(bool), unique=True, min_size=parameters, max_size=parameters))
    report = TrainingReport(
        draw(texts), tuple(names), draw(texts), draw(st.floats(0.0, 1e300)), draw(st.integers(1, 2**80)), 1, 0.5, 0.25
    )
    low = draw(finite)
    return random_policy_set(
        np.random.default_rng(draw(st.integers(0, 2**32))),
        cells=draw(st.integers(1, 3)),
        policies=draw(st.integers(1, 3)),
        constraints=constraints,
        states=draw(st.integers(1, 4)),
        actions=draw(st.integers(1, 3)),
        parameters=parameters,
        signals=draw(st.none() | st.integers(0, 2)),
        conditional=draw(st.booleans()),
        kernel=draw(st.booleans()),
        outside=draw(st.none() | st.integers(0, 2)),
        criterion=draw(_criteria(constraints)),
        bounds=EpisodeBounds(
            low,
            draw(st.floats(low, allow_nan=False, allow_infinity=False)),
            tuple(draw(fractions) for _ in range(constraints)),
        ),
        certificate=draw(st.none() | _certificates()),
        training=report,
        assumption=draw(_assumptions(parameters, constraints)),
        ledger=draw(_ledgers()),
        seed=draw(st.integers(0, 2**127)),
        version=draw(texts),
        extra=draw(plain_data),
        looks=tuple(
            Look(draw(texts), cells, 100, 3, 0, 0.01) for cells in draw(st.lists(st.integers(1, 9), max_size=2))
        ),
        lineage_known=draw(st.booleans()),
    )
