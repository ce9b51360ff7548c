"""Exact solution of finite CMDPs, and its certificate."""

from surefoot.solvers.bulk import BulkProgram, Solutions, solve_many
from surefoot.solvers.certificate import OptimalityCertificate, certify
from surefoot.solvers.linear_program import OccupancyProgram, Solution, solve, solve_over_policies

__all__ = [
    "BulkProgram", "OccupancyProgram", "OptimalityCertificate", "Solution", "Solutions", "certify", "solve", "solve_many", "solve_over_policies",
]  # fmt: skip
