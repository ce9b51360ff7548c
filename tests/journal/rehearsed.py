"""Rehearsed deployments of the small plants: a belief that fits them, and certificates of rehearsals that never took place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from surefoot import PolicySet
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.policyset.belief import Belief
from surefoot.policyset.rehearsed import Rehearsed, RungRecord, SpeedStatement
from surefoot.protocol import Protocol
from surefoot.stats.binomial import clopper_pearson_upper
from tests.journal.plants import CELLS, POLICIES, small_set

__all__ = ["SETS", "believing", "rehearsed_set", "rehearsing"]


def believing(policy_set: PolicySet, *, informative: bool = True) -> PolicySet:
    """The same with a belief of two latents that passes through the three cells."""
    cells = policy_set.cells
    signals, given, kernel = cells.signals, cells.conditional, cells.kernel
    values = np.concatenate([cells.predictions.reward_center[:, :, None], cells.predictions.cost_center], axis=2)
    outcomes = values[:, :, None]
    if given is not None:
        shift = np.array([-0.1, 0.1])[:, None] * np.array([5.0, 1.0])
        outcomes = outcomes + shift
    if signals is not None:
        middle = 0.5 * (signals.lower + signals.upper)
        spread = np.broadcast_to(middle[:, :, None], (*outcomes.shape[:3], 1))
        outcomes = np.concatenate([outcomes, spread], axis=3)
    moves = np.zeros((CELLS, 0)) if kernel is None else kernel.center
    # Three points in the plane with mean zero and covariance one: every table is affine in them.
    corners = np.sqrt(2.0) * np.array([[np.cos(t), np.sin(t)] for t in (0.3, 0.3 + 2 * np.pi / 3, 0.3 + 4 * np.pi / 3)])

    def fit(table: Any) -> tuple[Any, Any]:
        return table.mean(axis=0), np.einsum("k...,kd->...d", table, corners) / CELLS

    (value, value_slope), (center, slope), (start, move) = fit(values), fit(outcomes), fit(moves)
    b, f = center.shape[1:]
    scale = np.array([4.0, 2.0, 0.3])[:f]
    belief = Belief(
        support=np.zeros((0, 3), dtype=np.int64) if kernel is None else kernel.support,
        kernel_center=start,
        kernel_slope=move,
        initial_states=np.zeros(0, dtype=np.int64) if given is None else given.initial_states,
        outcome_center=center,
        outcome_slope=slope,
        outcome_curve=np.full((POLICIES, b, f, 3), 0.002),
        outcome_residual=np.full((POLICIES, b, f), 0.02),
        outcome_noise=np.tile(np.diag(scale**2) + 0.1 * np.outer(scale, scale), (POLICIES, b, 1, 1)),
        value_center=value,
        value_slope=value_slope,
        value_curve=np.full((POLICIES, 2, 3), 0.002),
        value_residual=np.full((POLICIES, 2), 0.02),
        informative=informative,
        tasks=40,
    )
    return replace(policy_set, beliefs={"all": belief, "returns": belief})


SETS = {
    "returns": believing(small_set()),
    "signals": believing(small_set(signals=True)),
    "all": believing(small_set(kernel=True, states=True, signals=True)),
    "moves": believing(small_set(kernel=True), informative=False),
}


def rehearsing(**changes: Any) -> Rung:
    """A rung of 200 episodes, one at a time."""
    return Rung(**{"boldness": 1.5, "episodes": 200, **changes})


def rehearsed_set(kind: str, rung: Rung) -> PolicySet:
    """The set of this kind with the certificate of a rehearsal that accepted the rung, and refused a bolder one."""
    protocol = Protocol(
        batch=rung.batch, delay=rung.delay, lost=rung.lost, history=rung.history, exposure=rung.exposure
    )
    found = Rehearsed(
        family="plant", judged="abc", library=SETS[kind].library_hash, seed=0, attempt=1, alpha=0.05, delta_coverage=0.05, share=0.025, plants=500,
        episodes=rung.episodes, evidence=rung.evidence, protocol=protocol,
        rungs=(_record(rung.boldness, 14), _record(0.9 * rung.boldness, 60)), chosen=0, upper=upper_limit(14),
        judging_error=0.0, surprise=rung.surprise, surprise_alarm=0.01,
        speed=(SpeedStatement("episodes", "quantile", 0.9, 40.0, 0.01), SpeedStatement("regret", "mean", 0.0, 55.0, 0.01)),
    )  # fmt: skip
    return replace(SETS[kind], rehearsed=found)


def upper_limit(violating: int) -> float:
    return float(clopper_pearson_upper(violating, 500, 0.025))


def _record(boldness: float, violating: int) -> RungRecord:
    upper = upper_limit(violating)
    quantiles = (10.0, 20.0, 30.0, 40.0, 50.0)
    return RungRecord(
        f"{boldness:g}", boldness, 500, violating, upper, upper <= 0.05, True, 30.0, quantiles, 900.0, 0.03
    )
