"""A family of simulated tasks under other limits: chance constraints and CVaR (:mod:`surefoot.criterion`).

    rare = with_limits(building(), [Exceeds(5.0, at_most=0.05)])
    policy_set = train_simulated(rare, library)

Simulated episodes count what is limited in the place of their costs; the plant reports costs as before. Letters: I limits, K costs, n episodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from surefoot.criterion import CVaR, Functional, fit_thresholds, functional_bounds, parse_limits
from surefoot.errors import InvalidInput
from surefoot.gym.family import GymFamily
from surefoot.gym.rollout import rollout
from surefoot.policyset.schema import EpisodeBounds

__all__ = ["with_limits"]

FIT_TASKS, FIT_EPISODES = 20, 100
"""Tasks, and episodes in each, from which a threshold is taken."""


def with_limits(family: GymFamily, limits: Sequence[Any], *, policy: Any = None, seed: int = 0) -> GymFamily:
    """The same tasks under other limits.

    Args:
        family: with limits on means; its ``bounds`` say how large costs can be, from which follows how large what is limited can be.
        limits: :class:`~surefoot.criterion.Exceeds`, :class:`~surefoot.criterion.CVaR`, :class:`~surefoot.criterion.Mean`; a number limits the mean
            of the cost at the same position.
        policy: from whose simulated costs a CVaR without a threshold takes it: the controller of today.
        seed: of that simulation.

    Raises:
        InvalidInput: the family has such limits already, a limit is of a cost that there is not, or a threshold is missing and there is no policy.
        SimulationError: the simulation breaks a rule.
    """
    base = family.criterion.means_only("the family that is given other limits")
    given = parse_limits([x if isinstance(x, Functional) else float(x) for x in limits], ())[0]
    if not given:
        raise InvalidInput(
            f"limits must hold a functional, got {list(limits)}; the family has limits on means already",
            code="SF-ARGUMENT-EMPTY",
        )
    if any(isinstance(f, CVaR) and f.threshold is None for f in given):
        if policy is None:
            raise InvalidInput(
                "policy must be given where a CVaR has no threshold, got none; pass the controller of today",
                code="SF-ARGUMENT-MISSING",
            )
        given = fit_thresholds(given, _costs(family, policy, seed))
    criterion = replace(
        base,
        cost_limits=np.array([f.at_most for f in given], dtype=np.float64),
        functionals=given,
        cost_names=(),
        signal_names=base.cost_names,
    )
    bounds = family.bounds
    if bounds is not None:
        most = functional_bounds(given, np.asarray(bounds.cost_ceilings, dtype=np.float64))
        most = np.where(most > 0.0, most, criterion.cost_ceilings)
        bounds = EpisodeBounds(bounds.return_lower, bounds.return_upper, tuple(most.tolist()))
    name = f"{family.name}, {'; '.join(criterion.limit_texts)}"
    return replace(family, name=name, criterion=criterion, bounds=bounds)


def _costs(family: GymFamily, policy: Any, seed: int) -> Any:
    """(n, K) costs of simulated episodes of one policy, on tasks of the family."""
    points = family.sample(FIT_TASKS, np.random.default_rng([seed, 0xC7A2]))
    parts = [
        rollout(family, point, [policy], episodes=FIT_EPISODES, seed=(seed, 0xC7A2), task=k)[0].costs
        for k, point in enumerate(points)
    ]
    return np.concatenate(parts)
