r"""Exact binomial limits: what k failures in m independent trials say about the failure rate.

Clopper & Pearson (1934). For ``X ~ Bin(m, p)`` and ``k`` observed, the one-sided upper limit at error ``alpha`` is the
largest rate that the data do not reject,

    upper(k, m, alpha) = max{ p : P_p(X <= k) >= alpha } = Beta^{-1}(1 - alpha; k + 1, m - k),

and the lower limit is its mirror image ``1 - upper(m - k, m, alpha)``. Both follow from
``P_p(X <= k) = P(Beta(k + 1, m - k) > p)``. The coverage is at least ``1 - alpha`` for every p, with no approximation.

Symbols: ``k`` failures, ``m`` trials, ``alpha`` error probability of one side (of both together in
:func:`clopper_pearson`). The hold-out certificate reads ``upper`` at ``alpha = delta_cov``.

**Tests of a rate.** "The rate is at least a" is rejected at error delta where ``P_a(X <= k) <= delta`` (:func:`rejects`). The tail falls in the
rate, so under every rate of at least a the error is at most delta; equivalently ``upper(k, m, delta) <= a``. The tail rises in k and falls in m, so
there are a largest k for given m (:func:`failures_allowed`) and a smallest m for given k (:func:`trials_needed`).

**Fixed-sequence testing** (:func:`fixed_sequence`). Settings are walked in an order fixed beforehand and accepted until the first is not. Let the
first whose rate is at least a be number t. Any setting with such a rate is accepted only if t is, which has probability at most delta: no correction
for the number of settings is needed, whatever the dependence between them (Maurer, Hothorn & Lehmacher 1995; Bauer 1991).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from surefoot.arrays import check_integer, check_real

__all__ = [
    "SIMULATION_STATED_AT",
    "clopper_pearson",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "failures_allowed",
    "fixed_sequence",
    "rate_test",
    "rejects",
    "simulated_upper",
    "trials_needed",
    "trials_without_failure",
]

SIMULATION_STATED_AT = 1e-6
"""Error at which a certificate states what simulated values add to its limit."""


def clopper_pearson_upper(failures: int, trials: int, alpha: float) -> float:
    """Largest failure rate not rejected at one-sided level ``alpha``; 1.0 where there were no trials.

    >>> round(clopper_pearson_upper(0, 459, 0.01), 4)
    0.01
    """
    failures, trials, alpha = _checked(failures, trials, alpha)
    if failures == trials:
        return 1.0
    # imported late: scipy costs more than the command line's whole start
    from scipy.special import betainccinv

    # the complemented inverse never forms 1 - alpha, which would round away a small alpha
    return float(betainccinv(failures + 1, trials - failures, alpha))


def clopper_pearson_lower(failures: int, trials: int, alpha: float) -> float:
    """Smallest failure rate not rejected at one-sided level ``alpha``; 0.0 where there were no failures.

    >>> clopper_pearson_lower(0, 100, 0.05)
    0.0
    """
    failures, trials, alpha = _checked(failures, trials, alpha)
    if failures == 0:
        return 0.0
    from scipy.special import betaincinv

    return float(betaincinv(failures, trials - failures + 1, alpha))


def simulated_upper(failures: int, trials: int, alpha: float, added: float) -> float:
    """Upper limit at error ``alpha`` where trials were judged by simulation, which adds ``added`` at error ``SIMULATION_STATED_AT``.

    Each failure is noticed with probability ``1 - beta``: the rate is at most ``u / (1 - beta) = u + u beta / (1 - beta)`` with u the exact limit.
    What is added is in proportion to u, and u grows without bound as ``alpha`` falls: below the error at which ``added`` was stated it is scaled
    up with u. An ``added`` that does not depend on u only gets larger by this.

    >>> simulated_upper(0, 459, 0.01, 0.0) == clopper_pearson_upper(0, 459, 0.01)
    True
    """
    added = check_real("added", added, low=0.0, high=1.0)
    upper = clopper_pearson_upper(failures, trials, alpha)
    stated = clopper_pearson_upper(failures, trials, SIMULATION_STATED_AT)
    return min(1.0, upper + added * max(1.0, upper / stated))


def clopper_pearson(failures: int, trials: int, alpha: float) -> tuple[float, float]:
    """Two-sided interval ``(lower, upper)`` that spends ``alpha / 2`` on each side."""
    failures, trials, alpha = _checked(failures, trials, alpha)
    return (
        clopper_pearson_lower(failures, trials, alpha / 2.0),
        clopper_pearson_upper(failures, trials, alpha / 2.0),
    )


def trials_without_failure(p_max: float, alpha: float) -> int:
    """Fewest trials whose failure-free outcome certifies a rate of at most ``p_max`` at error ``alpha``.

    The smallest ``m`` with ``(1 - p_max)^m <= alpha``.

    >>> trials_without_failure(0.01, 0.01)
    459
    """
    p_max = check_real("p_max", p_max, low=0.0, high=1.0, open_low=True, open_high=True)
    alpha = check_real("alpha", alpha, low=0.0, high=1.0, open_low=True, open_high=True)
    return max(1, math.ceil(math.log(alpha) / math.log1p(-p_max)))


def rate_test(failures: int, trials: int, rate: float) -> float:
    """One-sided p-value ``P(Bin(trials, rate) >= failures)`` of the hypothesis "the true rate is at most ``rate``".

    Small values speak against the hypothesis; with no trials, or no failures, the value is 1.
    """
    failures, trials, _ = _checked(failures, trials, 0.5)
    rate = check_real("rate", rate, low=0.0, high=1.0)
    if failures == 0:
        return 1.0
    from scipy.special import betainc

    return float(betainc(failures, trials - failures + 1, rate))


def rejects(failures: int, trials: int, rate: float, delta: float) -> bool:
    """Whether ``P(Bin(trials, rate) <= failures) <= delta``: "the true rate is at least ``rate``" is rejected at error ``delta``.

    >>> rejects(0, 59, 0.05, 0.05), rejects(0, 58, 0.05, 0.05), rejects(1, 59, 0.05, 0.05)
    (True, False, False)
    """
    failures, trials, delta = _checked(failures, trials, delta)
    rate = check_real("rate", rate, low=0.0, high=1.0, open_low=True, open_high=True)
    return _lower_tail(failures, trials, rate) <= delta


def failures_allowed(trials: int, rate: float, delta: float) -> int | None:
    """Largest number of failures in ``trials`` that still :func:`rejects` "the rate is at least ``rate``"; ``None`` where not even zero does.

    >>> failures_allowed(500, 0.05, 0.05), failures_allowed(58, 0.05, 0.05)
    (16, None)
    """
    if not rejects(0, trials, rate, delta):
        return None
    low, high = 0, trials  # low is accepted; all of them failing never is
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rejects(middle, trials, rate, delta) else (low, middle)
    return low


def trials_needed(failures: int, rate: float, delta: float) -> int:
    """Fewest trials in which ``failures`` failures reject "the rate is at least ``rate``" at error ``delta``.

    >>> [trials_needed(k, 0.05, 0.05) for k in (0, 1, 2)]
    [59, 93, 124]
    """
    failures = check_integer("failures", failures, low=0)
    low, high = failures, max(1, 2 * failures)  # k failures in k trials reject nothing
    while not rejects(failures, high, rate, delta):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rejects(failures, middle, rate, delta) else (middle, high)
    return high


def fixed_sequence(failures: Sequence[int], trials: int, rate: float, delta: float) -> int | None:
    """Index of the last setting accepted by fixed-sequence testing; ``None`` where the first is refused.

    With probability at least ``1 - delta`` the rates of this setting and of all before it are below ``rate``.

    Args:
        failures: of each setting, in the order in which they are walked (the most cautious first), fixed before any result.
        trials: of each setting; all may have met the same tasks.

    Raises:
        InvalidInput: counts outside ``0 .. trials``, or probabilities outside (0, 1).

    >>> fixed_sequence([0, 7, 16, 17, 3], 500, 0.05, 0.05)
    2
    """
    accepted = [rejects(count, trials, rate, delta) for count in failures]
    first_refusal = accepted.index(False) if False in accepted else len(accepted)
    return first_refusal - 1 if first_refusal else None


def _lower_tail(failures: int, trials: int, rate: float) -> float:
    """``P(Bin(trials, rate) <= failures)``."""
    if failures >= trials:
        return 1.0
    from scipy.special import betaincc

    return float(betaincc(failures + 1, trials - failures, rate))


def _checked(failures: int, trials: int, alpha: float) -> tuple[int, int, float]:
    trials = check_integer("trials", trials, low=0)
    failures = check_integer("failures", failures, low=0, high=trials)
    return failures, trials, check_real("alpha", alpha, low=0.0, high=1.0, open_low=True, open_high=True)
