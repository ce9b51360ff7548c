"""Rollouts: right sums, the same bits however episodes are split, and an error for everything that is malformed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

from surefoot.criterion import Criterion
from surefoot.errors import SimulationError
from surefoot.gym.adapters import CostInInfo
from surefoot.gym.family import Signal
from surefoot.gym.rollout import Rollouts, rollout
from surefoot.policyset.schema import EpisodeBounds
from tests.gym.toys import (
    CRITERION,
    DISCOUNT,
    HORIZON,
    MEAN_COIN,
    WEIGHT,
    Batched,
    Coins,
    Constant,
    Noisy,
    coins,
    exact,
    shared_coins,
)
from tests.refusals import refused

FIELDS = ("returns", "costs", "signals", "lengths", "first_observations")


def same(one: Rollouts, two: Rollouts) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in FIELDS)


class Count(gymnasium.Env[Any, Any]):
    """Counts its steps; ends after ``ends`` of them; reward is the count, cost twice the count."""

    def __init__(self, ends: int = 99, six: bool = False) -> None:
        self.observation_space = gymnasium.spaces.Box(-1.0, 99.0, (1,), np.float64)
        self.action_space = gymnasium.spaces.Discrete(3)
        self.ends, self.six, self.count = ends, six, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        rest = (self.count == self.ends, False, {})
        cost = 2.0 * self.count
        if self.six:
            return np.full(1, float(self.count)), float(self.count), cost, *rest
        return np.full(1, float(self.count)), float(self.count), *rest[:2], {"cost": cost}


COUNTING = Criterion(DISCOUNT, [9.0], (0.0, 9.0), [18.0], HORIZON)


@pytest.mark.parametrize("ends", [1, 3, 99])
@pytest.mark.parametrize("six", [False, True])
def test_sums_are_discounted_and_end_with_the_episode(ends: int, six: bool) -> None:
    steps = min(ends, HORIZON)
    signals = tuple(
        Signal(name, -99.0, 99.0, lambda o, a, n, r, i: float(n[0]) - 2.0, name)  # type: ignore[arg-type]
        for name in ("mean", "sum", "last", "max")
    )
    family = coins(criterion=COUNTING, make=lambda p: Count(ends, six), signals=signals)
    (found,) = rollout(family, [0.5], [lambda o: 1], episodes=3, seed=0, num_envs=2)
    counts = np.arange(1, steps + 1)
    total = float((DISCOUNT ** (counts - 1) * counts).sum())
    np.testing.assert_allclose(found.returns, total)
    np.testing.assert_allclose(found.costs, 2 * total)
    expected = [counts.mean() - 2, (counts - 2).sum(), steps - 2, steps - 2]
    np.testing.assert_allclose(found.signals, np.tile(expected, (3, 1)))
    assert found.lengths.tolist() == [steps] * 3 and len(found) == 3
    np.testing.assert_array_equal(found.first_observations, np.zeros((3, 1)))
    assert found.outcomes().shape == (3, 6)


def test_cost_may_be_a_function_of_the_step() -> None:
    family = coins(
        criterion=COUNTING, make=lambda p: Count(), cost=lambda o, a, n, i: [float(o[0]) + float(n[0]) + float(a)]
    )
    (found,) = rollout(family, [0.5], [lambda o: 2], episodes=1, seed=0)
    t = np.arange(HORIZON)
    np.testing.assert_allclose(found.costs, (DISCOUNT**t * (2 * t + 1 + 2)).sum())


def test_several_costs_and_none() -> None:
    two = Criterion(DISCOUNT, [9.0, 9.0], (0.0, 9.0), [18.0, 1.0], HORIZON)
    family = coins(criterion=two, make=lambda p: Count(), cost=lambda o, a, n, i: (float(n[0]), 1.0))
    (found,) = rollout(family, [0.5], [lambda o: 2], episodes=2, seed=0)
    assert found.costs.shape == (2, 2)
    np.testing.assert_allclose(found.costs[:, 1], WEIGHT)
    none = Criterion(DISCOUNT, [], (0.0, 9.0), [], HORIZON)
    (free,) = rollout(coins(criterion=none, make=lambda p: Count()), [0.5], [lambda o: 2], episodes=2, seed=0)
    assert free.costs.shape == (2, 0)


def test_means_are_those_of_the_task() -> None:
    policies = [Constant(0.2), Batched(0.9)]
    found = rollout(coins(), [0.5], policies, episodes=600, seed=3)
    for part, policy in zip(found, policies):
        value, cost = exact(0.5, policy.action)
        assert abs(part.returns.mean() - value) < 4 * part.returns.std() / np.sqrt(600)
        assert abs(part.costs.mean() - cost) < 4 * part.costs.std() / np.sqrt(600)


def test_no_bit_depends_on_how_episodes_are_split() -> None:
    policies, family = [Constant(0.3), Noisy(), Batched(0.3)], coins(signals=(MEAN_COIN,))
    whole = rollout(family, [0.5], policies, episodes=40, seed=(5, 1))
    narrow = rollout(family, [0.5], policies, episodes=40, seed=(5, 1), num_envs=3)
    parallel = rollout(family, [0.5], policies, episodes=40, seed=(5, 1), workers=2)
    late = rollout(family, [0.5], policies, episodes=25, first_episode=15, seed=(5, 1))
    alone = rollout(family, [0.5], policies[1:2], indices=[1], episodes=40, seed=(5, 1))
    assert all(same(a, b) for a, b in zip(whole, narrow)) and all(same(a, b) for a, b in zip(whole, parallel))
    assert same(whole[1], alone[0])
    for a, b in zip(whole, late):
        np.testing.assert_array_equal(a.returns[15:], b.returns)


def test_episodes_tasks_policies_and_seeds_have_their_own_chance() -> None:
    base = rollout(coins(), [0.5], [Noisy(), Noisy()], episodes=4, seed=5)
    other = [rollout(coins(), [0.5], [Noisy()], episodes=4, seed=s, task=t)[0] for s, t in ((6, 0), (5, 1))]
    starts = [tuple(o) for part in (*base, *other) for o in part.first_observations]
    assert len(set(starts)) == 16


def test_one_environment_alone_sums_the_same_bits_as_many() -> None:
    """Alone an episode is added number by number, in lockstep as arrays: two ways, each checked by the other."""
    for family, more in (
        (coins(signals=(MEAN_COIN,)), {}),
        (coins(criterion=Criterion(DISCOUNT, [], (0.0, 1.0), [], HORIZON)), {}),
        (shared_coins(), {"rewards_at": np.array([[0.2], [1.0]])}),
        (shared_coins(), {}),
    ):
        for policy in (Constant(0.3), Noisy(), Batched(0.3)):
            alone, many = (
                rollout(family, [0.5], [policy], episodes=20, seed=8, num_envs=m, **more)[0] for m in (1, 16)
            )
            assert same(alone, many)
            assert np.unique(alone.returns).size > 1


def test_one_batch_serves_tasks_that_differ_in_the_reward() -> None:
    points = np.array([[0.2], [1.0]])
    (both,) = rollout(shared_coins(), [0.5], [Constant(0.6)], episodes=30, seed=1, rewards_at=points)
    assert both.returns.shape == (30, 2)
    for k, point in enumerate(points):
        (one,) = rollout(coins(), point, [Constant(0.6)], episodes=30, seed=1)
        np.testing.assert_allclose(both.returns[:, k], one.returns)
        np.testing.assert_array_equal(both.outcomes(k)[:, 1:], one.outcomes()[:, 1:])
    (single,) = rollout(shared_coins(), [1.0], [Constant(0.6)], episodes=30, seed=1)
    np.testing.assert_array_equal(single.returns, both.returns[:, 1])


class Integrator:
    """A controller with a memory: its action grows by .1 every step since the last reset."""

    def __init__(self) -> None:
        self.total = 5.0

    def reset(self) -> None:
        self.total = 0.0

    def predict(self, observation: Any) -> tuple[Any, None]:
        self.total += 0.1
        return np.array([self.total]), None


class Recurrent:
    """A policy that hands its state back, as recurrent networks do."""

    def predict(self, observation: Any, state: Any = None, deterministic: bool = False) -> tuple[Any, Any]:
        state = 0.0 if state is None else state
        assert not deterministic
        return np.array([0.1 * (state + 1.0)]), state + 1.0


@pytest.mark.parametrize("policy", [Integrator(), Recurrent()])
def test_memories_start_afresh_in_every_episode_and_environment(policy: Any) -> None:
    family = coins(signals=(Signal("last action", 0.0, 1.0, lambda o, a, n, r, i: float(a[0]), "last"),))
    (found,) = rollout(family, [0.5], [policy], episodes=7, seed=1, num_envs=3)
    np.testing.assert_allclose(found.signals, 0.1 * HORIZON)


def change(**fields: Any) -> Callable[[Any], Coins]:
    """``make`` of an environment whose third step is changed: ``observation``, ``reward``, ``info`` ... as given, or the whole ``step``."""

    class Changed(Coins):
        count = 0

        def reset(self, **more: Any) -> Any:
            self.count = 0
            return fields["reset"] if "reset" in fields else super().reset(**more)

        def step(self, action: Any) -> Any:
            self.count += 1
            result = super().step(action)
            if self.count != 3:
                return result
            if "step" in fields:
                return fields["step"]
            names = ("observation", "reward", "terminated", "truncated", "info")
            return tuple(fields.get(name, value) for name, value in zip(names, result))

    return lambda parameters: Changed(float(parameters[0]))


class NoBox(Coins):
    """Observations that are no array."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.observation_space = gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2)})


class Reusing(Coins):
    """Returns the same array every step."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.same = np.zeros(2)

    def reset(self, **more: Any) -> Any:
        super().reset(**more)
        return self.same, {}

    def step(self, action: Any) -> Any:
        return self.same, *super().step(action)[1:]


class Raising:
    """A policy that fails."""

    def predict(self, observation: Any) -> Any:
        raise ZeroDivisionError("no gain")


class NoPair:
    """A policy whose ``predict`` forgets the state."""

    def predict(self, observation: Any) -> Any:
        return np.array([0.5])


class ShortBatch:
    """A policy that answers too few observations."""

    def act_batch(self, observations: Any) -> Any:
        return np.full((len(observations) - 1, 1), 0.5)


def fails(*_: Any) -> Any:
    raise KeyError("wheel")


HERE = "(coins at [0.5], policy 0, episode 0, step 2)"
NOT_GYM = "follow Gymnasium's API"
FIVE = "step must return (observation, reward, terminated, truncated, info), or six with the cost after the reward"
POSITIVE = Criterion(DISCOUNT, [1.2], (0.1, 1.0), [1.0], HORIZON)
TWO = Criterion(DISCOUNT, [1.2, 1.0], (0.0, 1.0), [1.0, 1.0], HORIZON)

MALFORMED: dict[str, tuple[dict[str, Any], Any, str]] = {
    "cost missing": (
        {"make": change(info={"speed": 1})},
        None,
        f'cost must be in info["cost"], got an info with speed {HERE}; put it there, return steps of six, or give the family cost=',
    ),
    "cost NaN": (
        {"make": change(info={"cost": np.nan})},
        None,
        "cost[0] (cost) must lie in [0, 1], criterion.cost_bounds, got nan "
        "(coins at [0.5], policy 0, episode 0, step 3); fix the environment's cost, or widen the bounds",
    ),
    "cost negative": (
        {"make": change(info={"cost": -0.5})},
        None,
        "cost[0] (cost) must lie in [0, 1], criterion.cost_bounds, got -0.5 "
        "(coins at [0.5], policy 0, episode 0, step 3); fix the environment's cost, or widen the bounds",
    ),
    "cost too large": (
        {"make": change(info={"cost": 1.5})},
        None,
        "cost[0] (cost) must lie in [0, 1], criterion.cost_bounds, got 1.5 "
        "(coins at [0.5], policy 0, episode 0, step 3); fix the environment's cost, or widen the bounds",
    ),
    "cost no number": (
        {"make": change(info={"cost": "high"})},
        None,
        "cost must be one number, got 'high' (coins at [0.5], policy 0, episode 0, step 3); fix what computes it",
    ),
    "too few costs": (
        {"criterion": TWO},
        None,
        "cost must hold 2 numbers, got 0.0 (coins at [0.5], policy 0, episode 0, step 1); fix what computes it",
    ),
    "cost function raises": (
        {"cost": fails},
        None,
        "cost must not raise, got KeyError: 'wheel' (coins at [0.5], policy 0, episode 0, step 0); run it alone to see why",
    ),
    "reward NaN": (
        {"make": change(reward=np.nan)},
        None,
        "reward must lie in criterion.reward_bounds [0, 1], got nan (coins at [0.5], policy 0, episode 0, step 3); "
        "fix the environment, or widen the bounds",
    ),
    "reward too large": (
        {"make": change(reward=1.01)},
        None,
        "reward must lie in criterion.reward_bounds [0, 1], got 1.01 (coins at [0.5], policy 0, episode 0, step 3); "
        "fix the environment, or widen the bounds",
    ),
    "reward an array": (
        {"make": change(reward=np.zeros(1))},
        None,
        "reward must be a number, got array([0.]) (coins at [0.5], policy 0, episode 0, step 3); fix what computes it",
    ),
    "observation infinite": (
        {"make": change(observation=np.array([0.0, np.inf]))},
        None,
        "observation must be finite, got [ 0. inf] (coins at [0.5], policy 0, episode 0, step 3); "
        "look for a division by zero, or an unstable simulation",
    ),
    "observation of another shape": (
        {"make": change(observation=np.zeros(3))},
        None,
        f"observation must have shape (2,), got (3,) {HERE}; fix the environment, or its observation_space",
    ),
    "observation no number": (
        {"make": change(observation=np.array(["a", "b"]))},
        None,
        f"observation must hold numbers, got array(['a', 'b'], dtype='<U1') {HERE}; fix the environment",
    ),
    "observation reused": (
        {"make": lambda p: Reusing()},
        None,
        "observation must be a fresh array every step, got the same object (coins at [0.5], policy 0, episode 0, step 0); return a copy",
    ),
    "observation space no array": (
        {"make": lambda p: NoBox()},
        None,
        "observation_space of coins at [0.5] must be an array space, got Dict; wrap it in gymnasium.wrappers.FlattenObservation",
    ),
    "step of four": (
        {"make": change(step=(np.zeros(2), 0.5, True, {}))},
        None,
        f"{FIVE}, got 4 entries {HERE}; {NOT_GYM}",
    ),
    "step no tuple": ({"make": change(step=None)}, None, f"{FIVE}, got NoneType {HERE}; {NOT_GYM}"),
    "reset old": (
        {"make": change(reset=np.zeros(2))},
        None,
        f"reset must return (observation, info), got ndarray (coins at [0.5], policy 0, episode 0, step 0); {NOT_GYM}",
    ),
    "info no dict": (
        {"make": change(info=None)},
        None,
        f"info must be a dict, got NoneType {HERE}; return {{}} where there is nothing to say",
    ),
    "terminated no flag": (
        {"make": change(terminated="no")},
        None,
        f"terminated must be True or False, got 'no' {HERE}; convert it with bool()",
    ),
    "truncated early": (
        {"make": change(truncated=True)},
        None,
        "truncated must not come before step 4, criterion.horizon, got it after 3 steps "
        "(coins at [0.5], policy 0, episode 0, step 3); raise the environment's own time limit, or lower the horizon",
    ),
    "early end without zero reward": (
        {"make": change(terminated=True), "criterion": POSITIVE},
        None,
        "reward_bounds must contain 0, the reward after an early end, got (0.1, 1.0) "
        "(coins at [0.5], policy 0, episode 0, step 3); widen criterion.reward_bounds",
    ),
    "return beyond the declared bounds": (
        {"bounds": EpisodeBounds(0.0, 1.0, (WEIGHT,))},
        Constant(0.0),
        "return of the episode must lie in [0, 1], the family's bounds, got 1.0317 "
        "(coins at [0.5], policy 0, episode 0, step 4); declare a range that holds always",
    ),
    "cost beyond the declared bounds": (
        {"bounds": EpisodeBounds(0.0, 3.0, (1e-3,))},
        Constant(1.0),
        "cost 'cost' of the episode must lie in [0, 0.001], the family's bounds, got {}",
    ),
    "signal out of range": (
        {"signals": (Signal("wear", 0.0, 1.0, lambda o, a, n, r, i: 2.0),)},
        None,
        "signal 'wear' of the episode must lie in [0, 1], the signal's range, got 2 "
        "(coins at [0.5], policy 0, episode 0, step 4); declare a range that holds always",
    ),
    "signal NaN in the middle": (
        {
            "make": change(info={"cost": 0.0, "coin": np.nan}),
            "signals": (Signal("top", 0.0, 1.0, MEAN_COIN.of, "max"),),
        },
        None,
        f"signal 'top' must be finite, got nan {HERE}; fix what computes it",
    ),
    "signal raises": (
        {"signals": (Signal("wear", 0.0, 1.0, fails),)},
        None,
        "signal 'wear' must not raise, got KeyError: 'wheel' (coins at [0.5], policy 0, episode 0, step 0); run it alone to see why",
    ),
    "make raises": (
        {"make": fails},
        None,
        "make of coins at [0.5] must return an environment, got KeyError: 'wheel'; call it alone with these parameters",
    ),
    "make returns something else": (
        {"make": lambda p: 3},
        None,
        "make of coins at [0.5] must return a Gymnasium environment, got int without reset; subclass gymnasium.Env",
    ),
    "action of another shape": (
        {},
        lambda o: np.zeros(2),
        "action must have shape (1,), got (2,) (coins at [0.5], policy 0, episode 0, step 0); fix the policy",
    ),
    "action NaN": (
        {},
        lambda o: np.array([np.nan]),
        "action must lie in the action space [0, 1], got [nan] (coins at [0.5], policy 0, episode 0, step 0); clip it in the policy",
    ),
    "action outside": (
        {},
        lambda o: np.array([1.5]),
        "action must lie in the action space [0, 1], got [1.5] (coins at [0.5], policy 0, episode 0, step 0); clip it in the policy",
    ),
    "action no number": (
        {},
        lambda o: np.array(["up"]),
        "action must hold numbers, got [array(['up'], dtype='<U2')] (coins at [0.5], policy 0, episode 0, step 0); fix the policy",
    ),
    "action no index": (
        {"make": lambda p: Count(), "criterion": COUNTING},
        lambda o: 1.5,
        "action must be in the action space Discrete(3), got 1.5 (coins at [0.5], policy 0, episode 0, step 0); fix the policy",
    ),
    "action an index too large": (
        {"make": lambda p: Count(), "criterion": COUNTING},
        lambda o: 3,
        "action must be in the action space Discrete(3), got 3 (coins at [0.5], policy 0, episode 0, step 0); fix the policy",
    ),
    "policy raises": (
        {},
        Raising(),
        "policy must not raise, got ZeroDivisionError: no gain (coins at [0.5], policy 0, episode 0, step 0); run it alone to see why",
    ),
    "predict without a state": (
        {},
        NoPair(),
        "predict must return (action, state), got ndarray (coins at [0.5], policy 0, episode 0, step 0); return (action, None)",
    ),
    "too few actions": (
        {},
        ShortBatch(),
        "act_batch must return 1 actions, got 0 (coins at [0.5], policy 0, episode 0, step 0); one row per observation",
    ),
    "policy no policy": (
        {},
        7,
        "policy 0 must have predict(observation) or be callable, got int (coins); wrap it in a function",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_an_error_that_says_where(name: str) -> None:
    changes, policy, message = MALFORMED[name]
    with pytest.raises(SimulationError) as caught:
        rollout(coins(**changes), [0.5], [Constant(0.0) if policy is None else policy], episodes=1, seed=0)
    head, _, tail = message.partition("{}")
    assert str(caught.value).startswith(head) and str(caught.value).endswith(tail)


def test_the_slot_that_failed_is_named_among_many() -> None:
    def late(parameters: Any, obs: Any, action: Any, next_obs: Any, reward: float, info: dict[str, Any]) -> Any:
        return np.array([0.5, 2.0 if obs[0] > 0.9 else 0.5])

    with refused("SF-SIMULATION-RANGE", "rewards[1]", "2 (", "0"):
        rollout(
            coins(rewards=late), [0.5], [Constant(0.1)], episodes=60, seed=2, rewards_at=[[0.1], [0.2]], first_episode=1
        )


def test_common_rewards_need_one_number_per_task_and_finite_rewards() -> None:
    short = coins(rewards=lambda p, o, a, n, r, i: [0.5])
    with refused("SF-SIMULATION-SHAPE", "rewards", "2"):
        rollout(short, [0.5], [Constant(0.1)], episodes=2, seed=0, rewards_at=[[0.1], [0.2]])
    broken = shared_coins(make=change(reward=np.inf, info={"cost": 0.0, "coin": 0.0}))
    with refused("SF-SIMULATION-FINITE", "reward", "inf"):
        rollout(broken, [0.5], [Constant(0.1)], episodes=2, seed=0)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"episodes": 0}, ("SF-ARGUMENT-RANGE", "episodes", "1")),
        ({"workers": 0}, ("SF-ARGUMENT-RANGE", "workers", "1")),
        ({"num_envs": 0}, ("SF-ARGUMENT-RANGE", "num_envs", "1")),
        ({"first_episode": -1}, ("SF-ARGUMENT-RANGE", "first_episode", "0")),
        ({"indices": [0, 1]}, ("SF-ARGUMENT-LENGTH", "indices", "1", "2")),
        ({"rewards_at": [[0.5]]}, ("SF-ARGUMENT-COMBINATION", "rewards_at")),
        ({"parameters": [0.1, 0.2]}, ("SF-ARGUMENT-SHAPE", "parameters", "(1,)", "(2,)")),
    ],
)
def test_an_argument_is_refused(changes: dict[str, Any], refusal: tuple[str, ...]) -> None:
    arguments: dict[str, Any] = {"parameters": [0.5], "policies": [Constant(0.1)], "episodes": 1, "seed": 0, **changes}
    with refused(*refusal):
        rollout(coins(), **arguments)


def test_an_error_in_another_process_arrives_whole() -> None:
    with refused("SF-SIMULATION-RANGE", "action", "[0, 1]", "[1.5]"):
        rollout(coins(), [0.5], [Constant(0.1), Constant(1.5)], episodes=8, seed=0, workers=2)


def test_the_criterion_of_the_toys_allows_an_early_end() -> None:
    assert CRITERION.reward_bounds[0] <= 0.0


class Views(Coins):
    """Every observation is a fresh view of the same memory."""

    def reset(self, **more: Any) -> Any:
        _, info = super().reset(**more)
        self.memory = np.zeros(2)
        return self.memory[:], info

    def step(self, action: Any) -> Any:
        _, *rest = super().step(action)
        self.memory += 0.1
        return self.memory[:], *rest


def test_a_cost_sees_the_observation_before_the_step_as_it_was() -> None:
    def moved(before: Any, action: Any, after: Any, info: Any) -> float:
        return float(after[0] - before[0])

    wrapped = coins(make=lambda p: CostInInfo(Views(0.5), moved))
    for family in (coins(make=lambda p: Views(0.5), cost=moved), wrapped):
        (found,) = rollout(family, [0.5], [Constant(0.5)], episodes=3, seed=1)
        np.testing.assert_allclose(found.costs, 0.1 * WEIGHT)


def test_a_signal_of_a_shared_episode_cannot_use_the_reward_of_one_task() -> None:
    paid = Signal("last reward", 0.0, 1.0, lambda o, a, n, r, i: r, "last")
    assert rollout(coins(signals=(paid,)), [0.5], [Constant(0.5)], episodes=2, seed=1)[0].signals.shape == (2, 1)
    clipped = Signal("last reward", 0.0, 1.0, lambda o, a, n, r, i: max(0.0, r), "last")
    for signal in (paid, clipped):
        with refused("SF-SIMULATION-RAISED", "signal 'last reward'", "TypeError"):
            rollout(shared_coins(signals=(signal,)), [0.5], [Constant(0.5)], episodes=2, seed=1)
