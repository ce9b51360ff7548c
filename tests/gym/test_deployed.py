"""Every episode acts through an instance of its own, in simulation as in deployment, and whatever does not is found."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import surefoot as sf
from surefoot.controllers import LinearPolicy
from surefoot.gym.check import check_family
from surefoot.gym.deployed import as_deployed, check_memory, owned
from surefoot.gym.family import Signal
from surefoot.gym.pipeline import DeterministicPolicy, FunctionPolicy
from surefoot.gym.rollout import rollout
from surefoot.policy import RecurrentPolicy, TabularPolicy, for_episode
from surefoot.policyset import codec, register_controller, register_policy
from surefoot.policyset.codec import rebuilt
from tests.gym.test_pipeline import LIBRARY, trained
from tests.gym.toys import HORIZON, Batched, Constant, Noisy, coins
from tests.refusals import refused

GROWTH = 0.1
FAMILY = coins(signals=(Signal("last action", 0.0, 1.0, lambda o, a, n, r, i: float(a[0]), "last"),))


class Counting:
    """Its action grows by .1 every step of an episode; nothing but a copy makes it start again."""

    def __init__(self, growth: float = GROWTH) -> None:
        self.growth, self.steps = growth, 0

    def predict(self, observation: Any, deterministic: bool = True) -> tuple[Any, None]:
        self.steps += 1
        return np.array([min(1.0, self.growth * self.steps)]), None


class Resetting(Counting):
    """The same, and what is left from before is gone after ``reset``."""

    def __init__(self, left: int = 3) -> None:
        super().__init__()
        self.steps = left

    def reset(self) -> None:
        self.steps = 0


class Imitating(Counting):
    """Takes a state, as models do, and keeps its memory to itself."""

    def predict(  # type: ignore[override]
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        return super().predict(observation)[0], None


class Network:
    """Hands its memory back, and wants to be told where episodes start, as recurrent models do."""

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        assert isinstance(episode_start, np.ndarray) and episode_start.shape == (1,)
        assert bool(episode_start[0]) == (state is None)
        steps = 1 if episode_start[0] else state + 1
        action = GROWTH * steps if deterministic else np.random.default_rng().random()
        return np.array([action]), steps


class Called:
    """A callable object with a memory."""

    def __init__(self) -> None:
        self.steps = 0

    def __call__(self, observation: Any) -> Any:
        self.steps += 1
        return np.array([GROWTH * self.steps])

    def reset(self) -> None:
        self.steps = 0


class Making(Counting):
    """Makes the instances itself, for it cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def for_episode(self) -> Counting:
        return Counting()


def closure() -> Callable[[Any], Any]:
    """A function with a memory, which nobody can copy."""
    steps = [0]

    def act(observation: Any) -> Any:
        steps[0] += 1
        return np.array([GROWTH * (steps[0] % 10)])

    return act


def random_draws(observation: Any) -> Any:
    """Hidden randomness."""
    return np.random.default_rng().random(1)


class Slots:
    """Answers many observations at once and remembers the rows of before."""

    def __init__(self) -> None:
        self.last: Any = np.zeros(0)

    def act_batch(self, observations: Any) -> Any:
        before = self.last[: len(observations)] if len(self.last) else np.zeros(len(observations))
        self.last = (before + GROWTH) % 1.0
        return self.last[:, None]

    def predict(self, observation: Any) -> tuple[Any, None]:
        return self.act_batch(np.asarray(observation)[None])[0], None


SOUND = [
    Counting, Resetting, Imitating, Network, Called, Making,
    lambda: Counting().predict, lambda: functools.partial(Called().__call__),
]  # fmt: skip


@pytest.mark.parametrize("make", SOUND)
def test_an_episode_knows_itself_alone(make: Callable[[], Any]) -> None:
    """In lockstep, in later rounds, and from a ticket: the last of four actions is four times the first."""
    raw = make()
    if callable(raw) and getattr(raw, "__name__", "") == "predict":
        given = raw
        raw = functools.partial(lambda act, observation: act(observation)[0], given)
    (policy,) = owned([raw])
    (found,) = rollout(FAMILY, [0.5], [policy], episodes=7, seed=1, num_envs=3)
    np.testing.assert_allclose(found.signals, GROWTH * HORIZON)
    assert check_memory(FAMILY, [0.5], policy, 0, seed=0) == []
    for _ in range(2):
        ticket = for_episode(policy)
        actions = [float(ticket.predict(np.zeros(2))[0][0]) for _ in range(HORIZON)]
        np.testing.assert_allclose(actions, GROWTH * np.arange(1, HORIZON + 1))


class Outside:
    """Keeps its memory where no copy reaches it."""

    shared: ClassVar[Callable[[Any], Any]]

    def predict(self, observation: Any) -> tuple[Any, None]:
        return Outside.shared(observation), None


Outside.shared = staticmethod(closure())


@pytest.mark.parametrize("make", [closure, lambda: random_draws, Slots, Outside])
def test_a_memory_that_episodes_share_is_an_error_of_check_and_training(make: Any) -> None:
    library = [LIBRARY[0], make()]
    (problem,) = [p for p in check_family(coins(), library=library).problems if "alone" in p]
    assert problem.startswith("policy 1 of coins (") and "give it reset()" in problem
    with refused("SF-SIMULATION-MEMORY", "policy 1 of coins"):
        trained(library=[LIBRARY[0], make()], holdout=0)


def test_what_cannot_be_copied_is_refused_with_the_remedy() -> None:
    class Locked(Counting):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    with refused("SF-POLICY-INSTANCE", "Locked", "for_episode()"):
        for_episode(Locked())
    assert any("Locked that cannot be copied" in p for p in check_family(coins(), policy=Locked()).problems)


def test_the_librarys_own_object_never_acts_and_nobody_elses_use_moves_it() -> None:
    mine = Counting()
    found = trained(library=[LIBRARY[0], mine], holdout=0)
    assert mine.steps == 0
    mine.predict(np.zeros(2))
    assert found.policies[1].steps == 0  # type: ignore[attr-defined]
    agent = sf.CertifiedAgent(found, trust="envelope", evidence="returns", ramp=0)
    batch = agent.ask(400)
    drawn = [episode for episode in batch if episode.policy_index == 1][:2]
    assert len(drawn) == 2 and drawn[0].policy is not drawn[1].policy and drawn[0].policy is drawn[0].policy
    drawn[0].policy.predict(np.zeros(2))
    assert float(drawn[1].policy.predict(np.zeros(2))[0][0]) == GROWTH


def test_what_keeps_no_memory_is_shared_and_not_tested() -> None:
    table = TabularPolicy(np.array([[0.5, 0.5]]))
    linear = LinearPolicy([[0.0, 0.0]], [0.1], 0.0, 1.0)
    for policy in (table, linear, FunctionPolicy(random_draws)):
        assert for_episode(policy) is policy and owned([policy]) == (policy,)
    ran: list[Any] = []
    family = coins(make=lambda p: ran.append(p))
    assert check_memory(family, [0.5], table, 0, seed=0) == check_memory(family, [0.5], linear, 0, seed=0) == []
    assert ran == []

    class Remembering(LinearPolicy):
        """A subclass may add a memory."""

        def predict(self, observation: Any, *, deterministic: bool = True, rng: Any = None) -> Any:
            return np.asarray(Outside.shared(observation)), None

    with refused("SF-SIMULATION-MEMORY", "policy 1 of coins"):
        trained(library=[linear, Remembering([[0.0, 0.0]], [0.1], 0.0, 1.0)], holdout=0)


@pytest.mark.parametrize("policy", [Batched(0.3), Noisy(), Constant(0.2)])
def test_sound_policies_pass(policy: Any) -> None:
    assert check_memory(coins(), [0.5], as_deployed(policy), 0, seed=3) == []


def test_models_of_stable_baselines_are_not_copied() -> None:
    model = type("RecurrentPPO", (Network,), {"__module__": "sb3_contrib.ppo_recurrent"})()
    (policy,) = owned([model])
    own = for_episode(policy)
    assert isinstance(own, DeterministicPolicy) and isinstance(own.policy, RecurrentPolicy)
    assert policy.policy is model and own.policy._policy is model
    # Whoever hands the state back himself, as these models want it, may.
    state, actions = None, []
    for t in range(3):
        action, state = own.policy.predict(
            np.zeros(2), state=state, episode_start=np.array([t == 0]), deterministic=True
        )
        actions.append(float(action[0]))
    np.testing.assert_allclose(actions, GROWTH * np.arange(1, 4))
    again = own.policy.predict(np.zeros(2), episode_start=np.array([True]), deterministic=True)
    assert float(again[0][0]) == GROWTH
    with pytest.raises(AttributeError):
        copy.copy(own.policy)._missing  # noqa: B018


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(codec, "_KINDS", codec._KINDS.copy())
    monkeypatch.setattr(codec, "_NAMED", {})
    yield


@pytest.mark.usefixtures("registry")
def test_a_file_forgets_what_a_controller_had_done_and_what_was_not_registered() -> None:
    register_controller("counting", Counting, ["growth"])
    used = Counting()
    used.predict(np.zeros(2))
    with refused("SF-SIMULATION-MEMORY", "file", "[0.1]"):
        trained(library=[LIBRARY[0], used], holdout=0)
    assert check_memory(coins(), [0.5], Counting(), 1, seed=0) == []


@pytest.mark.usefixtures("registry")
def test_functions_objects_and_classes_are_deployed_by_name(tmp_path: Path) -> None:
    @register_policy("plain")
    def plain(observation: Any) -> Any:
        return np.array([0.1])

    special = register_policy("special", Counting(0.05))
    register_policy("counting", Counting)
    register_policy("called", Called)
    found = trained(library=[plain, special, Counting(), Called()], holdout=0)
    found.save(tmp_path / "set.sf")
    read = sf.PolicySet.load(tmp_path / "set.sf")
    assert read.hash == found.hash
    assert read.policies[0].function is plain and read.policies[1] is special  # type: ignore[attr-defined]
    assert type(read.policies[2]) is Counting and isinstance(read.policies[3], FunctionPolicy)
    with sf.Deployment.open(tmp_path / "plant.db", read, trust="envelope", evidence="returns") as plant:
        first = plant.ask()
        assert float(first.policy.predict(np.zeros(2))[0][0]) == 0.1 and first.policy is not None
        plant.tell(first.id, 1.0, [0.1])
    with sf.Deployment.open(tmp_path / "plant.db", create=False) as plant:
        assert plant.verify().ok
    assert codec.described(read.policies[0]) == ("registered", {"name": "plain"})
    del codec._NAMED["special"]
    with refused(
        "SF-POLICY-UNREGISTERED",
        "policies.1",
        "'special'",
        "called, counting, plain",
        "surefoot.policyset.register_policy",
    ):
        sf.PolicySet.load(tmp_path / "set.sf")


@pytest.mark.usefixtures("registry")
def test_a_name_stands_for_one_policy() -> None:
    register_policy("closure", random_draws)
    register_policy("closure", random_draws)
    with refused("SF-POLICY-REGISTRATION", "name"):
        register_policy("closure", closure())
    with refused("SF-POLICY-REGISTRATION", "'closure'"):
        register_policy("another", random_draws)
    for name in ("", "x" * 81):
        with refused("SF-POLICY-REGISTRATION", "name", "1", "80"):
            register_policy(name, Counting)
    for thing in (5, type("Nothing", (), {})):
        with refused("SF-POLICY-REGISTRATION", "policy"):
            register_policy("thing", thing)
    assert rebuilt(FunctionPolicy(random_draws)).function is random_draws
    # A class by name is made without arguments: what its object was made with is lost, and training says so.
    register_policy("counting", Counting)
    with refused("SF-SIMULATION-MEMORY", "file"):
        trained(library=[LIBRARY[0], Counting(0.2)], holdout=0)
