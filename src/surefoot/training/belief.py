r"""A belief about tabular tasks, fitted to exact values of sampled tasks (:class:`~surefoot.policyset.belief.Belief`).

Latents are the principal components of what differs between sampled tasks: transition probabilities, rewards, costs and start probabilities, each
of these groups brought to one scale, whitened. Transition probabilities are linear in them, exactly so where tasks differ by few linear effects.
Values of policies are fitted by a quadratic function of the latents, by least squares; by a linear one where there are too few tasks for that.

Letters: T tasks, d latents, E entries, J policies, I constraints, F = 1 + I, B initial states.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from surefoot.arguments import check_family
from surefoot.arrays import FloatArray, IntArray, check_integer
from surefoot.cmdp.evaluate import state_values
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.simulate import Simulator
from surefoot.errors import InvalidInput
from surefoot.parallel import map_tasks
from surefoot.policy import TabularPolicy
from surefoot.policyset.belief import Belief
from surefoot.policyset.schema import PolicySet, check_policy_set
from surefoot.tasks.family import TabularFamily
from surefoot.training.coverage import joint_support, kernel_rows
from surefoot.training.values import CHUNK, sample_tasks

__all__ = ["fit_quadratic", "learn_belief"]

LATENTS = 32
"""Most latents that are kept."""
NEGLIGIBLE = 1e-8
"""Components with less than this share of the variance are left out."""
TASKS_PER_COEFFICIENT = 2.0
"""A quadratic fit needs so many tasks for each of its coefficients."""
CONDITIONAL_STATES = 256
LARGEST_CURVE = 4_000_000
"""Entries of a fit by initial state that are kept; beyond that it is linear."""
NOISE_TASKS, NOISE_EPISODES = 8, 400
POOLED = 20.0
STREAM = 0xBE11EF


def learn_belief(
    policy_set: PolicySet,
    family: TabularFamily,
    *,
    tasks: int = 500,
    evidence: Literal["all", "returns"] | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> PolicySet:
    """The policy set with a belief, which ``trust="rehearsed"`` plans with; everything else of it stays.

    Args:
        policy_set: whose library is to be believed something about.
        family: where tasks come from.
        tasks: T fresh ones to learn from.
        evidence: ``"all"`` for plants that report transitions, ``"returns"`` for those that do not; both by default.
        seed: of the tasks.
        workers: processes.
        progress: show progress.

    Raises:
        InvalidInput: an argument out of range, or a library that is not tabular.
    """
    check_policy_set(policy_set)
    check_family(family)
    tasks = check_integer("tasks", tasks, low=8)
    seed = check_integer("seed", seed, low=0)
    tables = [p.table for p in policy_set.policies if isinstance(p, TabularPolicy)]
    if len(tables) < len(policy_set.policies):
        raise InvalidInput(
            "policies must be tables for a belief about a tabular family, got others; use surefoot.gym.learn_belief",
            code="SF-POLICY-KIND",
        )
    rng = np.random.default_rng(np.random.SeedSequence([seed, STREAM]))
    parameters = sample_tasks(family, tasks, rng)
    models = [family.cmdp(p) for p in parameters]
    library = np.stack(tables)
    calls = [(models[k : k + CHUNK], library) for k in range(0, tasks, CHUNK)]
    values = np.concatenate(map_tasks(_values, calls, workers=workers, label="learning a belief", progress=progress))
    kinds = ("all", "returns") if evidence is None else (evidence,)
    beliefs = {kind: _belief(models, library, values, kind, seed) for kind in kinds}
    # Another belief is another agent: what was rehearsed does not speak of it, and counts as a look.
    seen = () if policy_set.rehearsed is None else (policy_set.rehearsed.look,)
    return replace(
        policy_set,
        beliefs={**policy_set.beliefs, **beliefs},
        rehearsed=None,
        rehearsal_looks=(*policy_set.rehearsal_looks, *seen),
    )


def _values(models: list[TabularCMDP], tables: FloatArray) -> FloatArray:
    """(T, J, F, S)."""
    return np.stack([state_values(m, tables) for m in models])


def _belief(models: list[TabularCMDP], tables: FloatArray, values: FloatArray, kind: str, seed: int) -> Belief:
    keys = joint_support(models)
    kernels = np.stack([kernel_rows(m, keys)[0] for m in models])
    signals = np.stack([m.signals.reshape(-1) for m in models])
    starts = np.stack([m.start for m in models])
    latents = principal_components([kernels, signals, starts])
    start = np.stack([m.start for m in models])
    states = np.flatnonzero(start.max(axis=0) > 0.0)
    fixed_signals = float(np.ptp(signals, axis=0).max(initial=0.0)) <= 1e-12 * max(1.0, float(np.abs(signals).max()))
    follows = kind == "all"
    conditional = kind == "returns" and 1 < states.size <= CONDITIONAL_STATES
    total = np.einsum("tjfs,ts->tjf", values, start)
    outcomes = values[..., states].transpose(0, 1, 3, 2) if conditional else total[:, :, None]
    value_fit = fit_quadratic(latents, total)
    outcome_fit = fit_quadratic(latents, outcomes, LARGEST_CURVE)
    center = kernels.mean(axis=0)
    design = np.column_stack([np.ones(len(latents)), latents])
    slope = np.linalg.lstsq(design, kernels - center, rcond=None)[0][1:].T
    n_states, n_actions = models[0].n_states, models[0].n_actions
    triples: IntArray = np.column_stack([keys // (n_states * n_actions), keys // n_states % n_actions, keys % n_states])
    return Belief(
        support=triples if follows else triples[:0],
        kernel_center=center if follows else np.zeros(0),
        kernel_slope=slope if follows else np.zeros((0, latents.shape[1])),
        initial_states=(states if conditional else states[:0]).astype(np.int64),
        outcome_center=outcome_fit[0],
        outcome_slope=outcome_fit[1],
        outcome_curve=outcome_fit[2],
        outcome_residual=outcome_fit[3],
        outcome_noise=_noise(models, tables, values, states, conditional, seed),
        value_center=value_fit[0],
        value_slope=value_fit[1],
        value_curve=value_fit[2],
        value_residual=value_fit[3],
        informative=not (follows and fixed_signals),
        tasks=len(models),
    )


def principal_components(groups: list[FloatArray]) -> FloatArray:
    """(T, d) whitened principal components of the columns of several (T, n) arrays, each group scaled to variance one in all."""
    gram = np.zeros((len(groups[0]), len(groups[0])))
    for group in groups:
        centred = group - group.mean(axis=0)
        spread = float((centred**2).sum())
        if spread > 1e-20 * max(1.0, float((group**2).sum())):
            gram += centred @ centred.T / spread
    variances, vectors = np.linalg.eigh(gram)
    order = variances.argsort()[::-1]
    total = max(float(variances.sum()), 1e-300)
    most = min(LATENTS, max(1, len(gram) // 8))
    kept = [k for k in order[:most] if variances[k] > NEGLIGIBLE * total]
    if not kept:
        raise InvalidInput(
            "family must have tasks that differ, got a sample of one and the same task; a belief has nothing to learn",
            code="SF-FAMILY-SAMPLE",
        )
    found: FloatArray = vectors[:, kept] * np.sqrt(len(gram))
    # The sign of an eigenvector is arbitrary: the largest entry is positive.
    signs = np.sign(found[np.abs(found).argmax(axis=0), np.arange(len(kept))])
    signed: FloatArray = found * signs
    return signed


def fit_quadratic(
    latents: FloatArray, targets: FloatArray, largest_curve: int | None = None
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Least squares fit of ``targets`` (T, ...) by ``center + slope z + sum_{i<=k} curve_ik z_i z_k``.

    Returns:
        ``center (...)``, ``slope (..., d)``, ``curve (..., D or 0)`` and the residuals' standard deviation ``(...)``, corrected for the coefficients
        that were fitted. Linear, with an empty curve, where there are too few tasks or the curve would have more than ``largest_curve`` entries.
    """
    n, d = latents.shape
    first, second = np.triu_indices(d)
    size = int(np.prod(targets.shape[1:]))
    quadratic = n >= TASKS_PER_COEFFICIENT * (1 + d + first.size) and (
        largest_curve is None or size * first.size <= largest_curve
    )
    columns = [np.ones((n, 1)), latents] + ([latents[:, first] * latents[:, second]] if quadratic else [])
    design = np.concatenate(columns, axis=1)
    flat = targets.reshape(n, -1)
    solution: FloatArray = np.asarray(np.linalg.lstsq(design, flat, rcond=None)[0], dtype=np.float64)
    left = ((flat - design @ solution) ** 2).sum(axis=0)
    residual: FloatArray = np.sqrt(left / max(1, n - design.shape[1]))
    shape = targets.shape[1:]
    return (
        solution[0].reshape(shape),
        solution[1 : 1 + d].T.reshape(*shape, d),
        solution[1 + d :].T.reshape(*shape, first.size if quadratic else 0),
        residual.reshape(shape),
    )


def _noise(
    models: list[TabularCMDP], tables: FloatArray, values: FloatArray, states: IntArray, conditional: bool, seed: int
) -> FloatArray:
    """(J, B, F, F) covariance of one episode's outcomes within a task (and initial state), averaged over some tasks.

    What single initial states show is pooled with what all show, which counts as :data:`POOLED` episodes.
    """
    n_policies, n_outcomes = values.shape[1:3]
    columns = states.size if conditional else 1
    chosen = np.linspace(0, len(models) - 1, min(NOISE_TASKS, len(models))).astype(int)
    index: IntArray = np.repeat(np.arange(n_policies), NOISE_EPISODES * min(columns, 16))
    products = np.zeros((n_policies, columns, n_outcomes, n_outcomes))
    counts = np.zeros((n_policies, columns))
    for k in chosen:
        played = Simulator(models[k], tables).run(index, seed=seed, first_episode=int(k) * index.size)
        column = np.searchsorted(states, played.initial_states) if conditional else np.zeros(index.size, dtype=np.int64)
        by_state = values[k].transpose(0, 2, 1)
        mean = by_state[index, played.initial_states] if conditional else (values[k] @ models[k].start)[index]
        gap = np.column_stack([played.returns, models[k].measure(played.costs)]) - mean
        np.add.at(products, (index, column), gap[:, :, None] * gap[:, None, :])
        np.add.at(counts, (index, column), 1.0)
    pooled = products.sum(axis=1) / counts.sum(axis=1)[:, None, None]
    noise = (products + POOLED * pooled[:, None]) / (counts + POOLED)[:, :, None, None]
    scale = np.maximum(np.abs(values).max(axis=(0, 1, 3)), 1e-12)
    symmetric: FloatArray = 0.5 * (noise + noise.transpose(0, 1, 3, 2)) + np.diag((1e-4 * scale) ** 2)
    return symmetric


def describe_belief(belief: Belief) -> dict[str, Any]:
    """What people are told about a belief."""
    return {
        "latents": belief.latents,
        "tasks": belief.tasks,
        "transitions": int(belief.kernel_center.size),
        "largest residual": [float(x) for x in belief.value_residual.max(axis=0)],
    }
