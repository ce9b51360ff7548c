"""The policy set of a family with finitely many known tasks: every task is a cell of its own, and nothing lies between cells.

Training extends cells until neighbours touch, because a continuous family has tasks between the sampled ones. Where all tasks are listed that
would only blur them, and the lower bound is about telling them apart: each cell is one task (widened by rounding), its policy the exact optimum.

Letters: C tasks, J = 1 + C policies.
"""

from __future__ import annotations

import numpy as np

from surefoot.cmdp.evaluate import ceilings
from surefoot.policy import TabularPolicy
from surefoot.policyset.schema import AssumptionReport, EpisodeBounds, PolicySet, TrainingReport
from surefoot.solvers.linear_program import solve
from surefoot.stats.ledger import Ledger
from surefoot.tasks.hard_instance import HardInstance
from surefoot.training.boxes import Boxes
from surefoot.training.cells import Layout
from surefoot.training.coverage import joint_support
from surefoot.training.holdout import certify, pay_for_look
from surefoot.version import VERSION

__all__ = ["listed_set"]

HOLDOUT = 200


def listed_set(family: HardInstance, *, radius: float, delta: float, seed: int) -> PolicySet:
    """One cell per task; ``radius`` is the ``eps`` that Safe-PCE is told the cover has (any positive number is true of it)."""
    points = np.arange(float(family.n_tasks))[:, None]
    models = [family.cmdp(p) for p in points]
    optima = [solve(m).value_or_raise() for m in models]
    tables = np.stack([family.safe_policy(), *(s.policy for s in optima)])
    layout = Layout(
        n_policies=len(tables), n_constraints=1, n_states=models[0].n_states, n_actions=models[0].n_actions,
        states=np.flatnonzero(models[0].start), keys=joint_support(models),
    )  # fmt: skip
    boxes, quantities = (
        Boxes(len(models), layout),
        [layout.quantities(m, tables, s.bound)[0] for m, s in zip(models, optima)],
    )
    for k, vector in enumerate(quantities):
        boxes.include(k, vector, center=True)
    boxes.inflate(0.0)
    ends = ceilings(models[0])
    nobody = layout.outside(np.zeros((0, 1)), np.zeros((0, sum(layout.sizes))))
    margin = float((family.criterion.cost_limits - layout.split(boxes.upper)[0][:, 0, 1:]).min())
    # The usual hold-out: fresh tasks, of which none can be missing from the list.
    numbers = family.sample(HOLDOUT, np.random.default_rng(seed))[:, 0].astype(np.int64)
    covered = [bool(boxes.consistent(quantities[k]).size) for k in numbers]
    ledger = pay_for_look(Ledger(delta), 1)
    return PolicySet(
        criterion=family.criterion,
        policies=tuple(TabularPolicy(t) for t in tables),
        cells=layout.cells(boxes, np.arange(1, len(tables)), points, nobody),
        bounds=EpisodeBounds(ends.return_lower, ends.return_upper, tuple(float(c) for c in ends.costs)),
        certificate=certify(ledger, margin, covered, np.full(HOLDOUT, np.inf)),
        training=TrainingReport(family.name, family.parameter_names, "CMDP distance", radius, len(models), 1, 0.0, 0.0),
        assumption=AssumptionReport(True, margin, statement="All tasks are listed; the safe policy keeps its margin in each."),
        ledger=ledger,
        seed=seed,
        version=VERSION,
    )  # fmt: skip
