"""What ``check_family`` tells a newcomer."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from surefoot.criterion import Criterion
from surefoot.gym import dependence
from surefoot.gym.check import check_family
from surefoot.gym.pipeline import train_simulated
from surefoot.stats.binomial import rate_test
from tests.gym.test_adapters import Six
from tests.gym.toys import DISCOUNT, HORIZON, MEAN_COIN, Coins, Constant, coins, shared_coins
from tests.refusals import refused


@pytest.mark.parametrize(
    "family", [coins(), shared_coins(), coins(signals=(MEAN_COIN,)), coins(make=lambda p: Six(p[0]))]
)
def test_a_sound_family_has_no_problems(family: Any) -> None:
    found = check_family(family)
    assert found.ok and found.problems == () and found.warnings == ()
    found.raise_if_bad()


class Redrawing(Coins):
    """``reset`` draws the parameter anew from the environment's own generator, whatever was asked for."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        found = super().reset(seed=seed)
        self.gain = float(self.np_random.uniform(0.1, 0.9))
        return found


class Seedless(Coins):
    """All chance comes from a generator that is seeded with 7 whatever seed was given."""

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.own = np.random.default_rng(None if seed is None else 7)
        return self.own.random(2), {}

    def step(self, action: Any) -> Any:
        coin, cost = self.own.random(2) < [float(action[0]), 0.5 * float(action[0])]
        return self.own.random(2), 0.3 + 0.4 * self.gain * coin, False, False, {"cost": float(cost)}


def test_parameters_that_reset_draws_again_are_found() -> None:
    family = coins(make=lambda p: Redrawing(float(p[0])))
    found = check_family(family)
    assert not found.ok and "must depend on the parameters of the task, got exactly the same" in found.text
    with refused("SF-FAMILY-RESET"):
        train_simulated(family, [Constant(0), Constant(1)], tasks=4, holdout=5, cells=2, seed=0, progress=False)


def test_parameters_and_seeds_that_are_ignored_are_found() -> None:
    ignoring = check_family(coins(make=lambda p: Coins(0.5)))
    assert not ignoring.ok and "must depend on the parameters" in ignoring.text
    seedless = check_family(coins(make=lambda p: Seedless(float(p[0]))))
    assert not seedless.ok and "must differ with their seeds" in seedless.text


def test_the_permutation_test_rarely_finds_a_dependence_where_there_is_none_and_finds_a_real_one() -> None:
    """Exchangeable blocks: a p-value at most .05 in about one of twenty; blocks with a shifted task: nearly always."""
    rng = np.random.default_rng(3)
    null = [dependence._permuted(rng.normal(size=(8, 4, 6)), rng) <= 0.05 for _ in range(60)]
    assert rate_test(sum(null), 60, 0.05) > 1e-3
    shift = np.array([0.0, 0.0, 0.0, 2.0])[None, :, None] * (np.arange(6) == 2)
    assert sum(dependence._permuted(rng.normal(size=(16, 4, 6)) + shift, rng) <= 0.05 for _ in range(20)) >= 15


class Drifting(Coins):
    """A task that changes on every reset."""

    def reset(self, **more: Any) -> Any:
        self.gain = (self.gain + 0.1) % 1.0
        return super().reset(**more)


class Entropy(Coins):
    """Draws from the operating system."""

    def step(self, action: Any) -> Any:
        return np.random.default_rng().random(2), *super().step(action)[1:]


class Remembers(Coins):
    """Cost grows over the environment's whole life."""

    age = 0.0

    def step(self, action: Any) -> Any:
        result = super().step(action)
        self.age += 0.001
        return *result[:4], {**result[4], "cost": self.age}


class Broken(Coins):
    """An observation outside its space."""

    def reset(self, **more: Any) -> Any:
        super().reset(**more)
        return np.full(2, 7.0), {}


class Dear(Coins):
    """Costs more than declared, after the first step."""

    def step(self, action: Any) -> Any:
        result = super().step(action)
        return *result[:4], {**result[4], "cost": 2.0}


class Short(Coins):
    """Ends after two steps."""

    count = 0

    def reset(self, **more: Any) -> Any:
        self.count = 0
        return super().reset(**more)

    def step(self, action: Any) -> Any:
        self.count += 1
        result = super().step(action)
        return *result[:2], self.count == 2, False, {**result[4], "cost": 0.0}


def uneven(n: int, rng: np.random.Generator) -> Any:
    return np.random.default_rng().random((n, 1))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"make": lambda p: Drifting(0.1)},
            "returns of an episode must be decided by its seed, got others in the same environment (coins at [",
        ),
        (
            {"make": lambda p: Remembers(0.1)},
            "costs of an episode must be decided by its seed, got others in the same environment",
        ),
        (
            {"make": lambda p: Broken(0.1)},
            "Gymnasium's checker must accept the environment of coins, got AssertionError",
        ),
        ({"make": lambda p: Dear(0.1)}, "cost[0] (cost) must lie in [0, 1], criterion.cost_bounds, got 2 (coins at ["),
        ({"make": lambda p: gymnasium.Env()}, "must return a Gymnasium environment, got Env without action_space"),
        ({"sampler": lambda n, rng: rng.random((n, 2))}, "sampler of coins must give shape (5, 1), got (5, 2)"),
        ({"sampler": uneven}, "sampler of coins must draw from the generator it is given"),
        (
            {"sampler": lambda n, rng: 1 / 0},
            "coins: ZeroDivisionError: division by zero; call it alone to see the traceback",
        ),
    ],
)
def test_a_problem_is_found(changes: dict[str, Any], problem: str) -> None:
    found = check_family(coins(**changes))
    assert any(problem in text for text in found.problems), found.text
    with refused("SF-SIMULATION-CHECK", f"coins: {len(found.problems)}"):
        found.raise_if_bad()


def test_hidden_randomness_of_a_policy_is_found() -> None:
    def shaky(observation: Any) -> Any:
        return np.random.default_rng().random(1)

    assert any("let the policy be deterministic or take rng" in p for p in check_family(coins(), policy=shaky).problems)


def test_hidden_randomness_of_observations_is_found_by_gymnasium() -> None:
    assert any("Gymnasium's checker" in p for p in check_family(coins(make=lambda p: Entropy(0.5))).problems)


@pytest.mark.parametrize(
    ("changes", "policy", "warning"),
    [
        ({"make": lambda p: Short(0.5)}, None, "cost was zero in every episode that was run; is it computed at all?"),
        ({"make": lambda p: Short(0.5)}, None, "no episode reached criterion.horizon 4"),
        (
            {"criterion": Criterion(DISCOUNT, [1.2], (0.0, 1.0), [1000.0], HORIZON)},
            None,
            "of the declared range 0..3439",
        ),
        (
            {"criterion": Criterion(DISCOUNT, [0.1], (0.0, 1.0), [1.0], HORIZON)},
            Constant(1.0),
            "above the limit 0.1; as a safe policy it would not do",
        ),
    ],
)
def test_a_warning_is_given(changes: dict[str, Any], policy: Any, warning: str) -> None:
    found = check_family(coins(**changes), policy=policy)
    assert any(warning in text for text in found.warnings), found.text
    assert found.text.startswith("coins: ") and warning in found.text


@pytest.mark.parametrize("name", ["tasks", "episodes"])
def test_an_argument_is_refused(name: str) -> None:
    arguments: dict[str, Any] = {name: 0}
    with refused("SF-ARGUMENT-RANGE", name, "1", "0"):
        check_family(coins(), **arguments)


class Priced(Coins):
    """The cost depends on the task."""

    def step(self, action: Any) -> Any:
        *rest, info = super().step(action)
        return *rest, {**info, "cost": 0.5 * self.gain}


def test_tasks_that_are_said_to_share_episodes_must_not_differ_in_the_cost() -> None:
    make = lambda p: Priced(float(p[0]))  # noqa: E731
    (problem,) = check_family(shared_coins(make=make)).problems
    assert problem.startswith("costs must be the same in all tasks of shared coins") and "leave rewards= out" in problem
    assert not check_family(coins(make=make)).problems


def test_tasks_that_share_episodes_must_pay_what_rewards_says() -> None:
    def wrong(parameters: Any, obs: Any, action: Any, next_obs: Any, reward: float, info: Any) -> Any:
        return 0.7 - 0.4 * parameters[:, 0] * info["coin"]

    problems = check_family(coins(name="odd coins", rewards=wrong)).problems
    assert any("rewards of odd coins must give what the environment pays" in p for p in problems)


def test_a_cost_that_only_other_policies_have_is_computed_after_all() -> None:
    still, busy = Constant(0.0), Constant(0.7)
    notes = [check_family(coins(), library=library).warnings for library in ([still, busy], [still, still])]
    assert not any("zero in every episode" in note for note in notes[0])
    assert any("cost was zero in every episode of every policy of the library" in note for note in notes[1])
    assert any(
        "zero in every episode that was run" in note for note in check_family(coins(cost=lambda *_: 0.0)).warnings
    )
