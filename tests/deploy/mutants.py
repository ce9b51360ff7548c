"""Wrong versions of the bets, written down once: tests show that their checks convict them."""

from __future__ import annotations

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.deploy.evidence.joint import LARGEST_LOSS
from surefoot.deploy.evidence.transitions import encode
from surefoot.policyset.schema import Cells, KernelBoxes
from tests.deploy.worlds import random_member

__all__ = ["against_centre", "against_training_tasks", "groups_of", "kelly", "kernel_of", "points_of"]


def kernel_of(cells: Cells) -> KernelBoxes:
    """The boxes, which these tests always have."""
    assert cells.kernel is not None
    return cells.kernel


def groups_of(cells: Cells) -> list[IntArray]:
    """Entries of every (s, a)."""
    keys = encode(kernel_of(cells).support) >> 21
    return [np.flatnonzero(keys == k) for k in np.unique(keys)]


def points_of(cells: Cells) -> FloatArray:
    """(N + M, E) kernels of centres and tasks outside."""
    own = kernel_of(cells).center
    return own if cells.outside is None else np.concatenate([own, cells.outside.kernel])


def against_centre(cells: Cells) -> FloatArray:
    """(E, N, P) log-likelihood ratios of every point to the cell's centre: no projection, no penalty g."""
    kernel, points = kernel_of(cells), points_of(cells)
    values = points.T[:, None, :] / kernel.center.T[:, :, None]
    result: FloatArray = np.log(np.maximum(values, 1e-300))
    return result


def against_training_tasks(cells: Cells, rng: np.random.Generator) -> FloatArray:
    """The same divided by its largest mean over a few members of the box, as if these were all there are."""
    kernel, table = kernel_of(cells), against_centre(cells)
    for mine in groups_of(cells):
        for i in range(len(cells)):
            members = [kernel.center[i, mine]]
            members += [
                0.5 * (members[0] + random_member(kernel.lower[i, mine], kernel.upper[i, mine], rng)) for _ in range(5)
            ]
            table[mine, i] -= np.log(np.maximum((np.array(members) @ np.exp(table[mine, i])).max(axis=0), 1.0))
    return table


def kelly(
    lower: FloatArray,
    upper: FloatArray,
    alternative: FloatArray,
    inverse: FloatArray,
    low: FloatArray,
    high: FloatArray,
    mutant: str = "",
) -> tuple[FloatArray, float]:
    """Direction u (F,) and offset of the joint bet; ``mutant`` is ``"centre"`` or ``"no cap"``."""
    nearest = np.clip(alternative, lower, upper)
    middle = 0.5 * (lower + upper)
    for matrix in (inverse, np.diag(inverse.diagonal())):
        u = matrix @ (alternative - nearest)
        offset = float(u @ middle) if mutant == "centre" else float(np.maximum(u * lower, u * upper).sum())
        if u @ alternative > offset:
            break
    smallest = float(np.minimum(u * low, u * high).sum()) - offset
    shrink = 1.0 if mutant == "no cap" else min(1.0, LARGEST_LOSS / max(-smallest, 1e-300))
    return shrink * u, shrink * offset
