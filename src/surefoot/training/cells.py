"""Cells: the explicit sets of tasks that deployment treats as hypotheses.

Every task M has a vector of *quantities* q(M): the values of every library policy (in expectation and given the initial state),
an upper bound on its optimal value, and its transition probabilities. A cell is a box ``H_i = {M : lo_i <= q(M) <= hi_i}``. It
starts as the hull of the sampled tasks nearest to one centre of the cover. Hulls of finite samples leave gaps between neighbours,
so each box is extended:

* by *interpolated tasks*, halfway between neighbouring sampled tasks of different cells (neighbours in the Gabriel graph of the
  parameters), which belong to both cells: neighbours touch;
* by *extrapolated tasks*, outside the sample's extremes by the distance of the fifth most extreme task (clipped to the declared support): with
  N samples a fresh task lies beyond them with probability of order 1/(10 N) per side instead of 1/N;
* by a small fraction of each interval's width, because a quantity need not be monotone between two tasks.

All of this happens before the hold-out is drawn, which then measures what is left uncovered.

Letters: N cells, T tasks, p parameters, J policies, I constraints, B initial states, E entries of the kernel support, Q quantities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.cmdp.elimination import Elimination, planned_values
from surefoot.cmdp.evaluate import state_bounds
from surefoot.cmdp.model import TabularCMDP
from surefoot.policyset.schema import Cells, ConditionalPredictions, KernelBoxes, OutsideTasks, Predictions
from surefoot.training.boxes import Boxes
from surefoot.training.coverage import kernel_rows

__all__ = ["Layout", "extrapolated_tasks", "interpolated_tasks"]

NEIGHBOURS = 40
"""Gabriel neighbours are sought among this many nearest tasks."""
GHOST_RANK = 5


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each quantity stands in the vector.

    Attributes:
        n_policies, n_constraints, n_states, n_actions: J, I, S, A.
        states: (B,) initial states that predictions are conditional on.
        keys: (E,) support of the kernels, ``(s A + a) S + s'``.
        plan: of elimination, for tasks inside its support; without one tasks are evaluated one by one.
    """

    n_policies: int
    n_constraints: int
    n_states: int
    n_actions: int
    states: IntArray
    keys: IntArray
    plan: Elimination | None = None

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Lengths of the four parts: values, conditional values, optimum, kernel."""
        values = self.n_policies * (1 + self.n_constraints)
        return values, values * self.states.size, 1, self.keys.size

    def quantities(self, cmdp: TabularCMDP, tables: FloatArray, bound: float) -> tuple[FloatArray, bool]:
        """(Q,) quantities of one task, and whether its kernel stays inside the support."""
        by_state = planned_values(self.plan, cmdp, tables)
        kernel, inside = kernel_rows(cmdp, self.keys) if self.keys.size else (np.zeros(0), True)
        parts = [(by_state @ cmdp.start).ravel(), by_state[:, :, self.states].ravel(), np.array([bound]), kernel]
        return np.concatenate(parts), inside

    def lower_ends(self, cmdp: TabularCMDP, tables: FloatArray, quantities: FloatArray) -> FloatArray:
        """(Q,) the same where quantities are exact, and lower bounds where those of :meth:`quantities` are upper ones: values of functionals."""
        if not cmdp.functionals:
            return quantities
        by_state = state_bounds(cmdp, tables)[0]
        found = np.concatenate([(by_state @ cmdp.start).ravel(), by_state[:, :, self.states].ravel()])
        return np.concatenate([found, quantities[found.size :]])

    def outside(self, parameters: FloatArray, vectors: FloatArray) -> OutsideTasks:
        """Tasks beyond the family from their parameters (M, p) and quantities (M, Q)."""
        values, by_state, _, kernel = self.split(vectors)
        return OutsideTasks(
            parameters=parameters,
            reward=values[:, :, 0],
            cost=values[:, :, 1:],
            reward_by_state=by_state[:, :, 0],
            cost_by_state=by_state[:, :, 1:],
            kernel=kernel,
        )

    def split(self, vectors: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """The four parts of (N, Q) vectors: (N, J, 1+I), (N, J, 1+I, B), (N,), (N, E)."""
        n, ends = len(vectors), np.cumsum(self.sizes)
        shape = (n, self.n_policies, 1 + self.n_constraints)
        values, conditional, optimum, kernel = np.split(vectors, ends[:-1], axis=1)
        return values.reshape(shape), conditional.reshape(*shape, self.states.size), optimum[:, 0], kernel

    @property
    def shape(self) -> tuple[int]:
        """(Q,)."""
        return (sum(self.sizes),)

    @property
    def upper_only(self) -> Any:
        """(Q,) only the upper end counts for the optimal value."""
        return np.arange(sum(self.sizes)) == sum(self.sizes[:2])

    def slack(self, lower: FloatArray, upper: FloatArray) -> FloatArray:
        """(N, Q) what rounding may come to."""
        return np.asarray(1e-9 * np.maximum(self._sizes(lower, upper), np.abs(upper)))

    def ranges(self, lower: FloatArray, upper: FloatArray) -> tuple[Any, Any]:
        """(Q,) and (N, Q): probabilities lie in [0, 1], and impossible transitions stay impossible."""
        kernel = slice(sum(self.sizes[:3]), None)
        low, high = np.full(self.shape, -np.inf), np.full(upper.shape, np.inf)
        low[kernel], high[:, kernel] = 0.0, upper[:, kernel] > 0.0
        return low, high

    def _sizes(self, lower: FloatArray, upper: FloatArray) -> FloatArray:
        """(Q,) what rounding of a quantity is relative to, at most 1: the largest value of its signal, a millionth for probabilities at least."""
        values, by_state, optimum, kernel = self.split(np.maximum(np.abs(lower), np.abs(upper)))
        signals = values.max(axis=(0, 1))
        if by_state.size:
            signals = np.maximum(signals, by_state.max(axis=(0, 1, 3)))
        parts = [
            np.broadcast_to(signals, values.shape[1:]).ravel(),
            np.broadcast_to(signals[:, None], by_state.shape[1:]).ravel(),
            np.maximum(optimum.max(keepdims=True), signals[0]),
            np.maximum(kernel.max(axis=0, initial=0.0), 1e-6),
        ]
        result: FloatArray = np.minimum(np.concatenate(parts), 1.0)
        return result

    def cells(self, boxes: Boxes, policy_index: IntArray, parameters: FloatArray, outside: OutsideTasks) -> Cells:
        """The finished cells in the policy set's schema."""
        low, high, mid = (self.split(a) for a in (boxes.lower, boxes.upper, boxes.center))
        predictions = Predictions(
            reward_lower=low[0][:, :, 0],
            reward_upper=high[0][:, :, 0],
            cost_lower=low[0][:, :, 1:],
            cost_upper=high[0][:, :, 1:],
            reward_center=mid[0][:, :, 0],
            cost_center=mid[0][:, :, 1:],
        )
        conditional = ConditionalPredictions(
            initial_states=self.states,
            reward_lower=low[1][:, :, 0],
            reward_upper=high[1][:, :, 0],
            cost_lower=low[1][:, :, 1:],
            cost_upper=high[1][:, :, 1:],
        )
        return Cells(
            policy_index=policy_index,
            optimal_center=mid[2],
            optimal_upper=high[2],
            parameters=parameters,
            predictions=predictions,
            conditional=conditional if self.states.size else None,
            kernel=self._kernel(low[3], high[3], mid[3]) if self.keys.size else None,
            outside=outside,
        )

    def _kernel(self, lower: FloatArray, upper: FloatArray, center: FloatArray) -> KernelBoxes:
        row, successor = np.divmod(self.keys, self.n_states)
        support = np.stack([*np.divmod(row, self.n_actions), successor], axis=1)
        return KernelBoxes(support, lower, upper, center)


def interpolated_tasks(parameters: FloatArray, assignment: IntArray) -> tuple[FloatArray, IntArray]:
    """Midpoints of neighbouring sampled tasks that belong to different cells.

    Two tasks are neighbours when no third lies in the ball whose diameter joins them (Gabriel graph), in parameters scaled by
    their standard deviations; in one dimension these are the consecutive tasks.

    Args:
        parameters: (T, p).
        assignment: (T,) cell of each task.

    Returns:
        Midpoints (M, p) and the two cells (M, 2) each of them belongs to.
    """
    if parameters.shape[1] == 1:
        order = np.argsort(parameters[:, 0], kind="stable")
        ends = np.sort(np.stack([order[:-1], order[1:]], axis=1), axis=1)
        return _middles(parameters, assignment, ends[assignment[ends[:, 0]] != assignment[ends[:, 1]]])
    scale = parameters.std(axis=0)
    points = parameters / np.where(scale > 0.0, scale, 1.0)
    pairs: set[tuple[int, int]] = set()
    for t in range(len(points)):
        squared = ((points - points[t]) ** 2).sum(axis=1)
        near = np.argsort(squared, kind="stable")[: NEIGHBOURS + 1]
        for u in near:
            if assignment[u] == assignment[t] or (min(t, u), max(t, u)) in pairs:
                continue
            middle, quarter = 0.5 * (points[t] + points[u]), 0.25 * squared[u]
            inside = ((points[near] - middle) ** 2).sum(axis=1) < quarter * (1.0 - 1e-12)
            if not inside.any():
                pairs.add((min(t, int(u)), max(t, int(u))))
    return _middles(parameters, assignment, np.asarray(sorted(pairs), dtype=np.int64).reshape(-1, 2))


def _middles(parameters: FloatArray, assignment: IntArray, ends: IntArray) -> tuple[FloatArray, IntArray]:
    return 0.5 * (parameters[ends[:, 0]] + parameters[ends[:, 1]]), assignment[ends]


def extrapolated_tasks(
    parameters: FloatArray, assignment: IntArray, support: FloatArray
) -> tuple[FloatArray, IntArray]:
    """Tasks just outside the sample, on either side of every parameter, inside the declared support.

    Args:
        parameters: (T, p).
        assignment: (T,).
        support: (p, 2).

    Returns:
        Parameters (2p, p) and the cell (2p,) each belongs to.
    """
    extrapolated, cells = [], []
    for axis in range(parameters.shape[1]):
        order = np.argsort(parameters[:, axis], kind="stable")
        for extreme, inner in ((order[0], order[:GHOST_RANK][-1]), (order[-1], order[-GHOST_RANK:][0])):
            extrapolated_task = parameters[extreme].copy()
            extrapolated_task[axis] += parameters[extreme, axis] - parameters[inner, axis]
            extrapolated.append(np.clip(extrapolated_task, support[:, 0], support[:, 1]))
            cells.append(int(assignment[extreme]))
    return np.asarray(extrapolated).reshape(-1, parameters.shape[1]), np.asarray(cells, dtype=np.int64)
