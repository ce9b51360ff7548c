r"""A family whose tasks are drawn more often where earlier plants were found to be.

With points ``z_k`` in parameter space (the cells of a policy set, say) and weights ``w_k`` that plants gave them, a task of the family belongs to the
point nearest to it. If ``b_k`` of the family's tasks belong to point k, tasks are drawn with density

    r(theta) = (1 - share) + share w_k / b_k         relative to the family's, k the point that theta belongs to,

so a part ``1 - share`` is drawn as before: what earlier plants never showed stays possible. The draw is by rejection, with ``b_k`` from simulation.

Letters: N points, p parameters, n tasks.
"""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray, as_floats, check_real
from surefoot.errors import InvalidInput
from surefoot.tasks.family import TaskFamily

__all__ = ["ReweightedFamily", "reweighted"]

PILOT = 4000
"""Tasks from which ``b_k`` is estimated; none is counted for less than one of them."""


class ReweightedFamily:
    """Tasks of another family, drawn with other weights; see the module's docstring and :func:`reweighted`.

    Everything but ``name`` and ``sample`` is the other family's.
    """

    def __init__(self, family: TaskFamily, points: FloatArray, weights: FloatArray, share: float) -> None:
        self.family, self.name = family, f"{family.name} re-weighted"
        self._draw = _Draw(family.sample, points, weights, share)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("family", "_draw"):
            raise AttributeError(name)
        return getattr(self.family, name)

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, p) parameters of independent fresh tasks."""
        return self._draw(n, rng)


class _Draw:
    """``sample(n, rng)``; can be sent to other processes."""

    def __init__(self, sample: Any, points: FloatArray, weights: FloatArray, share: float) -> None:
        self._sample, self._points = sample, points
        pilot = np.asarray(sample(PILOT, np.random.default_rng(0)), dtype=np.float64)
        self._scale = np.where(np.std(pilot, axis=0) > 0.0, np.std(pilot, axis=0), 1.0)
        base = np.maximum(np.bincount(self._nearest(pilot), minlength=len(points)), 1) / PILOT
        self.ratio: FloatArray = (1.0 - share) + share * weights / base

    def _nearest(self, tasks: FloatArray) -> IntArray:
        gaps = (tasks[:, None] - self._points[None]) / self._scale
        nearest: IntArray = np.einsum("nkp,nkp->nk", gaps, gaps).argmin(axis=1)
        return nearest

    def __call__(self, n: int, rng: np.random.Generator) -> FloatArray:
        found: list[FloatArray] = []
        missing, most = n, float(self.ratio.max())
        while missing > 0:
            tried = np.asarray(self._sample(max(64, 2 * missing), rng), dtype=np.float64)
            kept = tried[rng.random(len(tried)) * most <= self.ratio[self._nearest(tried)]][:missing]
            found.append(kept)
            missing -= len(kept)
        return np.concatenate(found) if found else np.zeros((0, self._points.shape[1]))


def reweighted(family: Any, points: Any, weights: Any, *, share: float = 0.5) -> Any:
    """The family with tasks drawn more often near points of large weight.

    What was certified for tasks drawn from ``family`` (the hold-out's share, a rehearsal) is not certified for tasks drawn from the answer, and the
    other way round: train and rehearse anew.

    Args:
        family: of tabular or simulated tasks.
        points: (N, p) parameters.
        weights: (N,) nonnegative, not all zero.
        share: part of the tasks that is drawn by the weights; the rest is drawn as before.

    Returns:
        A family of the same kind.

    Raises:
        InvalidInput: an argument out of range, or tasks without parameters.
    """
    share = check_real("share", share, low=0.0, high=1.0)
    names = tuple(family.parameter_names)
    if not names:
        raise InvalidInput(
            f"family must have parameters to be re-weighted by, got none in {family.name}; name what differs between tasks",
            code="SF-ARGUMENT-EMPTY",
        )
    places = as_floats("points", points, (None, len(names)))
    found = as_floats("weights", weights, (len(places),))
    if (found < 0.0).any() or not found.sum() > 0.0:
        raise InvalidInput(
            f"weights must be nonnegative and not all zero, got {found.tolist()[:8]}; give what plants taught",
            code="SF-ARGUMENT-RANGE",
        )
    found = found / found.sum()
    if is_dataclass(family) and not isinstance(family, type) and hasattr(family, "sampler"):
        simulated: Any = family
        draw = _Draw(simulated.sample, places, found, share)
        return replace(simulated, name=f"{simulated.name} re-weighted", sampler=draw)
    return ReweightedFamily(family, places, found, share)
