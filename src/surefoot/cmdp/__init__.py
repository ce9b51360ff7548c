"""Finite constrained Markov decision processes: the model, exact evaluation, simulation."""

from surefoot.cmdp.evaluate import Values, ceilings, distance, evaluate, evaluate_many, occupancy, state_values
from surefoot.cmdp.model import TabularCMDP
from surefoot.cmdp.simulate import Episodes, Simulator, Visits, simulate

__all__ = [
    "Episodes",
    "Simulator",
    "TabularCMDP",
    "Values",
    "Visits",
    "ceilings",
    "distance",
    "evaluate",
    "evaluate_many",
    "occupancy",
    "simulate",
    "state_values",
]
