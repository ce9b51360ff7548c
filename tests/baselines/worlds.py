"""Small models with a known truth for tests of the model-based baselines, and kernels at the corners of confidence sets."""

from __future__ import annotations

import numpy as np

from surefoot import TabularCMDP, evaluate
from surefoot.arrays import FloatArray
from surefoot.baselines.counts import ModelEstimate, Support
from surefoot.baselines.model_based import Known
from surefoot.solvers.certificate import best_response

__all__ = ["corner", "exact", "known_of", "support_of", "values_under", "with_kernel", "with_margin"]


def support_of(cmdp: TabularCMDP) -> Support:
    """The true support."""
    states, actions = np.divmod(cmdp.rows, cmdp.n_actions)
    return Support(cmdp.n_states, cmdp.n_actions, np.stack([states, actions, cmdp.successors], axis=1))


def with_margin(cmdp: TabularCMDP, margin: float) -> tuple[TabularCMDP, FloatArray]:
    """The cheapest policy for the sum of the costs, and limits that leave it exactly ``margin``."""
    uniform = np.full(cmdp.rewards.shape, 1.0 / cmdp.n_actions)
    cheapest, _ = best_response(cmdp, -cmdp.costs.sum(axis=0), uniform)
    return cmdp.with_limits(evaluate(cmdp, cheapest).costs + margin), cheapest


def known_of(
    cmdp: TabularCMDP,
    safe: FloatArray,
    margin: float,
    *,
    multiplier: float = 1.0,
    episodes: int = 1000,
    delta: float = 0.05,
    support: Support | None = None,
) -> Known:
    """What a learner is told of ``cmdp``."""
    return Known(
        cmdp.rewards, cmdp.costs, cmdp.start, cmdp.criterion, support_of(cmdp) if support is None else support,
        safe, margin, episodes, delta, multiplier,
    )  # fmt: skip


def exact(cmdp: TabularCMDP, visits: float) -> ModelEstimate:
    """An estimate that has the true kernel from ``visits`` visits to every pair."""
    return ModelEstimate(support_of(cmdp), cmdp.probabilities, np.full(cmdp.rewards.size, visits))


def corner(center: FloatArray, radius: FloatArray, support: Support, rng: np.random.Generator) -> FloatArray:
    """(E,) a random extreme point of ``{P : |P - center| <= radius, P >= 0, sum P = 1}``: entries are filled up in random order."""
    lower, upper = np.maximum(center - radius, 0.0), np.minimum(center + radius, 1.0)
    kernel = lower.copy()
    for pair in range(support.sizes.size):
        entries = np.flatnonzero(support.rows == pair)
        free = 1.0 - lower[entries].sum()
        for e in rng.permutation(entries):
            step = min(free, upper[e] - lower[e])
            kernel[e] += step
            free -= step
    return kernel


def with_kernel(
    cmdp: TabularCMDP,
    kernel: FloatArray,
    rewards: FloatArray | None = None,
    costs: FloatArray | None = None,
    support: Support | None = None,
) -> TabularCMDP:
    """Another kernel (E,) over a support, by default that of ``cmdp``, with its signals or others."""
    entries = support_of(cmdp) if support is None else support
    dense = np.zeros((cmdp.rewards.size, cmdp.n_states))
    dense[entries.rows, entries.successors] = kernel
    return TabularCMDP(
        dense.reshape(cmdp.n_states, cmdp.n_actions, cmdp.n_states),
        cmdp.rewards if rewards is None else rewards,
        cmdp.costs if costs is None else costs,
        cmdp.cost_limits,
        cmdp.start,
        cmdp.discount,
    )


def values_under(
    cmdp: TabularCMDP,
    kernel: FloatArray,
    policy: FloatArray,
    signals: tuple[FloatArray, FloatArray],
    support: Support | None = None,
) -> tuple[float, FloatArray]:
    """Value and costs of a policy under another kernel and other signals."""
    found = evaluate(with_kernel(cmdp, kernel, *signals, support), policy)
    return found.reward, found.costs
