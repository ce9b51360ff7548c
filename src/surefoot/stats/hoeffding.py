r"""Radii and the weight schedule of Safe-PCE, with the constants of its proof.

Ni & Kamgarpour, "Constrained Meta Reinforcement Learning with Provable Test-Time Safety", ICML 2026 (arXiv 2601.21845,
cited as P), Algorithm 2, generalised to I constraints, with two repairs: the union bound counts the windows, and the
contraction ``C_l`` carries the eps that P's Equation 6 omits. Symbols, all in P's units (signals in ``[0, 1]``,
episodes discounted by ``g``):

    =====================  ==========================================================================================
    ``L``                  Lipschitz constant of values in the model distance, ``(1+w)/(1-g) + w g/(1-g)^2``
    ``eps``                radius of the cover
    ``v_s``                slack ``safe_slack`` of the safe policy in candidate l's prediction, minimum over constraints
    ``e``                  ``(4L + 9) eps``
    ``Lambda``             ``log_term = ln(2 (1+I) K W / delta)`` for K episodes, W windows and I constraints
    ``alpha_0 = 0``        weight of candidate l in the mixture at level 0; ``alpha_m`` at level m
    =====================  ==========================================================================================

* Elimination: a running mean over n episodes leaves its prediction by more than
  ``sqrt(2 Lambda / n) / (1-g) + eps (L+1)``. The first term is Hoeffding's inequality for values in ``[0, 1/(1-g)]``
  (with room to spare), the second what two models eps apart may differ by.
* Promotion from level m to m+1: ``n >= 32 Lambda / ((1-g)^2 slack^2)``, ``slack`` of the predicted mixture,
  while ``m <= log_{C_l} eps``.
* Weights: ``alpha_1 = t / (t + 2/(1-g))`` with ``t = v_s - 2 eps (L+2)``, then
  ``alpha_{m+1} = 3 v_s alpha_m / ((2 + alpha_m) v_s + e)``.

The map ``1/alpha -> C_l / alpha + 1/3`` with ``C_l = (2 v_s + e)/(3 v_s)`` is linear, which gives the closed form

    alpha_{m+1} = alpha_1 / (C_l^m + (alpha_1/3) (1 + C_l + ... + C_l^{m-1})),   limit ``1 - e/v_s`` when ``e < v_s``.

P's guarantee needs ``(8L + 18) eps <= v_s``. It fails for any practical cover; a non-positive ``alpha_1`` then means:
stay at weight 0.
"""

from __future__ import annotations

import math

from surefoot.arrays import check_integer, check_real
from surefoot.errors import InvalidInput

__all__ = [
    "elimination_radius",
    "first_weight",
    "growth",
    "last_level",
    "lipschitz",
    "log_term",
    "model_error",
    "next_weight",
    "promotion_episodes",
    "weight_closed_form",
]


def lipschitz(discount: float, width: float) -> float:
    """``L = (1+w)/(1-g) + w g/(1-g)^2``: values differ by at most L times the model distance.

    Args:
        discount: ``g`` in (0, 1).
        width: ``w``, the range of the per-step signal.
    """
    discount = _checked_discount(discount)
    width = check_real("width", width, low=0.0)
    gap = 1.0 - discount
    return (1.0 + width) / gap + width * discount / gap**2


def log_term(episodes: int, windows: int, constraints: int, delta: float) -> float:
    """``Lambda = ln(2 (1+I) K W / delta)``: two sides, I costs and the return, K episodes, W windows."""
    episodes = check_integer("episodes", episodes, low=1)
    windows = check_integer("windows", windows, low=1)
    constraints = check_integer("constraints", constraints, low=0)
    delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
    return math.log(2 * (1 + constraints) * episodes * windows) - math.log(delta)


def elimination_radius(n: int, discount: float, log_term: float) -> float:
    """``sqrt(2 Lambda / n) / (1-g)``, the two-sided radius of a mean of n episodes; infinite for ``n = 0``."""
    n = check_integer("n", n, low=0)
    discount = _checked_discount(discount)
    log_term = check_real("log_term", log_term, low=0.0, open_low=True)
    return math.sqrt(2.0 * log_term / n) / (1.0 - discount) if n else math.inf


def model_error(eps: float, lipschitz: float) -> float:
    """``eps (L+1)``, the part of the elimination threshold that no number of episodes removes."""
    eps, lipschitz = _checked_cover(eps, lipschitz)
    return eps * (lipschitz + 1.0)


def promotion_episodes(slack: float, discount: float, log_term: float) -> float:
    """``32 Lambda / ((1-g)^2 slack^2)``, the episodes after which the weight may rise.

    Infinite where the predicted mixture has no slack: such a level is never left.
    """
    slack = check_real("slack", slack)
    discount = _checked_discount(discount)
    log_term = check_real("log_term", log_term, low=0.0, open_low=True)
    scaled = (1.0 - discount) * slack
    return 32.0 * log_term / scaled / scaled if scaled > 0.0 else math.inf


def first_weight(safe_slack: float, eps: float, lipschitz: float, discount: float) -> float:
    """``alpha_1 = t / (t + 2/(1-g))``, ``t = v_s - 2 eps (L+2)``; not positive means: stay at weight 0.

    The formula has a pole at ``t = -2/(1-g)`` beyond which it turns positive (and exceeds one). Its limit from the
    right, minus infinity, is returned from there on, so that the sign is always the sign of ``t``.
    """
    safe_slack = check_real("safe_slack", safe_slack)
    eps, lipschitz = _checked_cover(eps, lipschitz)
    horizon = 2.0 / (1.0 - _checked_discount(discount))
    usable = safe_slack - 2.0 * eps * (lipschitz + 2.0)
    return usable / (usable + horizon) if usable + horizon > 0.0 else -math.inf


def next_weight(weight: float, safe_slack: float, eps: float, lipschitz: float) -> float:
    """``alpha_{m+1} = 3 v_s alpha_m / ((2 + alpha_m) v_s + e)``, which lies in [0, 1] for ``alpha_m`` in [0, 1]."""
    weight = check_real("weight", weight, low=0.0, high=1.0)
    safe_slack, margin = _slack_and_margin(safe_slack, eps, lipschitz)
    return 3.0 * safe_slack * weight / ((2.0 + weight) * safe_slack + margin)


def growth(safe_slack: float, eps: float, lipschitz: float) -> float:
    """``C_l = (2 v_s + e) / (3 v_s)``: each level multiplies ``1/alpha - 1/alpha_limit`` by it; from 2/3 upwards."""
    safe_slack, margin = _slack_and_margin(safe_slack, eps, lipschitz)
    return (2.0 * safe_slack + margin) / (3.0 * safe_slack)


def weight_closed_form(level: int, first: float, safe_slack: float, eps: float, lipschitz: float) -> float:
    """``alpha_level`` without the recursion; level 0 is weight 0 and level 1 is ``first``."""
    level = check_integer("level", level, low=0)
    first = check_real("first", first, low=0.0, high=1.0)
    if level == 0:
        return 0.0
    ratio, steps = growth(safe_slack, eps, lipschitz), level - 1
    shrink = -math.expm1(steps * math.log(ratio))  # 1 - C^m without cancellation
    geometric = steps if ratio == 1.0 else shrink / (1.0 - ratio)
    return first / (1.0 - shrink + first / 3.0 * geometric)


def last_level(safe_slack: float, eps: float, lipschitz: float) -> int:
    """``floor(log_{C_l} eps)``: the last level from which the weight is still raised.

    A candidate therefore opens at most ``last_level + 2`` windows. Where ``C_l >= 1`` raising has no use, and 0 is
    returned.
    """
    eps = check_real("eps", eps, low=0.0, high=1.0, open_low=True, open_high=True)
    ratio = growth(safe_slack, eps, lipschitz)
    return math.floor(math.log(eps) / math.log(ratio)) if ratio < 1.0 else 0


def _checked_discount(discount: float) -> float:
    return check_real("discount", discount, low=0.0, high=1.0, open_low=True, open_high=True)


def _checked_cover(eps: float, lipschitz: float) -> tuple[float, float]:
    return check_real("eps", eps, low=0.0), check_real("lipschitz", lipschitz, low=0.0)


def _slack_and_margin(safe_slack: float, eps: float, lipschitz: float) -> tuple[float, float]:
    """``(v_s, e)`` of a schedule that exists."""
    eps, lipschitz = _checked_cover(eps, lipschitz)
    if not check_real("safe_slack", safe_slack) > 0.0:
        raise InvalidInput(
            f"safe_slack must be > 0 for a schedule to exist, got {safe_slack:g}; keep playing the safe policy",
            code="SF-AGENT-MARGIN",
        )
    return float(safe_slack), (4.0 * lipschitz + 9.0) * eps
