"""Cells that are eliminated or readmitted, and the target that is chosen.

Letters: N cells, J policies.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.audit.order import CLOSE
from surefoot.audit.plans import Plans, largest_share
from surefoot.deploy.evidence.mixture import RETURN
from surefoot.deploy.tuning import TUNING

__all__ = ["CellDecisions"]


class CellDecisions(Plans):
    """Checks what is said about cells and targets."""

    def _review(self, before: Any) -> None:
        wealth, dying, back = self.wealth.review()
        gone = [k for body in self._recorded("eliminated") for k in body["cells"]]
        returned = [k for body in self._recorded("readmitted") for k in body["cells"]]
        early = before & ~self.wealth.active  # by a report that no task of the family can produce
        for k in range(dying.size):
            near = abs(wealth[k] - self.wealth.threshold) < CLOSE and not early[k]
            if (k in gone) != bool(dying[k] or early[k]) and not near:
                verb = "was" if k in gone else "was not"
                self._object(
                    f"cell {k} {verb} eliminated, its log e-value is {wealth[k]:.6f} and the threshold {self.wealth.threshold:.6f}"
                )
            if (k in returned) != bool(back[k]) and not abs(wealth[k] - math.log(RETURN)) < CLOSE:
                self._object(f"cell {k} was readmitted or not against its log e-value {wealth[k]:.6f}")
        self._check_wealth(wealth)
        self.wealth.watched &= ~((wealth >= self.wealth.final) | self.wealth.impossible)
        self.wealth.active = before.copy()
        self.wealth.active[gone], self.wealth.active[returned] = False, True
        if gone or returned:
            self.changed = self.order.settled
            self.replan |= self.trust == "cells"
        if not self.wealth.watched.any() and not self.outside:
            self.outside = True
            self.bounds.drop_start(self.data_start)
            self._expect("every cell is rejected")

    def _check_wealth(self, wealth: FloatArray) -> None:
        for body in self._recorded("eliminated"):
            for k, recorded in zip(body["cells"], body["log_wealth"]):
                if recorded is not None and not math.isclose(recorded, wealth[k], rel_tol=CLOSE, abs_tol=CLOSE):
                    self._object(f"cell {k} has the log e-value {wealth[k]:.9g}, recorded is {recorded:.9g}")

    def _check_cells(self, before: Any) -> None:
        """Whatever is recorded about cells happened, and nothing else."""
        gone = sorted(k for body in self._recorded("eliminated") for k in body["cells"])
        back = sorted(k for body in self._recorded("readmitted") for k in body["cells"])
        active = self.wealth.active
        if gone != np.flatnonzero(before & ~active).tolist() or back != np.flatnonzero(~before & active).tolist():
            self._object(f"cells {gone} were recorded as eliminated and {back} as readmitted, which does not follow")
        for body in (*self._recorded("eliminated"), *self._recorded("readmitted")):
            if body["cells_left"] != int(active.sum()):
                self._object(f"cells_left must be {int(active.sum())}, got {body['cells_left']}")

    def _look_again(self, posterior: FloatArray, *, logged: bool = False) -> None:
        if not logged:  # a log is a time of its own
            self.look = TUNING.next_update(self.order.settled)
        self.objective = posterior @ self.policy_set.cells.predictions.reward_center
        self.replan = True
        if self.target == 0 and len(self.policy_set.policies) > 1:
            self._choose_target(posterior)

    def _choose_target(self, posterior: FloatArray) -> None:
        recorded = [body["policy"] for body in self._recorded("target")]
        likely = np.flatnonzero(posterior >= TUNING.plausible).tolist()
        gains = np.array([self._gains(k) for k in likely])
        weights = posterior[likely] / posterior[likely].sum()
        expected = weights @ gains
        largest = float(np.abs(gains).max())
        room = CLOSE * (largest + min(largest, 1.0))
        if not recorded and expected.max() <= room:
            return  # nothing promises anything
        # What knowing the cell would add, against what the best policy adds: positive while it is too early.
        doubt = weights @ gains.max(axis=1) - expected.max() - TUNING.decided * expected.max()
        if self.order.settled + self.log.count < TUNING.warm_up and (doubt > room or (doubt > -room and not recorded)):
            if recorded:
                self._object(f"policy {recorded[0]} became the target before the task was known well enough")
            return
        chosen = recorded[0] if len(recorded) == 1 else 0
        if chosen < 1 or expected[chosen - 1] < expected.max() - room:
            self._object(f"the target must be the policy that promises most in the likeliest cells, got {recorded}")
        self.target = chosen
        self.bounds.select(self.target, self.opened)

    def _gains(self, cell: int) -> list[float]:
        """What every policy but the safe one promises over the safe one in a cell, mixed as far as the limits require."""
        reward = self.policy_set.cells.predictions.reward_center[cell]
        cost = self.policy_set.cells.predictions.cost_center[cell]
        limits = [
            max((1.0 - TUNING.target_slack) * d, s + TUNING.least_slack * (d - s))
            for d, s in zip(self.limits.tolist(), cost[0].tolist())
        ]
        return [
            0.0 if self.barred[j] else largest_share(cost[0], cost[j], np.array(limits)) * (reward[j] - reward[0])
            for j in range(1, len(reward))
        ]
