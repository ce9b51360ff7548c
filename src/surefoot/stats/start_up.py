r"""How long bounds from data alone take to let weight move, as a function of the largest possible episode cost.

A policy of which nothing is known but that an episode costs at most H may be played with the weight ``w`` for which ``(1 - w) s + w B <= d``, where
s is the safe policy's cost and B the bound on the other's. If its episodes cost nothing, n of them prove ``B_n = H (1 - delta^(1/n))``, the exact
binomial limit, which betting approaches: about ``H ln(1/delta) / n``. The n-th then waits ``1 / w_n`` episodes for its turn. Together they wait
about ``H ln(1/delta) ln(n) / (d - s)``, in proportion to H.

Letters: n episodes of the other policy, H ceiling, d limit, s safe cost.
"""

from __future__ import annotations

import math

from surefoot.arrays import check_real
from surefoot.errors import InvalidInput

__all__ = ["ceiling_advice", "start_up"]

LONGEST = 10**9
"""Episodes after which nobody waits any longer."""


def start_up(ceiling: float, limit: float, safe_cost: float, delta: float) -> int:
    """Expected episodes until a policy that costs nothing may be played half of the time, from real costs alone.

    A policy with costs takes longer; this is the part that the ceiling decides.

    Args:
        ceiling: H, the largest possible cost of an episode.
        limit: d.
        safe_cost: s, below the limit.
        delta: error of the bound.

    Raises:
        InvalidInput: numbers that are no such thing.

    >>> start_up(100.0, 1.5, 1.0, 0.05) > 1.9 * start_up(50.0, 1.5, 1.0, 0.05)
    True
    """
    ceiling = check_real("ceiling", ceiling, low=0.0, open_low=True)
    limit = check_real("limit", limit, low=0.0, high=math.inf)
    safe_cost = check_real("safe_cost", safe_cost, low=0.0)
    delta = check_real("delta", delta, low=0.0, high=1.0, open_low=True, open_high=True)
    if not safe_cost < limit:
        raise InvalidInput(
            f"safe_cost must be below the limit {limit:g}, got {safe_cost:g}; without room nothing can be tried",
            code="SF-ARGUMENT-ORDER",
        )
    waited, n, room = 0.0, 0, limit - safe_cost
    while waited < LONGEST:
        bound = ceiling if n == 0 else -ceiling * math.expm1(math.log(delta) / n)
        weight = 1.0 if bound <= limit else room / (bound - safe_cost)
        if weight >= 0.5:
            return round(waited)
        waited += 1.0 / weight
        n += 1
    return LONGEST


def ceiling_advice(ceilings: list[float], limits: list[float], safe_costs: list[float], delta: float) -> str | None:
    """What smaller ceilings would buy, as a sentence; ``None`` where ceilings decide nothing.

    Args:
        ceilings, limits, safe_costs: I each.
        delta: of the deployment.
    """
    room = [(c, d, s) for c, d, s in zip(ceilings, limits, safe_costs) if 0.0 <= s < d < c]
    if not room:
        return None
    level = delta / len(ceilings)
    now, ceiling, limit, safe = max((start_up(c, d, s, level), c, d, s) for c, d, s in room)
    half = start_up(max(ceiling / 2.0, limit), limit, safe, level)
    if now < 100:
        return None
    lower = max(ceiling / 2.0, limit)
    return (
        f"Under 'data' the largest possible cost of an episode ({ceiling:.4g}) decides when weight can move: about {now} episodes until a policy "
        f"that costs nothing may be played half of the time; about {half} if an episode cost at most {lower:.4g}. State cost_ceilings= as low as the "
        "plant guarantees, for example by an interlock that ends the episode."
    )
