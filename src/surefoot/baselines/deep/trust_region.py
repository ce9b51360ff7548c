"""Natural-gradient steps inside a trust region (Schulman et al. 2015, TRPO).

    max_x  g^T x    s.t.  x^T F x / 2 <= delta          x = sqrt(2 delta / g^T F^-1 g) F^-1 g        (appendix C)

with the Fisher matrix F at the present policy, applied and never formed; ``F^-1 g`` by conjugate gradients; the step is then shortened until the
surrogate improves and the mean KL divergence of the samples is at most delta (eq 14).

Letters: P parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.baselines.deep.batch import Batch
from surefoot.baselines.deep.networks import StochasticPolicy

__all__ = ["TRUST", "Trust", "backtrack", "conjugate_gradient", "curvature", "natural_step", "trpo_step"]

Product = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Trust:
    """How far a step may go and how it is found.

    Attributes:
        delta: largest mean KL divergence.
        damping: added to the diagonal of F.
        iterations: of conjugate gradients.
        rows: samples that F is made of, at most; they are spread evenly.
        shrink, tries: of the line search.
    """

    delta: float = 0.02
    damping: float = 0.05
    iterations: int = 10
    rows: int = 2000
    shrink: float = 0.7
    tries: int = 15


TRUST = Trust()


def conjugate_gradient(product: Product, b: FloatArray, iterations: int, tolerance: float = 1e-10) -> FloatArray:
    """(P,) x with ``product(x) = b``, by at most so many iterations (Hestenes & Stiefel 1952)."""
    x, residual, direction = np.zeros_like(b), b.copy(), b.copy()
    size = float(residual @ residual)
    least = tolerance**2 * size
    for _ in range(iterations):
        if size <= least or size == 0.0:
            break
        ahead = product(direction)
        step = size / float(direction @ ahead)
        x, residual = x + step * direction, residual - step * ahead
        size, before = float(residual @ residual), size
        direction = residual + (size / before) * direction
    return x


def curvature(policy: StochasticPolicy, theta: FloatArray, batch: Batch, trust: Trust) -> Product:
    """``v -> (F + damping) v`` at ``theta``."""
    stride = max(1, -(-batch.steps // trust.rows))
    fisher = policy.fisher(theta, batch.inputs[::stride], batch.weights[::stride])
    return lambda v: fisher(v) + trust.damping * v


def natural_step(gradient: FloatArray, product: Product, trust: Trust) -> FloatArray:
    """(P,) the step of length delta along ``F^-1 g``."""
    x = conjugate_gradient(product, gradient, trust.iterations)
    length = float(x @ product(x))
    return np.sqrt(2.0 * trust.delta / length) * x if length > 0.0 else np.zeros_like(x)


def backtrack(theta: FloatArray, step: FloatArray, accept: Callable[[FloatArray], bool], trust: Trust) -> FloatArray:
    """(P,) the first of ``theta + shrink^j step`` that is accepted; ``theta`` if none is."""
    for j in range(trust.tries):
        trial: FloatArray = theta + trust.shrink**j * step
        if accept(trial):
            return trial
    return theta


def trpo_step(
    policy: StochasticPolicy, theta: FloatArray, batch: Batch, advantages: FloatArray, trust: Trust
) -> FloatArray:
    """(P,) one step of TRPO on these (n,) advantages."""
    product = curvature(policy, theta, batch, trust)
    step = natural_step(batch.gradient(policy, theta, advantages), product, trust)
    before = batch.change(policy, theta, advantages)

    def accept(trial: FloatArray) -> bool:
        better = batch.change(policy, trial, advantages) > before
        return bool(better and batch.divergence(policy, theta, trial) <= trust.delta)

    return backtrack(theta, step, accept, trust)
