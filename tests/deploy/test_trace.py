"""Batches in which episodes are asked for, and what a run's trace says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from surefoot.deploy.trace import ask_in_batches, batch_sizes, record


@dataclass
class Asked:
    """An agent that plays its second policy more from batch to batch, and notes what it is asked and told."""

    asked: list[int] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    policies: tuple[Any, ...] = (None, None)

    def ask(self, n: int) -> Any:
        assert len(self.told) == len(self.asked), "a batch is told before the next one is asked for"
        first, share = sum(self.asked), len(self.asked) / 100
        self.asked.append(n)
        ids, weights = np.arange(first, first + n), np.array([1.0 - share, share])
        return type("Batch", (), {"ids": ids, "policy_index": ids % 2, "weights": weights})()

    def tell(self, ids: Any, reward: Any, costs: Any) -> None:
        self.told.append(len(ids))


@pytest.mark.parametrize("episodes", [1, 9, 10, 11, 1000])
def test_batches_start_at_ten_grow_by_a_tenth_and_end_where_they_should(episodes: int) -> None:
    sizes = list(batch_sizes(episodes, largest_batch=50))
    assert sum(sizes) == episodes
    wanted = [min(int(10 * 1.1**k), 50) for k in range(len(sizes))]
    assert sizes[:-1] == wanted[:-1]
    assert 1 <= sizes[-1] <= wanted[-1]


def test_each_batch_comes_with_the_episodes_asked_before_it() -> None:
    agent, before = Asked(), 0
    for batch, asked in ask_in_batches(agent, 300):
        assert asked == before == batch.ids[0]
        before += len(batch.ids)
        agent.tell(batch.ids, None, None)
    assert before == 300
    assert agent.asked == list(batch_sizes(300))


def test_who_stops_taking_batches_stops_asking() -> None:
    agent = Asked()
    for batch, _ in ask_in_batches(agent, 300):
        agent.tell(batch.ids, None, None)
        break
    assert agent.asked == [10]


def test_a_trace_scores_the_mixture_that_each_batch_was_drawn_from() -> None:
    agent, values = Asked(), np.array([[1.0, 0.5], [3.0, 2.5]])
    trace = record(agent, 45, lambda index, _: (values, {"reward": index, "costs": index}))
    assert trace.ends.tolist() == [10, 21, 33, 45]
    np.testing.assert_allclose(trace.weight, [0.0, 0.01, 0.02, 0.03])
    np.testing.assert_allclose(trace.reward, 1.0 + 2.0 * trace.weight)
    np.testing.assert_allclose(trace.costs[:, 0], 0.5 + 2.0 * trace.weight)
    assert agent.told == agent.asked
    assert trace.violating(np.array([0.53])) == 24
    assert 0.0 <= trace.agent_seconds <= trace.seconds


def test_a_batch_is_divided_for_an_agent_that_says_how_many_it_takes_at_once() -> None:
    class Small(Asked):
        @property
        def together(self) -> int | None:
            return 7 if sum(self.asked) < 30 else None

    agent = Small()
    asked = []
    for batch, before in ask_in_batches(agent, 60):
        asked.append(before)
        agent.tell(batch.ids, None, None)
    assert agent.asked == [7, 3, 7, 4, 7, 5, 13, 14]
    assert asked == [0, 7, 10, 17, 21, 28, 33, 46] and sum(agent.asked) == 60
