"""Exact solution of finite CMDPs, and its certificate."""

from surefoot.solvers.certificate import OptimalityCertificate, certify
from surefoot.solvers.linear_program import OccupancyProgram, Solution, solve, solve_over_policies

__all__ = ["OccupancyProgram", "OptimalityCertificate", "Solution", "certify", "solve", "solve_over_policies"]
