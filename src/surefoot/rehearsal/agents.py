"""Any agent with ``ask`` and ``tell`` on one plant, used as a protocol says.

Episodes are asked in batches, told when their delay is over (those that are due together in one report), and lost as the protocol says; what is lost
is declared where the agent has ``lost``. The chance of the plant depends on its seed and the number of the episode, and what happens to reports on
the seed alone, so all agents meet the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.simulate import Simulator, transition_rows
from surefoot.errors import InvalidInput
from surefoot.policy import TabularPolicy
from surefoot.protocol import Protocol
from surefoot.rehearsal.runs import Path

__all__ = ["MakeAgent", "play_agent"]

MakeAgent = Callable[[int], Any]
"""``make(seed)`` -> a fresh agent."""
REPORTS_STREAM = 0x4E40


def play_agent(agent: Any, cmdp: TabularCMDP, protocol: Protocol, *, episodes: int, plant_seed: int) -> Path:
    """One run of K episodes on a tabular plant.

    Raises:
        InvalidInput: the protocol has a history or an exposure limit, which an agent has to know itself; or policies that are not tables.
    """
    if protocol.history or protocol.exposure < 1.0:
        raise InvalidInput(
            "protocol must have no history and no exposure limit for agents of one's own, got one; let make(seed) give agents that know theirs",
            code="SF-ARGUMENT-COMBINATION",
        )
    run = _Run(agent, cmdp, protocol, episodes, plant_seed)
    while run.opened < episodes:
        run.step()
    return Path(np.array(run.starts, dtype=np.int64), np.array(run.values))


class _Run:
    """One run; what is waiting to be told."""

    def __init__(self, agent: Any, cmdp: TabularCMDP, protocol: Protocol, episodes: int, plant_seed: int) -> None:
        self._agent, self._cmdp, self._protocol = agent, cmdp, protocol
        self._episodes, self._seed = episodes, plant_seed
        chance = np.random.default_rng([plant_seed, REPORTS_STREAM])
        self._delays = protocol.delays(episodes, chance)
        self._lost = chance.random(episodes) < protocol.lost
        self._costly = chance.random(episodes)
        self._whole = len(protocol.delay) == 1 and not protocol.largest_loss
        self._policies: Any = None
        self._waiting: dict[int, list[tuple[int, dict[str, Any]]]] = {}
        self.opened = 0
        self.starts: list[int] = []
        self.values: list[FloatArray] = []

    def step(self) -> None:
        """One batch: ask, simulate, tell what is due."""
        agent, first = self._agent, self.opened
        n = min(self._protocol.batch, self._episodes - first)
        batch = agent.ask(n)
        self._set(agent.policies)
        worth = np.asarray(batch.weights) @ self._library
        if not self.values or not np.array_equal(worth, self.values[-1]):
            self.starts.append(first)
            self.values.append(worth)
        wants = agent.wants
        together = "visits" in wants
        whole = self._whole and not together
        groups = None
        if "transitions" in wants:
            groups = np.zeros(n, dtype=np.int64) if whole else np.arange(n)
        index: IntArray = np.asarray(batch.policy_index)
        played = self._simulator.run(
            index,
            seed=self._seed,
            first_episode=first,
            groups=groups,
            visits=together and not self._protocol.delay[-1][0],
        )
        self.opened = first + n
        if together:
            self._tell_all(batch, played)
            return
        if whole:
            self._file_all(batch, first, played)
        for k in range(0 if whole else n):
            self._file(int(batch.ids[k]), first + k, played, k, groups is not None)
        self._deliver()

    def _set(self, policies: Any) -> None:
        if policies is self._policies:
            return
        tables = [p.table for p in policies if isinstance(p, TabularPolicy)]
        if len(tables) < len(policies):
            raise InvalidInput(
                "policies of an agent on tabular plants must be tables, got others; use TabularPolicy",
                code="SF-POLICY-KIND",
            )
        library = np.stack(tables)
        self._library, self._simulator = evaluate_many(self._cmdp, library), Simulator(self._cmdp, library)
        self._policies = policies

    def _tell_all(self, batch: Any, played: Any) -> None:
        """Agents that learn from sums over visits are told a whole batch; they know no delays and no losses."""
        if self._protocol.longest_delay or self._protocol.largest_loss:
            raise InvalidInput(
                "protocol must be without delays and losses for agents that want visits, got one with; rehearse them without",
                code="SF-ARGUMENT-COMBINATION",
            )
        more: dict[str, Any] = {"visits": played.visits}
        if played.transitions is not None:
            more["transitions"] = transition_rows(self._cmdp, played.transitions.sum(axis=0))
        self._agent.tell(batch.ids, played.returns, played.costs, initial_state=played.initial_states, **more)

    def _file_all(self, batch: Any, first: int, played: Any) -> None:
        """A batch whose reports all come, at one time: one report."""
        rows = None if played.transitions is None else transition_rows(self._cmdp, played.transitions[0])
        report = {
            "ids": batch.ids,
            "reward": played.returns,
            "costs": played.costs,
            "initial_state": played.initial_states,
            "transitions": rows,
        }
        self._waiting[first + self._protocol.batch + int(self._delays[first])] = [(-1, report)]

    def _file(self, identity: int, episode: int, played: Any, k: int, counted: bool) -> None:
        extra = self._protocol.lost_if_costly
        gone = self._lost[episode] or (
            extra is not None and self._cmdp.measure(played.costs)[k, 0] > extra[0] and self._costly[episode] < extra[1]
        )
        if gone:
            if hasattr(self._agent, "lost"):
                self._agent.lost([identity])
            return
        report = {
            "reward": played.returns[k],
            "costs": played.costs[k],
            "initial_state": played.initial_states[k],
            "transitions": transition_rows(self._cmdp, played.transitions[k]) if counted else None,
        }
        due = episode // self._protocol.batch * self._protocol.batch + self._protocol.batch + int(self._delays[episode])
        self._waiting.setdefault(due, []).append((identity, report))

    def _deliver(self) -> None:
        """Everything whose delay is over, in the order of being due."""
        for due in sorted(d for d in self._waiting if d <= self.opened):
            reports = self._waiting.pop(due)
            if reports[0][0] < 0:
                self._agent.tell(**reports[0][1])
                continue
            rows = [r["transitions"] for _, r in reports]
            self._agent.tell(
                np.array([k for k, _ in reports]),
                np.array([r["reward"] for _, r in reports]),
                np.array([r["costs"] for _, r in reports]),
                initial_state=np.array([r["initial_state"] for _, r in reports]),
                transitions=None if rows[0] is None else np.concatenate(rows),
            )
