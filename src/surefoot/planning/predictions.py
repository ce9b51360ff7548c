"""What a policy set predicts, as arrays: for plants that are made of nothing else.

Letters: S states, A actions, I constraints, F = 1 + I signals, J policies, N cells, B initial states.
"""

from __future__ import annotations

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import KernelBoxes, PolicySet

__all__ = [
    "center_kernel",
    "center_values",
    "conditional_middles",
    "initial_states",
    "kernel_boxes",
    "outcome_ranges",
    "policy_tables",
]


def policy_tables(policy_set: PolicySet) -> FloatArray:
    """(J, S, A)."""
    return np.stack([p.table for p in policy_set.policies if isinstance(p, TabularPolicy)])


def kernel_boxes(policy_set: PolicySet) -> KernelBoxes:
    """Boxes for the kernels of each cell.

    Raises:
        TypeError: the set keeps none.
    """
    boxes = policy_set.cells.kernel
    if boxes is None:
        raise TypeError("rollouts need kernels")
    return boxes


def initial_states(policy_set: PolicySet) -> IntArray:
    """(B,) states that predictions are conditional on."""
    conditional = policy_set.cells.conditional
    return np.zeros(0, dtype=np.int64) if conditional is None else conditional.initial_states


def center_values(policy_set: PolicySet) -> FloatArray:
    """(N, J, F) predicted values at the centres."""
    p = policy_set.cells.predictions
    return np.concatenate([p.reward_center[:, :, None], p.cost_center], axis=2)


def conditional_middles(policy_set: PolicySet) -> FloatArray:
    """(N, J, F, B) middles of the intervals given the initial state.

    Raises:
        TypeError: the set keeps none.
    """
    c = policy_set.cells.conditional
    if c is None:
        raise TypeError("there are no predictions given initial states")
    reward, cost = 0.5 * (c.reward_lower + c.reward_upper), 0.5 * (c.cost_lower + c.cost_upper)
    return np.concatenate([reward[:, :, None], cost], axis=2)


def outcome_ranges(policy_set: PolicySet) -> tuple[FloatArray, FloatArray]:
    """(F,) smallest and largest outcomes of an episode."""
    bounds, criterion = policy_set.bounds, policy_set.criterion
    ceilings = np.where(np.asarray(bounds.cost_ceilings) > 0.0, bounds.cost_ceilings, criterion.cost_ceilings)
    low = np.concatenate([[bounds.return_lower], np.zeros(criterion.n_constraints)])
    return low, np.concatenate([[bounds.return_upper], ceilings])


def center_kernel(boxes: KernelBoxes, cell: int, n_states: int, n_actions: int) -> FloatArray:
    """(S, A, S) kernel at the centre of a cell; where nothing is known of a pair it stays where it is."""
    kernel = np.zeros((n_states, n_actions, n_states))
    kernel[tuple(boxes.support.T)] = boxes.center[cell]
    sums = kernel.sum(axis=2)
    state, action = np.nonzero(sums <= 0.0)
    kernel[state, action, state] = 1.0
    normal: FloatArray = kernel / kernel.sum(axis=2, keepdims=True)
    return normal
