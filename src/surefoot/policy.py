"""Policies and per-episode mixtures of them.

A *mixture* ``w`` in the simplex over a library ``pi_1..pi_J`` draws **one policy per episode** and keeps it for the
whole episode, so that expected discounted return and costs are linear in the weights:

    V(w) = sum_j w_j V(pi_j)                                   (Ni & Kamgarpour 2026, section 4.2)

Everything the deployment phase proves rests on that line: mixing actions step by step would break it.

**Memory.** ``V(pi_j)`` is the value of a policy that knows its own episode and no other. So every episode that runs, simulated or real, acts through
an instance of its own, which :func:`for_episode` makes of the library's policy; the library's own object never acts. In this order:

1. ``policy.for_episode()``, where there is such a method, returns the instance. What keeps no memory returns itself, as tables and networks do.
2. A model of Stable-Baselines3 is shared: its memory is the state that ``predict`` returns. So is a plain function, which cannot be copied.
3. Everything else is copied (``copy.deepcopy``), and its ``reset()`` called where it has one.
4. Where ``predict`` takes ``state``, the state it returned is handed back at the next step; first ``None``, with ``episode_start`` true.

Training and :func:`surefoot.gym.check_family` test on recorded episodes that a policy acts alone as it does beside others.

Letters: S states, A actions, J policies, I constraints.
"""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from surefoot.arguments import short_repr
from surefoot.arrays import FloatArray, ReadOnly, as_floats, check_integer, check_probabilities, first_where, freeze
from surefoot.errors import InvalidInput

__all__ = [
    "DeterministicPolicies",
    "DeterministicPolicy",
    "FunctionPolicy",
    "Mixture",
    "Policy",
    "RecurrentPolicy",
    "TabularPolicy",
    "as_policy",
    "as_tables",
    "for_episode",
    "instances",
    "is_shared",
    "parameters_of",
]

SHARED = ("stable_baselines3", "sb3_contrib")
"""Packages whose models keep the memory of an episode in the state they return, and are expensive to copy."""
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType)


@runtime_checkable
class Policy(Protocol):
    """Anything that turns an observation into an action; the convention of Stable-Baselines3."""

    def predict(self, observation: Any, *, deterministic: bool = False) -> tuple[Any, Any]:
        """Action for one observation, and a policy state (``None`` for the policies in this library)."""
        ...


@dataclass(frozen=True, eq=False)
class TabularPolicy(ReadOnly):
    """A stationary stochastic policy for finite states and actions.

    Attributes:
        table: (S, A) probabilities of the actions in each state; read-only.

    Raises:
        InvalidInput: wrong shape, NaN, negative entries, rows that do not sum to one.
    """

    table: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", check_probabilities("policy", as_floats("policy", self.table, (None, None))))

    def __repr__(self) -> str:
        return f"TabularPolicy({self.n_states} states, {self.n_actions} actions)"

    @cached_property
    def _edges(self) -> FloatArray:
        """(S, A) running sums of the rows, 1 from the last action of positive probability on, so that rounding draws no other."""
        edges = np.cumsum(self.table, axis=1) / self.table.sum(axis=1, keepdims=True)
        last = self.n_actions - 1 - np.argmax(self.table[:, ::-1] > 0.0, axis=1)
        return np.where(np.arange(self.n_actions) >= last[:, None], 1.0, edges)

    @property
    def n_states(self) -> int:
        """S."""
        return int(self.table.shape[0])

    @property
    def n_actions(self) -> int:
        """A."""
        return int(self.table.shape[1])

    def predict(
        self, observation: Any, *, deterministic: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[int, None]:
        """Action in state ``observation``.

        The certified values are those of the *stochastic* policy; ``deterministic=True`` (the most likely action) is
        offered for inspection only. Without ``rng`` the action is drawn from operating-system entropy.
        """
        state = check_integer("observation", observation, low=0, high=self.n_states - 1)
        row = self.table[state]
        if deterministic:
            return int(np.argmax(row)), None
        source = np.random.default_rng() if rng is None else rng
        return int(self._edges[state].searchsorted(source.random(), side="right")), None

    def for_episode(self) -> Self:
        """Itself: it keeps no memory."""
        return self


@dataclass(frozen=True, eq=False)
class DeterministicPolicies(ReadOnly):
    """Deterministic stationary policies as action indices: for models so large that tables (J, S, A) would not fit.

    :class:`~surefoot.cmdp.simulate.Simulator`, ``simulate``, ``evaluate`` and ``evaluate_many`` take them without making tables; everything else
    that takes tables does too, and makes them.

    Args:
        actions: (J, S) or, for one policy, (S,) integers in [0, A).
        n_actions: A.

    Attributes:
        actions: (J, S) in the smallest unsigned integers that hold them; read-only.

    Raises:
        InvalidInput: wrong shape, no integers, an action out of range.
    """

    actions: np.ndarray[Any, np.dtype[Any]]
    n_actions: int

    def __post_init__(self) -> None:
        size = check_integer("n_actions", self.n_actions, low=1)
        given = np.asarray(self.actions)
        given = given[None] if given.ndim == 1 else given
        if given.ndim != 2 or not given.size or given.dtype.kind not in "iu":
            raise InvalidInput(
                f"actions must be integers of shape (J, S) or (S,), got shape {given.shape} of {given.dtype}; give the index of one action per state",
                code="SF-ARGUMENT-TYPE",
            )
        if given.min() < 0 or given.max() >= size:
            j, s = first_where((given < 0) | (given >= size))
            raise InvalidInput(
                f"actions[{j}, {s}] must be in [0, {size}), got {given[j, s]}; give the index of an action",
                code="SF-ARGUMENT-RANGE",
            )
        held = np.array(given, dtype=np.min_scalar_type(size - 1), order="C")
        object.__setattr__(self, "actions", freeze(held))

    def __len__(self) -> int:
        """J."""
        return int(self.actions.shape[0])

    @property
    def n_states(self) -> int:
        """S."""
        return int(self.actions.shape[1])

    __repr__ = short_repr

    @property
    def tables(self) -> FloatArray:
        """(J, S, A) probabilities."""
        found: FloatArray = (self.actions[:, :, None] == np.arange(self.n_actions)).astype(np.float64)
        return found

    def check(self, name: str, n_states: int, n_actions: int) -> None:
        """Whether they fit a model.

        Raises:
            InvalidInput: another number of states or actions.
        """
        if (self.n_states, self.n_actions) != (n_states, n_actions):
            raise InvalidInput(
                f"{name} must be for {n_states} states and {n_actions} actions, got {self.n_states} and {self.n_actions}; take those of this model",
                code="SF-ARGUMENT-SHAPE",
            )


@dataclass(frozen=True, eq=False)
class FunctionPolicy:
    """A function from observations to actions, as a policy. It lives in this process; a file may name it once it is registered
    (:func:`surefoot.policyset.register_policy`).
    """

    function: Callable[[Any], Any]

    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[Any, None]:
        """The function's answer."""
        return self.function(observation), None

    def for_episode(self) -> FunctionPolicy:
        """The function itself; of an object that is called, an instance of the episode's own."""
        own = for_episode(self.function)
        return self if own is self.function else FunctionPolicy(own)


@dataclass(frozen=True, eq=False)
class DeterministicPolicy:
    """A policy that would draw its actions by default, as those of Stable-Baselines3 do, asked for its deterministic action always.

    It lives in this process, as functions do; :func:`surefoot.gym.policies.from_sb3` makes one that a file can hold.
    """

    policy: Any

    def predict(self, observation: Any, state: Any = None, *, deterministic: bool = True) -> tuple[Any, Any]:
        """The deterministic action; ``state`` reaches policies that keep one."""
        more = {} if state is None else {"state": state}
        return self.policy.predict(observation, deterministic=True, **more)  # type: ignore[no-any-return]

    def for_episode(self) -> DeterministicPolicy:
        """The same around an instance of the episode's own, which hands its state on by itself."""
        return DeterministicPolicy(for_episode(self.policy))

    def __getattr__(self, name: str) -> Any:
        # reset() of policies with a memory; never while a copy is being built.
        if name.startswith("_") or name in ("policy", "act_batch"):
            raise AttributeError(name)
        return getattr(self.policy, name)


class RecurrentPolicy:
    """A policy that is handed its state, during one episode: keeps what ``predict`` returned and hands it back at the next step.

    Args:
        policy: has ``predict(observation, state=, ...)``, perhaps with ``episode_start=`` as models of Stable-Baselines3 take it.
    """

    def __init__(self, policy: Any) -> None:
        self._policy, self._state, self._first = policy, None, True
        self._told = "episode_start" in parameters_of(policy.predict)

    def predict(self, observation: Any, state: Any = None, episode_start: Any = None, **more: Any) -> Any:
        """``(action, state)``; whoever hands the state back himself may do so."""
        if episode_start is not None and np.all(episode_start):
            self._state, self._first = None, True
        if self._told:
            more["episode_start"] = np.array([self._first])
        answer = self._policy.predict(observation, state=self._state if state is None else state, **more)
        self._first = False
        if isinstance(answer, tuple) and len(answer) == 2:
            self._state = answer[1]
        return answer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._policy, name)


def for_episode(policy: Any) -> Any:
    """A policy for one episode: nobody else acts with it, and it remembers no other episode.

    Raises:
        InvalidInput: it cannot be copied.
    """
    return instances(policy)()


def instances(policy: Any) -> Callable[[], Any]:
    """What makes :func:`for_episode` of one policy many times: how it is made is looked up once."""
    made = getattr(policy, "for_episode", None)
    if callable(made):
        return made  # type: ignore[no-any-return]
    takes = "state" in parameters_of(getattr(policy, "predict", None))
    if is_shared(policy):
        return partial(RecurrentPolicy, policy) if takes else lambda: policy
    return partial(_copied, policy, takes)


def is_shared(policy: Any) -> bool:
    """Whether it is one of those that are not copied: a plain function, or a model of Stable-Baselines3."""
    return isinstance(policy, FUNCTIONS) or any(c.__module__.partition(".")[0] in SHARED for c in type(policy).__mro__)


def _copied(policy: Any, takes_state: bool) -> Any:
    try:
        own = copy.deepcopy(policy)
    except Exception as error:
        raise InvalidInput(
            f"policy must give every episode an instance of its own, got a {type(policy).__name__} that cannot be copied "
            f"({type(error).__name__}: {error}); give it a method for_episode() that returns a fresh one, or itself if it keeps no memory",
            code="SF-POLICY-INSTANCE",
        ) from error
    reset = getattr(own, "reset", None)
    if callable(reset):
        reset()
    return RecurrentPolicy(own) if takes_state else own


def as_policy(thing: Any) -> Any:
    """A policy whose plain ``predict(observation)`` is reproducible; functions are wrapped, and so is what draws its actions by default."""
    if not callable(getattr(thing, "predict", None)):
        return FunctionPolicy(thing) if callable(thing) else thing
    try:
        takes = inspect.signature(thing.predict).parameters
    except (TypeError, ValueError):
        return thing
    settled = "rng" in takes or "deterministic" not in takes or takes["deterministic"].default is True
    return thing if settled else DeterministicPolicy(thing)


def parameters_of(function: Any) -> frozenset[str]:
    """Names of a function's parameters; none where they cannot be told."""
    if not callable(function):
        return frozenset()
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return frozenset()


@dataclass(frozen=True, eq=False)
class Mixture(ReadOnly):
    """One policy drawn per episode.

    Attributes:
        weights: (J,) in the simplex; read-only.
    """

    weights: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", check_probabilities("weights", as_floats("weights", self.weights, (None,))))

    @staticmethod
    def pure(index: int, size: int) -> Mixture:
        """All weight on one policy of a library of ``size``."""
        weights = np.zeros(size)
        weights[check_integer("index", index, low=0, high=size - 1)] = 1.0
        return Mixture(weights)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Indices of the policies that ``n`` episodes run, independent draws."""
        return draw_policies(self.weights, n, rng)

    def expect(self, values: ArrayLike) -> FloatArray:
        """``sum_j w_j values[j]`` along the first axis: exact value of the mixture from the values of its members."""
        return np.tensordot(self.weights, np.asarray(values, dtype=np.float64), axes=(0, 0))


def as_tables(name: str, policies: Any, n_states: int, n_actions: int) -> FloatArray:
    """Tables (J, S, A) of one policy or several, given as arrays, :class:`TabularPolicy` objects or :class:`DeterministicPolicies`.

    Raises:
        InvalidInput: wrong shapes, or rows that are no probability vectors.
    """
    if isinstance(policies, DeterministicPolicies):
        policies.check(name, n_states, n_actions)
        return freeze(policies.tables)
    if isinstance(policies, TabularPolicy):
        tables = policies.table[None]
    elif isinstance(policies, list | tuple) and policies and all(isinstance(p, TabularPolicy) for p in policies):
        tables = np.stack([p.table for p in policies])
    else:
        tables = np.asarray(policies)
        tables = tables[None] if tables.ndim == 2 else tables
    if tables.ndim != 3:
        raise InvalidInput(
            f"{name} must have shape (S, A) or (J, S, A), got {tables.shape}; check the axes", code="SF-ARGUMENT-SHAPE"
        )
    return check_probabilities(name, as_floats(name, tables, (None, n_states, n_actions)))


def draw_policies(weights: FloatArray, n: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(n,) independent draws from weights (J,) of the simplex, which are not checked again."""
    edges = np.cumsum(weights)
    edges[-1] = 1.0
    # A policy of weight zero must never be drawn, not even through rounding at the edges: side="right" skips it.
    last = int(weights.nonzero()[0][-1])
    return np.minimum(edges.searchsorted(rng.random(n), side="right"), last).astype(np.int64, copy=False)
