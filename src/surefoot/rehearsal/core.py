r"""Rehearsal: run the whole frozen deployment on fresh simulated plants, count the runs that break a limit.

    freeze -> hash -> fresh plants from (seed, hash, attempt) -> every rung on every plant -> walk the ladder -> certificate

*Theorem T8* (docs/guarantees.md). Given what is frozen, a run is violating with some probability ``p_rung``, independently over plants. The ladder
is walked from the most cautious rung; a rung is accepted while "``p_rung`` is at least alpha" is rejected at the error that this look pays, and the
first refusal ends the walk. Then with probability at least ``1 - delta_coverage`` over all looks, a deployment on a fresh plant of the family, used
as the protocol says, deploys a mixture above a limit with probability at most alpha. Nothing about the agent has to be right for that.

Letters: m plants, L rungs, p parameters, K episodes, C checkpoints.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from surefoot.arguments import check_family
from surefoot.arrays import FloatArray, check_integer, check_real
from surefoot.deploy.belief import planner as planning
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.errors import InvalidInput
from surefoot.parallel import iter_tasks
from surefoot.policyset.lineage import look_share
from surefoot.policyset.rehearsed import (
    QUANTILES,
    RehearsalLook,
    Rehearsed,
    RungRecord,
    Slice,
    SpeedStatement,
)
from surefoot.policyset.schema import PolicySet, check_policy_set
from surefoot.progress import track
from surefoot.protocol import Protocol
from surefoot.rehearsal.agents import MakeAgent
from surefoot.rehearsal.plants import Cast, run_rungs
from surefoot.rehearsal.result import Curves, Rehearsal
from surefoot.rehearsal.runs import NUMBERS, checkpoints
from surefoot.rehearsal.store import RunStore
from surefoot.stats.betting import mean_interval
from surefoot.stats.binomial import clopper_pearson_upper, failures_allowed, rejects
from surefoot.stats.order_statistics import exceedance_threshold, quantile_lower, quantile_upper
from surefoot.version import VERSION

__all__ = ["LADDER", "rehearse"]

LADDER = (4.5, 4.0, 3.6, 3.3, 3.1, 2.9, 2.75, 2.6, 2.45, 2.3, 2.15, 2.0)
"""Boldness of the rungs by default; the walk stops at the first that is refused, so a long ladder costs time only."""
ALARM = 0.01
"""False-alarm probability of the surprise alarm, for a rung fixed beforehand."""
WAVES = 10
"""Between so many groups of plants rungs are left out whose refusal is certain by then."""
CHUNK = 4
FOUND = ("numbers", "costs", "regrets")
"""What is kept of the runs on some plants."""
SLICES = 5
SPEED_QUANTILES = (0.5, 0.9)
ANNOUNCED = 5.0


def rehearse(
    policy_set: PolicySet | None = None,
    family: Any = None,
    *,
    agents: dict[str, MakeAgent] | None = None,
    episodes: int,
    plants: int = 500,
    alpha: float = 0.05,
    delta_coverage: float = 0.05,
    protocol: Protocol | None = None,
    ladder: Sequence[float] | None = None,
    evidence: str = "all",
    strata: Any = None,
    eps: float = 0.02,
    beta: float = 0.05,
    budget: int = 20_000,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
    checkpoint: str | FilePath | None = None,
    previous: PolicySet | Rehearsed | None = None,
) -> Rehearsal:
    """Rehearse a deployment and certify the boldest rung that the rehearsal supports.

    Args:
        policy_set: the library, with a belief (:func:`surefoot.learn_belief`); for ``agents`` only where they share its safe policy.
        family: where plants come from: tasks with ``cmdp``, or a :class:`~surefoot.gym.family.GymFamily`.
        agents: instead of the belief's agent: name to ``make(seed)``, from the most cautious configuration to the boldest.
        episodes: K, how many episodes the deployment learns from; afterwards its last mixture stays.
        plants: m fresh plants. 59 allow no violating run at alpha = error = .05; the more, the bolder the rung.
        alpha: share of deployments that may violate.
        delta_coverage: error probability of the certificate over all looks; look a pays ``delta_coverage / 2^a``.
        protocol: how the plant is used; by default one episode at a time, told before the next is asked.
        ladder: boldness of the rungs, decreasing; by default :data:`LADDER`.
        evidence: ``"all"``, or ``"returns"`` for plants that report no transitions.
        strata: ``strata(parameters)`` -> (n,) whole numbers: groups of tasks fixed beforehand, each of which must pass on its own, at an equal part
            of the error.
        eps: for the episodes until near-optimal: within this share of the best return.
        beta: error of judging a simulated plant by fresh episodes.
        budget: most judging episodes of one policy on one plant.
        seed: of plants and runs.
        workers: processes.
        progress: say how far it is.
        checkpoint: folder that keeps finished runs; the same call goes on where it was interrupted, with the same result.
        previous: the policy set or certificate of the rehearsal seen last, where something was changed because of it: this one is then counted as
            the next look. By default the looks that ``policy_set`` carries.

    Raises:
        InvalidInput: an argument out of range; or something frozen has changed while the rehearsal ran.
        AssumptionError: the policy set has no belief for this evidence.
    """
    if policy_set is not None:
        check_policy_set(policy_set)
    check_family(family, models=False)
    setting = _Setting(
        policy_set, family, agents, episodes, plants, alpha, delta_coverage, protocol or Protocol(), ladder, evidence, strata, eps, beta,
        budget, seed, previous,
    )  # fmt: skip
    store = None if checkpoint is None else RunStore(checkpoint, {"judged": setting.judged, "attempt": setting.attempt})
    runs = _Runs(setting)
    runs.play(check_integer("workers", workers, low=1), progress, store)
    if setting.fingerprint() != setting.judged:
        raise InvalidInput(
            "what is rehearsed must not change, got another configuration after the runs than before; make(seed) must give the same agent "
            "every time, and a policy set must be left alone",
            code="SF-TRAINING-CHANGED",
        )
    return _conclude(setting, runs)


class _Setting:
    """Checked arguments, frozen: everything that is hashed before plants are drawn."""

    def __init__(
        self, policy_set: PolicySet | None, family: Any, agents: dict[str, MakeAgent] | None, episodes: int, plants: int, alpha: float,
        delta: float, protocol: Protocol, ladder: Sequence[float] | None, evidence: str, strata: Any, eps: float, beta: float, budget: int,
        seed: int, previous: Any,
    ) -> None:  # fmt: skip
        if family is None or not callable(getattr(family, "sample", None)):
            raise InvalidInput(
                f"family must have a method sample, got {type(family).__name__}; give the family that the real plant is one of",
                code="SF-ARGUMENT-TYPE",
            )
        if not agents and policy_set is None:
            raise InvalidInput(
                "policy_set or agents must be given, got neither; rehearse the one or the other",
                code="SF-ARGUMENT-MISSING",
            )
        self.policy_set, self.family, self.strata = policy_set, family, strata
        self.plants = check_integer("plants", plants, low=1)
        self.alpha, self.delta = (
            check_real(name, value, low=0.0, high=1.0, open_low=True, open_high=True)
            for name, value in (("alpha", alpha), ("delta_coverage", delta))
        )
        self.seed = check_integer("seed", seed, low=0)
        self.evidence = "" if agents else evidence
        episodes = check_integer("episodes", episodes, low=1)
        rungs = {} if agents else _rungs(ladder, episodes, evidence, protocol)
        self.cast = Cast(
            family=family,
            episodes=episodes,
            protocol=protocol,
            rungs=rungs,
            agents=dict(agents or {}),
            policy_set=policy_set,
            eps=check_real("eps", eps, low=0.0),
            beta=check_real("beta", beta, low=0.0, high=1.0, open_low=True, open_high=True),
            budget=check_integer("budget", budget, low=2),
        )
        if rungs:
            assert policy_set is not None
            next(iter(rungs.values())).planner(policy_set)
        self.beta = self.cast.beta if self.cast.simulated else 0.0
        self.looks = _looks(policy_set, previous)
        self.attempt = 1 + len(self.looks)
        self.share = self.delta * look_share(self.attempt)
        self.judged = self.fingerprint()

    def fingerprint(self) -> str:
        """SHA-256 of everything that decides what is played, and of what is asked of it."""
        digest = hashlib.sha256()
        parts: list[Any] = [
            VERSION, self.evidence, self.cast.episodes, sorted(self.cast.protocol.data().items(), key=str), self.cast.names,
            (planning.GROWTH, planning.SHAPE, planning.FIRST, planning.STEPS), self.family.name, self.alpha, self.delta, self.plants,
        ]  # fmt: skip
        if self.policy_set is not None:
            parts.append(self.policy_set.library_hash)
        parts += [_describe(make) for make in self.cast.agents.values()]
        for part in parts:
            digest.update(f"{part!r}\n".encode())
        return digest.hexdigest()

    def drawn(self) -> tuple[FloatArray, list[int]]:
        """Parameters (m, p) of fresh plants, and the seed of each."""
        stream = np.random.default_rng(
            np.random.SeedSequence([self.seed, int(self.judged, 16), self.attempt], spawn_key=(3,))
        )
        parameters = np.asarray(self.family.sample(self.plants, stream), dtype=np.float64)
        if parameters.ndim != 2 or len(parameters) != self.plants or not np.isfinite(parameters).all():
            raise InvalidInput(
                f"{self.family.name}.sample({self.plants}) must return {self.plants} rows of finite parameters, got shape {parameters.shape}; fix "
                "the family",
                code="SF-FAMILY-SAMPLE",
            )
        return parameters, [int(k) for k in stream.integers(0, 2**53, self.plants)]


def _rungs(ladder: Sequence[float] | None, episodes: int, evidence: str, protocol: Protocol) -> dict[str, Rung]:
    values = [float(b) for b in (LADDER if ladder is None else ladder)]
    if not values or any(b <= c for b, c in itertools.pairwise(values)):
        raise InvalidInput(
            f"ladder must decrease strictly, from cautious to bold, got {values}; sort it", code="SF-ARGUMENT-ORDER"
        )
    return {f"{b:g}": Rung.of(b, episodes, evidence, protocol) for b in values}


def _looks(policy_set: PolicySet | None, previous: Any) -> tuple[RehearsalLook, ...]:
    """Rehearsals looked at before, oldest first."""
    if isinstance(previous, Rehearsed):
        # A certificate says how many looks there were before it, and nothing else of them.
        unknown = RehearsalLook("unknown", 1, (), previous.delta_coverage)
        return (*(unknown,) * (previous.attempt - 1), _as_look(previous))
    source = policy_set if previous is None else previous
    if source is None:
        return ()
    if not isinstance(source, PolicySet):
        raise InvalidInput(
            f"previous must be a PolicySet or a certificate, got {type(source).__name__}; load a file with PolicySet.load",
            code="SF-ARGUMENT-TYPE",
        )
    last = () if source.rehearsed is None else (_as_look(source.rehearsed),)
    return (*source.rehearsal_looks, *last)


def _as_look(found: Rehearsed) -> RehearsalLook:
    return RehearsalLook(found.judged, found.plants, tuple(r.violating for r in found.rungs), found.delta_coverage)


def _describe(make: MakeAgent) -> str:
    """What an agent of one's own is, as far as it can be told from outside: its class, policies and state when it is made with seed 0."""
    agent = make(0)
    digest = hashlib.sha256()
    for policy in agent.policies:
        table = getattr(policy, "table", None)
        digest.update(repr(type(policy)).encode() if table is None else np.ascontiguousarray(table).tobytes())
    if hasattr(agent, "state_dict"):
        _feed(digest, agent.state_dict())
    for name, value in sorted(vars(agent).items()):
        if isinstance(value, bool | int | float | str | np.ndarray):
            _feed(digest, [name, value])
    return f"{type(agent).__module__}.{type(agent).__qualname__} {digest.hexdigest()}"


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            _feed(digest, [str(key), value[key]])
    elif isinstance(value, list | tuple):
        for item in value:
            _feed(digest, item)
    elif isinstance(value, np.ndarray):
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, bool | int | float | str | bytes | type(None)):
        digest.update(repr(value).encode())
    else:
        digest.update(type(value).__qualname__.encode())


class _Runs:
    """All rungs on all plants.

    Attributes:
        parameters: (m, p).
        numbers: (m, L, 7), NaN where a rung was not played.
        costs, regrets: (m, L, C).
    """

    def __init__(self, setting: _Setting) -> None:
        self.setting = setting
        self.parameters, self.seeds = setting.drawn()
        size, points = (setting.plants, len(setting.cast.names)), len(checkpoints(setting.cast.episodes))
        self.numbers: FloatArray = np.full((*size, len(NUMBERS)), np.nan)
        self.costs, self.regrets = np.full((*size, points), np.nan), np.full((*size, points), np.nan)
        self.seconds = 0.0

    def play(self, workers: int, progress: bool, store: RunStore | None) -> None:
        """Play wave by wave; whether a rung is played in a wave depends on earlier waves alone, so the result does not depend on workers."""
        names, plants = list(self.setting.cast.names), self.setting.plants
        edges = np.unique(np.linspace(0, plants, WAVES + 1).astype(int))
        began = time.perf_counter()
        with_bar = iter(track(range(plants), "rehearsing", plants, show=progress))
        for first, last in itertools.pairwise(edges):
            live = names[: self._live()]
            if not live:
                break
            starts = [(k, min(k + CHUNK, last)) for k in range(first, last, CHUNK)]
            kept = [None if store is None else store.get(f"{a}-{len(live)}") for a, _ in starts]
            calls = [
                (self.setting.cast, self.parameters[a:b], self.seeds[a:b], live)
                for (a, b), known in zip(starts, kept)
                if known is None
            ]
            fresh = iter_tasks(_play_chunk, calls, workers=workers, label="rehearsing")
            for (a, b), known in zip(starts, kept):
                found = next(fresh) if known is None else known
                if store is not None and known is None:
                    store.put(f"{a}-{len(live)}", **found)
                place = slice(a, b), slice(0, len(live))
                self.numbers[place], self.costs[place], self.regrets[place] = (found[name] for name in FOUND)
                for _ in range(b - a):
                    next(with_bar, None)
            if first == 0:
                self._announce(time.perf_counter() - began, int(last), progress)
        self.seconds = time.perf_counter() - began

    def _announce(self, seconds: float, done: int, progress: bool) -> None:
        left = seconds * (self.setting.plants / done - 1.0)
        if progress and left > ANNOUNCED:
            kept = (self.numbers.nbytes + self.costs.nbytes + self.regrets.nbytes) / 1e6
            sys.stderr.write(
                f"rehearsal: {self.setting.plants} plants, {len(self.setting.cast.names)} rungs, {self.setting.cast.episodes} episodes: about "
                f"{left:.0f} s more, {kept:.0f} MB\n"
            )

    def _live(self) -> int:
        """How many rungs from the cautious end can still be accepted."""
        allowed = most_violating(self.setting)
        for k in range(self.numbers.shape[1]):
            if np.nansum(self.numbers[:, k, 0]) > allowed:
                return k + (0 if k else 1)  # the most cautious rung is always played to its end
        return int(self.numbers.shape[1])


def most_violating(setting: _Setting) -> int:
    """The largest number of violating runs with which a rung may be accepted; -1 where not even none will do."""
    if setting.strata is not None:
        return setting.plants
    found = failures_allowed(setting.plants, setting.alpha * (1.0 - setting.beta), setting.share)
    return -1 if found is None else found


def _play_chunk(cast: Cast, parameters: FloatArray, seeds: list[int], names: list[str]) -> dict[str, FloatArray]:
    """Numbers (n, L, 7), costs and regrets (n, L, C) of some plants, by name."""
    rows = [run_rungs(cast, point, seed, names) for point, seed in zip(parameters, seeds, strict=True)]
    return {part: np.array([[getattr(run, part) for run in row] for row in rows]) for part in FOUND}


def _conclude(setting: _Setting, runs: _Runs) -> Rehearsal:
    """Walk the ladder, and everything that is said about the runs."""
    rate = setting.alpha * (1.0 - setting.beta)
    groups = None if setting.strata is None else np.asarray(setting.strata(runs.parameters)).astype(np.int64)
    walking, records = True, []
    for k, name in enumerate(setting.cast.names):
        numbers = runs.numbers[:, k]
        played = ~np.isnan(numbers[:, 0])
        walking = walking and bool(played.all()) and _passes(numbers[:, 0] > 0.0, groups, rate, setting.share)
        records.append(_record(setting, name, numbers[played], walking, bool(played.all())))
    chosen = sum(r.accepted for r in records) - 1
    best = runs.numbers[:, chosen] if chosen >= 0 else None
    complete = sum(r.complete for r in records)
    certificate = Rehearsed(
        family=setting.family.name,
        judged=setting.judged,
        library="" if setting.policy_set is None else setting.policy_set.library_hash,
        seed=setting.seed,
        attempt=setting.attempt,
        alpha=setting.alpha,
        delta_coverage=setting.delta,
        share=setting.share,
        plants=setting.plants,
        episodes=setting.cast.episodes,
        evidence=setting.evidence,
        protocol=setting.cast.protocol,
        rungs=tuple(records),
        chosen=chosen,
        upper=1.0 if best is None else min(1.0, records[chosen].upper / (1.0 - setting.beta)),
        judging_error=setting.beta,
        surprise=np.inf if best is None else exceedance_threshold(best[:, NUMBERS.index("surprise")], ALARM),
        surprise_alarm=min(1.0, ALARM * complete),
        slices=() if best is None else tuple(_slices(setting, runs.parameters, best)),
        speed=() if best is None else tuple(_speed(setting, best, len(records))),
    )
    at = checkpoints(setting.cast.episodes)
    curves = Curves(at, setting.cast.names, *_curves(runs))
    carried = None
    if setting.policy_set is not None:
        carried = replace(setting.policy_set, rehearsed=certificate, rehearsal_looks=setting.looks)
    return Rehearsal(certificate, curves, carried, runs.parameters, runs.numbers, runs.seconds)


def _passes(violating: Any, groups: Any, rate: float, share: float) -> bool:
    """Whether a rung is accepted: in all plants together, or in every group at an equal part of the error."""
    if groups is None:
        return rejects(int(violating.sum()), violating.size, rate, share)
    names = np.unique(groups)
    return all(
        rejects(int(violating[groups == g].sum()), int((groups == g).sum()), rate, share / names.size) for g in names
    )


def _record(setting: _Setting, name: str, numbers: FloatArray, accepted: bool, complete: bool) -> RungRecord:
    columns = dict(zip(NUMBERS, numbers.T, strict=True)) if len(numbers) else {}
    violating = int(columns["violating"].sum()) if columns else 0
    rung = setting.cast.rungs.get(name)
    regret = columns.get("regret", np.zeros(1))
    return RungRecord(
        name=name,
        boldness=0.0 if rung is None else rung.boldness,
        plants=len(numbers),
        violating=violating,
        upper=clopper_pearson_upper(violating, len(numbers), setting.share),
        accepted=accepted,
        complete=complete,
        regret=float(regret.mean()),
        regret_quantiles=tuple(float(x) for x in np.quantile(regret, QUANTILES)),
        gain=float(columns["gain"].mean()) if columns else 0.0,
        excess=float(columns["excess"].max()) if columns else 0.0,
    )


def _slices(setting: _Setting, parameters: FloatArray, numbers: FloatArray) -> list[Slice]:
    """Violating runs by quantile of every parameter."""
    violating, found = numbers[:, 0] > 0.0, []
    for name, column in zip(setting.family.parameter_names, parameters.T, strict=True):
        edges = np.unique(np.quantile(column, np.linspace(0.0, 1.0, SLICES + 1)))
        for low, high in itertools.pairwise(edges):
            inside = (column >= low) & ((column < high) | (high == edges[-1]))
            k, n = int(violating[inside].sum()), int(inside.sum())
            found.append(Slice(name, float(low), float(high), n, k, clopper_pearson_upper(k, n, 0.05)))
    return found


def _speed(setting: _Setting, numbers: FloatArray, rungs: int) -> list[SpeedStatement]:
    """Bounds on how fast the chosen rung learns; each error is a part of the look's, for every rung that could have been chosen."""
    error = setting.share / (rungs * (3 * len(SPEED_QUANTILES) + 1))
    columns = dict(zip(NUMBERS, numbers.T, strict=True))
    found = []
    for q in SPEED_QUANTILES:
        for name in ("regret", "episodes"):
            found.append(SpeedStatement(name, "quantile", q, quantile_upper(columns[name], q, error), error))
        low = quantile_lower(columns["gain"], 1.0 - q, error)
        found.append(SpeedStatement("gain", "quantile", q, low if np.isfinite(low) else -1e300, error))
    _, high = mean_interval(columns["share"], 0.0, 1.0, 2.0 * error)
    found.append(SpeedStatement("share", "mean", 0.0, high, error))
    return found


def _curves(runs: _Runs) -> tuple[FloatArray, FloatArray]:
    """Quantiles over plants (L, 6, C) of cost over limit and of regret: 5, 25, 50, 75, 95% and the largest."""
    levels = [*QUANTILES, 1.0]
    return tuple(  # type: ignore[return-value]
        np.stack([np.nanquantile(array[:, k], levels, axis=0) if np.isfinite(array[:, k]).any() else np.full((6, array.shape[2]), np.nan)
                  for k in range(array.shape[1])])
        for array in (runs.costs, runs.regrets)
    )  # fmt: skip
