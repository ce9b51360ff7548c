"""Rehearsals of continuous tasks: plants without exact values, judged by fresh episodes."""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium
import numpy as np
import pytest

import surefoot as sf
from surefoot.controllers import LinearPolicy
from surefoot.gym import GymFamily, learn_belief, train_simulated
from surefoot.policyset.schema import EpisodeBounds, PolicySet
from surefoot.rehearsal import judging, plants

HORIZON = 4
CRITERION = sf.Criterion(1.0, [1.2], (0.0, 1.0), [1.0], HORIZON)


class Press(gymnasium.Env[Any, Any]):
    """In every step action a earns a and costs 1 with probability ``a theta``: values are ``4 a`` and ``4 a theta``."""

    def __init__(self, theta: float) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float64)
        self.action_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float64)
        self.theta = theta

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action: Any) -> Any:
        a = float(action[0])
        return np.zeros(1), a, False, False, {"cost": float(self.np_random.random() < a * self.theta)}


def family() -> GymFamily:
    support = np.array([[0.3, 0.9]])
    return GymFamily(
        name="press",
        parameter_names=("theta",),
        support=support,
        criterion=CRITERION,
        sampler=lambda n, rng: rng.uniform(*support.T, size=(n, 1)),
        make=lambda parameters: Press(float(parameters[0])),
        bounds=EpisodeBounds(0.0, 4.0, (4.0,)),
    )


ACTIONS = (0.2, 0.4, 0.7, 1.0)


@cache
def press_set() -> PolicySet:
    policies = [
        LinearPolicy(weight=np.zeros((1, 1)), bias=np.array([a]), low=np.zeros(1), high=np.ones(1)) for a in ACTIONS
    ]
    bare = train_simulated(
        family(), policies, tasks=12, holdout=0, cells=1, seed=1, max_episodes=200, progress=False, strict=False
    )
    return learn_belief(bare, family(), tasks=60, episodes=20, seed=2, progress=False)


def test_the_belief_knows_how_values_hang_together() -> None:
    belief = press_set().beliefs["returns"]
    slopes = belief.value_slope[:, 1]
    # Costs of all policies move with one unknown number, in proportion to their actions.
    leading = slopes[:, 0] / slopes[-1, 0]
    np.testing.assert_allclose(leading, np.array(ACTIONS), atol=0.2)
    assert belief.wants == frozenset()


def test_a_rehearsal_counts_what_is_not_shown_to_meet_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    how: dict[str, Any] = {
        "episodes": 40,
        "plants": 6,
        "alpha": 0.9,
        "delta_coverage": 0.9,
        "ladder": [4.0],
        "seed": 3,
        "progress": False,
    }
    found = sf.rehearse(press_set(), family(), budget=20_000, **how)
    theta = found.parameters[:, 0]
    np.testing.assert_array_equal(found.certificate.judging_error, 0.05)
    assert found.numbers[:, 0, 0].sum() <= 1 and found.chosen is not None
    assert found.certificate.upper == pytest.approx(found.chosen.upper / 0.95)
    gains = found.numbers[:, 0, 3]
    assert (gains >= -1e-9).all() and np.corrcoef(gains, theta)[0, 1] < 0.0
    # Without a budget nothing can be shown, and everything counts as violating.
    blind = sf.rehearse(press_set(), family(), budget=2, **{**how, "plants": 2})
    monkeypatch.setattr(judging, "FIRST", 2)
    assert blind.numbers[:, 0, 0].sum() <= 2
    nothing = _shown(np.array([[1.0, 0.0]]), budget=4)
    assert not nothing


def _shown(mixtures: np.ndarray, budget: int) -> bool:
    rng = np.random.default_rng(4)

    def sample(j: int, n: int) -> np.ndarray:
        return np.column_stack([np.ones(n), (rng.random(n) < 0.3).astype(float)])

    verdict = judging.judge(sample, mixtures, np.array([0.31]), np.array([1.0]), beta=0.05, budget=budget, least=2)
    return bool(verdict.shown.all())


def test_judges_meet_no_episode_that_the_agent_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails the mutant that judges with the agent's own episodes."""
    from surefoot.gym import play

    seeds = []
    original = play.EpisodeCache.__init__

    def noted(self: Any, *arguments: Any, **named: Any) -> None:
        seeds.append(named["seed"])
        original(self, *arguments, **named)

    monkeypatch.setattr(play.EpisodeCache, "__init__", noted)
    sf.rehearse(press_set(), family(), episodes=10, plants=2, ladder=[4.0], seed=5, progress=False, budget=300)
    assert len(seeds) == 4 and len(set(seeds)) == 4
    assert plants.JUDGE_STREAM != plants.EPISODE_STREAM


def test_the_agent_alone_plays_what_was_rehearsed() -> None:
    from surefoot.deploy.belief.rehearsed import Rung
    from surefoot.gym.play import EpisodeCache
    from surefoot.rehearsal.lockstep import play_rung, simulated_source

    policy_set, rung = press_set(), Rung(boldness=2.0, episodes=60, evidence="returns")
    caches = [EpisodeCache(family(), [0.5], policy_set.policies, seed=6, block=20) for _ in range(2)]
    together = play_rung(policy_set, rung, simulated_source(caches[0], 1), seed=7, chance=0)
    agent, source = sf.CertifiedAgent(policy_set, trust="rehearsed", rung=rung, seed=7), simulated_source(caches[1], 1)
    alone = []
    for k in range(60):
        episode = agent.ask()
        alone.append(episode.weights)
        block = source(np.array([episode.policy_index]), k, np.zeros(1, dtype=np.int64))
        agent.tell(episode.id, block.outcomes[0, 0], block.outcomes[0, 1:])
    at = np.searchsorted(together.starts, np.arange(60), side="right") - 1
    np.testing.assert_array_equal(together.weights[at], np.array(alone))
