"""Against which alternatives each cell is tested.

A cell is rejected by betting on *alternatives*: other cells' centres and tasks beyond the family. Every (cell, alternative) pair has its own
accumulated wealth, and the pairs' wealths are averaged with weights fixed before any data, so any choice of alternatives and weights is
valid; it only decides how fast a wrong cell dies:

* alternatives stand at geometrically growing distances, each distance equally weighted, because the truth may be near or far;
* most of the weight goes to *cheaper* alternatives, those that predict smaller costs than the cell does: when one of them is true, the
  cell's survival is what keeps the deployment too careful. Costlier alternatives get the rest, so that a truth beyond the family is noticed.

Letters: N cells, M outside tasks, J policies, I constraints, R alternatives per cell, P = N + M points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.policyset.schema import Cells

__all__ = ["ALTERNATIVE_RATIO", "CHEAPER_SHARE", "NEAREST_ALTERNATIVE", "Alternatives", "choose_alternatives"]

ALTERNATIVE_RATIO, CHEAPER_SHARE, NEAREST_ALTERNATIVE = 1.5, 0.98, 0.006
"""Of :func:`choose_alternatives`, for bets on transitions; joint bets take a ratio of their own."""

PROBES = 32
"""Distances are measured by the values of at most this many library policies."""


@dataclass(frozen=True, eq=False)
class Alternatives:
    """Pairs (cell, alternative).

    Attributes:
        index: (N, R) points; below N a cell's centre, from N on an outside task.
        log_weights: (N, R) logarithms of weights that sum to one per cell; ``-inf`` where there are fewer alternatives.
    """

    index: IntArray
    log_weights: FloatArray


def choose_alternatives(cells: Cells, ratio: float, cheaper_share: float, nearest: float = 0.0) -> Alternatives:
    """Alternatives at distances growing by ``ratio``; ``cheaper_share`` of the weight on cheaper ones.

    Distances are mean differences of predicted values in units of their range over all points. Alternatives nearer than ``nearest`` would
    share the wealth and hardly ever pay; where there are none farther, the farthest is used.
    """
    values = _point_values(cells)
    severity = values[:, :, 1:].max(axis=2, initial=-np.inf).mean(axis=1)
    flat = values.reshape(len(values), -1)
    scale = flat.max(axis=0) - flat.min(axis=0)
    flat = flat / np.where(scale > 0.0, scale, 1.0)
    chosen = []
    for i in range(len(cells)):
        distance = np.abs(flat - flat[i]).mean(axis=1)
        sides = [
            np.flatnonzero((severity < severity[i]) & (distance > 0)),
            np.flatnonzero((severity >= severity[i]) & (distance > 0)),
        ]
        floor = min(nearest, float(distance[distance > 0].max(initial=0.0)))
        sides = [side[distance[side] >= floor] for side in sides]
        picked = [_spread(side[np.argsort(distance[side], kind="stable")], distance, ratio) for side in sides]
        chosen.append(_weighted(picked, cheaper_share))
    width = max((len(c[0]) for c in chosen), default=0)
    index = np.zeros((len(cells), max(width, 1)), dtype=np.int64)
    log_weights = np.full(index.shape, -np.inf)
    for i, (points, weights) in enumerate(chosen):
        index[i, : len(points)] = points
        log_weights[i, : len(points)] = np.log(weights)
    return Alternatives(index, log_weights)


def _point_values(cells: Cells) -> FloatArray:
    """(P, J', 1+I) values of some policies at every point."""
    n_policies = cells.predictions.reward_center.shape[1]
    probes = np.unique(np.linspace(0, n_policies - 1, min(PROBES, n_policies)).astype(int))
    own = np.concatenate(
        [cells.predictions.reward_center[:, probes, None], cells.predictions.cost_center[:, probes]], axis=2
    )
    if cells.outside is None:
        return own
    far = np.concatenate([cells.outside.reward[:, probes, None], cells.outside.cost[:, probes]], axis=2)
    return np.concatenate([own, far])


def _spread(ordered: IntArray, distance: FloatArray, ratio: float) -> list[int]:
    """Points, nearest first, each at least ``ratio`` times as far as the last."""
    picked: list[int] = []
    for point in ordered.tolist():
        if not picked or distance[point] >= ratio * distance[picked[-1]]:
            picked.append(point)
    return picked


def _weighted(sides: list[list[int]], cheaper_share: float) -> tuple[list[int], FloatArray]:
    shares = [cheaper_share, 1.0 - cheaper_share]
    total = sum(share for share, side in zip(shares, sides) if side)
    points = [p for side in sides for p in side]
    weights = [share / total / len(side) for share, side in zip(shares, sides) if side for _ in side]
    return points, np.asarray(weights)
