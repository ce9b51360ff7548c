"""One run of one agent on one task, watched by a judge who knows the truth.

Every deployed mixture ``w`` is scored exactly, ``V(w) = sum_j w_j V(pi_j)``; a run *violates* when any of them costs more than a limit.
Beside that, the two events that the proof is about are watched: the lowest-index cell that contains the real task is rejected (promised:
probability at most ``delta_e``), and some data bound lies below the real cost of its policy (at most ``delta_b``). Most of them harm
nobody, so that a broken constant shows there long before it shows as violations.

Letters: J policies, I constraints, n episodes, K episodes of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.cmdp.simulate import Episodes, Simulator, transition_rows
from surefoot.deploy.trace import LARGEST_BATCH, ask_in_batches
from surefoot.deploy.tracker import Batch
from surefoot.errors import SurefootError
from surefoot.experiments.registry import AgentContext, AgentOptions, make_agent
from surefoot.experiments.validation.changes import Change
from surefoot.experiments.validation.delivery import ADVERSARIES, OVERDUE, OVERDUE_EPISODES, Adversary
from surefoot.experiments.validation.scenarios import AS_REHEARSED, LOGGED, SCENARIOS, World
from surefoot.experiments.validation.truth import Truth, assumption_holds, cause_of, library_tables, outside_region

__all__ = ["Job", "Outcome", "TrialSettings", "play_jobs"]

CERTIFIED = ("rehearsed", "rehearsed::all", "rehearsed::returns")
"""Agents that play what the policy set's rehearsal certifies."""
PILOT = 1
"""Part of the seed of runs that only choose tasks."""


@dataclass(frozen=True)
class TrialSettings:
    """What all runs share.

    Attributes:
        episodes: K.
        delta: error probability given to agents.
        seed: of everything.
    """

    episodes: int
    delta: float
    seed: int


@dataclass(frozen=True)
class Job:
    """One run to be made.

    Attributes:
        agent: its name.
        scenario: key of :data:`SCENARIOS`.
        run: number in the scenario; with the seed it decides all chance, whatever the agent.
        parameters: p parameters of the task.
        pilot: whether the run only helps to choose tasks.
    """

    agent: str
    scenario: str
    run: int
    parameters: tuple[float, ...]
    pilot: bool = False

    def seeds(self, seed: int) -> list[int]:
        """Of the episodes, the agent's draws, and the adversary."""
        entropy = [seed, list(SCENARIOS).index(self.scenario), self.run, PILOT if self.pilot else 0]
        return [int(s.generate_state(1, np.uint64)[0] >> 1) for s in np.random.SeedSequence(entropy).spawn(3)]


@dataclass(frozen=True)
class Outcome:
    """What a run showed.

    Attributes:
        job: which run.
        mode: of the adversary, ``"prompt"`` where there is none.
        trust: the agent's trust level, ``None`` where it has none.
        holds: whether what that level assumes is true of the task.
        violating: episodes drawn from a mixture above a limit.
        first: how many episodes had been asked before the first such episode, ``None`` if there is none.
        excess: largest excess over a limit, negative where all stayed below.
        cause: key of :data:`CAUSES`, ``None`` without violation.
        eliminated: whether the lowest-index cell of the task was rejected; ``None`` where that is no question.
        bound_failed: whether some data bound fell below the real cost, or the region of two policies' costs left the real pair out; ``None`` for
            agents without bounds.
        alarm: episodes asked when the alarm was raised, ``None`` if it was not.
        violating_before_alarm: violating episodes before it (all of them without alarm).
        regret: after K episodes, ``None`` where the task has no feasible policy.
        elimination_delta, bounds_delta: what the agent's ledger allows for these two events.
        error: what the agent raised; the run ended there.
        left: episodes asked when the deployment was found to have left its rehearsed protocol, ``None`` if it did not or has none.
        violating_after: violating episodes asked after that.
        alpha: share of violating deployments that the agent's rehearsal certifies, ``None`` without one.
        changed: episodes asked when the plant changed, ``None`` if it did not. All that is said of violations, bounds and cells ends there.
        violating_changed: violating episodes from then to the alarm, or to the end.
        excess_changed: largest excess in that time, as a share of the limit.
    """

    job: Job
    mode: str
    trust: str | None
    holds: bool
    violating: int
    first: int | None
    excess: float
    cause: str | None
    eliminated: bool | None
    bound_failed: bool | None
    alarm: int | None
    violating_before_alarm: int
    regret: float | None
    elimination_delta: float | None
    bounds_delta: float | None
    error: str | None
    left: int | None = None
    violating_after: int = 0
    alpha: float | None = None
    changed: int | None = None
    violating_changed: int = 0
    excess_changed: float = 0.0


@dataclass(frozen=True, eq=False)
class _Site:
    """A task made ready: everything that its runs share."""

    truth: Truth
    simulator: Simulator


def play_jobs(world: World, jobs: Sequence[Job], settings: TrialSettings) -> list[Outcome]:
    """Play runs one after the other; neighbours on the same task share its tables."""
    tables = library_tables(world.policy_set.policies)

    @lru_cache(maxsize=2)
    def site(parameters: tuple[float, ...]) -> _Site:
        task = world.family.cmdp(np.asarray(parameters))
        return _Site(Truth.of(world.policy_set, tables, task, parameters), Simulator(task, tables))

    return [_play(world, site(job.parameters), job, settings) for job in jobs]


def _play(world: World, site: _Site, job: Job, settings: TrialSettings) -> Outcome:
    chance, draws, cunning = job.seeds(settings.seed)
    task = site.truth.task
    losses: Literal["worst", "independent"] = "worst"
    episodes = settings.episodes
    if job.scenario == "late":
        episodes = max(episodes, OVERDUE_EPISODES)
        losses = "independent" if job.run % 2 else "worst"
    context = AgentContext(
        world.family,
        world.policy_set,
        world.coarse_set,
        task,
        episodes,
        settings.delta,
        draws,
        AgentOptions(losses=losses),
    )
    agent = make_agent(job.agent, context)
    values, simulator = site.truth.values, site.simulator
    if agent.policies is not world.policy_set.policies:
        own = library_tables(agent.policies)
        values, simulator = evaluate_many(task, own), Simulator(task, own)
    adversary = None
    if job.scenario == "lost":
        mode = ADVERSARIES[job.run % len(ADVERSARIES)]
        adversary = Adversary(mode, task.cost_limits, episodes, np.random.default_rng(cunning))
    elif job.scenario == "late":
        adversary = Adversary(OVERDUE, task.cost_limits, episodes, np.random.default_rng(cunning))
    certificate = world.policy_set.rehearsed
    alpha = certificate.alpha if job.agent in CERTIFIED and certificate is not None else None
    judge = _Judge(agent, site.truth, values, alpha)
    error = None
    try:
        if job.scenario == "history":
            _give_log(agent, simulator, LOGGED[job.run % len(LOGGED)], cunning, bare=job.run % 3 == 2)
        change = _change(world, job, episodes) if job.scenario == "drift" else None
        plant = _Plant(agent, simulator, chance, adversary, job.scenario == "batches")
        _converse(agent, judge, plant, episodes, change)
    except (SurefootError, ArithmeticError, LookupError, ValueError) as raised:
        error = f"{type(raised).__name__}: {raised}"
    mode = "prompt" if adversary is None else adversary.mode
    return judge.verdict(job, mode if job.scenario != "late" else f"{mode}, losses {losses}", error)


def _give_log(agent: Any, simulator: Simulator, n: int, seed: int, *, bare: bool) -> None:
    """n logged episodes of the safe policy, to agents that take them; ``bare`` ones are returns and costs alone."""
    if not hasattr(agent, "recall"):
        return
    counting = "transitions" in agent.wants and not bare
    seen = simulator.run([0] * n, seed=seed, groups=np.zeros(n, dtype=np.int64) if counting else None)
    rows = None if seen.transitions is None else transition_rows(simulator.cmdp, seen.transitions[0])
    agent.recall(seen.returns, seen.costs, initial_state=None if bare else seen.initial_states, transitions=rows)


def _change(world: World, job: Job, episodes: int) -> Change:
    tables = library_tables(world.policy_set.policies)

    def truth(parameters: FloatArray) -> Truth:
        return Truth.of(world.policy_set, tables, world.family.cmdp(parameters), parameters)

    return Change(world.family, truth, job.parameters, episodes, slow=job.run % 2 == 1)


def _converse(agent: Any, judge: _Judge, plant: _Plant, episodes: int, change: Change | None = None) -> None:
    largest = LARGEST_BATCH if plant.adversary is None else plant.adversary.largest_batch
    batches = ask_in_batches(_Careless(agent) if plant.careless else agent, episodes, largest_batch=largest)
    for batch, asked in batches:
        if change is not None and change.due(asked, batch.weights):
            own = library_tables(agent.policies)
            plant.move(Simulator(change.truth.task, own))
            judge.moved(change.truth, evaluate_many(change.truth.task, own), asked)
        judge.asked(batch, asked)
        plant.perform(batch, asked + len(batch))
        judge.told(asked + len(batch))


class _Careless:
    """Asks an agent without looking at how many episodes it takes at once."""

    def __init__(self, agent: Any) -> None:
        self.ask, self.tell, self.policies = agent.ask, agent.tell, agent.policies


class _Judge:
    """Collects what :class:`Outcome` holds."""

    def __init__(self, agent: Any, truth: Truth, values: FloatArray, alpha: float | None) -> None:
        self._agent, self._truth, self._values, self._alpha = agent, truth, values, alpha
        self._trust: str | None = getattr(agent, "trust", None)
        self._margin = float(getattr(agent, "margin", 0.0))
        self._regret, self._violating, self._before = 0.0, 0, 0
        self._first: int | None = None
        self._cause: str | None = None
        self._alarm: int | None = None
        self._left: int | None = None
        self._after = 0
        self._excess, self._bound_failed = -np.inf, False
        self._home, self._rejected = truth.home, False
        self._changed: int | None = None
        self._held = False
        self._violating_changed, self._excess_changed = 0, 0.0

    def moved(self, truth: Truth, values: FloatArray, played: int) -> None:
        """The task is another from now on, after ``played`` episodes; what was promised of it ends here."""
        if self._changed is None:
            self._changed, self._held = played, self._trust is not None and self._holds("family")
            self._rejected = self._lost_home()
        self._truth, self._values = truth, values

    def asked(self, batch: Batch, played: int) -> None:
        """Score the mixture that a batch was drawn from; ``played`` episodes were asked before it."""
        deployed = batch.weights @ self._values
        if self._truth.optimum is not None:
            self._regret += len(batch) * (self._truth.optimum - float(deployed[0]))
        excess = float((deployed[1:] - self._truth.task.cost_limits).max(initial=-np.inf))
        if self._changed is not None:
            self._after_change(len(batch), deployed, excess)
            return
        self._excess = max(self._excess, excess)
        bounds = getattr(self._agent, "bounds", None)
        if bounds is not None:
            self._bound_failed |= bool((bounds < self._values[:, 1:] - self._truth.room).any()) or self._outside()
        if excess > self._truth.room:
            self._violation(batch, played, bounds)

    def _outside(self) -> bool:
        """Whether bounds on the safe policy and the target *together* fail, though each alone may hold."""
        region = getattr(self._agent, "region", None)
        return region is not None and len(region) > 1 and outside_region(self._truth, self._values, region)

    def _after_change(self, n: int, deployed: FloatArray, excess: float) -> None:
        """n episodes of a task that has moved, until there is an alarm."""
        if self._alarm is not None:
            return
        limits = np.maximum(self._truth.task.cost_limits, np.finfo(float).tiny)
        self._excess_changed = max(self._excess_changed, float((deployed[1:] / limits).max(initial=0.0)) - 1.0)
        if excess > self._truth.room:
            self._violating_changed += n

    def _lost_home(self) -> bool:
        rejected = getattr(self._agent, "ever_rejected", None)
        return self._home is not None and rejected is not None and bool(rejected[self._home])

    def _violation(self, batch: Batch, played: int, bounds: Any) -> None:
        if self._first is None:
            active = getattr(self._agent, "active", None)
            self._first = played
            inside = self._trust == "rehearsed" and self._left is None
            self._cause = (
                "rehearsal"
                if inside
                else cause_of(
                    self._claims,
                    self._truth,
                    self._margin,
                    active,
                    bounds,
                    batch.weights > 0.0,
                    outside=self._outside(),
                )
            )
        self._violating += len(batch)
        if self._left is not None:
            self._after += len(batch)
        if self._alarm is None:
            self._before += len(batch)

    def told(self, played: int) -> None:
        """Look for an alarm, and whether the protocol was left: the mixture of the batch that did it was rehearsed."""
        if self._left is None and getattr(self._agent, "left_protocol", None) is not None:
            self._left = played
        if self._alarm is None and getattr(self._agent, "alarm", None) is not None:
            self._alarm = played

    def verdict(self, job: Job, mode: str, error: str | None) -> Outcome:
        """The outcome of the run."""
        rejected, home = getattr(self._agent, "ever_rejected", None), self._home
        parts = {e.name: e.delta for e in self._agent.ledger.entries} if self._trust is not None else {}
        died: bool | None = None
        if self._trust == "cells" and home is not None and rejected is not None:
            died = self._rejected if self._changed is not None else bool(rejected[home])
        return Outcome(
            job=job,
            mode=mode,
            trust=self._trust,
            holds=self._held if self._changed is not None else self._holds(job.scenario),
            violating=self._violating,
            first=self._first,
            excess=self._excess,
            cause=self._cause,
            eliminated=died,
            bound_failed=self._bound_failed if self._trust is not None else None,
            alarm=self._alarm,
            violating_before_alarm=self._before,
            regret=self._regret if self._truth.optimum is not None and error is None else None,
            left=self._left,
            violating_after=self._after,
            alpha=self._alpha,
            changed=self._changed,
            violating_changed=self._violating_changed,
            excess_changed=self._excess_changed,
            elimination_delta=parts.get("elimination"),
            bounds_delta=parts.get("bounds"),
            error=error,
        )

    def _holds(self, scenario: str) -> bool:
        """Whether what the trust level assumes is true; of a rehearsed deployment that left its protocol, what ``data`` assumes."""
        if self._trust == "rehearsed" and self._left is None:
            return self._alpha is not None and scenario in AS_REHEARSED
        return assumption_holds(self._claims, self._truth, self._margin)

    @property
    def _claims(self) -> str | None:
        return "data" if self._trust == "rehearsed" else self._trust


class _Plant:
    """Runs episodes and reports them, promptly or as an adversary pleases."""

    def __init__(
        self, agent: Any, simulator: Simulator, seed: int, adversary: Adversary | None, careless: bool = False
    ) -> None:
        self._agent, self._simulator, self._seed, self.adversary = agent, simulator, seed, adversary
        self.careless = careless
        self._counting = "transitions" in agent.wants
        self._outbox: list[tuple[int, IntArray, Episodes | None, IntArray | None]] = []

    def move(self, simulator: Simulator) -> None:
        """From now on episodes are those of another task."""
        self._simulator = simulator

    def perform(self, batch: Batch, played: int) -> None:
        """Run a batch, ``played`` episodes being asked by now, and deliver whatever is due."""
        first = played - len(batch)
        if self.adversary is None:
            outcome = self._run(batch, first, np.zeros(len(batch), dtype=np.int64))
            self._tell(batch.ids, outcome, self._counts(outcome, 0))
            return
        self._plot(batch, first, self.adversary)
        due = [letter for letter in self._outbox if letter[0] <= played]
        self._outbox = [letter for letter in self._outbox if letter[0] > played]
        for _, ids, outcome_or_none, counts in due:
            if outcome_or_none is None:
                self._declare_lost(ids)
            else:
                self._tell(ids, outcome_or_none, counts)

    def _run(self, batch: Batch, first: int, groups: IntArray) -> Episodes:
        counted = groups if self._counting else None
        return self._simulator.run(batch.policy_index, seed=self._seed, first_episode=first, groups=counted)

    def _plot(self, batch: Batch, first: int, adversary: Adversary) -> None:
        """Let the adversary see the batch; the same episodes are then run again to count transitions by letter."""
        seen = self._simulator.run(batch.policy_index, seed=self._seed, first_episode=first)
        delivery = adversary.delivery(first, seen.returns, seen.costs)
        delays = np.unique(delivery.delay)
        group = np.where(delivery.lost, delays.size, np.searchsorted(delays, delivery.delay))
        outcome = self._run(batch, first, group)
        for g, delay in enumerate(delays.tolist()):
            mine = np.flatnonzero(group == g)
            if mine.size:
                letter = _part(outcome, mine)
                self._outbox.append((first + len(batch) + delay, batch.ids[mine], letter, self._counts(outcome, g)))
        gone = np.flatnonzero(delivery.declared)
        if gone.size:
            self._outbox.append((first + len(batch) + int(delivery.delay[gone].max()), batch.ids[gone], None, None))

    def _counts(self, outcome: Episodes, group: int) -> IntArray | None:
        if outcome.transitions is None:
            return None
        return transition_rows(self._simulator.cmdp, outcome.transitions[group])

    def _tell(self, ids: IntArray, outcome: Episodes, counts: IntArray | None) -> None:
        self._agent.tell(ids, outcome.returns, outcome.costs, initial_state=outcome.initial_states, transitions=counts)

    def _declare_lost(self, ids: IntArray) -> None:
        declare = getattr(self._agent, "lost", None)
        if declare is not None:
            declare(ids)


def _part(outcome: Episodes, where: IntArray) -> Episodes:
    return Episodes(
        returns=outcome.returns[where],
        costs=outcome.costs[where],
        initial_states=outcome.initial_states[where],
        policy_index=outcome.policy_index[where],
        tail=outcome.tail,
        steps=outcome.steps,
    )
