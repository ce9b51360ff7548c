"""A small family in which some tasks do what no training task does, and cost far more than any of them.

From the start a task passes one of three states: mild (cost 1), clear, or a disaster (cost 100). Then it chooses, once, between a small reward and a
larger one that costs 1 with probability ``theta``. Common tasks start in state 0 and meet mild or clear states. Rare tasks meet disasters, a
hundredth as often, because they start in state 1 (``how="starts"``) or because state 0 leads elsewhere (``how="support"``). Ceilings computed from
common tasks are below 2; an episode of a rare task can cost 90.

Expected costs are the same, so only what a cell promises about starts and transitions tells rare tasks from common ones.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion

__all__ = ["RareTasks"]

USUAL, OTHER, MILD, DISASTER, CLEAR, CHOICE, COSTLY, END = range(8)
STATES = 8
LIMIT, DISCOUNT = 0.6, 0.9
THETA = (0.3, 0.6)


class RareTasks:
    """The family above; one object serves one training.

    The first sample, from which policies and cells are made, holds no rare task. That is the hard case, and a fair one: what a hold-out
    guarantees holds for any training sample whatever.

    Args:
        how: what rare tasks do.
        share: their probability.
    """

    name, parameter_names = "rare tasks", ("kind", "theta")
    support = np.array([[0.0, 1.0], list(THETA)])
    criterion = Criterion(DISCOUNT, np.array([LIMIT]), (0.0, 1.0), np.array([100.0]))

    def __init__(self, how: Literal["starts", "support"], share: float) -> None:
        self.how, self.share = how, share
        self._trained = False

    def sample(self, n: int, rng: np.random.Generator) -> FloatArray:
        """(n, 2) kind (1: rare) and theta."""
        kinds = rng.random(n) < (self.share if self._trained else 0.0)
        self._trained = True
        return np.column_stack([kinds, rng.uniform(*THETA, n)])

    def net(self, n: int) -> tuple[FloatArray, FloatArray]:
        """(n, 2) common and (n, 2) rare tasks, evenly spread in theta."""
        theta = THETA[0] + (THETA[1] - THETA[0]) * (np.arange(n) + 0.5) / n
        return np.column_stack([np.zeros(n), theta]), np.column_stack([np.ones(n), theta])

    def cmdp(self, parameters: Any) -> TabularCMDP:
        """The task with these parameters."""
        rare, theta = bool(parameters[0] > 0.5), float(parameters[1])
        kernel = np.zeros((STATES, 2, STATES))
        mild = 0.2 + theta / 4.0
        kernel[USUAL, :, MILD], kernel[USUAL, :, CLEAR] = mild, 1.0 - mild
        kernel[OTHER, :, DISASTER], kernel[OTHER, :, CLEAR] = mild / 100.0, 1.0 - mild / 100.0
        if rare and self.how == "support":
            kernel[USUAL] = kernel[OTHER]
        kernel[[MILD, DISASTER, CLEAR], :, CHOICE] = 1.0
        kernel[CHOICE, 0, END] = kernel[COSTLY, :, END] = kernel[END, :, END] = 1.0
        kernel[CHOICE, 1, COSTLY], kernel[CHOICE, 1, END] = theta, 1.0 - theta
        costs, rewards = np.zeros((1, STATES, 2)), np.zeros((STATES, 2))
        costs[0, [MILD, COSTLY]], costs[0, DISASTER] = 1.0, 100.0
        rewards[CHOICE] = [0.2, 1.0]
        start = np.eye(STATES)[OTHER if rare and self.how == "starts" else USUAL]
        return TabularCMDP(kernel, rewards, costs, self.criterion.cost_limits, start, DISCOUNT)

    def safe_policy(self) -> FloatArray:
        """(8, 2) the small reward."""
        return np.tile([1.0, 0.0], (STATES, 1))
