"""Agents on banks of simulated episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.deploy.tracker import Batch
from surefoot.gym.play import EpisodeCache, Trace, evaluate_policy, play_gym
from surefoot.gym.rollout import rollout
from tests.gym.test_pipeline import ACTIONS, LIBRARY, trained
from tests.gym.toys import CRITERION, MEAN_COIN, Noisy, coins, exact, shared_coins
from tests.refusals import refused

FAMILY = coins(signals=(MEAN_COIN,))
WORTH = np.stack(exact(0.5, np.array(ACTIONS)), axis=1)


@pytest.fixture(scope="module")
def library_set() -> sf.PolicySet:
    return trained(FAMILY)


class Recorder:
    """Plays policies in turn and keeps what it is told."""

    policies = tuple(LIBRARY)

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.told: list[Any] = []
        self.signals: list[Any] = []

    def ask(self, n: int) -> Batch:
        index = (len(self.asked) + np.arange(n)) % 3
        ids = len(self.asked) + np.arange(n)
        self.asked += index.tolist()
        return Batch(ids=ids, policy_index=index, weights=np.full(3, 1 / 3), policies=self.policies)

    def tell(self, ids: Any, reward: Any, costs: Any, *, signals: Any = None) -> None:
        self.told += np.column_stack([reward, costs]).tolist()
        self.signals.append(signals)


def played(cache: EpisodeCache, seed: int = 0, episodes: int = 90, task: int = 0) -> tuple[Recorder, Trace]:
    agent = Recorder()
    return agent, play_gym(agent, cache, episodes=episodes, seed=seed, values=WORTH, task=task)


def test_a_run_meets_every_episode_of_the_bank_once_in_its_own_order() -> None:
    cache = EpisodeCache(FAMILY, [0.5], LIBRARY, seed=7, block=10)
    (agent, trace), (other, _) = played(cache), played(cache, seed=1)
    episodes = rollout(FAMILY, [0.5], LIBRARY, episodes=30, seed=7)
    for j in range(3):
        told = [tuple(row) for row, k in zip(agent.told, agent.asked) if k == j]
        again = [tuple(row) for row, k in zip(other.told, other.asked) if k == j]
        fresh = [tuple(row[:2]) for row in episodes[j].outcomes().tolist()]
        assert sorted(told) == sorted(fresh) == sorted(again)
        assert told != fresh
        # Blocks are read one after the other, so short runs need few episodes.
        assert sorted(told[:10]) == sorted(fresh[:10])
    assert agent.told != other.told
    assert trace.ends[-1] == 90 and cache.simulated == 90
    assert agent.signals[0].shape == (10, 1)


def test_a_run_that_begins_further_on_meets_other_episodes() -> None:
    cache, first, later = EpisodeCache(FAMILY, [0.5], LIBRARY, seed=7, block=10), Recorder(), Recorder()
    for agent, block in ((first, 0), (later, 3)):
        play_gym(agent, cache, episodes=90, seed=0, values=WORTH, first_block=block)
    episodes = rollout(FAMILY, [0.5], LIBRARY[:1], episodes=30, seed=7, first_episode=30)[0]
    told = [tuple(row) for row, k in zip(later.told, later.asked) if k == 0]
    assert sorted(told) == sorted(tuple(row[:2]) for row in episodes.outcomes().tolist())
    assert first.told != later.told


def test_a_bank_is_decided_by_its_seed_not_by_the_order_of_wishes() -> None:
    lazy, early = (
        EpisodeCache(FAMILY, [0.5], LIBRARY, seed=7, block=10),
        EpisodeCache(FAMILY, [0.5], LIBRARY, seed=7, block=10),
    )
    assert early.fill(31) is early and early.simulated == 120
    lazy.take(2, 1, np.arange(10), 0)
    assert lazy.simulated == 10
    assert played(lazy)[0].told == played(early)[0].told
    other = EpisodeCache(FAMILY, [0.5], LIBRARY, seed=8, block=10)
    assert played(other)[0].told != played(early)[0].told


def test_one_bank_serves_tasks_that_share_their_episodes() -> None:
    cache = EpisodeCache(shared_coins(), [[0.2], [1.0]], LIBRARY, seed=7, block=10)
    (poor, _), (rich, _) = played(cache, task=0), played(cache, task=1)
    assert np.array(poor.told)[:, 0].sum() < np.array(rich.told)[:, 0].sum()
    np.testing.assert_array_equal(np.array(poor.told)[:, 1], np.array(rich.told)[:, 1])
    assert cache.simulated == 90 and poor.signals[0] is None


def test_the_score_is_that_of_the_mixture() -> None:
    _, trace = played(EpisodeCache(FAMILY, [0.5], LIBRARY, seed=7, block=100))
    np.testing.assert_allclose(trace.reward, WORTH[:, 0].mean())
    np.testing.assert_allclose(trace.costs, WORTH[:, 1:].mean(axis=0)[None].repeat(len(trace.ends), axis=0))
    np.testing.assert_allclose(trace.weight, 2 / 3)
    np.testing.assert_allclose(trace.regret(WORTH[:, 0].mean() + 1.0, np.array([1, 50, 90])), [1, 50, 90])
    assert trace.at(np.array([1, 10, 11])).tolist() == [0, 0, 1]
    assert trace.violating(CRITERION.cost_limits) == 0
    assert trace.violating(np.array([0.1])) == 90


@pytest.mark.slow
@pytest.mark.parametrize("trust", ["cells", "envelope", "data"])
def test_certified_agents_learn_without_violating(library_set: sf.PolicySet, trust: Any) -> None:
    found = library_set
    cache = EpisodeCache(FAMILY, [0.9], found.policies, seed=3)
    worth = np.stack(exact(0.9, np.array(ACTIONS)), axis=1)
    agent = sf.CertifiedAgent(found, trust=trust, evidence="returns", p_max=0.9)
    trace = play_gym(agent, cache, episodes=1500, seed=0, values=worth)
    assert trace.violating(CRITERION.cost_limits) == 0 and agent.alarm is None
    assert trace.reward[-1] > worth[0, 0] + 0.1
    assert 0.0 < trace.agent_seconds <= trace.seconds


@pytest.mark.slow
def test_judging_agrees_with_exact_values() -> None:
    found = evaluate_policy(coins(), [[0.5], [1.0]], LIBRARY, episodes=300, seed=5, alpha=0.001)
    assert (found.episodes == 300).all()
    for k, gain in enumerate((0.5, 1.0)):
        truth = np.stack(exact(gain, np.array(ACTIONS)), axis=1)
        assert ((found.lower[k] <= truth) & (truth <= found.upper[k])).all()
    one = evaluate_policy(shared_coins(signals=(MEAN_COIN,)), [0.5], [Noisy()], episodes=40, seed=5)
    assert one.mean.shape == (1, 1, 3) and one.spent == 40


def test_what_does_not_fit_is_refused() -> None:
    with refused("SF-ARGUMENT-SHAPE", "parameters", "shape (2, 1)"):
        EpisodeCache(coins(), [[0.1], [0.2]], LIBRARY, seed=0)
    cache = EpisodeCache(coins(), [0.1], LIBRARY[:2], seed=0)
    with refused("SF-ARGUMENT-MISMATCH", "bank", "3", "2"):
        play_gym(Recorder(), cache, episodes=1, seed=0, values=WORTH[:2])
    with refused("SF-ARGUMENT-SHAPE", "values"):
        play_gym(Recorder(), cache, episodes=1, seed=0, values=WORTH)
    with refused("SF-ARGUMENT-RANGE", "task", "0", "0"):
        play_gym(Recorder(), cache, episodes=1, seed=0, values=WORTH[:2], task=1)
