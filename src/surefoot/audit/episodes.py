"""Episodes: every draw, every report, and what takes effect when.

Letters: J policies, I constraints, n episodes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.audit.cell_decisions import CellDecisions
from surefoot.audit.groups import Group
from surefoot.audit.log import parts
from surefoot.audit.order import CLOSE
from surefoot.deploy.history import SHIFTED
from surefoot.deploy.tuning import TUNING
from surefoot.policy import TabularPolicy

__all__ = ["Episodes"]


class Episodes(CellDecisions):
    """Checks episodes asked, told and lost."""

    def _asked(self, body: dict[str, Any]) -> None:
        if self.successor:
            self._object("an episode was asked after the deployment had ended")
        if self.paused:
            self._object("an episode was asked while the deployment was paused")
        draws, weights = body["draws"], self._weights(self.plan)
        if (body["first"], body["plan"], body["settled"]) != (self.opened, self.plan_seq, self.order.settled):
            self._object(
                f"first, plan and settled must be {self.opened}, {self.plan_seq}, {self.order.settled}, got {body['first']}, {body['plan']}, "
                f"{body['settled']}"
            )
        if not draws or not self._certified(weights):
            self._object("episodes were drawn from a mixture that the bounds at that moment do not certify")
        edges = np.array([math.fsum(weights[: j + 1]) for j in range(weights.size)])
        for k, (drawn, u) in enumerate(zip(draws, self.random.random(len(draws)).tolist())):
            low = edges[drawn - 1] if drawn else 0.0
            if weights[drawn] <= 0.0 or not low - 1e-12 <= u <= edges[drawn] + 1e-12:
                self._object(
                    f"episode {self.opened + k} was drawn as policy {drawn}, the seed and the mixture give another"
                )
        self.bounds.asked(self.opened, draws)
        self.asks.append((self.opened, draws, self.wealth.bets()))
        self.open.update((self.opened + k, j) for k, j in enumerate(draws))
        self.missing.asked(draws, weights)
        first, self.opened = self.opened, self.opened + len(draws)
        if self.followed is not None:
            self._keep_to_protocol(self.followed.asked(first, len(draws)))

    def _report(self, body: dict[str, Any]) -> Group:
        """A report that may be true, of episodes that are open."""
        policies = [self._close(k) for k in body["ids"]]
        group = Group(body, policies, self.policy_set.criterion.functionals)
        self._check_sane(group)
        return group

    def _check_sane(self, group: Group) -> None:
        costs, room = group.outcomes[:, 1:], 1e-5 * np.minimum(1.0, self.policy_set.criterion.cost_ceilings)
        sane = np.isfinite(group.outcomes).all() and costs.shape[1] == self.limits.size and (costs >= -room).all()
        sane = sane and self._reported_sane(group)
        if not sane or not self._in_range(group):
            self._object("a report was taken that cannot be true")

    def _reported_sane(self, group: Group) -> bool:
        """What a plant reported, before functionals hide it: as many costs as it has, none below zero."""
        bounds = np.array(self.policy_set.criterion.cost_bounds)
        fits = group.reported.shape[1] == bounds.size and bool(np.isfinite(group.reported).all())
        return fits and bool((group.reported >= -1e-5 * np.minimum(1.0, bounds)).all())

    def _in_range(self, group: Group, moves: list[IntArray] | None = None) -> bool:
        """States and actions that the policies have, counts that are not negative; ``moves`` are transitions of each episode."""
        shapes = [policy.table.shape for policy in self.policy_set.policies if isinstance(policy, TabularPolicy)]
        starts = [] if group.starts is None else group.starts.tolist()
        rows = [] if group.rows is None else group.rows.tolist()
        for some in moves or ():
            rows += some.tolist()
        for states, actions in shapes or [(math.inf, math.inf)]:
            inside = all(0 <= b < states for b in starts)
            if not inside or not all(
                0 <= s < states and 0 <= a < actions and 0 <= t < states and n >= 0 for s, a, t, n in rows
            ):
                return False
        return True

    def _told(self, body: dict[str, Any]) -> None:
        group = self._report(body)
        costs = group.outcomes[:, 1:]
        if (costs > self.ceilings[group.policies] * (1.0 + 1e-9)).any():
            self._expect("an episode cost more than the declared ceiling")
        self.bounds.told(group)
        if self.followed is not None:
            self._keep_to_protocol(self.followed.told(group))
        self.order.add(group)
        self.missing.closed(body["ids"], lost=False)
        self._settle()

    def _recalled(self, body: dict[str, Any]) -> None:
        """Logged episodes of the safe policy, before the first ask."""
        n = len(body["reward"])
        group = Group({**body, "ids": list(range(n))}, [0] * n, self.policy_set.criterion.functionals)
        self._check_sane(group)
        active = self.wealth.active.copy()
        if self.opened or not n or (self.run is not None and self.followed is None):
            self._object("logged episodes were given that were not rehearsed, or too late")
        if not self.log.is_new(body):
            self._object("a log was given twice, or is not what its digest says")
        if (group.outcomes[:, 1:] > self.ceilings[0] * (1.0 + 1e-9)).any():
            self._expect("an episode cost more than the declared ceiling")
        if self.run is not None and not self.run.recall(group):
            self._object("more logged episodes were given than were rehearsed")
        for part in parts(group):
            self.bounds.recalled(part.outcomes[:, 1:])
            bets = self.wealth.bets()
            if self.safe is not None and self.returns is not None:
                sound = [part.with_broken_returns(*self.policy_set.criterion.return_range)]
                self.safe.settle(sound, 0, logged=True)
                self.returns.settle(sound, [])
            if self.trust != "data":
                self.wealth.settle(part, [bets] * part.ids.size, logged=True)
            if self.posterior is not None:
                self.posterior.update(part)
        self._check_stationary(self.log.add(group.outcomes))
        if self.trust != "data":
            self._review(active)
        self._judge()
        if self.posterior is not None and self.log.count >= TUNING.first_update:
            self._look_again(self.posterior.posterior(), logged=True)
        self._check_cells(active)
        self._keep_to_protocol(None)

    def _check_stationary(self, shifted: bool | None) -> None:
        """Whether the log's warning stands where it must; ``None`` where rounding decides."""
        said = any(str(body.get("text", "")).startswith(SHIFTED) for body in self._recorded("noted"))
        if shifted is not None and said != shifted:
            self._object("a log was said to be stationary or not, against what it shows")

    def _lost(self, body: dict[str, Any]) -> None:
        for k in body["ids"]:
            self._close(k)
        self.order.declare_lost(body["ids"])
        self.missing.closed(body["ids"], lost=True)
        run = self.followed
        if run is not None:
            reason = run.lost(body["ids"], self.opened)
            if run.doubtful:  # what is recorded stands
                reason = "too many episodes are lost" if self._recorded("protocol") else None
            self._keep_to_protocol(reason)
        self._settle()

    def _close(self, episode: int) -> int:
        if episode not in self.open:
            self._object(f"episode {episode} was told or lost twice, or never asked")
        return self.open.pop(episode)

    def _settle(self) -> None:
        """Let what is complete in ask order take effect."""
        groups, lost = self.order.release()
        active = self.wealth.active.copy()
        if groups or lost:
            self._compare(groups, lost)
            if self.trust != "data":
                # Only what somebody declared lost may be skipped, and only if losses were declared independent.
                for k in (k for k in lost if not (self.skips_lost and k in self.order.declared)):
                    _, draws, bets, first = self._ask_of(k)
                    self.wealth.forfeit(draws[k - first], bets)
                for group in groups:
                    self.wealth.settle(group, [self._ask_of(k)[2] for k in group.ids.tolist()])
            for group in groups:
                if self.posterior is not None:
                    self.posterior.update(group)
            self._watch(groups, lost)
            while self.asks and self.asks[0][0] + len(self.asks[0][1]) <= self.order.settled:
                self.asks.popleft()
            if self.trust != "data":
                self._review(active)
            self._judge()
            if self.posterior is not None and self.order.settled >= self.look:
                self._look_again(self.posterior.posterior())
        self._check_cells(active)

    def _ask_of(self, episode: int) -> tuple[int, list[int], FloatArray | None, int]:
        low, high = 0, len(self.asks)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.asks[middle][0] <= episode else (low, middle)
        first, draws, bets = self.asks[low]
        return low, draws, bets, first

    def _compare(self, groups: list[Group], lost: list[int]) -> None:
        if self.safe is None or self.returns is None:
            return
        gone = [draws[k - first] for k in lost for _, draws, _, first in (self._ask_of(k),)]
        sound = [group.with_broken_returns(*self.policy_set.criterion.return_range) for group in groups]
        self.safe.settle(sound, gone.count(0))
        self.returns.settle(sound, gone)

    def _judge(self) -> None:
        """Whether reality still fits simulation, and which policies are worse than the safe one."""
        if self.safe is None or self.returns is None:
            return
        if self.safe.impossible or self.safe.log_wealth() >= -math.log(self.settings["monitor_delta"]) + CLOSE:
            self._expect("the safe policy's real episodes are not what simulation predicts")
        self.replan |= self.returns.doubt(self.order.settled, self.barred)
        recorded = sorted(body["policy"] for body in self._recorded("barred"))
        room = CLOSE * (1.0 + float(np.abs(self.policy_set.criterion.return_range).max()))
        for j, gap in enumerate(self.returns.gap.tolist()):
            if j == 0:
                continue
            worse, close = gap < 0.0, abs(gap) <= room
            if not self.barred[j] and (j in recorded) != worse and not close:
                self._object(
                    f"policy {j} {'was' if j in recorded else 'was not'} barred; its real returns are above the safe policy's by at most "
                    f"{gap:.6g}"
                )
        if len(set(recorded)) < len(recorded) or any(j < 1 or self.barred[j] for j in recorded):
            self._object(f"policies {recorded} cannot be barred now")
        self.barred[recorded] = True
        self.replan |= bool(recorded)

    def _check_ramp(self) -> None:
        """The ramp ends once, when enough has been compared; not with a word that all is well after an alarm."""
        ended, said = not self._ramping and not self.ramped and self.ramp > 0, bool(self._recorded("ramp"))
        if said != (ended and not self.alarm):
            self._object("the ramp was said to be over too early, twice, or not at all")
        self.ramped |= ended
        self.replan |= ended

    def _watch(self, groups: list[Group], lost: list[int]) -> None:
        costs = {int(k): row[1:] for group in groups for k, row in zip(group.ids, group.outcomes)}
        costs |= {k: np.zeros(self.limits.size) for k in lost}
        before, unchanged, same = self.watch.peak, self.change.peak < 0.0, self.stationarity.peak < 0.0
        ordered = np.array([costs[k] for k in sorted(costs)]).reshape(len(costs), self.limits.size)
        self.watch.update(ordered)
        self.change.update(ordered)
        self.stationarity.settle(groups)
        if same and self.stationarity.peak >= 0.0:
            self._expect("a policy's outcomes are no longer what they were")
        level = -math.log(self.settings["monitor_delta"])
        if before < level and self.watch.peak >= level:
            self._expect("the real costs reject that every mixture met the limit")
        if unchanged and self.change.peak >= 0.0:
            self._expect("recent real costs reject that the mixtures still meet the limit")
