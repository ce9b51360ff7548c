"""Coverage oracles ``O_c``: is task M1 within ``eps`` of task M2?

An oracle answers with distances, so that the same numbers serve every radius. Three are built in:

* :class:`CMDPDistance`, the paper's: ``max(|r-r'|_inf, |c-c'|_inf, TV(rho,rho'), max_sa TV(P,P'))`` in the units of Ni &
  Kamgarpour 2026 (reward and cost divided by their per-step ranges);
* :class:`ParameterDistance`, the largest difference of the parameters, each divided by its scale;
* :class:`ValueDistance`, the largest difference of the normalised values of some reference policies.

Letters: N and M tasks, p parameters, E entries of the joint kernel support, J policies, I constraints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from surefoot.arrays import FloatArray, IntArray, as_floats
from surefoot.cmdp.evaluate import evaluate_many
from surefoot.cmdp.model import TabularCMDP
from surefoot.errors import InvalidInput
from surefoot.kernels import kernel
from surefoot.tasks.family import TabularFamily, TaskFamily

__all__ = ["CMDPDistance", "CoverageOracle", "ParameterDistance", "ValueDistance", "joint_support", "kernel_rows"]


class CoverageOracle(Protocol):
    """``O_c`` as a distance; task k covers task n at radius ``eps`` when ``distances[n, k] <= eps``."""

    @property
    def name(self) -> str:
        """Used in reports."""
        ...

    def distances(self, family: Any, first: FloatArray, second: FloatArray) -> FloatArray:
        """(N, M) distances between tasks with parameters ``first`` (N, p) and ``second`` (M, p)."""
        ...


@dataclass(frozen=True, eq=False)
class ParameterDistance:
    """Largest scaled difference of parameters; for families where parameters are commensurable.

    Attributes:
        scales: (p,) what one unit of distance means for each parameter, or ``None`` for 1.
    """

    scales: FloatArray | None = None
    name: str = "parameter distance"

    def distances(self, family: TaskFamily, first: FloatArray, second: FloatArray) -> FloatArray:
        """(N, M)."""
        scales = np.ones(first.shape[1]) if self.scales is None else as_floats("scales", self.scales, (first.shape[1],))
        result: FloatArray = np.abs((first[:, None, :] - second[None, :, :]) / scales).max(axis=2)
        return result


@dataclass(frozen=True)
class CMDPDistance:
    """The distance of two CMDPs, in normalised units."""

    name: str = "CMDP distance"

    def distances(self, family: TabularFamily, first: FloatArray, second: FloatArray) -> FloatArray:
        """(N, M)."""
        one = [family.cmdp(p) for p in first]
        two = one if second is first else [family.cmdp(p) for p in second]
        _check_shapes([*one, *two])
        low, high = family.criterion.reward_bounds
        pairs = [
            _chebyshev([m.rewards / (high - low) for m in one], [m.rewards / (high - low) for m in two]),
            0.5 * _absolute([m.start for m in one], [m.start for m in two]),
            _kernel_distances(one, two),
        ]
        bounds = family.criterion.cost_bounds[:, None, None]
        if bounds.size:
            pairs.append(_chebyshev([m.costs / bounds for m in one], [m.costs / bounds for m in two]))
        result: FloatArray = np.max(pairs, axis=0)
        return result


@dataclass(frozen=True, eq=False)
class ValueDistance:
    """Largest difference of the values of reference policies, each divided by its range over an episode.

    Attributes:
        policies: (J, S, A) reference policies.
    """

    policies: FloatArray
    name: str = "value distance"

    def distances(self, family: TabularFamily, first: FloatArray, second: FloatArray) -> FloatArray:
        """(N, M)."""
        criterion = family.criterion
        low, high = criterion.return_range
        scale = np.concatenate([[high - low], criterion.cost_ceilings])
        one = [evaluate_many(family.cmdp(p), self.policies) / scale for p in first]
        two = one if second is first else [evaluate_many(family.cmdp(p), self.policies) / scale for p in second]
        return _chebyshev(one, two)


def _chebyshev(first: list[FloatArray], second: list[FloatArray]) -> FloatArray:
    """(N, M) largest absolute differences; arrays that all tasks share cost nothing."""
    if all(np.array_equal(first[0], a) for a in (*first, *second)):
        return np.zeros((len(first), len(second)))
    flat = np.stack([b.ravel() for b in second])
    return np.stack([np.abs(a.ravel() - flat).max(axis=1) for a in first])


def _absolute(first: list[FloatArray], second: list[FloatArray]) -> FloatArray:
    """(N, M) l1 distances."""
    if all(np.array_equal(first[0], a) for a in (*first, *second)):
        return np.zeros((len(first), len(second)))
    flat = np.stack(second)
    return np.stack([np.abs(a - flat).sum(axis=1) for a in first])


def joint_support(cmdps: list[TabularCMDP]) -> IntArray:
    """(E,) sorted keys ``(s A + a) S + s'`` of every transition that is possible in one of the tasks."""
    keys: IntArray = np.unique(np.concatenate([m.rows * m.n_states + m.successors for m in cmdps]))
    return keys


def kernel_rows(cmdp: TabularCMDP, keys: IntArray) -> tuple[FloatArray, bool]:
    """(E,) probabilities of one task on a joint support, and whether the task stays inside it."""
    own = cmdp.rows * cmdp.n_states + cmdp.successors
    where = np.minimum(np.searchsorted(keys, own), keys.size - 1)
    inside = keys[where] == own
    probabilities = np.zeros(keys.size)
    # A row may sum to one plus rounding; a certain transition has probability one all the same.
    probabilities[where[inside]] = np.minimum(cmdp.probabilities[inside], 1.0)
    return probabilities, bool(inside.all())


def _check_shapes(cmdps: list[TabularCMDP]) -> None:
    shapes = {(m.n_states, m.n_actions, m.n_constraints) for m in cmdps}
    if len(shapes) > 1:
        raise InvalidInput(
            f"tasks of a family must share (S, A, I), got {sorted(shapes)}; fix the family's cmdp()",
            code="SF-FAMILY-SIZES",
        )


def _kernel_distances(first: list[TabularCMDP], second: list[TabularCMDP]) -> FloatArray:
    keys = joint_support([*first, *second] if second is not first else first)
    one = np.stack([kernel_rows(m, keys)[0] for m in first])
    two = one if second is first else np.stack([kernel_rows(m, keys)[0] for m in second])
    distances: FloatArray = _largest_row_variation(one, two, keys // first[0].n_states)
    return distances


@kernel
def _largest_row_variation(first, second, row):  # type: ignore[no-untyped-def]
    """(N, M) largest total variation over rows of kernels given on one support, entries of a row adjacent."""
    out = np.empty((first.shape[0], second.shape[0]))
    for n in range(first.shape[0]):
        for m in range(second.shape[0]):
            worst = 0.0
            total = 0.0
            for e in range(row.size):
                if e > 0 and row[e] != row[e - 1]:
                    worst = max(worst, total)
                    total = 0.0
                total += abs(first[n, e] - second[m, e])
            out[n, m] = 0.5 * max(worst, total)
    return out
