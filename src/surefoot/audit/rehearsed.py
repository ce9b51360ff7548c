r"""Rehearsed deployments a second time: which episodes enter which plan, the belief, the mixture, surprise, and whether the protocol was left.

The agent adds up sums as reports come and solves a quadratic for every pair of policies, compiled. Here reports are kept by the plan that they
enter, the posterior is written with matrices, and the largest share of every pair is found by bisection. The agent takes a fixed number of Newton
steps per plan; so does this, from its own last point: what the two differ by is rounding, which a step shrinks. Plan times, cutoffs and leaving the
protocol are discrete and agree exactly.

A mixture is accepted if it is this one within :data:`~surefoot.audit.order.CLOSE`, or lies on a pair that is as good within that under the same rule.

Letters: d latents, E transitions, J policies, B initial states, F outcomes, V = 1 + I values, K episodes, n episodes of a report.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.audit.groups import Group
from surefoot.audit.order import CLOSE
from surefoot.deploy.belief.kernels import FLOOR, LONGEST_STEP
from surefoot.deploy.belief.planner import FIRST, GROWTH, INSIDE, SHAPE, STEPS
from surefoot.deploy.belief.rehearsed import LOST_ERROR
from surefoot.policyset.belief import Belief
from surefoot.policyset.rehearsed import Rehearsed
from surefoot.policyset.schema import PolicySet

__all__ = ["RehearsedRun", "certified_rung", "unsupported"]

HALVINGS = 60
RULE = 1e-8
"""Relative excess over a limit that two computations of the same rule may differ by."""


def unsupported(found: Rehearsed, attempt: int) -> str | None:
    """Why a certificate does not follow from the counts that it names, or ``None``: exact binomial tests, rung by rung, by the beta distribution."""
    from scipy.special import betainc

    if found.attempt != attempt or found.share > found.delta_coverage / 2.0**attempt * (1.0 + 1e-9):
        return f"look {attempt} may pay {found.delta_coverage / 2.0**attempt:.4g}, it pays {found.share:.4g} as look {found.attempt}"
    if found.chosen < 0:
        return "no rung was accepted"
    # P(Binomial(m, p) <= k) is 1 minus the beta distribution function with k + 1 and m - k at p.
    for rung in found.rungs[: found.chosen + 1]:
        k, m = rung.violating, found.plants
        if rung.plants != m or k >= m or 1.0 - float(betainc(k + 1.0, m - k, found.alpha)) > found.share * (1.0 + 1e-6):
            return f"rung {rung.name!r} broke limits in {k} of {rung.plants} runs, which does not show {found.alpha:g} at error {found.share:.4g}"
    # A violating run is taken for one with probability at least 1 - beta.
    if 1.0 - float(betainc(k + 1.0, m - k, found.upper * (1.0 - found.judging_error))) > found.share * (1.0 + 1e-6):
        return f"{k} of {m} runs do not show at most {found.upper:.4g} at error {found.share:.4g}"
    return None


def certified_rung(found: Rehearsed) -> dict[str, Any]:
    """The configuration that it certifies, as the event that opens a deployment records it."""
    protocol, boldness = found.protocol, found.rungs[found.chosen].boldness
    extra = 0.0 if protocol.lost_if_costly is None else protocol.lost_if_costly[1]
    return {
        "boldness": boldness,
        "episodes": found.episodes,
        "evidence": found.evidence,
        "batch": protocol.batch,
        "delay": int(max(episodes for episodes, _ in protocol.delay)),
        "lost": 1.0 - (1.0 - protocol.lost) * (1.0 - extra),
        "history": protocol.history,
        "exposure": protocol.exposure,
        "surprise": found.surprise if math.isfinite(found.surprise) else None,
    }


class Fit:
    """Tables that are quadratic in the latents: center (..., ), slope (..., d) and symmetric curves (..., d, d)."""

    def __init__(self, center: FloatArray, slope: FloatArray, curve: FloatArray) -> None:
        self.center, self.slope = np.array(center), np.array(slope)
        d = slope.shape[-1]
        self.curve = np.zeros((*center.shape, d, d))
        if curve.shape[-1]:
            rows, columns = np.triu_indices(d)
            self.curve[..., rows, columns] += 0.5 * curve
            self.curve[..., columns, rows] += 0.5 * curve

    def at(self, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values (...) and gradients (..., d)."""
        bent = self.curve @ z
        return self.center + (self.slope + bent) @ z, self.slope + 2.0 * bent


class Learned:
    """What episodes that enter one plan reported.

    Attributes:
        known: episodes that were told or are known to be lost.
        moves: (E,).
        seen: (J, B).
        sums: (J, B, F).
    """

    def __init__(self, belief: Belief) -> None:
        self.known = 0
        self.moves = np.zeros(len(belief.support))
        self.seen = np.zeros(belief.outcome_center.shape[:2])
        self.sums = np.zeros(belief.outcome_center.shape)


class RehearsedRun:
    """One walk through a rehearsed deployment.

    Args:
        policy_set: with a belief.
        rung: as the event that opened the deployment records it.
        margin: of the safe policy.

    Attributes:
        left: why the deployment is no longer what was rehearsed, or ``None``.
        surprise, threshold: the largest so far, and what it must not exceed.
        due: when the next plan is made.
        doubtful: whether rounding decides that too many episodes are lost.
    """

    def __init__(self, policy_set: PolicySet, rung: dict[str, Any], margin: float) -> None:
        belief = policy_set.beliefs[rung["evidence"]]
        self._belief, self._limits, self._margin = belief, np.array(policy_set.criterion.cost_limits), margin
        self._boldness, self._lost_share = float(rung["boldness"]), float(rung["lost"])
        self._episodes, self._batch, self._delay = int(rung["episodes"]), int(rung["batch"]), int(rung["delay"])
        self._history, self.exposure = int(rung["history"]), float(rung["exposure"])
        self.threshold = math.inf if rung["surprise"] is None else float(rung["surprise"])
        self._outcomes = Fit(belief.outcome_center, belief.outcome_slope, belief.outcome_curve)
        self._values = Fit(belief.value_center, belief.value_slope, belief.value_curve)
        self._entry = {triple: e for e, triple in enumerate(map(tuple, belief.support.tolist()))}
        self._column = {state: b for b, state in enumerate(belief.initial_states.tolist())}
        self._plain, self._told = belief.value_center.shape[1], belief.outcome_center.shape[2]
        self._waiting: dict[int, Learned] = {}
        self._total = Learned(belief)
        self._z, self._precision = np.zeros(belief.latents), np.eye(belief.latents)
        self.left: str | None = None
        self.surprise, self._innovations, self._blocks = 0.0, 0.0, 0
        self.due = self._cutoff = self._lost = self._recalled = 0
        self.doubtful = False
        self._choices: list[tuple[int, int, float]] = []
        self._safe_alone = True
        self._mean = np.zeros(belief.value_center.shape)
        self._axes = np.zeros(belief.value_slope.shape)
        self._bold = self._boldness_at(0)
        self._look()
        self._choices, self._safe_alone = [], True  # till the first plan

    # --------------------------------------------------------------------------------------------------------------- when

    @property
    def ends(self) -> int:
        """Episodes from here on teach nothing."""
        return self._episodes

    def _after(self, time: int) -> int:
        wanted = time + max(1, math.floor(GROWTH * time))
        return math.ceil(wanted / self._batch) * self._batch

    def _enters(self, time: int) -> int:
        """Episodes below enter the plan made at ``time``."""
        return max(0, (time - self._delay) - (time - self._delay) % self._batch)

    def _plan_of(self, episode: int) -> int | None:
        if episode < self._cutoff:
            return None
        time = self.due
        while episode >= self._enters(time):
            time = self._after(time)
        return time

    # ------------------------------------------------------------------------------------------------------------- events

    def asked(self, opened: int, n: int) -> str | None:
        """n episodes from ``opened`` on were asked; why that was not rehearsed, or ``None``."""
        if opened >= self.due and self.due < self._episodes:
            return f"episode {opened} was asked before what the plan due then rests on was there"
        change = self.due
        if change <= opened:
            change = self._after(change)
        if change < self._episodes and change < opened + n:
            return f"{n} episodes were asked at once across the plan before episode {change}"
        return None

    def told(self, group: Group) -> str | None:
        """A report; why that was not rehearsed, or ``None``."""
        if self.due >= self._episodes:
            return None
        times = {self._plan_of(k) for k in (int(group.ids.min()), int(group.ids.max()))}
        if None in times or len(times) > 1:
            return "episodes that enter different plans were told together"
        (time,) = times
        if time is not None:
            self._learn(time, group)
        return None

    def lost(self, ids: list[int], opened: int) -> str | None:
        """Episodes will not be told; why that was not rehearsed, or ``None``."""
        from scipy.special import betainc

        self.doubtful = False
        if self.due >= self._episodes:
            return None
        for time in map(self._plan_of, ids):
            if time is not None:
                self._for(time).known += 1
        self._lost += len(ids)
        # P(Binomial(n, p) >= k) is the beta distribution function with k and n - k + 1 at p.
        chance = float(betainc(self._lost, opened - self._lost + 1.0, self._lost_share)) if self._lost_share else 0.0
        self.doubtful = math.isclose(chance, LOST_ERROR, rel_tol=CLOSE)
        return f"{self._lost} of {opened} episodes are lost" if chance < LOST_ERROR else None

    def recall(self, group: Group) -> bool:
        """Logged episodes of the safe policy, which enter the first plan; whether so many were rehearsed."""
        self._recalled += group.ids.size
        self._learn(0, group)
        self._for(0).known -= group.ids.size  # nobody asked for them
        return self._recalled <= self._history

    def odd(self, group: Group, moves: list[IntArray] | None = None) -> bool:
        """Whether anything was reported that no training task does."""
        rows = [] if group.rows is None else group.rows.tolist()
        for some in moves or ():
            rows += some.tolist()
        if self._entry and any((s, a, t) not in self._entry for s, a, t, _ in rows):
            return True
        starts = [] if group.starts is None else group.starts.tolist()
        return bool(self._column) and self._measured(group) and any(start not in self._column for start in starts)

    def told_singly(self, group: Group, moves: list[IntArray] | None) -> None:
        """Episodes that were asked and told one after the other, all before the plan that is due; none of them odd."""
        if self.due >= self._episodes:
            return
        for k in range(group.ids.size):
            one = {
                "ids": [int(group.ids[k])],
                "reward": [group.outcomes[k, 0]],
                "costs": [group.outcomes[k, 1:]],
                "initial_state": None if group.starts is None else [group.starts[k]],
                "signals": None if group.signals is None else [group.signals[k]],
                "transitions": None if moves is None else moves[k],
            }
            self.told(Group(one, [int(group.policies[k])]))

    def _measured(self, group: Group) -> bool:
        return self._told == self._plain or group.signals is not None

    def _for(self, time: int) -> Learned:
        return self._waiting.setdefault(time, Learned(self._belief))

    def _learn(self, time: int, group: Group) -> None:
        found = self._for(time)
        found.known += group.ids.size
        if self.odd(group):
            self.surprise = math.inf
        if group.rows is not None:
            for s, a, t, count in group.rows.tolist():
                if (s, a, t) in self._entry:
                    found.moves[self._entry[s, a, t]] += count
        if not self._measured(group) or (self._column and group.starts is None):
            return
        starts = [0] * group.ids.size if group.starts is None else group.starts.tolist()
        for k, j in enumerate(group.policies.tolist()):
            b = self._column.get(starts[k]) if self._column else 0
            if b is not None:
                values = group.outcomes[k]
                if group.signals is not None and self._told > self._plain:
                    values = np.append(values, group.signals[k])
                found.seen[j, b] += 1
                found.sums[j, b] += values

    # -------------------------------------------------------------------------------------------------------------- plans

    def follow(self, opened: int) -> bool:
        """Make the plan that is due if all it rests on is there; whether it was made."""
        if not (opened >= self.due and self.due < self._episodes) or self._recalled < self._history:
            return False
        ready = sum(part.known for time, part in self._waiting.items() if time <= self.due)
        if ready < self._enters(self.due) - self._cutoff:
            return False
        fresh = Learned(self._belief)
        for time in [time for time in self._waiting if time <= self.due]:
            part = self._waiting.pop(time)
            fresh.moves, fresh.seen, fresh.sums = (
                fresh.moves + part.moves,
                fresh.seen + part.seen,
                fresh.sums + part.sums,
            )
        time, self._cutoff, self.due = self.due, self._enters(self.due), self._after(self.due)
        self._predict(fresh)
        total = self._total
        total.moves, total.seen, total.sums = (
            total.moves + fresh.moves,
            total.seen + fresh.seen,
            total.sums + fresh.sums,
        )
        if total.moves.any() or total.seen.any():
            for _ in range(STEPS):
                self._step()
        self.surprise = max(self.surprise, self._pearson())
        self._bold = self._boldness_at(time)
        self._look()
        return True

    def _boldness_at(self, time: int) -> float:
        return math.sqrt(self._boldness**2 + SHAPE * max(0.0, math.log(self._episodes) - math.log(max(time, FIRST))))

    def _predict(self, fresh: Learned) -> None:
        """Outcomes against what was expected of them before they came."""
        if not fresh.seen.any():
            return
        mean, gradient = self._outcomes.at(self._z)
        n = fresh.seen[:, :, None]
        gap = np.where(n > 0.0, fresh.sums - n * mean, 0.0).sum(axis=(0, 1))
        own = n * np.diagonal(self._belief.outcome_noise, axis1=2, axis2=3) + (n * self._belief.outcome_residual) ** 2
        along = (n[..., None] * gradient).sum(axis=(0, 1))
        shared = np.einsum("fd,de,fe->f", along, np.linalg.inv(self._precision), along)
        self._innovations += float((gap**2 / (own.sum(axis=(0, 1)) + shared) - 1.0).sum())
        self._blocks += 1
        self.surprise = max(self.surprise, self._innovations / math.sqrt(2.0 * gap.size * self._blocks + 10.0))

    def _step(self) -> None:
        """One Newton step."""
        b, d = self._belief, self._z.size
        precision, score = np.eye(d), -self._z
        seen = self._total.moves > 0.0
        if seen.any():
            counts, slopes = self._total.moves[seen], b.kernel_slope[seen]
            p = np.maximum(b.kernel_center[seen] + slopes @ self._z, FLOOR * b.kernel_center[seen])
            score = score + slopes.T @ (counts / p)
            precision = precision + slopes.T @ (slopes * (counts / p**2)[:, None])
        told = self._total.seen > 0.0
        if b.informative and told.any():
            mean, gradient = self._outcomes.at(self._z)
            n = self._total.seen[told]
            spread = b.outcome_noise[told] / n[:, None, None]
            spread = spread + np.eye(mean.shape[2]) * (b.outcome_residual[told] ** 2)[:, None, :]
            gap, slope = self._total.sums[told] / n[:, None] - mean[told], gradient[told]
            weight = np.linalg.inv(spread)
            score = score + np.einsum("mfd,mfg,mg->d", slope, weight, gap)
            precision = precision + np.einsum("mfd,mfg,mge->de", slope, weight, slope)
        step = np.linalg.solve(precision, score)
        step = step * min(1.0, LONGEST_STEP / max(float(np.abs(step).max()), 1e-300))
        self._z, self._precision = self._z + step, precision

    def _pearson(self) -> float:
        """Transition counts against the kernel."""
        b, moves = self._belief, self._total.moves
        if not moves.size:
            return 0.0
        pairs = b.support[:, 0] * (1 + int(b.support[:, 1].max())) + b.support[:, 1]
        visits = np.array([moves[pairs == pair].sum() for pair in np.unique(pairs)])
        n = visits[np.searchsorted(np.unique(pairs), pairs)]
        p = np.maximum(b.kernel_center + b.kernel_slope @ self._z, FLOOR * b.kernel_center)
        enough = n * p >= 1.0
        if not enough.any():
            return 0.0
        n, p, moves = n[enough], p[enough], moves[enough]
        freedom = float((1.0 - p).sum())
        return (float(((moves - n * p) ** 2 / (n * p)).sum()) - freedom) / math.sqrt(2.0 * freedom + 10.0)

    # ----------------------------------------------------------------------------------------------------------- mixtures

    def _look(self) -> None:
        """Expected values, their gradients, and which pairs are as good as the best."""
        covariance = np.linalg.inv(self._precision)
        self._covariance = 0.5 * (covariance + covariance.T)
        mean, self._axes = self._values.at(self._z)
        self._mean = mean + np.einsum("jfde,de->jf", self._values.curve, self._covariance)
        self._choices, self._safe_alone = [], False
        for room in (RULE, 0.0, -RULE):
            pairs = self._pairs(room)
            if not pairs:
                self._safe_alone = True
                continue
            best = max(self._worth(*pair) for pair in pairs)
            self._choices += [pair for pair in pairs if self._worth(*pair) >= best - CLOSE * (1.0 + abs(best))]

    def _worth(self, a: int, b: int, share: float) -> float:
        return float((1.0 - share) * self._mean[a, 0] + share * self._mean[b, 0])

    def costs(self, weights: FloatArray) -> FloatArray:
        """(I,) what the belief takes a mixture's costs to be at most."""
        middle = np.einsum("j,jfd->fd", weights, self._axes)[1:]
        variance = np.einsum("id,de,ie->i", middle, self._covariance, middle)
        variance = variance + weights**2 @ self._belief.value_residual[:, 1:] ** 2
        found: FloatArray = weights @ self._mean[:, 1:] + self._bold * np.sqrt(variance)
        return found

    def _pairs(self, room: float) -> list[tuple[int, int, float]]:
        """(a, a, 0) for policies that meet the rule, and (a, b, w) with the largest w for pairs whose second does not."""
        size = len(self._mean)
        most = self._limits + room * (1.0 + self._limits)
        fine = [bool((self.costs(row) <= most).all()) for row in np.eye(size)]
        found = [(a, a, 0.0) for a in range(size) if fine[a]]
        pairs = [(a, b) for a in range(size) if fine[a] for b in range(size) if not fine[b]]
        if not pairs:
            return found
        first, second = np.array(pairs).T
        spread = np.einsum("jid,de,kie->jki", self._axes[:, 1:], self._covariance, self._axes[:, 1:])
        own = self._belief.value_residual[:, 1:] ** 2
        low, high = np.zeros(first.size), np.ones(first.size)
        for _ in range(HALVINGS):
            w = (0.5 * (low + high))[:, None]
            mean = (1.0 - w) * self._mean[first, 1:] + w * self._mean[second, 1:]
            variance = (1.0 - w) ** 2 * (spread[first, first] + own[first]) + w**2 * (
                spread[second, second] + own[second]
            )
            variance = variance + 2.0 * w * (1.0 - w) * spread[first, second]
            inside = (mean + self._bold * np.sqrt(np.maximum(variance, 0.0)) <= most).all(axis=1)
            low, high = np.where(inside, w[:, 0], low), np.where(inside, high, w[:, 0])
        return found + [(int(a), int(b), float(w) * (1.0 - INSIDE)) for a, b, w in zip(first, second, low)]

    def plays(self, weights: FloatArray) -> bool:
        """Whether this is the mixture that was rehearsed, within rounding."""
        return (self._safe_alone and weights[0] == 1.0) or any(self._is(weights, *pair) for pair in self._choices)

    def _is(self, weights: FloatArray, a: int, b: int, share: float) -> bool:
        mine = np.zeros(weights.size)
        mine[a] += 1.0 - share
        mine[b] += share
        off = 1.0 - mine[0]
        if off > self.exposure:
            mine *= self.exposure / off
            mine[0] = 1.0 - mine[1:].sum()
        if np.allclose(weights, mine, rtol=0.0, atol=CLOSE):
            return True
        if off > self.exposure - CLOSE or set(np.flatnonzero(weights).tolist()) - {a, b}:
            return False
        # Where the rule hardly depends on the share, rounding moves the share, and the return not.
        values = float(weights @ self._mean[:, 0]), self._worth(a, b, share)
        if abs(values[0] - values[1]) > CLOSE * (1.0 + abs(values[1])):
            return False
        return bool((self.costs(weights) <= self._limits + RULE * (1.0 + self._limits)).all())

    def bounds(self, weights: FloatArray) -> FloatArray:
        """(I,) the same as :meth:`costs`, with the safe policy's part no larger than what its margin leaves."""
        total = self.costs(weights)
        middle = np.einsum("j,jfd->fd", weights, self._axes)[1:]
        variance = np.einsum("id,de,ie->i", middle, self._covariance, middle)
        variance = variance + weights**2 @ self._belief.value_residual[:, 1:] ** 2
        along = np.einsum("id,de,ie->i", self._axes[0, 1:], self._covariance, middle)
        along = along + weights[0] * self._belief.value_residual[0, 1:] ** 2
        alone = self._mean[0, 1:] + self._bold * along / np.sqrt(np.maximum(variance, 1e-300))
        found: FloatArray = total - weights[0] * np.maximum(0.0, alone - (self._limits - self._margin))
        return found
