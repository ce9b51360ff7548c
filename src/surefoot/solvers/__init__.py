"""Exact solution of finite CMDPs, and its certificate."""

from surefoot.solvers.bulk import BulkProgram, Solutions, solve_many
from surefoot.solvers.certificate import MixtureProof, OptimalityCertificate, certify, check_mixture
from surefoot.solvers.columns import PolicyMixture
from surefoot.solvers.linear_program import OccupancyProgram, Solution, solve, solve_over_policies

__all__ = [
    "BulkProgram", "MixtureProof", "OccupancyProgram", "OptimalityCertificate", "PolicyMixture", "Solution", "Solutions", "certify",
    "check_mixture", "solve", "solve_many", "solve_over_policies",
]  # fmt: skip
