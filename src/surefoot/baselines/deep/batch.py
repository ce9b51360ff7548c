"""Episodes of a policy network, and what they say about reward and cost.

Whole episodes of H steps are run, several environments in lockstep so that one matrix product answers all of them. With ``t`` the step of an episode
and E episodes, a sample carries the weight ``w_t = gamma^t / E``, so that sums over samples estimate discounted sums over an episode:

    V(theta') - V(theta)  ~  sum_n w_n (pi_theta' / pi_theta)(a_n|o_n) A_n             (Achiam et al. 2017, Corollary 1, in units of V)

Advantages are GAE (Schulman et al. 2016, eq 16), ``A_t = sum_k (gamma lambda)^k (f + gamma V' - V)_{t+k}``, one for the reward and one for the cost.
The critic V of each is a ridge regression of the discounted sum to go on ``(o, o^2, t, t^2, t^3, 1)``, fitted to each task's own episodes, as is
usual for meta-learning (Duan et al. 2016): it has no memory that would have to be adapted too. Steps are told apart, since episodes end at H.

Letters: n samples, E episodes, T tasks, p parameters of a task, O entries of an observation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.baselines.deep.networks import StochasticPolicy
from surefoot.errors import InvalidInput
from surefoot.gym.family import GymFamily
from surefoot.gym.lagrange import step_costs

__all__ = ["Batch", "Trajectories", "World", "features", "join", "pooled", "prepare"]

NUM_ENVS = 16
TRACE = 0.97
"""``lambda`` of the advantages."""
RIDGE = 1e-5


@dataclass(frozen=True, eq=False)
class Trajectories:
    """What happened in E whole episodes, one after the other.

    Attributes:
        observations: (n, O), one-hot where the environment counts its states.
        actions: (n, A) or (n,).
        log_probs: (n,) of the actions under the policy that took them.
        rewards, costs: (n,) of every step.
        lengths: (E,).
    """

    observations: FloatArray
    actions: Any
    log_probs: FloatArray
    rewards: FloatArray
    costs: FloatArray
    lengths: IntArray

    @property
    def episodes(self) -> int:
        """E."""
        return int(self.lengths.size)

    @property
    def steps(self) -> int:
        """n."""
        return int(self.rewards.size)

    @property
    def times(self) -> IntArray:
        """(n,) step of the episode."""
        starts = np.cumsum(self.lengths) - self.lengths
        return np.arange(self.steps) - np.repeat(starts, self.lengths)

    def sums(self, discount: float) -> FloatArray:
        """(E, 2) discounted return and cost of every episode."""
        owner = np.repeat(np.arange(self.episodes), self.lengths)
        weights = discount**self.times
        columns = [np.bincount(owner, weights * f, minlength=self.episodes) for f in (self.rewards, self.costs)]
        return np.stack(columns, axis=1)


def join(parts: Sequence[Trajectories]) -> Trajectories:
    """All episodes, in order."""
    return Trajectories(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Trajectories)))


@dataclass(frozen=True, eq=False)
class Batch:
    """n samples that an update is made from.

    Attributes:
        inputs: (n, O) normalised observations.
        actions: (n, A) or (n,).
        log_probs: (n,) under the policy that acted.
        weights: (n,) ``gamma^t / E``.
        reward_advantages, cost_advantages: (n,).
        reward, cost: mean discounted sums per episode.
        episodes, steps: how much it is.
    """

    inputs: FloatArray
    actions: Any
    log_probs: FloatArray
    weights: FloatArray
    reward_advantages: FloatArray
    cost_advantages: FloatArray
    reward: float
    cost: float
    episodes: int
    steps: int

    def change(self, policy: StochasticPolicy, theta: Any, advantages: FloatArray) -> Any:
        """``sum_n w_n (pi_theta / pi_old) A_n``: how a discounted sum changes, to first order; real, or complex with ``theta``."""
        ratio = np.exp(policy.log_prob(theta, self.inputs, self.actions) - self.log_probs)
        return (self.weights * ratio * advantages).sum()

    def gradient(self, policy: StochasticPolicy, theta: Any, advantages: FloatArray) -> Any:
        """(P,) gradient of :meth:`change`."""
        ratio = np.exp(policy.log_prob(theta, self.inputs, self.actions) - self.log_probs)
        return policy.score(theta, self.inputs, self.actions, self.weights * ratio * advantages)

    def divergence(self, policy: StochasticPolicy, old: FloatArray, new: FloatArray) -> float:
        """Mean ``KL(old || new)`` over the samples, discounted."""
        return float(self.weights @ policy.divergence(old, new, self.inputs) / self.weights.sum())


def pooled(batches: Sequence[Batch]) -> Batch:
    """Samples of several tasks side by side; means are those over tasks, and every task weighs the same."""
    t = len(batches)
    names = ("inputs", "actions", "log_probs", "reward_advantages", "cost_advantages")
    whole: Any = {name: np.concatenate([getattr(b, name) for b in batches]) for name in names}
    return Batch(
        **whole, weights=np.concatenate([b.weights / t for b in batches]), reward=sum(b.reward for b in batches) / t,
        cost=sum(b.cost for b in batches) / t, episodes=sum(b.episodes for b in batches), steps=sum(b.steps for b in batches),
    )  # fmt: skip


def features(inputs: FloatArray, times: IntArray, horizon: int) -> FloatArray:
    """(n, F) what critics are linear in."""
    t = np.asarray(times / horizon)[:, None]
    return np.hstack([inputs, inputs**2, t, t**2, t**3, np.ones_like(t)])


def prepare(
    policy: StochasticPolicy, found: Trajectories, discount: float, horizon: int, trace: float = TRACE
) -> Batch:
    """Fit both critics and turn episodes into samples."""
    inputs, times = policy.inputs(found.observations), found.times
    table = features(inputs, times, horizon)
    # Duplicate columns (squares of one-hot entries) are harmless under a ridge.
    gram = table.T @ table + RIDGE * len(table) * np.eye(table.shape[1])
    advantages = []
    for signal in (found.rewards, found.costs):
        to_go = _backwards(signal, found.lengths, discount)
        values = table @ np.linalg.solve(gram, table.T @ to_go)
        ahead = np.append(values[1:], 0.0)
        ahead[np.cumsum(found.lengths) - 1] = 0.0  # nothing follows the last step
        advantages.append(_backwards(signal + discount * ahead - values, found.lengths, discount * trace))
    means = found.sums(discount).mean(axis=0)
    return Batch(
        inputs, found.actions, found.log_probs, discount**times / found.episodes, advantages[0], advantages[1],
        float(means[0]), float(means[1]), found.episodes, found.steps,
    )  # fmt: skip


def _backwards(signal: FloatArray, lengths: IntArray, factor: float) -> FloatArray:
    """(n,) ``x_t = signal_t + factor x_{t+1}`` within every episode."""
    from scipy.signal import lfilter

    ends = np.cumsum(lengths)
    parts = [lfilter([1.0], [1.0, -factor], signal[a:b][::-1])[::-1] for a, b in zip(ends - lengths, ends)]
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class World:
    """A family of tasks with one limit, as these methods see it.

    Attributes:
        family: where tasks come from.
        num_envs: environments in lockstep.
    """

    family: GymFamily
    num_envs: int = NUM_ENVS

    def __post_init__(self) -> None:
        criterion = self.family.criterion.means_only("deep baselines")
        if criterion.n_constraints != 1:
            raise InvalidInput(
                f"family must have one limit, got {criterion.n_constraints}; CPO's subproblem has its closed form for one",
                code="SF-ARGUMENT-LENGTH",
            )

    @property
    def limit(self) -> float:
        """d."""
        return float(self.family.criterion.cost_limits[0])

    @property
    def discount(self) -> float:
        """``gamma``."""
        return float(self.family.criterion.discount)

    @property
    def horizon(self) -> int:
        """H."""
        return self.family.horizon

    @property
    def exchange(self) -> float:
        """Width of the range of returns over the limit: what a multiplier of 1 is worth."""
        low, high = self.family.criterion.return_range
        return float(high - low) / self.limit

    def tasks(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, p) fresh tasks."""
        return self.family.sample(n, rng)

    def run(
        self, policy: StochasticPolicy, theta: FloatArray, tasks: Any, rng: np.random.Generator, *, episodes: int
    ) -> Trajectories:
        """``episodes`` whole episodes in each of (T, p) tasks, task after task."""
        rows = np.atleast_2d(np.asarray(tasks, dtype=np.float64))
        parts: dict[int, Trajectories] = {}
        queue = [(k, e) for k in range(len(rows)) for e in range(episodes)]
        self._lockstep(policy, theta, rows, queue, rng, lambda at, one: parts.update({at: one}))
        return join([parts[k] for k in range(len(queue))])

    def batch(
        self, policy: StochasticPolicy, theta: FloatArray, tasks: Any, rng: np.random.Generator, *, episodes: int
    ) -> Batch:
        """The same, prepared."""
        return self.prepared(policy, self.run(policy, theta, tasks, rng, episodes=episodes))

    def prepared(self, policy: StochasticPolicy, found: Trajectories) -> Batch:
        """:func:`prepare` with this family's discount and horizon."""
        return prepare(policy, found, self.discount, self.horizon)

    def _lockstep(
        self,
        policy: StochasticPolicy,
        theta: FloatArray,
        rows: FloatArray,
        queue: Sequence[tuple[int, int]],
        rng: np.random.Generator,
        done: Callable[[int, Trajectories], None],
    ) -> None:
        """Episode after episode in as many places as there are; a place goes on with the next episode when its own has ended."""
        seeds = rng.integers(2**31, size=len(queue))
        running: list[_Running] = []
        waiting = 0
        while waiting < len(queue) or running:
            while waiting < len(queue) and len(running) < self.num_envs:
                env = self.family.make(rows[queue[waiting][0]])
                running.append(_Running(self.family, env, int(seeds[waiting]), waiting))
                waiting += 1
            inputs = policy.inputs(np.stack([one.observation for one in running]))
            actions, log_probs = policy.draw(theta, inputs, rng)
            for one, action, log_prob in zip(running, actions, log_probs):
                one.step(action, log_prob)
            for one in running:
                if one.ended:
                    one.env.close()
                    done(one.number, one.trajectory())
            running = [one for one in running if not one.ended]


class _Running:
    """One episode under way."""

    def __init__(self, family: GymFamily, env: Any, seed: int, number: int) -> None:
        self.family, self.env, self.number, self.ended = family, env, number, False
        self.states = int(env.observation_space.n) if hasattr(env.observation_space, "n") else None
        space = env.action_space
        self.box = None if hasattr(space, "n") else (np.asarray(space.low, float), np.asarray(space.high, float))
        self.raw = env.reset(seed=seed)[0]
        self.observation = self._seen(self.raw)
        self.rows: list[tuple[FloatArray, Any, float, float, float]] = []

    def _seen(self, raw: Any) -> FloatArray:
        if self.states is None:
            return np.asarray(raw, dtype=np.float64).ravel()
        row = np.zeros(self.states)
        row[int(raw)] = 1.0
        return row

    def step(self, action: Any, log_prob: float) -> None:
        # The sample keeps the action that was drawn, whose density is known; the environment gets it cut off at its range.
        played = int(action) if self.box is None else np.minimum(np.maximum(action, self.box[0]), self.box[1])
        after, reward, costs, terminated, truncated, _ = step_costs(self.family, self.env, self.raw, played)
        self.rows.append((self.observation, action, float(log_prob), reward, float(costs[0])))
        self.raw, self.observation = after, self._seen(after)
        self.ended = terminated or truncated or len(self.rows) >= self.family.horizon

    def trajectory(self) -> Trajectories:
        observations, actions, log_probs, rewards, costs = zip(*self.rows)
        return Trajectories(
            np.stack(observations), np.asarray(actions), np.array(log_probs), np.array(rewards), np.array(costs),
            np.array([len(self.rows)]),
        )  # fmt: skip
