"""Plants made of nothing but a policy set's predictions: what a forecast plays on.

A policy set holds no task: no rewards, no costs per step, no start distribution. Cell i still says what every library policy j is worth,
``v_ij`` (1+I,) at its centre, between which values given each initial state b, and, for tabular tasks, with which kernel ``P_i``. Two ways to make
episodes of that, the first where it is possible:

*Rollouts.* Signals that all cells share, and the start distribution, are found by least squares (:mod:`surefoot.planning.fit`). If the task with
these signals and kernel ``P_i`` has the predicted values, episodes of it are simulated step by step. If not, signals differ between cells, and

*Draws.* Return, costs and declared signals of an episode are independent Beta variables on their ranges with the predicted means (given the
initial state, where predictions are). Their standard deviation is a share of the largest that mean and range allow: what simulation measured,
where the set was made by simulation, or a stated one. Transitions are not simulated.

Letters: I constraints, F = 1 + I signals, X further signals, J policies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, check_real
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.planning.fit import TaskModel, fit_tasks
from surefoot.planning.plants import Draws, Rollouts, SurrogatePlant
from surefoot.planning.predictions import center_values, policy_tables
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import PolicySet

__all__ = ["SurrogateModel", "fit_surrogate"]

LARGEST_TABLE = 1000
"""Rollouts are tried up to this many pairs (s, a); the least-squares problem is dense."""
SPREAD = 0.3
"""Of draws, where nothing was measured."""
FIDELITY = 0.02
"""A task found by least squares is played on if its values are those predicted up to this share of their range."""

_ROLLOUTS = (
    "Episodes are simulated step by step: kernels are those at the centres of cells, rewards, costs and the start distribution are what "
    "reproduces all predicted values by least squares."
)
_DRAWS = (
    "Outcomes are drawn with the predicted means, independently of each other, with {spread} of the largest standard deviation that mean and range "
    "allow; transitions are not simulated, so a plant that reports them learns faster under trust in cells."
)


@dataclass(frozen=True, eq=False)
class SurrogateModel:
    """Makes a plant for every cell.

    Attributes:
        statement: how, and what is assumed, in plain words.
        transitions: whether episodes report transitions.
        deviation: (F,) largest difference between the plants' values and those predicted, as a share of the predictions' range.
    """

    policy_set: PolicySet
    statement: str
    transitions: bool
    deviation: FloatArray
    model: TaskModel | None
    spread: FloatArray

    def plant(self, cell: int) -> SurrogatePlant:
        """The truth is the centre of this cell."""
        if self.model is None:
            return Draws(self.policy_set, cell, self.spread)
        return Rollouts(self.model.task(self.policy_set, cell), policy_tables(self.policy_set))


def fit_surrogate(policy_set: PolicySet, spread: float | None = None) -> SurrogateModel:
    """Find out how episodes can be made from this set's predictions.

    Args:
        policy_set: from training.
        spread: of *draws*: standard deviation as a share of the largest that mean and range allow, in (0, 1). By default what simulation
            measured, or .3.

    Raises:
        InvalidInput: ``spread`` out of range.
    """
    if spread is not None:
        spread = check_real("spread", spread, low=0.0, high=1.0, open_low=True, open_high=True)
    if policy_set.criterion.functionals:
        # Nothing is known of costs per step: what is limited is drawn itself.
        policy_set = replace(policy_set, criterion=policy_set.criterion.flat)
        return _drawn(policy_set, spread)
    shares, _ = _spreads(policy_set, spread)
    model = fit_tasks(policy_set) if _tabular(policy_set) else None
    if model is not None:
        deviation = _deviation(policy_set, model)
        if (deviation <= FIDELITY).all():
            return SurrogateModel(policy_set, _ROLLOUTS, True, deviation, model, shares)
    return _drawn(policy_set, spread)


def _drawn(policy_set: PolicySet, spread: float | None) -> SurrogateModel:
    shares, told = _spreads(policy_set, spread)
    exact = np.zeros(1 + policy_set.criterion.n_constraints)
    return SurrogateModel(policy_set, _DRAWS.format(spread=told), False, exact, None, shares)


def _spreads(policy_set: PolicySet, spread: float | None) -> tuple[FloatArray, str]:
    """(1+I+X,) shares of return, costs and signals, and what to call them."""
    signals = policy_set.cells.signals
    size = 1 + policy_set.criterion.n_constraints + (0 if signals is None else len(signals.names))
    simulation = policy_set.extra.get("simulation")
    measured = simulation.get("spread") if spread is None and isinstance(simulation, dict) else None
    try:
        found = np.asarray(measured, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.shape == (size,) and bool(((found > 0.0) & (found < 1.0)).all()):
        return found, "the share that simulation measured"
    share = SPREAD if spread is None else spread
    return np.full(size, share), f"{share:g}"


def _tabular(policy_set: PolicySet) -> bool:
    """Whether rollouts can be tried at all: kernels, initial states, tables, a discount without a horizon, and not too large."""
    cells, policies = policy_set.cells, policy_set.policies
    return (
        cells.kernel is not None
        and cells.conditional is not None
        and all(isinstance(p, TabularPolicy) for p in policies)
        and policy_set.criterion.horizon is None
        and policy_tables(policy_set)[0].size <= LARGEST_TABLE
    )


def _deviation(policy_set: PolicySet, model: TaskModel) -> FloatArray:
    """(F,) see :attr:`SurrogateModel.deviation`; on cells that the fit may not have seen."""
    centers, tables = center_values(policy_set), policy_tables(policy_set)
    cells = np.unique(np.linspace(0, len(centers) - 1, 12).astype(int))
    off = np.stack([np.abs(evaluate_many(model.task(policy_set, int(k)), tables) - centers[k]) for k in cells])
    spread: Any = np.ptp(centers.reshape(-1, centers.shape[2]), axis=0)
    share: FloatArray = off.max(axis=(0, 1)) / np.where(spread > 0.0, spread, 1.0)
    return share
