"""Looking again at hold-outs until one pleases: the price of looks keeps wrong acceptance where it was promised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from surefoot.deploy.certified import CertifiedAgent
from surefoot.errors import AssumptionError
from surefoot.policyset.schema import Certificate, Look
from surefoot.stats.binomial import rate_test
from tests.strategies import random_policy_set

pytestmark = pytest.mark.statistical

SET = random_policy_set(np.random.default_rng(0))
P_MAX, DELTA, HOLDOUT, LOOKS, RUNS = 0.05, 0.2, 300, 10, 4000


def accepted(looks: int) -> np.ndarray:
    """(HOLDOUT + 1,) whether the agent starts on a set of which so many hold-out tasks are uncovered, after so many earlier looks."""

    def starts(uncovered: int) -> bool:
        upper = max(0.9, uncovered / HOLDOUT)
        found = Certificate(HOLDOUT, uncovered, upper, 0, 0.9, DELTA)
        seen = (Look("other cells", 3, HOLDOUT, 30, 0, 0.01),) * looks
        try:
            CertifiedAgent(
                replace(SET, certificate=found, looks=seen),
                p_max=P_MAX,
                delta_coverage=DELTA,
                evidence="returns",
            )
        except AssumptionError:
            return False
        return True

    most = next(k for k in range(HOLDOUT + 1) if not starts(k))
    return np.arange(HOLDOUT + 1) < most


def test_wrong_acceptance_after_many_looks_is_what_was_promised() -> None:
    """The worst case at every look: a mass of just above p_max in no cell. Half of delta pays for coverage, the other half for the margin."""
    rng = np.random.default_rng(0)
    uncovered = rng.binomial(HOLDOUT, P_MAX, size=(RUNS, LOOKS))
    paid = np.stack([accepted(a)[uncovered[:, a]] for a in range(LOOKS)], axis=1).any(axis=1).sum()
    unpaid = accepted(0)[uncovered].any(axis=1).sum()
    assert 0 < paid and rate_test(int(paid), RUNS, DELTA / 2) > 1e-3
    # The same looks with nothing handed on: each is a first one.
    assert rate_test(int(unpaid), RUNS, DELTA / 2) < 1e-3


def test_the_status_says_when_the_hold_out_is_read_at_a_larger_error_than_was_set_out_with() -> None:
    found = Certificate(HOLDOUT, 0, 0.02, 0, 0.02, SET.ledger.total / 2)
    certified = replace(SET, certificate=found)
    planned = certified.ledger.total

    def notes(delta: float) -> str:
        one = CertifiedAgent(certified, p_max=P_MAX, delta_coverage=delta, evidence="returns")
        return " ".join(one.status().notes)

    assert "delta_coverage" not in notes(planned)
    assert f"at an error of {2 * planned:g} (delta_coverage), larger than the {planned:g}" in notes(2 * planned)
