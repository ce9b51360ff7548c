"""Uneventful episodes, many at a time.

Most of a long journal is episodes that were asked and told alone, one after the other, and caused nothing. Running sums show whether anything should
have happened on the way; where it should, or nearly should, the audit goes on one by one from there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from surefoot.audit.episodes import Episodes
from surefoot.audit.event import AuditedEvent
from surefoot.audit.groups import Group
from surefoot.audit.order import CLOSE

__all__ = ["MOST_TOGETHER", "Together"]

MOST_TOGETHER = 512
"""Episodes that were asked and told alone, one after the other, and caused nothing are recomputed together, at most so many."""


LEAST_TOGETHER = 4


ENTRIES = 400_000
"""Numbers that are recomputed together at most."""


class Together(Episodes):
    """Checks many events at once where that is possible."""

    def together(self, groups: list[list[AuditedEvent]]) -> int:
        """How many of these groups were recomputed together: pairs of an episode asked and the same one told. 0: it has to be done one by one."""
        n = min(len(groups) // 2, self._room())
        if n < LEAST_TOGETHER:
            return 0
        asked, told = ([group[0].body for group in groups[k : 2 * n : 2]] for k in (0, 1))
        opened, plan = self.opened, self.plan_seq
        names = ("initial_state", "signals", "transitions")
        has = [name in told[0] for name in names]
        for k, (one, other) in enumerate(zip(asked, told)):
            alike = (
                one.get("first") == one.get("settled") == opened + k
                and one.get("plan") == plan
                and len(one["draws"]) == 1
            )
            if not alike or other.get("ids") != [opened + k] or [name in other for name in names] != has:
                return 0
        while n >= LEAST_TOGETHER:
            passed = self._foresee(asked[:n], told[:n], has)
            if passed == n:
                return 2 * n
            n = min(passed, n - 1) if passed else n // 2
        return 0

    def _room(self) -> int:
        """How many episodes may be recomputed together: none while anything is out of the ordinary, and none beyond the next look."""
        quiet = (
            self.plan and not (self.alarm or self.aborted or self.paused or self.recovering or self.degraded or self.open or self.asks)
            and self.order.settled == self.opened and self.order.idle and self.missing.idle and not self._ramping
        )  # fmt: skip
        if not quiet or (self.ramp > 0 and not self.ramped):
            return 0
        room = MOST_TOGETHER
        if self.trust != "data":
            room = min(room, max(LEAST_TOGETHER, ENTRIES // self.wealth.entries))
        if self.posterior is not None:
            room = min(room, self.look - self.order.settled - 1)
        if self.followed is not None and self.followed.due < self.followed.ends:
            room = min(room, self.followed.due - self.opened - 1)
        if self.returns is not None:
            room = min(room, self.returns.look - self.order.settled - 1)
        return room

    def _foresee(self, asked: list[dict[str, Any]], told: list[dict[str, Any]], has: list[bool]) -> int:
        """Recompute what n episodes do, one after the other. If nothing should have happened on the way it is done, and n returned; else how many
        pass surely, 0 where that is not known."""
        draws, n = [one["draws"][0] for one in asked], len(asked)
        body = {"ids": list(range(self.opened, self.opened + n))}
        body |= {name: [b[name][0] for b in told] for name in ("reward", "costs")}
        body |= {name: [b[name][0] for b in told] for name, there in zip(("initial_state", "signals"), has) if there}
        group = Group(body, draws, self.policy_set.criterion.functionals)
        weights = self._weights(self.plan)
        rows = [np.array(b["transitions"], dtype=np.int64).reshape(-1, 4) for b in told] if has[2] else None
        costs, room = group.outcomes[:, 1:], 1e-5 * np.minimum(1.0, self.policy_set.criterion.cost_ceilings)
        fine = np.isfinite(group.outcomes).all() and costs.shape[1] == self.limits.size and (costs >= -room).all()
        fine = fine and self._reported_sane(group)
        fine = fine and not (costs > self.ceilings[group.policies] * (1.0 + 1e-9)).any() and self._certified(weights)
        if (
            not fine
            or not self._in_range(group, rows)
            or not group.sound(*self.policy_set.criterion.return_range).all()
        ):
            return 0
        if self.followed is not None and self.followed.odd(group, rows):
            return 0
        level, commits = -math.log(self.settings["monitor_delta"]), []
        peak, commit = self.watch.foresee(costs)
        commits.append(commit)
        changed, commit = self.change.foresee(costs)
        commits.append(commit)
        altered, commit = self.stationarity.foresee([group])
        commits.append(commit)
        if max(peak - level, changed, altered) >= -CLOSE:
            return 0
        if self.trust != "data":
            passed, wealth = self.wealth.foresee(group, rows, CLOSE)
            if wealth is None:
                return passed
            commits.append(wealth)
        if self.safe is not None and self.returns is not None:
            seen = self.safe.foresee(group)
            gap, commit = self.returns.foresee(group.policies, group.outcomes[:, 0])
            near = CLOSE * (1.0 + float(np.abs(self.policy_set.criterion.return_range).max()))
            if seen is None or seen[0] >= level - CLOSE or (gap[1:][~self.barred[1:]] <= near).any():
                return 0
            commits += [seen[1], commit]
        commits.append(self.bounds.told_singly(group.policies, costs))
        state = self.random.bit_generator.state
        edges = np.array([math.fsum(weights[: j + 1]) for j in range(weights.size)])
        u, drawn = self.random.random(n), group.policies
        low = np.where(drawn > 0, edges[drawn - 1], 0.0)
        if (weights[drawn] <= 0.0).any() or (u < low - 1e-12).any() or (u > edges[drawn] + 1e-12).any():
            self.random.bit_generator.state = state
            return 0
        for commit in commits:
            commit()
        if self.posterior is not None:
            self.posterior.update_singly(group, rows)
        if self.followed is not None:
            self.followed.told_singly(group, rows)
        self.order.pass_by(n)
        self.missing.pass_by(n)
        self.opened += n
        return n
