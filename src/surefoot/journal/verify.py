"""An audit: recompute every decision from the events alone, by other code than made it, and name the first that does not follow.

What is checked, event by event: the chain of digests; every draw, from the seed and the mixture in force; every mixture in force at a
draw, against rows of bounds recomputed here; every new plan against those rows and, as a linear program solved through another interface,
for being the best of them; every cell eliminated or readmitted, by e-values recomputed here (:mod:`surefoot.journal.recompute`); alarms,
targets, caps, approvals, pauses, flags; that no report was taken twice or for an episode never asked. Only choices (constants, grids,
rivals) are shared with the code that made the decisions. Where a recomputed number lies within rounding of a threshold the recorded
decision stands.

Most of a long journal is episodes that were asked and told alone, one after the other, and caused nothing. They are recomputed many at a time
(:meth:`_Audit._together`): running sums show whether anything should have happened on the way, and where it should, or nearly should, the audit
goes on one by one from there.

Letters: N cells, J policies, I constraints, H rows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.certified import (
    BOUNDS_SHARE,
    CAP,
    DECIDED,
    FIRST_LOOK,
    KAPPA,
    LEAST_ROOM,
    MOST_KAPPA,
    PLAUSIBLE,
    STALLED,
    TARGET_SLACK,
    WARM_UP,
    next_look,
)
from surefoot.deploy.comparison import BESIDE
from surefoot.deploy.evidence import FINAL, RETURN
from surefoot.deploy.planner import INSIDE
from surefoot.deploy.queue import PATIENCE
from surefoot.errors import SurefootError
from surefoot.journal.discards import FRACTIONS, HORIZON, LEVEL
from surefoot.journal.events import INERT, PRIMARY, Event
from surefoot.journal.recompute import (
    CellWealth,
    CostWatch,
    DataBounds,
    Group,
    Guess,
    PredictedBoxes,
    ReturnBounds,
    SafeCheck,
    log_sum,
)
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import PolicySet

__all__ = ["Verification", "verify"]

CLOSE = 1e-6
"""Relative difference between two computations of the same number."""
HELD = frozenset({"asked", "told", "lost", "paused", "resumed", "capped", "aborted"})
CERTIFIED = 1e-8
"""Relative excess over a limit that two computations of the same bound may differ by."""


@dataclass(frozen=True)
class Verification:
    """What an audit found.

    Attributes:
        ok: every decision follows from the events before it.
        checked: events that do.
        first_disagreement: in plain words, or ``None``.
    """

    ok: bool
    checked: int
    first_disagreement: str | None


MOST_TOGETHER = 512
"""Episodes that were asked and told alone, one after the other, and caused nothing are recomputed together, at most so many."""
LEAST_TOGETHER = 4
ENTRIES = 400_000
"""Numbers that are recomputed together at most."""


class _Disagreement(Exception):
    """An event that does not follow."""


def verify(policy_set: PolicySet, events: Iterable[Event]) -> Verification:
    """Audit a journal; see the module's docstring. Memory does not grow with it."""
    audit = _Audit(policy_set)
    try:
        with np.errstate(all="ignore"):  # as when they were made
            _walk(audit, _marked(_groups(events, audit.passed)))
            audit.checked += audit.inert
            audit.finish()
    except _Disagreement as error:
        return Verification(False, audit.checked, str(error))
    except SurefootError as error:
        return Verification(False, audit.checked, f"event {audit.checked + 1}: {error}")
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        return Verification(
            False, audit.checked, f"event {audit.checked + 1} or what follows from it cannot be read: {error!r}"
        )
    return Verification(True, audit.checked, None)


def _walk(audit: _Audit, groups: Iterator[tuple[list[Event], bool]]) -> None:
    """Check groups in order; those without consequences are held back, to be recomputed together."""
    waiting: list[list[Event]] = []
    while True:
        try:
            group, last = next(groups, ([], True))
        except _Disagreement:  # the chain is broken: what stands before comes first
            audit.check_all(waiting)
            raise
        if group and not last and len(group) == 1 and group[0].kind in ("asked", "told"):
            waiting.append(group)
            if len(waiting) < 2 * MOST_TOGETHER:
                continue
            audit.check_all(waiting)
            continue
        audit.check_all(waiting)
        audit.check(group, last=last)
        audit.checked += len(group)
        if last:
            return


def _groups(events: Iterable[Event], passed: Callable[[Event], None]) -> Iterator[list[Event]]:
    """What somebody caused, with its consequences; digests are checked on the way. Events without consequences are ``passed`` by: those of the
    report before them may stand behind them.
    """
    group: list[Event] = []
    digest, encode = "", json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
    for seq, event in enumerate(events, start=1):
        body = encode(event.body)
        text = "\n".join((digest, str(seq), event.kind, event.at, body))
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        if event.seq != seq or event.digest != digest:
            yield group
            raise _Disagreement(
                f"event {seq} breaks the chain of digests: it or one before it was edited, lost or moved"
            )
        if event.kind in INERT:
            passed(event)
            continue
        if event.kind in PRIMARY and group:
            yield group
            group = []
        group.append(event)
    yield group


def _marked(groups: Iterable[list[Event]]) -> Iterator[tuple[list[Event], bool]]:
    """Groups, and which is the last."""
    held: list[Event] = []
    for group in groups:
        if held:
            yield held, False
        held = group
    yield held, True


class _Audit:
    """One walk through a journal."""

    def __init__(self, policy_set: PolicySet) -> None:
        self.policy_set = policy_set
        self.seq = self.target = 0
        self.group: list[Event] = []
        self.checked = self.inert = 0
        self.degraded: Event | None = None
        self.recovering = False
        self.held: list[dict[str, Any]] = []
        self.again: list[dict[str, Any]] = []

    def passed(self, event: Event) -> None:
        """What happened while the journal could not be followed: kept, and nothing but the safe policy handed out.

        Raises:
            _Disagreement: it says otherwise.
        """
        self.inert += 1
        if event.kind == "degraded":
            self.degraded = self.degraded or event
            return
        kind, body = event.body["kind"], event.body["body"]
        if self.degraded is None or kind not in HELD or (kind == "asked" and any(body["draws"])):
            raise _Disagreement(
                f"event {event.seq} (held): nothing but the safe policy is handed out, and only while the deployment is degraded"
            )
        self.held.append(event.body)

    def finish(self) -> None:
        """After the last event.

        Raises:
            _Disagreement: the deployment is degraded still.
        """
        if self.degraded is not None:
            body = self.degraded.body
            raise _Disagreement(
                f"event {body['event']} cannot be followed: the deployment is degraded since event {self.degraded.seq} and plays the safe policy "
                f"only; mend what is wrong and recover it ({body['why']})"
            )

    def _recovering(self, body: dict[str, Any]) -> None:
        if self.degraded is None or self.recovering:
            self._object("only a deployment that is degraded can recover")
        self.recovering, self.again, self.replan = True, [], True

    def _recovered(self, body: dict[str, Any]) -> None:
        refused = {entry["held"] for entry in body["refused"]}
        wanted = [event for k, event in enumerate(self.held) if k not in refused]
        if not self.recovering or self.again != wanted:
            self._object("what was held while the deployment was degraded must happen once more, and nothing else")
        self.degraded, self.recovering, self.held, self.replan = None, False, [], True

    def check(self, group: list[Event], *, last: bool = False) -> None:
        """Everything about one group; where a report is all there is of the last, its consequences need not be recorded yet.

        Raises:
            _Disagreement: the first thing that does not follow.
        """
        if not group:
            return
        self.group, first, self.replan = group, group[0], False
        self.seq = first.seq
        self.expected_alarm: str | None = None
        if (first.kind == "opened") != (first.seq == 1):
            self._object("a journal opens once, at its first event")
        known = PRIMARY | {
            "planned",
            "eliminated",
            "readmitted",
            "target",
            "noted",
            "flagged",
            "ramp",
            "barred",
            "alarm",
        }
        if any(event.kind not in known for event in group) or first.kind not in PRIMARY:
            self._object(f"kinds {[event.kind for event in group]} do not follow from each other")
        later = {event.kind for event in group[1:]}
        if first.kind not in ("told", "lost") and later & {
            "eliminated",
            "readmitted",
            "target",
            "ramp",
            "barred",
            "alarm",
        }:
            self._object(f"{sorted(later)} do not follow from it")
        if self.recovering and first.kind not in ("recovering", "recovered"):
            self.again.append({"kind": first.kind, "body": _as_held(first)})
        target = self.target
        if last and first.kind == "told" and not later:
            self._report(first.body)
            return
        getattr(self, f"_{first.kind}")(first.body)
        if "target" in later and self.target == target:
            self._object("a target was chosen without need")
        self._check_alarm()
        self._check_ramp()
        self._check_flag()
        self._check_plan()

    def check_all(self, groups: list[list[Event]]) -> None:
        """Check groups without consequences, in order, and remove them from the list.

        What can be recomputed together is: where that shows, or nearly shows, that anything should have happened on the way, the groups are
        checked one by one, and the first that does not follow is named.

        Raises:
            _Disagreement: the first thing that does not follow.
        """
        while groups:
            done = self._together(groups)
            for group in groups[: max(1, done)]:
                if not done:
                    self.check(group)
                self.checked += len(group)
            del groups[: max(1, done)]

    def _together(self, groups: list[list[Event]]) -> int:
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
        if self.guess is not None:
            room = min(room, self.look - self.order.settled - 1)
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
        group, weights = Group(body, draws), self._weights(self.plan)
        rows = [np.array(b["transitions"], dtype=np.int64).reshape(-1, 4) for b in told] if has[2] else None
        costs, room = group.outcomes[:, 1:], 1e-5 * np.minimum(1.0, self.policy_set.criterion.cost_ceilings)
        fine = np.isfinite(group.outcomes).all() and costs.shape[1] == self.limits.size and (costs >= -room).all()
        fine = fine and not (costs > self.ceilings * (1.0 + 1e-9)).any() and self._certified(weights)
        if (
            not fine
            or not self._in_range(group, rows)
            or not group.sound(*self.policy_set.criterion.return_range).all()
        ):
            return 0
        level, commits = -math.log(self.settings["monitor_delta"]), []
        peak, commit = self.watch.foresee(costs)
        commits.append(commit)
        if peak >= level - CLOSE:
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
        if self.guess is not None:
            self.guess.update_singly(group, rows)
        self.order.pass_by(n)
        self.missing.pass_by(n)
        self.opened += n
        return n

    def _object(self, text: str) -> NoReturn:
        raise _Disagreement(f"event {self.seq} ({self.group[0].kind}): {text}")

    def _recorded(self, kind: str) -> list[dict[str, Any]]:
        return [event.body for event in self.group if event.kind == kind]

    # ------------------------------------------------------------------------------------------------------- opening

    def _opened(self, body: dict[str, Any]) -> None:
        if body["policy_set"] != self.policy_set.hash:
            self._object("the policy set has another hash")
        settings, criterion = body["settings"], self.policy_set.criterion
        self.settings, self.trust, delta = settings, settings["trust"], settings["delta"]
        self.limits = np.array(criterion.cost_limits)
        self._check_certificate()
        margin = self.policy_set.safe_margin if settings["margin"] is None else settings["margin"]
        self.ceilings = self._ceilings(settings["cost_ceilings"], self.trust)
        paid = [entry["delta"] for entry in body["ledger"]]
        if not math.isclose(body["margin"], margin) or body["margin"] <= 0.0 or math.fsum(paid) > delta * (1.0 + 1e-9):
            self._object("margin and ledger do not follow from the settings")
        if not np.allclose(body["cost_ceilings"], self.ceilings, atol=0.0):
            self._object("the declared ceilings do not follow from the settings")
        self._start(margin, delta)

    def _start(self, margin: float, delta: float) -> None:
        cells_pay, set_ = self.trust == "cells", self.policy_set
        start = np.tile(self.ceilings, (len(set_.policies), 1))
        if self.trust == "envelope":
            start = np.minimum(start, set_.cells.predictions.cost_upper.max(axis=0))
        start[0] = np.minimum(start[0], self.limits - margin)
        self.data_start = np.tile(self.ceilings, (len(set_.policies), 1))
        self.data_start[0] = np.minimum(self.data_start[0], self.limits - margin)
        share = delta * BOUNDS_SHARE if cells_pay else delta
        self.bounds = DataBounds(start, self.ceilings, self.limits, share, selected=not cells_pay)
        boxes = PredictedBoxes(set_, self._ceilings(None, "cells"))
        level = delta * (1 - BOUNDS_SHARE) if cells_pay else self.settings["monitor_delta"]
        self.skips_lost = self.settings["losses"] == "independent"
        self.wealth = CellWealth(set_, self.settings["evidence"], boxes, level, final=FINAL if cells_pay else 1.0)
        self.guess = None if cells_pay else Guess(set_, boxes)
        self.look, self.objective = FIRST_LOOK, set_.cells.predictions.reward_center.mean(axis=0)
        if not cells_pay:
            self.bounds.select(0, 0)
        self.watch = CostWatch(self.limits, self.ceilings)
        self.ramp = 0 if self.trust == "data" else self.settings.get("ramp", 0)
        self.safe = SafeCheck(set_, boxes) if self.ramp else None
        self.returns = ReturnBounds(set_) if self.ramp else None
        self.ramped, self.barred = False, np.zeros(len(set_.policies), dtype=bool)
        self.random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.settings["seed"])))
        self.order, self.opened, self.target, self.changed = _AskOrder(), 0, 0, 0
        self.open: dict[int, int] = {}
        self.asks: deque[tuple[int, list[int], FloatArray | None]] = deque()
        self.missing = _Missing(len(set_.policies))
        self.plan: dict[str, Any] = {}
        self.plan_seq = 0
        self.alarm = self.outside = self.aborted = self.paused = False
        self.cap, self.approved = 1.0, np.eye(len(set_.policies))[0]
        self.replan = True

    def _check_certificate(self) -> None:
        """``cells`` was allowed: the exact binomial limit of the hold-out's misses, by the beta quantile."""
        from scipy.stats import beta

        if self.trust != "cells":
            return
        found = self.policy_set.certificate
        p = 1.0
        if found is not None and found.uncovered < found.holdout:
            spent = sum(entry.delta for entry in self.policy_set.ledger.entries if entry.name == "simulation")
            # One look after the other pays half of what the looks before it left.
            left = self.settings["delta_coverage"] / 2.0 ** (1 + len(self.policy_set.looks)) - spent
            if left > 0.0:
                rest = found.holdout - found.uncovered
                stated, p = (float(beta.isf(error, found.uncovered + 1, rest)) for error in (1e-6, left / 2))
                # What simulation adds was stated at an error of a millionth; it is in proportion to the limit at any smaller one.
                p += found.simulation_error * (p / stated if p > stated else 1.0)
        if p > self.settings["p_max"] + 1e-9:
            self._object(f"trust 'cells' needs coverage p <= {self.settings['p_max']}, the hold-out shows {p:.4g}")

    def _ceilings(self, declared: Any, trust: str) -> FloatArray:
        if declared is not None:
            return np.array(declared, dtype=np.float64)
        theirs = np.array(self.policy_set.criterion.cost_ceilings, dtype=np.float64)
        ours = np.array(self.policy_set.bounds.cost_ceilings, dtype=np.float64)
        return theirs if trust == "data" else np.where(ours > 0.0, ours, theirs)

    # ------------------------------------------------------------------------------------------------------ episodes

    def _asked(self, body: dict[str, Any]) -> None:
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
        self.opened += len(draws)

    def _report(self, body: dict[str, Any]) -> Group:
        """A report that may be true, of episodes that are open."""
        policies = [self._close(k) for k in body["ids"]]
        group = Group(body, policies)
        costs, room = group.outcomes[:, 1:], 1e-5 * np.minimum(1.0, self.policy_set.criterion.cost_ceilings)
        sane = np.isfinite(group.outcomes).all() and costs.shape[1] == self.limits.size and (costs >= -room).all()
        if not sane or not self._in_range(group):
            self._object("a report was taken that cannot be true")
        return group

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
        if (costs > self.ceilings * (1.0 + 1e-9)).any():
            self._expect("an episode cost more than the declared ceiling")
        self.bounds.told(group)
        self.order.add(group)
        self.missing.closed(body["ids"], lost=False)
        self._settle()

    def _lost(self, body: dict[str, Any]) -> None:
        for k in body["ids"]:
            self._close(k)
        self.order.declare_lost(body["ids"])
        self.missing.closed(body["ids"], lost=True)
        self._settle()

    def _close(self, episode: int) -> int:
        if episode not in self.open:
            self._object(f"episode {episode} was told or lost twice, or never asked")
        return self.open.pop(episode)

    def _expect(self, why: str) -> None:
        if not self.alarm:
            self.expected_alarm = self.expected_alarm or why

    def _settle(self) -> None:
        """Let what is complete in ask order take effect."""
        groups, lost = self.order.release()
        alive = self.wealth.alive.copy()
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
                if self.guess is not None:
                    self.guess.update(group)
            self._watch(groups, lost)
            while self.asks and self.asks[0][0] + len(self.asks[0][1]) <= self.order.settled:
                self.asks.popleft()
            if self.trust != "data":
                self._review(alive)
            self._judge()
            if self.guess is not None and self.order.settled >= self.look:
                self._look_again(self.guess.posterior())
        self._check_cells(alive)

    def _ask_of(self, episode: int) -> tuple[int, list[int], FloatArray | None, int]:
        low, high = 0, len(self.asks)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.asks[middle][0] <= episode else (low, middle)
        first, draws, bets = self.asks[low]
        return low, draws, bets, first

    # ---------------------------------------------------------------------------------------- the ramp, and real returns

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

    @property
    def _ramping(self) -> bool:
        return self.safe is not None and self.safe.compared < self.ramp

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
        before = self.watch.peak
        self.watch.update(np.array([costs[k] for k in sorted(costs)]).reshape(len(costs), self.limits.size))
        level = -math.log(self.settings["monitor_delta"])
        if before < level and self.watch.peak >= level:
            self._expect("the real costs refute that every mixture met the limit")

    # --------------------------------------------------------------------------------------------------------- cells

    def _review(self, before: Any) -> None:
        wealth, dying, back = self.wealth.review()
        gone = [k for body in self._recorded("eliminated") for k in body["cells"]]
        returned = [k for body in self._recorded("readmitted") for k in body["cells"]]
        early = before & ~self.wealth.alive  # by a report that no task of the family can produce
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
        self.wealth.alive = before.copy()
        self.wealth.alive[gone], self.wealth.alive[returned] = False, True
        if gone or returned:
            self.changed = self.order.settled
            self.replan |= self.trust == "cells"
        if not self.wealth.watched.any() and not self.outside:
            self.outside = True
            self.bounds.drop_start(self.data_start)
            self._expect("every cell is refuted")

    def _check_wealth(self, wealth: FloatArray) -> None:
        for body in self._recorded("eliminated"):
            for k, recorded in zip(body["cells"], body["log_wealth"]):
                if recorded is not None and not math.isclose(recorded, wealth[k], rel_tol=CLOSE, abs_tol=CLOSE):
                    self._object(f"cell {k} has the log e-value {wealth[k]:.9g}, recorded is {recorded:.9g}")

    def _check_cells(self, before: Any) -> None:
        """Whatever is recorded about cells happened, and nothing else."""
        gone = sorted(k for body in self._recorded("eliminated") for k in body["cells"])
        back = sorted(k for body in self._recorded("readmitted") for k in body["cells"])
        alive = self.wealth.alive
        if gone != np.flatnonzero(before & ~alive).tolist() or back != np.flatnonzero(~before & alive).tolist():
            self._object(f"cells {gone} were recorded as eliminated and {back} as readmitted, which does not follow")
        for body in (*self._recorded("eliminated"), *self._recorded("readmitted")):
            if body["cells_left"] != int(alive.sum()):
                self._object(f"cells_left must be {int(alive.sum())}, got {body['cells_left']}")

    def _look_again(self, posterior: FloatArray) -> None:
        self.look = next_look(self.order.settled)
        self.objective = posterior @ self.policy_set.cells.predictions.reward_center
        self.replan = True
        if self.target == 0 and len(self.policy_set.policies) > 1:
            self._choose_target(posterior)

    def _choose_target(self, posterior: FloatArray) -> None:
        recorded = [body["policy"] for body in self._recorded("target")]
        likely = np.flatnonzero(posterior >= PLAUSIBLE).tolist()
        gains = np.array([self._gains(k) for k in likely])
        weights = posterior[likely] / posterior[likely].sum()
        expected = weights @ gains
        largest = float(np.abs(gains).max())
        room = CLOSE * (largest + min(largest, 1.0))
        if not recorded and expected.max() <= room:
            return  # nothing promises anything
        # What knowing the cell would add, against what the best guess adds: positive while it is too early.
        doubt = weights @ gains.max(axis=1) - expected.max() - DECIDED * expected.max()
        if self.order.settled < WARM_UP and (doubt > room or (doubt > -room and not recorded)):
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
            max((1.0 - TARGET_SLACK) * d, s + LEAST_ROOM * (d - s))
            for d, s in zip(self.limits.tolist(), cost[0].tolist())
        ]
        return [
            0.0 if self.barred[j] else _share(cost[0], cost[j], np.array(limits)) * (reward[j] - reward[0])
            for j in range(1, len(reward))
        ]

    # ------------------------------------------------------------------------------------------------------ operator

    def _paused(self, body: dict[str, Any]) -> None:
        self.paused = True

    def _resumed(self, body: dict[str, Any]) -> None:
        self.paused = False

    def _capped(self, body: dict[str, Any]) -> None:
        self.cap, self.replan = body["weight"], True
        if not 0.0 <= self.cap <= 1.0:
            self._object(f"a cap must lie in [0, 1], got {self.cap}")

    def _aborted(self, body: dict[str, Any]) -> None:
        self.aborted, self.paused, self.replan = True, False, True

    def _approved(self, body: dict[str, Any]) -> None:
        if body["plan"] != self.plan_seq or self.plan.get("waiting") is None:
            self._object(f"plan {body['plan']} was approved, waiting was {self.plan_seq}")
        self.approved, self.replan = self._weights(self.plan["waiting"]), True

    def _check_alarm(self) -> None:
        recorded = self._recorded("alarm")
        level = -math.log(self.settings["monitor_delta"])
        if self.expected_alarm is not None and not recorded:
            self._object(f"an alarm is missing: {self.expected_alarm}")
        if recorded and self.expected_alarm is None:
            near = self.watch.peak >= level - CLOSE or (
                self.safe is not None and self.safe.log_wealth() >= level - CLOSE
            )
            if self.alarm or not near:
                self._object(f"an alarm was raised without cause: {recorded[0]['text']}")
        self.alarm |= bool(recorded)
        self.replan |= bool(recorded)

    def _check_flag(self) -> None:
        due, recorded = self.missing.rejected(), bool(self._recorded("flagged"))
        if due != recorded and not self.missing.near():
            self._object("draws seem to be discarded selectively, or not, against what is recorded")
        self.missing.flagged |= recorded

    # --------------------------------------------------------------------------------------------------------- plans

    def _weights(self, body: dict[str, Any]) -> FloatArray:
        result = np.zeros(len(self.policy_set.policies))
        for j, weight in body["weights"].items():
            result[int(j)] = weight
        if (result < 0.0).any() or abs(math.fsum(result) - 1.0) > 1e-9:
            self._object(f"weights must be a mixture, got {body['weights']}")
        return result

    def _rows(self) -> FloatArray:
        """(H, J, I)."""
        if self.trust == "cells" and self.wealth.alive.any():
            return np.minimum(self.policy_set.cells.predictions.cost_upper[self.wealth.alive], self.bounds.values)
        return self.bounds.values[None]

    def _certified(self, weights: FloatArray) -> bool:
        """Whether a mixture may be played now: the safe policy always, another one if every row allows it."""
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
        if not self._certified(weights):
            self._object(
                "a plan was made that the recomputed bounds do not certify, or that is not safe after an alarm or abort"
            )
        costs = np.tensordot(self._rows(), weights, axes=(1, 0)).max(axis=0, initial=-np.inf)
        if not np.allclose(costs, plan["bounds"], rtol=CLOSE, atol=CLOSE * np.minimum(1.0, self.limits)):
            self._object(f"the plan's certified costs are {costs.tolist()}, recorded are {plan['bounds']}")
        if plan["cells_left"] != int(self.wealth.alive.sum()):
            self._object(f"cells_left must be {int(self.wealth.alive.sum())}, got {plan['cells_left']}")
        if self.alarm or self.aborted or self.recovering:
            return
        if float(weights[1:].sum()) > self.cap + 1e-9:
            self._object(f"the weight off the safe policy exceeds the cap {self.cap:g}")
        self._check_approval(plan, weights)

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
        """What the plan may aim at, and the candidate: predicted returns in the candidate's cell under ``cells``, else what the guess expects."""
        cells, alive = self.policy_set.cells, self.wealth.alive
        if self.trust == "cells" and alive.any():
            living = np.flatnonzero(alive).tolist()
            played = [k for k in living if not self.barred[cells.policy_index[k]]]
            best = max(played or living, key=lambda k: cells.optimal_upper[k])
            return [(cells.predictions.reward_center[best], int(cells.policy_index[best]) if played else 0)]
        if self.guess is not None:
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
        kappa, since = KAPPA[self.trust], max(self.changed, STALLED)
        while since * 2 <= self.order.settled:
            kappa, since = 2.0 * kappa, 2 * since
        return min(kappa, max(KAPPA[self.trust], MOST_KAPPA))

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
            alpha = min(_share(row[0], row[candidate], inside) for row in rows)
            floor = self._exploration() * min(0.999999 * alpha, CAP)
        limits = [
            (floor if j == candidate and candidate else 0.0, 0.0 if self.barred[j] else 1.0)
            for j in range(objective.size)
        ]
        found = linprog(
            -objective, A_ub=matrix, b_ub=most, A_eq=np.ones((1, objective.size)), b_eq=[1.0], bounds=limits, method="highs"
        )  # fmt: skip
        return -float(found.fun) if found.status == 0 else None


def _as_held(event: Event) -> dict[str, Any]:
    """The body that was held when this happened first: an episode's plan and evidence were not known then."""
    if event.kind != "asked":
        return event.body
    return {name: value for name, value in event.body.items() if name not in ("plan", "settled")}


def _share(safe: FloatArray, other: FloatArray, limits: FloatArray) -> float:
    """Largest share of a policy that the safe one carries within the limits."""
    shares = [(d - s) / (o - s) for s, o, d in zip(safe, other, limits) if o > s]
    return float(min(1.0, max(0.0, min(shares, default=1.0))))


class _AskOrder:
    """Which reports may take effect: the longest complete prefix of the ask order that splits no group.

    Attributes:
        settled: episodes below have taken effect.
        lost: not to come, not yet settled: declared lost, or no longer waited for.
        declared: those that somebody declared lost before the library gave them up, and that were not settled before the last report.
    """

    def __init__(self) -> None:
        self.settled = 0
        self.lost: set[int] = set()
        self.declared: set[int] = set()
        self._groups: list[tuple[int, int, Group]] = []
        self._here: set[int] = set()
        self._missing = 0  # all episodes below are here, lost, or settled

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not (self._groups or self._here or self.lost) and self._missing == self.settled

    def pass_by(self, n: int) -> None:
        """The next n episodes took effect, one after the other."""
        self.settled = self._missing = self.settled + n
        self.declared = set()

    def declare_lost(self, ids: list[int]) -> None:
        """Somebody said that these never come; what the library gave up before is no longer theirs to declare."""
        late = {k for k in ids if k < self.settled or k in self.lost}
        self.declared = {k for k in self.declared if k >= self.settled} | (set(ids) - late)
        self.lost.update(set(ids) - {k for k in ids if k < self.settled})

    def add(self, group: Group) -> None:
        """A report arrived."""
        self.declared = {k for k in self.declared if k >= self.settled}
        first, last = int(group.ids.min()), int(group.ids.max())
        if first < self.settled:
            self.lost.update(k for k in group.ids.tolist() if k >= self.settled)
            return
        self._groups.append((first, last, group))
        self._here.update(group.ids.tolist())
        self.lost.difference_update(group.ids.tolist())

    def release(self) -> tuple[list[Group], list[int]]:
        """Groups by their first id, and lost episodes, that take effect now."""
        found = self._prefix()
        if len(self._here) + len(self.lost) > PATIENCE:
            here = sorted(self._here | self.lost)
            self.lost.update(set(range(self.settled, here[len(here) // 2])).difference(here))
            more = self._prefix()
            found = found[0] + more[0], found[1] + more[1]
        return found

    def _prefix(self) -> tuple[list[Group], list[int]]:
        missing = self._missing
        while missing in self._here or missing in self.lost:
            missing += 1
        if missing == self._missing:
            return [], []
        self._missing = end = missing
        while split := [first for first, last, _ in self._groups if first < end <= last]:
            end = min(split)
        ready = sorted((entry for entry in self._groups if entry[1] < end), key=lambda entry: int(entry[2].ids[0]))
        self._groups = [entry for entry in self._groups if entry[1] >= end]
        lost = sorted(k for k in self.lost if k < end)
        self.lost.difference_update(lost)
        for _, _, group in ready:
            self._here.difference_update(group.ids.tolist())
        self.settled = end
        return [group for _, _, group in ready], lost


class _Missing:
    """The e-process on which draws go missing, see :mod:`surefoot.journal.discards`."""

    def __init__(self, policies: int) -> None:
        self._logs = np.zeros((policies, len(FRACTIONS)))
        self._open: dict[int, tuple[int, FloatArray, bool]] = {}
        self._opened = self._next = 0
        self._mean = 0.0
        self.flagged = False

    @property
    def idle(self) -> bool:
        """Whether no draw is open."""
        return not self._open and self._next == self._opened

    def pass_by(self, n: int) -> None:
        """The next n draws were told at once."""
        self._opened = self._next = self._opened + n

    def asked(self, draws: list[int], weights: FloatArray) -> None:
        for j in draws:
            self._open[self._opened] = (j, weights, False)
            self._opened += 1
        self._judge()

    def closed(self, ids: list[int], *, lost: bool) -> None:
        for k in ids:
            if k in self._open and lost:
                self._open[k] = (*self._open[k][:2], True)
            elif not lost:
                self._open.pop(k, None)
        self._judge()

    def _judge(self) -> None:
        for k in range(self._next, self._opened):
            drawn, weights, lost = self._open.get(k, (0, None, False))
            if weights is not None:
                if not lost and self._opened - k <= HORIZON:
                    break
                del self._open[k]
                for j in np.flatnonzero((weights > 0.0) & (weights < 1.0)).tolist():
                    self._logs[j] += np.log1p(np.array(FRACTIONS) * (((j == drawn) / weights[j]) - 1.0))
                self._mean = float(log_sum(self._logs)) - math.log(self._logs.size)
            self._next = k + 1

    def rejected(self) -> bool:
        return not self.flagged and self._mean >= -math.log(LEVEL)

    def near(self) -> bool:
        return abs(self._mean + math.log(LEVEL)) < CLOSE
