"""A family of tabular tasks under other limits: chance constraints and CVaR (:mod:`surefoot.criterion`).

    rare = with_limits(NoisyGridworld(), [Exceeds(8.0, at_most=0.15)])
    policy_set = surefoot.train(rare)

Tasks, costs and what a plant reports stay what they are; what is limited changes. Policies of such a family look at the state of the task alone and
run on the plant as before; values of functionals are bounds on a grid (:mod:`surefoot.cmdp.functionals`), those of the library as close as
``grid`` makes them, and cells hold both ends. Policies that also look at the cost accumulated so far are those of :func:`surefoot.cmdp.augment`.

Letters: I limits, K costs, S states, A actions, n tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, check_integer
from surefoot.cmdp.model import GRID, TabularCMDP
from surefoot.cmdp.simulate import Simulator
from surefoot.criterion import Criterion, CVaR, Functional, fit_thresholds, parse_limits
from surefoot.errors import InvalidInput
from surefoot.tasks.family import TabularFamily

__all__ = ["LimitedFamily", "with_limits"]

FIT_TASKS, FIT_EPISODES, FIT_ROUNDS = 50, 400, 3
"""Tasks, and episodes in each, from which a threshold is taken; how often it is taken from the policy that is best under the last one."""


@dataclass(frozen=True, eq=False)
class LimitedFamily:
    """A family under other limits; made by :func:`with_limits`.

    Attributes:
        base: where tasks come from.
        limits: I.
        grid: cells on which accumulated costs are held.
    """

    base: Any
    limits: tuple[Functional, ...]
    grid: int

    @property
    def name(self) -> str:
        """Used in reports."""
        return f"{self.base.name}, {'; '.join(self.criterion.limit_texts)}"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Those of the base."""
        return tuple(self.base.parameter_names)

    @property
    def support(self) -> FloatArray:
        """That of the base."""
        found: FloatArray = np.asarray(self.base.support, dtype=np.float64)
        return found

    @cached_property
    def criterion(self) -> Criterion:
        """The base's, under these limits."""
        own: Criterion = self.base.criterion
        d = np.array([f.at_most for f in self.limits], dtype=np.float64)
        return Criterion(
            own.discount, d, own.reward_bounds, own.cost_bounds, own.horizon, (), self.limits, own.signal_names
        )

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, p), as the base draws them."""
        drawn: FloatArray = self.base.sample(n, rng)
        return drawn

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with these parameters."""
        task: TabularCMDP = self.base.cmdp(parameters)
        return task.with_functionals(self.limits, self.grid)

    def __getattr__(self, name: str) -> Any:
        # The base's own safe policy, where it has one: it has to prove itself under these limits like any other.
        if name == "safe_policy" and hasattr(self.base, name):
            return self.base.safe_policy
        raise AttributeError(name)


def with_limits(
    family: TabularFamily, limits: Sequence[Any], *, policy: Any = None, grid: int = GRID, seed: int = 0
) -> LimitedFamily:
    """The same tasks under other limits.

    Args:
        family: of tabular tasks.
        limits: :class:`~surefoot.criterion.Exceeds`, :class:`~surefoot.criterion.CVaR`, :class:`~surefoot.criterion.Mean`; a number limits the mean
            of the cost at the same position.
        policy: (S, A) from whose simulated costs a CVaR without a threshold takes it first; by default the family's safe policy. As that is often far
            below the limit, the threshold is then taken from the best policy under what was found, a few times over.
        grid: cells on which accumulated costs are held; more make values closer, and training slower.
        seed: of that simulation.

    Raises:
        InvalidInput: a limit is of a cost that there is not, or a threshold is missing and there is no policy to take it from.
    """
    given = parse_limits([x if isinstance(x, Functional) else float(x) for x in limits], ())[0]
    if not given:
        raise InvalidInput(
            f"limits must hold a functional, got {list(limits)}; the family has limits on means already",
            code="SF-ARGUMENT-EMPTY",
        )
    if any(isinstance(f, CVaR) and f.threshold is None for f in given):
        own = getattr(family, "safe_policy", None)
        table = policy if policy is not None else own() if own is not None else None
        if table is None:
            raise InvalidInput(
                f"policy must be given where a CVaR has no threshold and {family.name} no safe policy, got none; pass the controller of today",
                code="SF-ARGUMENT-MISSING",
            )
        given = _fitted(family, given, table, grid, seed)
    found = LimitedFamily(family, tuple(given), check_integer("grid", grid, low=2))
    # What cannot be is refused here, not at the first task.
    _ = found.criterion
    return found


def _fitted(family: TabularFamily, given: Any, table: Any, grid: int, seed: int) -> Any:
    """Thresholds from a policy, then from the one that is best under them in the middle of the family."""
    from surefoot.solvers.linear_program import solve

    middle = family.cmdp(np.median(family.sample(FIT_TASKS, np.random.default_rng([seed, 0xC7A3])), axis=0))
    fitted = fit_thresholds(given, _costs(family, table, seed))
    for _ in range(FIT_ROUNDS):
        best = solve(middle.with_functionals(fitted, grid))
        if best.status != "optimal":
            break
        fitted = fit_thresholds(given, _costs(family, best.policy, seed))
    return fitted


def _costs(family: TabularFamily, table: Any, seed: int) -> FloatArray:
    """(n, K) costs of simulated episodes of one policy, on tasks of the family."""
    points = family.sample(FIT_TASKS, np.random.default_rng([seed, 0xC7A2]))
    parts = []
    for k, point in enumerate(points):
        index = np.zeros(FIT_EPISODES, dtype=np.int64)
        parts.append(Simulator(family.cmdp(point), table).run(index, seed=seed, first_episode=k * FIT_EPISODES).costs)
    return np.concatenate(parts)
