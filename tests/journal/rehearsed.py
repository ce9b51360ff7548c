"""Rehearsed deployments of the small plants: a belief that fits them, and rungs that nobody rehearsed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surefoot import PolicySet
from surefoot.deploy import certified
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.policyset.belief import Belief
from tests.journal.plants import CELLS, POLICIES, small_set

__all__ = ["SETS", "believing", "certified_rung", "rehearsing"]


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


@contextmanager
def certified_rung(rung: Rung) -> Iterator[None]:
    """Policy sets name this rung, whatever was rehearsed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certified, "rehearsed_rung", lambda policy_set, evidence, delta: replace(rung, evidence=evidence))
        yield


def rehearsing(**changes: Any) -> Rung:
    """A rung of 200 episodes, one at a time."""
    return Rung(**{"boldness": 1.5, "episodes": 200, **changes})
