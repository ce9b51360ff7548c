"""What the agent aims at where cells are no hypotheses: expected returns, and the policy to be proved safe.

Plausibilities of the cells (:mod:`surefoot.deploy.posterior`) decide what to try and cost no delta: the objective is the posterior mean of the
predicted returns. One policy is chosen to be proved safe, the *target*: with enough evidence about the task, the policy that promises most,
mixed with the safe one as far as the limits require. Its bound uses episodes asked afterwards only (:mod:`surefoot.deploy.bounds`, way B).

Letters: N cells, J policies, I constraints, n episodes.
"""

from __future__ import annotations

import numpy as np

from surefoot.arrays import FloatArray, IntArray, magnitude
from surefoot.deploy import tuning
from surefoot.deploy.planner import safe_share
from surefoot.deploy.posterior import CellPosterior
from surefoot.policyset.schema import PolicySet
from surefoot.stateful import Stateful

__all__ = ["Objective", "promises"]


class Objective(Stateful):
    """See the module's docstring.

    Args:
        policy_set: the library and its predictions.
        posterior: of the cells; ``None`` where they are hypotheses, and nothing is chosen here.

    Attributes:
        returns: (J,) what is expected of every policy.
        target: the policy that is to be proved safe, or 0.
    """

    CHANGES = ("posterior", "returns", "target", "_next")

    def __init__(self, policy_set: PolicySet, posterior: CellPosterior | None) -> None:
        self._set, self.posterior = policy_set, posterior
        self.returns: FloatArray = policy_set.cells.predictions.reward_center.mean(axis=0)
        self.target, self._next = 0, tuning.TUNING.first_update

    def update(
        self, settled: int, barred: tuple[int, ...], logged: int = 0, *, now: bool = False
    ) -> tuple[bool, str | None]:
        """Follow the posterior if it is time; whether the objective changed, and what to say of a target that was chosen.

        Args:
            settled: episodes that were asked and took effect.
            barred: policies that get no weight.
            logged: episodes of the safe policy from before the first ask.
            now: some of these came just now; if they are enough for a first look, that is a time of its own.
        """
        now = now and logged >= tuning.TUNING.first_update
        if self.posterior is None or (settled < self._next and not now):
            return False, None
        if not now:
            self._next = tuning.TUNING.next_update(settled)
        weights = self.posterior.posterior()
        self.returns = weights @ self._set.cells.predictions.reward_center
        if self.target == 0 and len(self._set.policies) > 1:
            return True, self._choose_target(weights, settled + logged, barred)
        return True, None

    def _choose_target(self, posterior: FloatArray, settled: int, barred: tuple[int, ...]) -> str | None:
        """Way B: pick a policy to prove safe from what has been seen; its bound will use later episodes only."""
        chosen = tuning.TUNING
        likely = np.flatnonzero(posterior >= chosen.plausible)
        rewards = self._set.cells.predictions.reward_center
        weights = posterior[likely] / posterior[likely].sum()
        values = promises(self._set, likely)
        # A policy that was barred promises what the safe one does.
        values[:, np.array(barred, dtype=np.int64) - 1] = rewards[likely, :1]
        expected, safe = weights @ values, float(weights @ rewards[likely, 0])
        # The first of those that promise most, whatever the rounding; none while nothing promises anything.
        same = chosen.negligible_gain * float(magnitude(np.abs(expected).max()))
        best = int((expected >= expected.max() - same).argmax())
        could_improve = float(weights @ values.max(axis=1)) - expected[best]
        undecided = could_improve > chosen.decided * (expected[best] - safe) and settled < chosen.warm_up
        if undecided or expected[best] - safe <= same:
            return None
        self.target = best + 1
        return f"policy {self.target}, promising in the {likely.size} most plausible cells, is to be proved safe"


def promises(policy_set: PolicySet, cells: IntArray) -> FloatArray:
    """(n, J-1) what every policy but the safe one would return in these cells (n,), mixed with the safe one as far as the limits require."""
    predictions, limits = policy_set.cells.predictions, policy_set.criterion.cost_limits
    reward, cost = predictions.reward_center[cells], predictions.cost_center[cells]
    n, j, i = cost.shape
    safe = cost[:, 0]
    slack = np.maximum((1.0 - tuning.TUNING.target_slack) * limits, safe + tuning.TUNING.least_slack * (limits - safe))
    slack, safe = (np.repeat(part, j, axis=0) for part in (slack, safe))
    share = safe_share(safe, cost.reshape(n * j, i), slack).reshape(n, j)
    result: FloatArray = (share * reward + (1.0 - share) * reward[:, :1])[:, 1:]
    return result
