"""What a look at a hold-out pays, and what it proves; the limits are recomputed with scipy's beta distribution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from surefoot import InvalidInput, PolicySet
from surefoot.policyset.lineage import fingerprint, holdout_stream
from surefoot.stats.ledger import Ledger
from surefoot.training.holdout import Lineage, certify, judge_frozen, pay_for_look


def limit(failures: int, trials: int, level: float) -> float:
    return 1.0 if failures == trials else float(beta.isf(level, failures + 1, trials - failures))


@pytest.mark.parametrize("attempt", [1, 2, 3])
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_a_look_pays_half_of_what_is_left_in_equal_parts(attempt: int, share: float) -> None:
    before = Lineage(0.08, 0, (), True).ledger
    for a in range(1, attempt):
        before = Ledger(0.08).spend("looks", 0.08 * (1.0 - 0.5**a), "before")
    after, paid = pay_for_look(before, attempt, share), 0.08 * 0.5**attempt
    assert after.left == pytest.approx(before.left - paid)
    assert after.spent_on("simulation") == pytest.approx(share * paid)
    for name in ("coverage", "margin"):
        assert after.spent_on(name) == pytest.approx((1.0 - share) * paid / 2)


def test_a_certificate_is_two_binomial_limits_at_what_was_paid() -> None:
    ledger = pay_for_look(Ledger(0.05), 1)
    covered, margins = np.arange(50) >= 3, np.where(np.arange(50) < 5, 0.1, 0.3)
    found = certify(ledger, 0.2, covered, margins)
    assert (found.holdout, found.uncovered, found.margin_failures) == (50, 3, 5)
    assert found.uncovered_upper == pytest.approx(limit(3, 50, 0.0125), rel=1e-9)
    assert found.margin_failure_upper == pytest.approx(limit(5, 50, 0.0125), rel=1e-9)
    assert found.delta_coverage == 0.025
    assert found.simulation_error == 0.0


def test_a_margin_just_as_large_as_promised_is_no_failure() -> None:
    assert certify(pay_for_look(Ledger(0.05), 1), 0.2, [True, True], np.array([0.2, 0.2])).margin_failures == 0


def test_what_simulation_adds_is_added_to_both_limits_and_its_price_to_delta() -> None:
    ledger = pay_for_look(Ledger(0.05), 1, 0.1)
    found = certify(ledger, 0.0, np.arange(50) >= 3, np.full(50, 1.0), lambda k: 0.01 * (k + 1))
    assert found.simulation_error == 0.04
    assert found.uncovered_upper == pytest.approx(limit(3, 50, 0.01125) + 0.04, rel=1e-9)
    assert found.margin_failure_upper == pytest.approx(limit(0, 50, 0.01125) + 0.01, rel=1e-9)
    assert found.delta_coverage == pytest.approx(0.025)


def test_the_judge_gets_the_stream_of_what_was_frozen(gridworld_set: PolicySet) -> None:
    frozen = replace(gridworld_set, certificate=None, ledger=Ledger(0.05))
    met: list[Any] = []

    def judge(stream: np.random.Generator, ledger: Ledger) -> tuple[Any, Any]:
        met.append((stream.random(), ledger))
        return np.ones(7, dtype=bool), np.ones(7)

    judged = judge_frozen(frozen, 7, judge)
    (number, ledger), wanted = met[0], holdout_stream(frozen.seed, fingerprint(frozen), 1).random()
    assert number == wanted
    assert judged.ledger == ledger
    assert judged.certificate is not None and judged.certificate.holdout == 7
    assert judge_frozen(frozen, 0, judge) is frozen
    assert len(met) == 1


def test_a_lineage_goes_on_from_the_set_seen_last(gridworld_set: PolicySet) -> None:
    family = gridworld_set.training.family
    second = Lineage.after(gridworld_set, family, delta=0.05, seed=1)
    assert len(second.looks) == 1
    assert second.paid().spent_on("coverage") == pytest.approx(0.05 / 8)
    with pytest.raises(InvalidInput):
        Lineage.after(gridworld_set, "another family", delta=0.05, seed=1)
