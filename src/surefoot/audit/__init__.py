"""Audits: every decision of a deployment recomputed from its events, by other code than made it.

    events -> verification (digests, groups) -> walk (what follows from what) -> opening, episodes, cell_decisions, plans
                                            |
     groups, bounds, region, monitor, returns, single_bets, joint_bets, cell_wealth (e-values), posterior, order: the statistics a second time

What is *chosen* (constants, grids of bets, which alternatives to bet on) is imported from the agent, for any choice is valid. What is *proved
with* those choices is computed here anew, by other means where there are any: plain numpy, logarithms, no compiled code.
"""

from surefoot.audit.verification import Verification, verify

__all__ = ["Verification", "verify"]
