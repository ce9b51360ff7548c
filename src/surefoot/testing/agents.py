"""The rules of an agent (:class:`surefoot.deploy.agent.Agent`).

    ask() -> episode k, policy j_k drawn from weights w;      tell(k, R_k, C_k)

An agent hands out increasing ids, draws from weights in the simplex, takes reports in any order, and refuses what cannot be true: then nothing has
changed, and the episode stays pending. Its seed and what it was told decide everything that it does; so it can be replayed.

Letters: J policies (0 is safe), I constraints, n episodes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial, reduce
from itertools import pairwise
from typing import Any

import numpy as np

from surefoot.criterion import Criterion
from surefoot.errors import InvalidReport
from surefoot.testing.suite import Suite, refused, require

__all__ = ["AgentSuite"]

OPTIONAL = frozenset({"initial_state", "transitions", "signals", "visits"})
"""What an agent may want beside return and costs."""
TOLERANCE = 1e-9
FEW = 4
"""Episodes of a batch."""

Report = dict[str, Any]


class AgentSuite(Suite):
    """Conformance of an agent; inherit it and define :meth:`make` and :meth:`criterion`, and :meth:`report` where the default report will not do.

    Attributes:
        rounds: how many times agents are asked and told where the course of a deployment is compared.
        seed: of agents and reports.
    """

    rounds: int = 12
    seed: int = 0

    def make(self, seed: int) -> Any:
        """A fresh agent."""
        raise NotImplementedError(
            "make(seed) must return a fresh agent; define it in the class that inherits the suite"
        )

    def criterion(self) -> Criterion:
        """What the agent's episodes are judged by."""
        raise NotImplementedError(
            "criterion() must return the tasks' criterion; define it in the class that inherits the suite"
        )

    def report(self, episode: Any, rng: np.random.Generator) -> Report:
        """What the plant might measure in an episode: ``reward``, ``costs`` (K,), and what else ``tell`` shall be given.

        By default any return, and costs up to half of the limits, whatever the policy. Agents that learn from more override this; an episode has
        ``policy`` and ``policy_index``.
        """
        criterion = self.criterion()
        low, high = criterion.return_range
        most = criterion.cost_bounds if criterion.functionals else criterion.cost_limits
        costs = 0.5 * most * rng.random(criterion.n_costs)
        return {"reward": float(rng.uniform(low, high)), "costs": costs}

    # ------------------------------------------------------------------------------------------------------------- asks

    def test_policies_and_wishes_are_declared(self) -> None:
        agent = self.make(self.seed)
        policies, wants = agent.policies, agent.wants
        require(
            isinstance(policies, tuple)
            and len(policies) > 0
            and all(callable(getattr(p, "predict", None)) for p in policies),
            f"policies must be a tuple of policies with the safe one first, got {type(policies).__name__}; list the library",
        )
        require(
            isinstance(wants, frozenset) and wants <= OPTIONAL,
            f"wants must be a frozenset of {', '.join(sorted(OPTIONAL))}, got {wants!r}; name optional parts of a report only",
        )

    def test_an_episode_names_a_policy_of_the_mixture(self) -> None:
        agent = self.make(self.seed)
        episode = agent.ask()
        weights, library = np.asarray(episode.weights, dtype=np.float64), len(agent.policies)
        require(
            weights.shape == (library,)
            and bool((weights >= 0.0).all())
            and abs(float(weights.sum()) - 1.0) <= TOLERANCE,
            f"weights must be probabilities of the {library} policies, got {weights.tolist()}; normalise them",
        )
        index = episode.policy_index
        require(
            isinstance(index, int) and 0 <= index < library and weights[index] > 0.0,
            f"policy_index must be drawn from the weights, got {index!r} from {weights.tolist()}; draw from the mixture",
        )
        require(
            callable(getattr(episode.policy, "predict", None)),
            f"policy must have predict, got {type(episode.policy).__name__}; hand out the policy of policy_index",
        )

    def test_a_batch_is_drawn_from_one_mixture(self) -> None:
        agent = self.make(self.seed)
        batch = agent.ask(FEW)
        ids, index, weights = (np.asarray(part) for part in (batch.ids, batch.policy_index, batch.weights))
        require(
            len(batch) == FEW and ids.shape == (FEW,) and index.shape == (FEW,),
            f"ask({FEW}) must open {FEW} episodes, got ids of shape {ids.shape} and policies of shape {index.shape}; open as many as were asked",
        )
        require(
            weights.shape == (len(agent.policies),) and bool((weights[index] > 0.0).all()),
            f"policy_index must be drawn from the weights, got {index.tolist()} from {weights.tolist()}; draw from the mixture",
        )
        one_by_one = [(episode.id, episode.policy_index) for episode in batch]
        require(
            one_by_one == list(zip(ids.tolist(), index.tolist())),
            f"a batch must list the same episodes one by one, got {one_by_one}; iterate over ids and policy_index",
        )

    def test_ids_increase_and_are_used_once(self) -> None:
        agent = self.make(self.seed)
        ids = [agent.ask().id, *np.asarray(agent.ask(FEW).ids).tolist(), agent.ask().id]
        require(
            all(isinstance(k, int) and not isinstance(k, bool) for k in ids) and all(a < b for a, b in pairwise(ids)),
            f"ids must be whole numbers that increase, got {ids}; count the episodes",
        )

    # ---------------------------------------------------------------------------------------------------------- reports

    def test_reports_come_one_by_one_or_together(self) -> None:
        agent, rng = self.make(self.seed), np.random.default_rng(self.seed)
        for _ in range(self.rounds):
            episode = agent.ask()
            agent.tell(episode.id, **self.report(episode, rng))
            batch = agent.ask(FEW)
            agent.tell(batch.ids, **_together([self.report(one, rng) for one in batch]))
        agent.ask()

    def test_reports_may_come_in_any_order(self) -> None:
        agent, rng = self.make(self.seed), np.random.default_rng(self.seed)
        batches = [agent.ask(FEW) for _ in range(self.rounds)]
        episodes = [episode for batch in batches for episode in batch]
        for k in np.random.default_rng(self.seed + 1).permutation(len(episodes)):
            agent.tell(episodes[k].id, **self.report(episodes[k], rng))
        agent.ask()

    def test_asking_again_before_a_report_is_allowed(self) -> None:
        agent, rng = self.make(self.seed), np.random.default_rng(self.seed)
        early = agent.ask()
        for _ in range(self.rounds):
            episode = agent.ask()
            agent.tell(episode.id, **self.report(episode, rng))
        agent.tell(early.id, **self.report(early, rng))

    def test_an_episode_is_told_once(self) -> None:
        agent, rng = self.make(self.seed), np.random.default_rng(self.seed)
        episode = agent.ask()
        report = self.report(episode, rng)
        agent.tell(episode.id, **report)
        refused(partial(agent.tell, episode.id, **report), InvalidReport, "a second report of the same episode")

    def test_only_episodes_that_were_asked_are_told(self) -> None:
        agent, rng = self.make(self.seed), np.random.default_rng(self.seed)
        episode = agent.ask()
        report = self.report(episode, rng)
        for unknown in (episode.id + 1, -1):
            what = f"a report of episode {unknown}, which was never asked,"
            refused(partial(agent.tell, unknown, **report), InvalidReport, what)

    def test_what_cannot_be_true_is_refused(self) -> None:
        agent, rng = self.make(self.seed), np.random.default_rng(self.seed)
        episode = agent.ask()
        report = self.report(episode, rng)
        for name, wrong in self._wrong(report).items():
            refused(partial(agent.tell, episode.id, **wrong), InvalidReport, name)
        agent.tell(episode.id, **report)

    def test_a_refused_report_changes_nothing(self) -> None:
        def disturb(agent: Any, episode: Any, report: Report) -> None:
            more = {"an unknown episode": {**report, "ids": episode.id + 1000}, **self._wrong(report)}
            for wrong in more.values():
                try:
                    agent.tell(**{"ids": episode.id, **wrong})
                except InvalidReport:
                    continue

        calm, disturbed = self._course(self.seed), self._course(self.seed, disturb)
        require(
            calm == disturbed,
            "a refused report must change nothing, got other mixtures or draws after one; check everything before anything changes",
        )

    def test_a_batch_is_refused_whole(self) -> None:
        agent, rng = self.make(self.seed), np.random.default_rng(self.seed)
        batch = agent.ask(2)
        good = [self.report(episode, rng) for episode in batch]
        wrong = _together([good[0], {**good[1], "reward": float("nan")}])
        refused(partial(agent.tell, batch.ids, **wrong), InvalidReport, "a batch with a return that is not a number")
        for episode, report in zip(batch, good):
            agent.tell(episode.id, **report)  # both are still pending

    # ---------------------------------------------------------------------------------------------------------- courses

    def test_the_seed_decides_everything(self) -> None:
        first, again = self._course(self.seed), self._course(self.seed)
        require(
            first == again,
            "seed and reports must decide every mixture and draw, got another course; draw from a generator made of the seed",
        )

    def _wrong(self, report: Report) -> dict[str, Report]:
        """Reports that cannot be true, by what is wrong."""
        costs = np.asarray(report["costs"], dtype=np.float64)
        wrong: dict[str, Report] = {
            "a return that is not a number": {**report, "reward": float("nan")},
            "an infinite return": {**report, "reward": float("inf")},
            "a return that is text": {**report, "reward": "high"},
            "one cost too many": {**report, "costs": np.zeros(costs.size + 1)},
        }
        if costs.size:
            wrong["a cost that is not a number"] = {**report, "costs": np.full(costs.size, np.nan)}
            wrong["a negative cost"] = {**report, "costs": np.full(costs.size, -1.0)}
        return wrong

    def _course(self, seed: int, disturb: Callable[[Any, Any, Report], None] | None = None) -> list[tuple[Any, ...]]:
        """Ids, policies and weights of a deployment whose reports are decided by the episodes."""
        agent, course = self.make(seed), []
        for _ in range(self.rounds):
            episode = agent.ask()
            course.append((episode.id, episode.policy_index, np.asarray(episode.weights).tolist()))
            report = self.report(episode, np.random.default_rng([self.seed, episode.id]))
            if disturb is not None:
                disturb(agent, episode, report)
            agent.tell(episode.id, **report)
        return course


def _together(reports: list[Report]) -> Report:
    """Reports of several episodes as one: ``tell`` takes arrays, transitions of all episodes together, and sums of visits."""
    joined: Report = {}
    for name in reports[0]:
        parts = [report[name] for report in reports]
        if name == "transitions":
            joined[name] = np.concatenate([np.asarray(part).reshape(-1, 4) for part in parts])
        elif name == "visits":
            joined[name] = reduce(operator.add, parts)
        else:
            joined[name] = np.array(parts).reshape(len(parts), *np.shape(parts[0]))
    return joined
