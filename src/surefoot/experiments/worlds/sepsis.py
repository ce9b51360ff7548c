"""How the sepsis world is trained and played (:mod:`surefoot.worlds.sepsis`)."""

from __future__ import annotations

from typing import Any

from surefoot.experiments.worlds.world import Outside, TabularPlant, World
from surefoot.policyset.schema import PolicySet
from surefoot.protocol import Protocol
from surefoot.solvers.linear_program import solve
from surefoot.training.optimal import OptimalPolicy
from surefoot.training.pipeline import train
from surefoot.worlds.sepsis import Sepsis

__all__ = ["sepsis_world"]

TASKS, POLICIES, HOLDOUT = 40, 10, 100
MARGIN = 0.16
"""Of the safe policy at the worst end of the family; training tasks alone show more than there is."""
LADDER = (3.0, 2.0)


class _Columns:
    """``O_l`` by :func:`surefoot.solve`, which generates columns: at this size the occupancy program is much slower."""

    def solve(self, task: Any) -> OptimalPolicy:
        """See :class:`~surefoot.training.optimal.OptimalOracle`."""
        found = solve(task)
        if found.status == "failed":
            found.value_or_raise()
        return OptimalPolicy(found.status == "optimal", found.policy, found.value, found.costs, found.bound)


def _train(cells: int | None, previous: PolicySet | None, seed: int, workers: int, progress: bool) -> PolicySet:
    return train(
        Sepsis(), tasks=TASKS, holdout=0 if cells is None else HOLDOUT, cells=cells, policies=POLICIES, previous=previous, strict=False,
        optimal=_Columns(), seed=seed, workers=workers, progress=progress,
    )  # fmt: skip


def sepsis_world() -> World:
    """The world with the sizes that docs/worlds.md states."""
    family = Sepsis()
    return World(
        name="sepsis",
        title="sepsis: 716 states, 25 actions; survival with a limit on fluids",
        family=family,
        train=_train,
        plant=TabularPlant,
        episodes=500,
        ladder=LADDER,
        cells=(8, 2),
        p_max=0.1,
        margin=MARGIN,
        use=Protocol(batch=10),
        outside=(
            Outside("discharge twice its range", "patients leave faster or slower than in any hospital of the family", family.stretched("discharge")),
            Outside("heavy twice its range", "heavy fluids harm or help more than in any hospital of the family", family.stretched("heavy")),
            Outside("orders not followed", "a fifth of all orders is replaced by another admissible action", Sepsis(deviation=0.2)),
        ),
    )  # fmt: skip
