"""From runs to rows: rates with exact intervals, tests, causes.

A row is *judged* where the agent's trust level makes a claim and what it assumes is true of the tasks (checked exactly, run by run);
every other row is *measured*. A judged row fails when one of three one-sided binomial tests rejects, at level :data:`LEVEL`:

* the rate of runs with any violation is at most ``delta``;
* the rate of runs in which the lowest-index cell of the real task was rejected is at most ``delta_e``;
* the rate of runs in which some data bound fell below the real cost of its policy is at most ``delta_b``.

Under ``rehearsed`` the first is tested at the share alpha that the rehearsal certifies, times the density ratio of the scenario's law against the
family; where deployments left their protocol, what violates after that is tested at ``delta``, as a fourth test.
A correct agent fails a row with probability at most ``3 LEVEL``.
Whole procedures have rows of their own: the rate of wrong acceptances is at most half of ``delta_coverage``, at the same level.
A run in which the agent raised an error fails its row, judged or not. Letters: n runs, k failures.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from surefoot.assumptions import ASSUMES
from surefoot.experiments.validation.calibration import KINDS, POSITIONS, MaxWealth
from surefoot.experiments.validation.procedure import ALLOWED, P_MAX, Attempt
from surefoot.experiments.validation.scenarios import AS_REHEARSED, SCENARIOS
from surefoot.experiments.validation.trial import Outcome
from surefoot.experiments.validation.truth import CAUSES, NO_CLAIM
from surefoot.stats.binomial import clopper_pearson, rate_test

__all__ = ["CONFIDENCE", "LEVEL", "calibration_rows", "judged_rows_pass", "procedure_rows", "rows_of", "violations_of"]

LEVEL = 1e-3
CONFIDENCE = 0.95
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CURVE = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005)
"""Levels of calibration curves."""


def rows_of(outcomes: Sequence[Outcome], delta: float) -> list[dict[str, Any]]:
    """One row per agent, scenario and status, in the order of agents and scenarios."""
    groups: dict[tuple[str, str, bool], list[Outcome]] = {}
    for outcome in outcomes:
        key = (outcome.job.agent, outcome.job.scenario, outcome.trust is not None and outcome.holds)
        groups.setdefault(key, []).append(outcome)
    agents, scenarios = list(dict.fromkeys(o.job.agent for o in outcomes)), list(SCENARIOS)
    order = sorted(groups, key=lambda key: (agents.index(key[0]), scenarios.index(key[1]), not key[2]))
    return [_row(key, groups[key], delta) for key in order]


def _row(key: tuple[str, str, bool], runs: list[Outcome], delta: float) -> dict[str, Any]:
    agent, scenario, judged = key
    trust = runs[0].trust
    violations = rate([o.violating > 0 for o in runs], _allowed(scenario, runs, delta) if judged else None)
    protocol = _protocol(runs, delta if judged else None) if trust == "rehearsed" else None
    eliminations = _events([o.eliminated for o in runs], runs[0].elimination_delta if judged else None)
    # Inside its protocol a rehearsed deployment does not rest on the ceilings and the margin that data bounds need.
    rests_on_data = judged and not (trust == "rehearsed" and any(o.left is None for o in runs))
    bounds = _events([o.bound_failed for o in runs], runs[0].bounds_delta if rests_on_data else None)
    after = None if protocol is None else protocol["violations_after"]
    rates = (violations, eliminations, bounds, after)
    tests = [r["passed"] for r in rates if r is not None and r["passed"] is not None]
    errors = [o.error for o in runs if o.error is not None]
    causes = Counter(o.cause for o in runs if o.cause is not None)
    return {
        "agent": agent,
        "scenario": scenario,
        "status": "judged" if judged else "measured",
        "assumption": ASSUMES.get(trust or "", NO_CLAIM),
        "assumption_holds": judged,
        "runs": len(runs),
        "violations": violations,
        "causes": {cause: causes.get(cause, 0) for cause in CAUSES},
        "eliminations": eliminations,
        "bound_failures": bounds,
        "protocol": protocol,
        "alarms": _alarms(runs),
        "changes": _changes(runs) if scenario == "drift" else None,
        "largest_excess": max(o.excess for o in runs),
        "violating_episodes": sum(o.violating for o in runs),
        "violating_episodes_before_alarm": sum(o.violating_before_alarm for o in runs),
        "regret": _quantiles([o.regret for o in runs if o.regret is not None]),
        "errors": {"count": len(errors), "first": errors[0] if errors else None},
        "passed": False if errors else all(tests) if judged else None,
    }


def _allowed(scenario: str, runs: Sequence[Outcome], delta: float) -> float | None:
    """Promised share of violating runs; ``None`` where a rehearsed deployment was used as nobody rehearsed it."""
    if runs[0].trust != "rehearsed":
        return delta
    alpha = runs[0].alpha
    if alpha is None or scenario not in AS_REHEARSED:
        return None
    left = any(o.left is not None for o in runs)
    return min(1.0, AS_REHEARSED[scenario] * alpha + (delta if left else 0.0))


def _protocol(runs: Sequence[Outcome], delta: float | None) -> dict[str, Any]:
    """How many deployments left what was rehearsed, when, and whether they violated after that."""
    left = [o for o in runs if o.left is not None]
    return {
        "left": len(left),
        "episodes": _quantiles([o.left for o in left if o.left is not None]),
        "violations_after": rate([o.violating_after > 0 for o in left], delta) if left else None,
    }


def procedure_rows(attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
    """One row per agent and whole procedure: how often what must be refused was accepted, and how often what may be was.

    Judged are agents whose trust rests on the hold-out; the others accept any policy set, and promise nothing about it.
    """
    groups: dict[tuple[str, str], list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault((attempt.agent, attempt.scenario), []).append(attempt)
    rows = []
    for (agent, scenario), runs in groups.items():
        judged = all(a.claims for a in runs)
        wrong = [a.wrong for a in runs if a.wrong is not None]
        fine = [a for a in runs if a.wrong is None]
        found = rate(wrong, ALLOWED if judged else None) if wrong else None
        rows.append(
            {
                "agent": agent,
                "scenario": scenario,
                "status": "judged" if judged else "measured",
                "runs": len(runs),
                "p_max": P_MAX,
                "wrong_acceptances": found,
                "accepted_of_those_that_may_be": [sum(a.accepted for a in fine), len(fine)],
                "looks": float(np.mean([a.looks for a in runs])),
                "largest_uncovered_share": max(a.uncovered for a in runs),
                "passed": None if found is None else found["passed"],
            }
        )
    return rows


def rate(failed: Sequence[bool], allowed: float | None) -> dict[str, Any]:
    """Failures with their Clopper-Pearson interval and, where a rate is allowed, the test of it."""
    count, runs = sum(failed), len(failed)
    low, high = clopper_pearson(count, runs, 1.0 - CONFIDENCE)
    p_value = None if allowed is None else rate_test(count, runs, allowed)
    return {
        "count": count,
        "rate": count / runs,
        "interval": [low, high],
        "allowed": allowed,
        "p_value": p_value,
        "passed": None if p_value is None else p_value >= LEVEL,
    }


def _events(happened: Sequence[bool | None], allowed: float | None) -> dict[str, Any] | None:
    known = [bool(h) for h in happened if h is not None]
    return rate(known, allowed) if known else None


def _alarms(runs: Sequence[Outcome]) -> dict[str, Any]:
    times = [o.alarm for o in runs if o.alarm is not None]
    low, high = clopper_pearson(len(times), len(runs), 1.0 - CONFIDENCE)
    return {"count": len(times), "rate": len(times) / len(runs), "interval": [low, high], "episodes": _quantiles(times)}


def _changes(runs: Sequence[Outcome]) -> dict[str, Any]:
    """What came of plants that changed: by step and by slow drift, alarms without cause before, and how long an alarm took."""
    found = {}
    for name, odd in (("step", 0), ("slow", 1)):
        some = [o for o in runs if o.job.run % 2 == odd and o.changed is not None]
        early = [o for o in some if o.alarm is not None and o.alarm <= (o.changed or 0)]
        late = [o for o in some if o not in early]
        delays = [o.alarm - o.changed for o in late if o.alarm is not None and o.changed is not None]
        found[name] = {
            "runs": len(some),
            "alarms_before": len(early),
            "alarms": len(delays),
            "delay": _quantiles(delays),
            "violating_episodes": _quantiles([o.violating_changed for o in late]),
            "largest_excess": max((o.excess_changed for o in late), default=0.0),
        }
    return found


def _quantiles(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    levels = np.quantile(np.asarray(values, dtype=np.float64), QUANTILES)
    return {"mean": float(np.mean(values)), "quantiles": {str(q): float(v) for q, v in zip(QUANTILES, levels)}}


def violations_of(outcomes: Sequence[Outcome], names: Sequence[str]) -> list[dict[str, Any]]:
    """Every violating run with its task, excess and cause."""
    return [
        {
            "agent": o.job.agent,
            "scenario": o.job.scenario,
            "run": o.job.run,
            "task": dict(zip(names, o.job.parameters)),
            "reports": o.mode,
            "assumption_holds": o.holds,
            "cause": o.cause,
            "excess": o.excess,
            "first_episode": o.first,
            "violating_episodes": o.violating,
            "violating_episodes_before_alarm": o.violating_before_alarm,
        }
        for o in outcomes
        if o.violating
    ]


def calibration_rows(maxima: Sequence[MaxWealth], delta: float) -> list[dict[str, Any]]:
    """Crossing rates by kind and position, tested at ``delta``, and their curves over :data:`CURVE`."""
    groups: dict[tuple[str, str], list[float]] = {}
    for run in maxima:
        for kind, peak in run.maxima.items():
            groups.setdefault((kind, run.position), []).append(peak)
    order = sorted(groups, key=lambda key: (KINDS.index(key[0]), POSITIONS.index(key[1])))
    return [_calibration_row(kind, position, groups[kind, position], delta) for kind, position in order]


def _calibration_row(kind: str, position: str, maxima: list[float], delta: float) -> dict[str, Any]:
    crossings = rate([_crosses(peak, delta) for peak in maxima], delta)
    curve = [[level, sum(_crosses(peak, level) for peak in maxima) / len(maxima)] for level in CURVE]
    return {
        "kind": kind, "position": position, "status": "judged", "runs": len(maxima), "crossings": crossings,
        "curve": curve, "passed": crossings["passed"],
    }  # fmt: skip


def _crosses(peak: float, level: float) -> bool:
    # Wealth that is not a number proves nothing, but it is not a wealth either: count it as crossed.
    return math.isnan(peak) or peak >= -math.log(level)


def judged_rows_pass(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether no judged row failed."""
    return all(row["passed"] is not False for row in rows)
