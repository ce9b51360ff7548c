"""Training: from a task family to a certified policy set."""

from surefoot.train.cover import subroutine3
from surefoot.train.coverage import CMDPDistance, CoverageOracle, ParameterDistance, ValueDistance
from surefoot.train.optimal import ExactOptimal, OptimalOracle, OptimalPolicy
from surefoot.train.pipeline import train
from surefoot.train.safe import GivenPolicy, SafeOracle, SafePolicy, WorstCaseSafe

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
    "subroutine3",
    "train",
]
