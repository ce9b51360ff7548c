"""Finite constrained Markov decision processes: the model, exact evaluation, simulation."""

from surefoot.cmdp.augment import Augmented, CostAwarePolicy, augment
from surefoot.cmdp.evaluate import (
    Values,
    ceilings,
    distance,
    evaluate,
    evaluate_many,
    occupancy,
    state_bounds,
    state_values,
)
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.simulate import Episodes, Simulator, Visits, simulate

__all__ = [
    "Augmented",
    "CostAwarePolicy",
    "Episodes",
    "Simulator",
    "TabularCMDP",
    "Values",
    "Visits",
    "augment",
    "ceilings",
    "distance",
    "evaluate",
    "evaluate_many",
    "occupancy",
    "simulate",
    "state_bounds",
    "state_values",
]
