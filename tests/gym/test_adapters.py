"""Adapters, and the finite CMDP as the oracle of everything that simulates."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import surefoot as sf
from surefoot.gym.adapters import CostInInfo, SafetyGymnasiumAdapter, tabular_env, tabular_family
from surefoot.gym.rollout import rollout
from tests.gym.toys import Coins, Constant, coins


class Six(Coins):
    """Steps of six."""

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, info.pop("cost"), terminated, truncated, info


def test_steps_of_six_become_five_with_the_cost_in_info() -> None:
    plain = rollout(coins(), [0.5], [Constant(0.7)], episodes=20, seed=1)[0]
    direct = rollout(coins(make=lambda p: Six(0.5)), [0.5], [Constant(0.7)], episodes=20, seed=1)[0]
    wrapped = rollout(
        coins(make=lambda p: SafetyGymnasiumAdapter(Six(0.5))), [0.5], [Constant(0.7)], episodes=20, seed=1
    )[0]
    for other in (direct, wrapped):
        np.testing.assert_array_equal(plain.costs, other.costs)
        np.testing.assert_array_equal(plain.returns, other.returns)


def test_a_cost_function_is_put_into_info() -> None:
    def cost(before: Any, action: Any, after: Any, info: dict[str, Any]) -> float:
        return float(abs(before[0] - after[0]) * action[0])

    wrapped = rollout(coins(make=lambda p: CostInInfo(Coins(0.5), cost)), [0.5], [Constant(0.7)], episodes=9, seed=1)[0]
    given = rollout(coins(cost=cost), [0.5], [Constant(0.7)], episodes=9, seed=1)[0]
    np.testing.assert_array_equal(wrapped.costs, given.costs)
    assert wrapped.costs.min() > 0.0


def test_a_tabular_task_passes_gymnasiums_checker() -> None:
    check_env(tabular_env(sf.tasks.NoisyGridworld().cmdp([0.2])), skip_render_check=True)


@pytest.mark.parametrize("noise", [0.1, 0.35])
def test_a_tabular_task_has_the_values_of_its_model(noise: float) -> None:
    grid = sf.tasks.NoisyGridworld()
    policy = sf.TabularPolicy(grid.safe_policy())
    (found,) = rollout(tabular_family(grid, 50), [noise], [policy], episodes=250, seed=1)
    exact = sf.evaluate_many(grid.cmdp([noise]), policy.table)[0]
    seen = found.outcomes()
    tail = 10.0 * 10.0 * 0.9**50
    assert (np.abs(seen.mean(axis=0) - exact) < 4.0 * seen.std(axis=0) / np.sqrt(250) + tail).all()


def test_every_transition_has_the_probability_of_the_kernel(rng: np.random.Generator) -> None:
    cmdp = sf.tasks.NoisyGridworld().cmdp([0.3])
    env = tabular_env(cmdp)
    env.reset(seed=0)
    counts = np.zeros(cmdp.n_states)
    for _ in range(4000):
        env._state = 10
        counts[env.step(1)[0]] += 1
    expected = cmdp.dense[10, 1]
    assert (np.abs(counts / 4000 - expected) <= 4.0 * np.sqrt(expected * (1 - expected) / 4000)).all()


def test_a_family_keeps_what_the_tabular_one_says() -> None:
    grid = sf.tasks.NoisyGridworld()
    family = tabular_family(grid, 50)
    assert family.horizon == 50 and family.parameter_names == ("noise",)
    np.testing.assert_array_equal(family.support, grid.support)
    np.testing.assert_array_equal(family.sample(3, np.random.default_rng(1)), grid.sample(3, np.random.default_rng(1)))


@pytest.mark.slow
def test_without_gymnasium_the_error_names_the_extra() -> None:
    code = "import sys; sys.modules['gymnasium'] = None\nimport surefoot.gym\nsurefoot.gym.tabular_env"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'gymnasium is not installed; it comes with an extra: pip install "surefoot[gym]"' in result.stderr
    code = "import sys; sys.modules['gymnasium'] = None\nimport surefoot.gym as g\ng.GymFamily, g.train_simulated, g.Rollouts, g.play_gym"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_every_listed_name_is_there() -> None:
    import surefoot.gym as package

    # A function that shares its module's name would be hidden by the module.
    assert [name for name in package.__all__ if not callable(getattr(package, name, None))] == []
    assert sorted(package.__all__) == dir(package)
    with pytest.raises(AttributeError, match="nothing"):
        package.__getattr__("nothing")
