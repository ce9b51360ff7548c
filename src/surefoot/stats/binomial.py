r"""Exact binomial limits: what k failures in m independent trials say about the failure rate.

Clopper & Pearson (1934). For ``X ~ Bin(m, p)`` and ``k`` observed, the one-sided upper limit at error ``alpha`` is the
largest rate that the data do not reject,

    upper(k, m, alpha) = max{ p : P_p(X <= k) >= alpha } = Beta^{-1}(1 - alpha; k + 1, m - k),

and the lower limit is its mirror image ``1 - upper(m - k, m, alpha)``. Both follow from
``P_p(X <= k) = P(Beta(k + 1, m - k) > p)``. The coverage is at least ``1 - alpha`` for every p, with no approximation.

Symbols: ``k`` failures, ``m`` trials, ``alpha`` error probability of one side (of both together in
:func:`clopper_pearson`). The hold-out certificate reads ``upper`` at ``alpha = delta_cov``.
"""

from __future__ import annotations

import math

from surefoot.arrays import check_integer, check_real

__all__ = [
    "SIMULATION_STATED_AT",
    "clopper_pearson",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "rate_test",
    "simulated_upper",
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


def _checked(failures: int, trials: int, alpha: float) -> tuple[int, int, float]:
    trials = check_integer("trials", trials, low=0)
    failures = check_integer("failures", failures, low=0, high=trials)
    return failures, trials, check_real("alpha", alpha, low=0.0, high=1.0, open_low=True, open_high=True)
