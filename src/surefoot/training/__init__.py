"""Training: from a task family to a certified policy set."""

from surefoot.training.belief import learn_belief
from surefoot.training.cover import subroutine3
from surefoot.training.coverage import CMDPDistance, CoverageOracle, ParameterDistance, ValueDistance
from surefoot.training.optimal import ExactOptimal, OptimalOracle, OptimalPolicy
from surefoot.training.pipeline import train
from surefoot.training.safe import GivenPolicy, SafeOracle, SafePolicy, WorstCaseSafe

__all__ = [
    "CMDPDistance",
    "CoverageOracle",
    "ExactOptimal",
    "GivenPolicy",
    "OptimalOracle",
    "OptimalPolicy",
    "ParameterDistance",
    "SafeOracle",
    "SafePolicy",
    "ValueDistance",
    "WorstCaseSafe",
    "learn_belief",
    "subroutine3",
    "train",
]
