r"""A belief about simulated tasks, in the space of their policies' values (:class:`~surefoot.policyset.belief.Belief`).

Stack return, costs and signals of all J policies in a task into one vector ``v``. Of T training tasks only estimates are known, means of n episodes
each, whose covariance over tasks is that of ``v`` plus simulation noise. With S the sample covariance and W the average noise of the means,

    S - W = A A' + rest,        v = mean + A z,        z ~ N(0, I),

A from the leading eigenvectors after every quantity was scaled to deviation one; eigenvalues that noise alone explains are left out. Without W the
prior would take noise for differences between tasks: it would learn too slowly, and believe too much of what it sees in few episodes.

Letters: T tasks, J policies, F outcomes (1 + I values and X signals), d latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, as_floats, check_integer
from surefoot.errors import InvalidInput
from surefoot.gym.family import GymFamily
from surefoot.gym.rollout import rollout
from surefoot.parallel import map_tasks
from surefoot.policyset.belief import Belief
from surefoot.policyset.schema import EVIDENCE, PolicySet

__all__ = ["denoised_covariance", "fit_simulated_belief", "learn_belief"]

STREAM = 0xBE11EF

LATENTS = 40
NEGLIGIBLE = 1e-4
"""Components with less than this share of the largest variance are left out; what they say stays in the residuals."""
LEAST_NOISE = 1e-4
"""Standard deviation of an episode, as a share of the largest value, below which outcomes are not taken to be."""


def learn_belief(
    policy_set: PolicySet,
    family: GymFamily,
    *,
    tasks: int = 200,
    episodes: int = 30,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> PolicySet:
    """The policy set with a belief, which ``trust="rehearsed"`` plans with; everything else stays, and a rehearsal of another belief counts as seen.

    Args:
        policy_set: whose library is to be believed something about.
        family: where tasks come from.
        tasks: T fresh ones to learn from.
        episodes: of every policy in every task; tens will do, because their noise is taken out.
        seed: of tasks and episodes.
        workers: processes.
        progress: show progress.

    Raises:
        InvalidInput: an argument out of range.
        SimulationError: an environment or a policy breaks a rule.
    """
    tasks, episodes = check_integer("tasks", tasks, low=8), check_integer("episodes", episodes, low=2)
    seed = check_integer("seed", seed, low=0)
    parameters = np.asarray(family.sample(tasks, np.random.default_rng([seed, STREAM])), dtype=np.float64)
    calls = [(family, point, policy_set.policies, episodes, seed, k) for k, point in enumerate(parameters)]
    found = map_tasks(_measure, calls, workers=workers, label="learning a belief", progress=progress)
    belief = fit_simulated_belief(
        np.stack([mean for mean, _ in found]),
        np.stack([noise for _, noise in found]),
        np.full((tasks, len(policy_set.policies)), episodes),
        1 + family.n_constraints,
    )
    # No plant of this kind reports transitions: whatever it reports is all.
    # Another belief is another agent: what was rehearsed does not speak of it, and counts as a look.
    seen = () if policy_set.rehearsed is None else (policy_set.rehearsed.look,)
    return replace(
        policy_set,
        beliefs=dict.fromkeys(EVIDENCE, belief),
        rehearsed=None,
        rehearsal_looks=(*policy_set.rehearsal_looks, *seen),
    )


def _measure(
    family: GymFamily, point: FloatArray, policies: Sequence[Any], episodes: int, seed: int, task: int
) -> tuple[FloatArray, FloatArray]:
    """Means (J, F) and per-episode covariances (J, F, F) of one task."""
    played = rollout(family, point, list(policies), episodes=episodes, seed=(seed, STREAM), task=task)
    outcomes = np.stack([part.outcomes() for part in played])
    mean = outcomes.mean(axis=1)
    gap = outcomes - mean[:, None]
    return mean, np.einsum("jnf,jng->jfg", gap, gap) / (episodes - 1)


def denoised_covariance(means: FloatArray, noise: FloatArray, episodes: FloatArray) -> FloatArray:
    """(J F, J F) covariance over tasks of the true values.

    Args:
        means: (T, J, F) estimates.
        noise: (T, J, F, F) covariance of one episode's outcomes.
        episodes: (T, J) how many each mean was taken over.
    """
    n_tasks, n_policies, size = means.shape
    flat = means.reshape(n_tasks, -1)
    covariance: FloatArray = np.atleast_2d(np.cov(flat, rowvar=False))
    blocks = (noise / episodes[:, :, None, None]).mean(axis=0)
    for j in range(n_policies):
        part = slice(j * size, (j + 1) * size)
        covariance[part, part] -= blocks[j]
    return covariance


def fit_simulated_belief(means: Any, noise: Any, episodes: Any, n_values: int) -> Belief:
    """The belief that estimates of T training tasks lead to.

    Args:
        means: (T, J, F) means of simulated episodes: return, costs, signals.
        noise: (T, J, F, F) covariance of one episode's outcomes within a task.
        episodes: (T, J) how many episodes each mean was taken over, at least 2.
        n_values: 1 + I, how many of the F outcomes are return and costs.

    Raises:
        InvalidInput: fewer than 8 tasks, or shapes that do not fit together.
    """
    values = as_floats("means", means, (None, None, None))
    n_tasks, n_policies, size = values.shape
    spread = as_floats("noise", noise, (n_tasks, n_policies, size, size))
    counts = as_floats("episodes", episodes, (n_tasks, n_policies))
    if n_tasks < 8 or (counts < 2).any():
        raise InvalidInput(
            f"means must come from at least 8 tasks with at least 2 episodes of every policy, got {n_tasks} tasks and {counts.min():g} episodes; "
            "simulate more",
            code="SF-ARGUMENT-RANGE",
        )
    center = values.mean(axis=0)
    covariance = denoised_covariance(values, spread, counts)
    scale = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    used = scale > 1e-9 * max(float(np.abs(center).max()), 1e-300)
    unit = np.where(used, scale, 1.0)
    variances, vectors = np.linalg.eigh(np.where(used[:, None] & used, covariance, 0.0) / np.outer(unit, unit))
    order = variances.argsort()[::-1]
    largest = max(float(variances[order[0]]), 1e-12)
    kept = [k for k in order[: min(LATENTS, n_tasks - 1)] if variances[k] > NEGLIGIBLE * largest] or [order[0]]
    slope = vectors[:, kept] * np.sqrt(np.maximum(variances[kept], 0.0)) * unit[:, None]
    rest = np.sqrt(np.maximum(np.diag(covariance) - (slope**2).sum(axis=1), 0.0)).reshape(n_policies, size)
    slopes = slope.reshape(n_policies, size, len(kept))
    floor = np.diag((LEAST_NOISE * np.maximum(np.abs(values).max(axis=(0, 1)), 1e-12)) ** 2)
    one = spread.mean(axis=0)
    one = 0.5 * (one + one.transpose(0, 2, 1)) + floor
    empty: FloatArray = np.zeros(0)
    return Belief(
        support=np.zeros((0, 3), dtype=np.int64),
        kernel_center=empty,
        kernel_slope=np.zeros((0, len(kept))),
        initial_states=np.zeros(0, dtype=np.int64),
        outcome_center=center[:, None],
        outcome_slope=slopes[:, None],
        outcome_curve=np.zeros((n_policies, 1, size, 0)),
        outcome_residual=rest[:, None],
        outcome_noise=one[:, None],
        value_center=center[:, :n_values],
        value_slope=slopes[:, :n_values],
        value_curve=np.zeros((n_policies, n_values, 0)),
        value_residual=rest[:, :n_values],
        informative=True,
        tasks=n_tasks,
    )
