"""What people's instructions make of a plan: caps in proportion, approvals that hold, never anything a row forbids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.deploy.planner import Plan, Program, plan, verify
from surefoot.journal.operator import Operator, scaled

PROGRAM = Program(
    objective=np.array([1.0, 3.0, 2.0]),
    rows=np.array([[[0.2], [1.5], [0.9]], [[0.2], [1.1], [1.3]]]),
    names=("cell 0", "cell 1"),
    limits=np.array([1.0]),
    candidate=0,
    kappa=0.02,
    cap=1.0,
)
BEST = plan(PROGRAM)


def played(**instructions: Any) -> tuple[Plan, Plan | None]:
    return Operator(**instructions).play(BEST, PROGRAM)


def test_without_instructions_the_plan_is_played() -> None:
    assert played() == (BEST, None)


def test_abort_beats_everything() -> None:
    chosen, waiting = played(aborted="smoke", approve=True, cap=0.5, approved=BEST.weights)
    assert chosen.weights.tolist() == [1.0, 0.0, 0.0] and waiting is None
    assert "smoke" in chosen.reasons[0]


@pytest.mark.parametrize("cap", [0.0, 0.1, 0.5])
def test_a_cap_keeps_proportions_and_certificates(cap: float) -> None:
    chosen, _ = played(cap=cap)
    assert chosen.weights[1:].sum() == pytest.approx(cap)
    assert chosen.weights[1] * BEST.weights[2] == pytest.approx(chosen.weights[2] * BEST.weights[1])
    assert verify(chosen.weights, PROGRAM.rows, PROGRAM.limits)
    assert (chosen.bounds <= BEST.bounds + 1e-12).all()
    assert all("capped" in why for why in chosen.reasons.values())


def test_what_was_approved_is_played_until_more_is_approved() -> None:
    approved = np.array([0.8, 0.1, 0.1])
    chosen, waiting = played(approve=True, approved=approved)
    assert chosen.weights is approved and waiting is BEST
    assert chosen.bounds == pytest.approx([0.2 * 0.8 + 0.24])
    chosen, waiting = played(approve=True, approved=approved, cap=0.1)
    assert chosen.weights == pytest.approx([0.9, 0.05, 0.05]) and waiting is BEST


def test_a_plan_within_what_was_approved_needs_no_approval() -> None:
    chosen, waiting = played(approve=True, approved=np.maximum(BEST.weights, 0.0))
    assert chosen is BEST and waiting is None


@pytest.mark.parametrize("approved", [None, [0.0, 1.0, 0.0]])
def test_what_is_not_certified_any_more_is_not_played(approved: list[float] | None) -> None:
    chosen, waiting = played(approve=True, approved=None if approved is None else np.array(approved))
    if approved is None:
        assert chosen.weights.tolist() == [1.0, 0.0, 0.0] and waiting is BEST
    else:
        # Nothing exceeds the weight one on policy 1; on policy 2 there is none approved.
        assert (waiting is BEST) == (BEST.weights[2] > 0.0)
        assert verify(chosen.weights, PROGRAM.rows, PROGRAM.limits)


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6).filter(lambda w: sum(w) > 0.0), st.floats(0.0, 1.0))
def test_scaling_is_a_mixture_with_the_safe_policy(raw: list[float], cap: float) -> None:
    weights = np.array(raw) / sum(raw)
    found = scaled(weights, cap)
    assert abs(found.sum() - 1.0) < 1e-12 and (found >= 0.0).all()
    assert found[1:].sum() <= max(cap, 0.0) + 1e-12
    assert (found[1:] <= weights[1:]).all()
