"""Plans: certified by rows recomputed here, and the best of those that are, as a linear program solved through another interface.

Letters: N cells, J policies, I constraints, H rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.audit.opening import Opening
from surefoot.audit.order import CLOSE
from surefoot.audit.rehearsed import RehearsedRun
from surefoot.deploy.comparison import BESIDE
from surefoot.deploy.planner import INSIDE
from surefoot.deploy.trust import trust_level
from surefoot.deploy.tuning import TUNING

__all__ = ["Plans", "largest_share"]

CERTIFIED = 1e-8
"""Relative excess over a limit that two computations of the same bound may differ by."""


class Plans(Opening):
    """Checks plans."""

    def _weights(self, body: dict[str, Any]) -> FloatArray:
        result = np.zeros(len(self.policy_set.policies))
        for j, weight in body["weights"].items():
            result[int(j)] = weight
        if (result < 0.0).any() or abs(math.fsum(result) - 1.0) > 1e-9:
            self._object(f"weights must be a mixture, got {body['weights']}")
        return result

    def _rows(self) -> FloatArray:
        """(H, J, I)."""
        if self.trust == "cells" and self.wealth.active.any():
            return np.minimum(self.policy_set.cells.predictions.cost_upper[self.wealth.active], self.bounds.values)
        return self.bounds.rows

    def _certified(self, weights: FloatArray) -> bool:
        """Whether a mixture may be played now: the safe policy always, another one if every row allows it."""
        if self.followed is not None:
            return self.followed.plays(weights)
        if weights[0] == 1.0:
            return True
        costs = np.tensordot(self._rows(), weights, axes=(1, 0))
        stopped = self.alarm or self.aborted or self.recovering or self._ramping or bool(weights[self.barred].any())
        return not stopped and bool(
            (costs <= self.limits + CERTIFIED * np.where(self.limits < 1.0, 2.0 * self.limits, 1.0 + self.limits)).all()
        )

    def _check_plan(self) -> None:
        recorded = [event for event in self.group if event.kind == "planned"]
        if len(recorded) > 1 or (recorded and recorded[0] is not self.group[-1]) or not (recorded or self.plan):
            self._object("a plan must come last, and once")
        if recorded:
            self.plan, self.plan_seq = recorded[0].body, recorded[0].seq
        if recorded or self.replan:
            self._check_played()

    def _check_played(self) -> None:
        """The plan in force follows from bounds, cells and instructions as they are now."""
        plan, weights = self.plan, self._weights(self.plan)
        if self.followed is not None:
            self._check_rehearsed(self.followed, plan, weights)
            return
        if "belief" in plan:
            self._object("the bounds are said to be a belief's, and are not")
        if not self._certified(weights):
            self._object(
                "a plan was made that the recomputed bounds do not certify, or that is not safe after an alarm or abort"
            )
        costs = np.tensordot(self._rows(), weights, axes=(1, 0)).max(axis=0, initial=-np.inf)
        if not np.allclose(costs, plan["bounds"], rtol=CLOSE, atol=CLOSE * np.minimum(1.0, self.limits)):
            self._object(f"the plan's certified costs are {costs.tolist()}, recorded are {plan['bounds']}")
        if plan["cells_left"] != int(self.wealth.active.sum()):
            self._object(f"cells_left must be {int(self.wealth.active.sum())}, got {plan['cells_left']}")
        if self.alarm or self.aborted or self.recovering:
            return
        if float(weights[1:].sum()) > self.cap + 1e-9:
            self._object(f"the weight off the safe policy exceeds the cap {self.cap:g}")
        self._check_approval(plan, weights)

    def _check_rehearsed(self, run: RehearsedRun, plan: dict[str, Any], weights: FloatArray) -> None:
        """The plan in force is the belief's, as it was rehearsed."""
        if not run.plays(weights) or plan["waiting"] is not None or plan.get("belief") is not True:
            self._object(f"the plan must be the mixture that was rehearsed for this moment, got {plan['weights']}")
        costs = run.bounds(weights)
        if not np.allclose(costs, plan["bounds"], rtol=CLOSE, atol=CLOSE * np.minimum(1.0, self.limits)):
            self._object(
                f"the belief takes the plan's costs to be at most {costs.tolist()}, recorded are {plan['bounds']}"
            )
        if plan["cells_left"] != len(self.policy_set.cells):
            self._object(f"cells_left must be {len(self.policy_set.cells)}, got {plan['cells_left']}")

    def _check_approval(self, plan: dict[str, Any], weights: FloatArray) -> None:
        waiting = plan["waiting"]
        proposed = weights if waiting is None else self._weights(waiting)
        certified = plan["certified"] if waiting is None else waiting["certified"]
        if self.settings["approve"]:
            exceeds = bool((proposed[1:] > self.approved[1:] + 1e-12).any())
            if exceeds != (waiting is not None) and not (waiting is None and weights[0] == 1.0):
                self._object("a plan was played that nobody approved, or waits without need")
            if waiting is not None and not self._follows_approved(weights):
                self._object("what is played while a plan waits is neither what was approved nor the safe policy")
        elif waiting is not None:
            self._object("a plan waits though nobody asked for approvals")
        capped = waiting is None and self.cap < 1.0 and float(weights[1:].sum()) >= self.cap - 1e-9
        if certified and not capped:
            self._check_optimal(proposed)

    def _follows_approved(self, weights: FloatArray) -> bool:
        scale = min(1.0, self.cap / max(float(self.approved[1:].sum()), 1e-300))
        return weights[0] == 1.0 or bool(np.allclose(weights[1:], scale * self.approved[1:], atol=1e-9))

    def _check_optimal(self, weights: FloatArray) -> None:
        found = []
        for objective, candidate, doubted in self._doubts():
            best = self._optimum(objective, candidate, doubted)
            value = float(objective @ weights)
            if best is None or abs(value - best) <= CLOSE * (1.0 + abs(best)):
                return
            found.append((value, best))
        self._object(
            f"the plan's predicted return is {found[0][0]:.9g}, the best certified mixture has {found[0][1]:.9g}"
        )

    def _objectives(self) -> list[tuple[FloatArray, int]]:
        """What the plan may aim at, and the candidate: predicted returns in the candidate's cell under ``cells``, else what the posterior expects."""
        cells, active = self.policy_set.cells, self.wealth.active
        if self.trust == "cells" and active.any():
            living = np.flatnonzero(active).tolist()
            played = [k for k in living if not self.barred[cells.policy_index[k]]]
            best = max(played or living, key=lambda k: cells.optimal_upper[k])
            return [(cells.predictions.reward_center[best], int(cells.policy_index[best]) if played else 0)]
        if self.posterior is not None:
            return [(self.objective, candidate) for candidate in self._to_prove()]
        wealth = np.where(self.wealth.watched, self.wealth.log_wealth(), np.inf)
        near = np.flatnonzero(wealth <= wealth.min() + CLOSE) if np.isfinite(wealth.min()) else [0]
        return [(cells.predictions.reward_center[k], candidate) for k in near for candidate in self._to_prove()]

    def _doubts(self) -> Iterator[tuple[FloatArray, int, Any]]:
        """The same with the policies that seem worse than the safe one; twice where rounding decides."""
        for objective, candidate in self._objectives():
            if self.returns is None:
                yield objective, candidate, self.barred
                continue
            for doubted in (self.returns.doubted | self.returns.unsure, self.returns.doubted & ~self.returns.unsure):
                yield objective, candidate, doubted & ~self.barred

    def _to_prove(self) -> list[int]:
        """The target while its bound is above a limit, else none; both where rounding decides."""
        if self.barred[self.target]:
            return [0]
        above = float((self.bounds.values[self.target] - self.limits).max(initial=-np.inf))
        room = CLOSE * (1.0 + float(self.limits.max(initial=0.0)))
        return [self.target] * (above > -room) + [0] * (above <= room)

    def _exploration(self) -> float:
        """``kappa``: doubled for every doubling of the episodes since the cells changed last."""
        least = trust_level(self.trust).exploration
        kappa, since = least, max(self.changed, TUNING.stalled)
        while since * 2 <= self.order.settled:
            kappa, since = 2.0 * kappa, 2 * since
        return min(kappa, max(least, TUNING.most_exploration))

    def _optimum(self, objective: FloatArray, candidate: int, doubted: Any) -> float | None:
        """The best predicted return over all rows at once; ``None`` where the solver gives no answer."""
        from scipy.optimize import linprog

        rows = self._rows()
        inside = self.limits - INSIDE * (1.0 + np.abs(self.limits))
        matrix = rows.transpose(0, 2, 1).reshape(-1, objective.size)
        beside = np.where(doubted, BESIDE, 0.0)
        beside[0] = -1.0
        matrix, most = np.vstack([matrix, beside]), np.append(np.tile(inside, len(rows)), 0.0)
        floor = 0.0
        if candidate:
            alpha = min(largest_share(row[0], row[candidate], inside) for row in rows)
            floor = self._exploration() * min(0.999999 * alpha, TUNING.exploration_cap)
        limits = [
            (floor if j == candidate and candidate else 0.0, 0.0 if self.barred[j] else 1.0)
            for j in range(objective.size)
        ]
        found = linprog(
            -objective, A_ub=matrix, b_ub=most, A_eq=np.ones((1, objective.size)), b_eq=[1.0], bounds=limits, method="highs"
        )  # fmt: skip
        return -float(found.fun) if found.status == 0 else None


def largest_share(safe: FloatArray, other: FloatArray, limits: FloatArray) -> float:
    """Largest share of a policy that the safe one carries within the limits."""
    shares = [(d - s) / (o - s) for s, o, d in zip(safe, other, limits) if o > s]
    return float(min(1.0, max(0.0, min(shares, default=1.0))))
