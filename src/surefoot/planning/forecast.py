"""How long a deployment will take, from the policy set alone.

For a truth at the centre of cell i the real agent is run on episodes that the set's own predictions make (:mod:`surefoot.planning.surrogate`) until

* *half*: its mixture ``w`` puts one half on anything but the safe policy, ``1 - w_0 >= 1/2``;
* *optimal*: it is eps-optimal, ``V_r(w) >= V*_i - eps (V*_i - V_r(pi_s))``: all but a share ``eps`` of what can be gained over the safe policy.

Counted are the episodes asked before. R truths, every cell equally often up to one, give the median and the 10% and 90% quantiles; a run that does
not get there within the horizon K counts as beyond it, so a quantile is exact or it is "more than K". Trust levels meet the same truths with the
same chance.

This is a forecast, not a promise: the plant may lie between centres, outside all cells, or report late. What is promised (safety) does not rest
on it.

Letters: R runs, K episodes, J policies, N cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from textwrap import fill
from typing import Any

import numpy as np

from surefoot.arrays import check_integer, check_real
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.ramp import RAMP
from surefoot.deploy.trace import ask_in_batches
from surefoot.errors import AssumptionError, InvalidInput
from surefoot.parallel import map_tasks, processes
from surefoot.planning.plants import SurrogatePlant
from surefoot.planning.surrogate import SurrogateModel, fit_surrogate
from surefoot.policyset.schema import PolicySet
from surefoot.progress import track
from surefoot.stats.start_up import ceiling_advice
from surefoot.text_table import text_table
from surefoot.version import VERSION

__all__ = ["TRUST_LEVELS", "ForecastSettings", "deploy_once", "forecast", "render_forecast"]

TRUST_LEVELS = ("cells", "envelope", "data")
REHEARSED = "rehearsed"
"""Forecast by what its rehearsal found, not by simulation: whole deployments were played already, on better plants than these."""
QUANTILES = {"low": 0.1, "median": 0.5, "high": 0.9}
CHUNKS_PER_WORKER = 4
WIDTH = 110
"""Characters in a line for people."""


@dataclass(frozen=True)
class ForecastSettings:
    """What is forecast.

    Attributes:
        runs: R per trust level.
        episodes: K, after which a run is given up.
        eps: share of the gain over the safe policy that may be missing, in (0, 1).
        delta: error probability of the deployment.
        evidence: ``"all"``, or ``"returns"`` where the plant will not report transitions.
        margin, cost_ceilings, p_max, delta_coverage, ramp: as for :class:`~surefoot.deploy.certified.CertifiedAgent`.
        history: logged episodes of the safe policy that will be given before the first ask, with all that the plant reports.
        spread: see :func:`~surefoot.planning.surrogate.fit_surrogate`.
        seed: of all random draws.
    """

    runs: int = 30
    episodes: int = 20_000
    eps: float = 0.1
    delta: float = 0.05
    evidence: str = "all"
    margin: float | None = None
    cost_ceilings: tuple[float, ...] | tuple[tuple[float, ...], ...] | None = None
    p_max: float = 0.05
    delta_coverage: float = 0.05
    ramp: int = RAMP
    history: int = 0
    spread: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("runs", "episodes"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=1))
        object.__setattr__(self, "eps", check_real("eps", self.eps, low=0.0, high=1.0, open_low=True, open_high=True))
        for name in ("ramp", "history", "seed"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=0))

    def agent(self, policy_set: PolicySet, trust: str, evidence: str, seed: int) -> CertifiedAgent:
        """The agent that will be deployed.

        Raises:
            AssumptionError: it refuses the policy set at this trust level.
        """
        return CertifiedAgent(
            policy_set, trust=trust, delta=self.delta, seed=seed, evidence=evidence, margin=self.margin,
            cost_ceilings=self.cost_ceilings, p_max=self.p_max, delta_coverage=self.delta_coverage, ramp=self.ramp,
        )  # fmt: skip


def forecast(
    policy_set: PolicySet,
    trust: Sequence[str] = TRUST_LEVELS,
    settings: ForecastSettings | None = None,
    *,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Any]:
    """Forecast deployments of a policy set; the result does not depend on ``workers``.

    A trust level that the agent refuses is listed with the reason instead of numbers. ``rehearsed`` is not simulated here: it is listed with the
    ``statements`` on speed of the policy set's rehearsal.

    Returns:
        What JSON can hold; quantiles that lie beyond the horizon are ``None``.

    Raises:
        InvalidInput: an argument out of range.
    """
    workers = check_integer("workers", workers, low=1)
    chosen = ForecastSettings() if settings is None else settings
    known = (*TRUST_LEVELS, REHEARSED)
    if not trust or set(trust) - set(known) or len(set(trust)) < len(trust):
        raise InvalidInput(
            f"trust must be distinct names among {', '.join(known)}, got {list(trust)}; fix it",
            code="SF-ARGUMENT-CHOICE" if set(trust) - set(known) else "SF-ARGUMENT-DISTINCT",
        )
    refused = {level: _refusal(policy_set, level, chosen) for level in trust}
    surrogate = fit_surrogate(policy_set, chosen.spread)
    levels = [level for level in trust if refused[level] is None and level != REHEARSED]
    jobs = [(level, run, cell) for run, cell in enumerate(_truths(policy_set, chosen)) for level in levels]
    found = _run_all(surrogate, chosen, jobs, workers, progress)
    runs: dict[str, list[dict[str, Any]]] = {level: [] for level in levels}
    for (level, _, _), result in zip(jobs, found):
        runs[level].append(result)
    return {
        "schema": 1,
        "experiment": "forecast",
        "version": VERSION,
        "family": policy_set.training.family,
        "policy_set": policy_set.hash,
        "cells": len(policy_set.cells),
        "policies": len(policy_set.policies),
        **asdict(chosen),
        "assumption": surrogate.statement,
        "deviation": surrogate.deviation.tolist(),
        "transitions": surrogate.transitions and chosen.evidence == "all",
        "ceilings": _advice(policy_set, chosen) if "data" in trust and refused["data"] is None else None,
        "trust": {t: _row(policy_set, t, refused[t], runs) for t in trust},
    }


def _advice(policy_set: PolicySet, settings: ForecastSettings) -> str | None:
    """What smaller ceilings would buy."""
    criterion = policy_set.criterion
    declared = criterion.cost_ceilings if settings.cost_ceilings is None else np.array(settings.cost_ceilings)
    ceilings = np.atleast_2d(declared).max(axis=0).tolist()
    safe = policy_set.cells.predictions.cost_center[:, 0].mean(axis=0)
    return ceiling_advice(ceilings, criterion.cost_limits.tolist(), safe.tolist(), settings.delta)


def _row(
    policy_set: PolicySet, level: str, refused: str | None, runs: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    if refused is not None:
        return {"refused": refused}
    if level != REHEARSED:
        return _summary(runs[level])
    found = policy_set.rehearsed
    said = () if found is None else found.speed
    return {"refused": None, "statements": [statement.text for statement in said if np.isfinite(statement.bound)]}


def _refusal(policy_set: PolicySet, level: str, settings: ForecastSettings) -> str | None:
    try:
        settings.agent(policy_set, level, settings.evidence, 0)
    except AssumptionError as error:
        return str(error)
    return None


def _truths(policy_set: PolicySet, settings: ForecastSettings) -> list[int]:
    """(R,) cells, each equally often up to one, in random order."""
    rng = np.random.default_rng([settings.seed, 0])
    order = rng.permutation(len(policy_set.cells))
    return [int(k) for k in np.resize(order, settings.runs)]


Job = tuple[str, int, int]


def _run_all(
    surrogate: SurrogateModel, settings: ForecastSettings, jobs: list[Job], workers: int, progress: bool
) -> list[dict[str, Any]]:
    total = len(jobs)
    if processes(workers) == 1:
        return list(track(_some(surrogate, settings, jobs), "forecasting", total, show=progress))
    # Dealt out like cards, so that slow trust levels and easy cells are shared evenly.
    many = processes(workers) * CHUNKS_PER_WORKER
    deals = [jobs[k::many] for k in range(many)]
    calls = [(surrogate, settings, deal) for deal in deals]
    parts = map_tasks(_list, calls, workers=workers, label="forecasting", progress=progress, batch_size=1)
    results: list[dict[str, Any]] = [{} for _ in jobs]
    for k, part in enumerate(parts):
        results[k :: len(deals)] = part
    return results


def _list(surrogate: SurrogateModel, settings: ForecastSettings, jobs: list[Job]) -> list[dict[str, Any]]:
    return list(_some(surrogate, settings, jobs))


def _some(surrogate: SurrogateModel, settings: ForecastSettings, jobs: list[Job]) -> Iterator[dict[str, Any]]:
    """One result per job; neighbouring jobs share a truth, which is built once."""
    built: dict[int, SurrogatePlant] = {}
    for level, run, cell in jobs:
        if cell not in built:
            built = {cell: surrogate.plant(cell)}
        evidence = settings.evidence if surrogate.transitions else "returns"
        agent = settings.agent(surrogate.policy_set, level, evidence, _seeds(settings.seed, run)[1])
        best = float(surrogate.policy_set.cells.optimal_center[cell])
        yield {"cell": cell, **deploy_once(agent, built[cell], best, settings, run)}


def deploy_once(
    agent: CertifiedAgent, plant: SurrogatePlant, best: float, settings: ForecastSettings, run: int
) -> dict[str, Any]:
    """Deploy until both goals are reached or the horizon is.

    Args:
        agent: a new one.
        plant: the real task, with the exact values of the library.
        best: its optimal value.
        settings: goals, horizon and seed.
        run: number of the run, for its chance.
    """
    chance, _, _ = _seeds(settings.seed, run)
    reward = plant.values[:, 0]
    gain = max(best - float(reward[0]), 0.0)
    reached: dict[str, int | None] = {"half": None, "optimal": None}
    _give_history(agent, plant, settings, run)
    missing = 1.0
    for batch, asked in ask_in_batches(agent, settings.episodes):
        lack = best - float(batch.weights @ reward)
        goals = {"half": batch.weights[0] <= 0.5, "optimal": lack <= settings.eps * gain + 1e-9}
        for name, there in goals.items():
            if there and reached[name] is None:
                reached[name] = asked
        missing = lack / gain if gain > 0.0 else 0.0
        seen = plant.run(batch.policy_index, chance, asked)
        told = seen.transitions if "transitions" in agent.wants else None
        agent.tell(
            batch.ids,
            seen.returns,
            seen.costs,
            initial_state=seen.initial_states,
            transitions=told,
            signals=seen.signals,
        )
        if None not in reached.values():
            break
    return {**reached, "gained": 1.0 - missing, "alarm": agent.alarm}


def _give_history(agent: CertifiedAgent, plant: SurrogatePlant, settings: ForecastSettings, run: int) -> None:
    """Logged episodes of the safe policy, with chance of their own."""
    if not settings.history:
        return
    seen = plant.run(np.zeros(settings.history, dtype=np.int64), _seeds(settings.seed, run)[2], 0)
    told = seen.transitions if "transitions" in agent.wants else None
    agent.recall(seen.returns, seen.costs, initial_state=seen.initial_states, transitions=told, signals=seen.signals)


def _seeds(seed: int, run: int) -> tuple[int, int, int]:
    """Of the plant's chance, the agent's draws, and the log."""
    children = np.random.SeedSequence([seed, 1, run]).spawn(3)
    chance, draws, log = (int(s.generate_state(1, np.uint64)[0] >> 1) for s in children)
    return chance, draws, log


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "refused": None,
        "half": _quantiles([r["half"] for r in runs]),
        "optimal": _quantiles([r["optimal"] for r in runs]),
        "gained": float(np.median([r["gained"] for r in runs])),
        "alarms": sum(r["alarm"] is not None for r in runs),
        "runs": runs,
    }


def _quantiles(counts: list[int | None]) -> dict[str, Any]:
    """Quantiles of episodes, ``None`` beyond the horizon, and the share of runs that got there."""
    numbers = np.sort([np.inf if n is None else n for n in counts])
    at = {name: float(np.quantile(numbers, q, method="inverted_cdf")) for name, q in QUANTILES.items()}
    whole = {name: int(value) if np.isfinite(value) else None for name, value in at.items()}
    return {**whole, "reached": float(np.isfinite(numbers).mean())}


def render_forecast(found: dict[str, Any]) -> str:
    """The forecast as text for people."""
    head = (
        f"forecast for {found['family']}: {found['cells']} cells, {found['policies']} policies, delta {found['delta']:g}; "
        f"{found['runs']} simulated deployments per trust level"
    )
    title = f"within {found['eps']:.0%} of the optimum"
    rows = [["trust", "half the weight", title]]
    for level, row in found["trust"].items():
        short = "refused" if row["refused"] else "rehearsed" if "statements" in row else ""
        rows.append([level, *(short or _cell(row[k], found["episodes"]) for k in ("half", "optimal"))])
    return "\n".join([head, "", *(f"  {line}" for line in text_table(rows)), "", *_notes(found)])


def _cell(quantiles: dict[str, Any], horizon: int) -> str:
    """``480 (220 to 1 300)``."""

    def number(n: int | None) -> str:
        return f">{horizon:,}".replace(",", " ") if n is None else f"{n:,}".replace(",", " ")

    median, low, high = (number(quantiles[k]) for k in ("median", "low", "high"))
    return f"{median} ({low} to {high})" if (median, median) != (low, high) else median


def _notes(found: dict[str, Any]) -> list[str]:
    notes = [f"{level} refused: {row['refused']}" for level, row in found["trust"].items() if row["refused"]]
    notes += [
        "Real episodes until the weight on anything but the safe policy reaches one half, and until all but the stated share of the possible gain "
        "is made: median (10% to 90%) over truths at the centres of cells, each equally likely. 0: from the first episode.",
        str(found["assumption"]),
    ]
    if found["history"]:
        notes.append(f"{found['history']} logged episodes of the safe policy are given before the first of these.")
    if not found["transitions"]:
        notes.append("The plant reports returns and costs, no transitions.")
    if found.get("ceilings"):
        notes.append(found["ceilings"])
    for level, row in found["trust"].items():
        if "statements" in row:
            notes.append(
                " ".join([f"{level}, from its rehearsal:", *(row["statements"] or ["it says nothing of speed."])])
            )
            continue
        if not row["refused"] and row["optimal"]["median"] is None:
            notes.append(
                f"{level}: after {found['episodes']} episodes the median deployment has made {row['gained']:.0%} of the gain."
            )
        if not row["refused"] and row["alarms"]:
            notes.append(f"{level}: {row['alarms']} of {found['runs']} simulated deployments raised a false alarm.")
    notes.append("A forecast, not a promise: the real plant may differ. Safety does not rest on it.")
    return [fill(note, WIDTH, initial_indent="  ", subsequent_indent="  ") for note in notes]
