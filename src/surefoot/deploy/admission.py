"""Which policy sets an agent may be made of: the margin of the safe policy, and the certificate of coverage.

Under ``trust="cells"`` the hold-out must show, at the user's error, that at most ``p_max`` of the task distribution lies in no cell. Look
number a pays ``delta_coverage / 2^a`` (:mod:`surefoot.policyset.lineage`), half of it for the binomial limit and half for what simulation adds.
"""

from __future__ import annotations

import math

import numpy as np

from surefoot.arrays import check_real
from surefoot.deploy.belief.rehearsed import Rung
from surefoot.deploy.tuning import TUNING
from surefoot.errors import AssumptionError
from surefoot.policyset.lineage import look_share
from surefoot.policyset.schema import PolicySet
from surefoot.stats.binomial import clopper_pearson_upper, simulated_upper, trials_without_failure

__all__ = ["check_certificate", "check_margin", "rehearsed_rung"]


def check_margin(policy_set: PolicySet, margin: float | None) -> float:
    """``xi``, by default what training verified.

    Raises:
        AssumptionError: not positive, or above the smallest limit.
    """
    xi = policy_set.safe_margin if margin is None else check_real("margin", margin)
    if xi <= 0.0:
        raise AssumptionError(
            f"margin of the safe policy must be positive, got {xi:g}; bring a safer policy, raise the limit, or state a margin you can justify",
            code="SF-ASSUMPTION-MARGIN",
        )
    smallest = float(policy_set.criterion.cost_limits.min(initial=np.inf))
    if xi > smallest:
        raise AssumptionError(
            f"margin of the safe policy must be at most the limit {smallest:g}, got {xi:g}; costs are not negative, check the unit",
            code="SF-ASSUMPTION-UNIT",
        )
    return float(xi)


def check_certificate(policy_set: PolicySet, p_max: float, delta: float) -> None:
    """Refuse ``cells`` unless the hold-out shows coverage at the user's level.

    Raises:
        AssumptionError: it does not; the message says what to train next.
    """
    found = policy_set.certificate
    # Hold-out tasks that share simulated episodes may all be judged wrongly at once; what that was given is no longer there for the limit.
    spent, share = policy_set.ledger.spent_on("simulation"), look_share(policy_set.attempt)
    if delta * share <= spent:
        raise AssumptionError(
            f"delta_coverage must be above {spent / share:g}, which the simulated episodes that hold-out tasks share have spent, got {delta:g}; use "
            f"the {policy_set.ledger.total:g} that training set out with, or trust='envelope'",
            code="SF-ASSUMPTION-SPENT",
        )
    level = (delta * share - spent) / 2
    p = 1.0
    if found is not None:
        p = simulated_upper(found.uncovered, found.holdout, level, found.simulation_error)
    if p > p_max:
        had, late = "no hold-out", ""
        if found is not None:
            had = f"{found.uncovered} of {found.holdout} hold-out tasks in no cell"
            late = ". To raise p_max or delta_coverage now would be to choose them after the hold-out was seen: they would not mean what they say"
        raise AssumptionError(
            f"trust='cells' needs at most p_max={p_max:g} of the tasks uncovered at error {delta:g}, got {min(p, 1.0):.4g} ({had}; look "
            f"{policy_set.attempt}, which pays {delta * share:.4g}); {_cure(policy_set, p_max, delta)}, or use trust='envelope'{late}",
            code="SF-ASSUMPTION-COVERAGE",
        )


def _cure(policy_set: PolicySet, p_max: float, delta: float) -> str:
    """What to train next so that the hold-out shows ``p_max``, at the share that the next look pays."""
    found = policy_set.certificate
    attempt = policy_set.attempt + (found is not None)
    level = max(delta * look_share(attempt), 1e-300) / 2
    fewest = trials_without_failure(p_max, level)
    if found is None:
        return f"train with holdout={fewest} or more"
    handed_on = f"with previous= this policy set (look {attempt} pays {delta * look_share(attempt):.3g})"
    missed = found.uncovered / found.holdout
    enough = fewest if not found.uncovered else _enough_tasks(missed, p_max, level, TUNING.most_holdout * found.holdout)
    if enough is not None:
        return f"train again {handed_on} and holdout={enough} or more" + (
            ", or more training tasks and fewer cells" if found.uncovered else ""
        )
    tasks, cells = policy_set.training.tasks_sampled, len(policy_set.cells)
    episodes = ", more episodes per task" if found.simulation_error else ""
    return (
        f"with so many misses more hold-out tasks do not help: train again {handed_on}, more training tasks (tasks={2 * tasks} or more){episodes} "
        f"and fewer cells (cells={max(1, cells // 2)} or fewer)"
    )


def _enough_tasks(missed: float, p_max: float, level: float, most: int) -> int | None:
    """How many hold-out tasks would show ``p_max`` if the share ``missed`` of them were in no cell again; ``None`` above ``most``."""
    holdout = trials_without_failure(p_max, level)
    while holdout <= most:
        if clopper_pearson_upper(math.ceil(missed * holdout), holdout, level) <= p_max:
            return holdout
        holdout = math.ceil(1.1 * holdout)
    return None


def rehearsed_rung(policy_set: PolicySet, evidence: str, delta: float) -> Rung:
    """The configuration that the policy set's rehearsal certifies.

    Raises:
        AssumptionError: nothing was rehearsed, no rung was accepted, or the share of violating deployments that was certified is above ``delta``.
    """
    found = policy_set.rehearsed
    if found is None or not found.evidence:
        raise AssumptionError(
            "trust='rehearsed' needs a policy set that was rehearsed, got one that was not; use surefoot.rehearse, or trust='data'",
            code="SF-ASSUMPTION-REHEARSAL",
        )
    if found.library != policy_set.library_hash:
        raise AssumptionError(
            f"trust='rehearsed' needs the set that was rehearsed, {found.library[:16]}..., got {policy_set.library_hash[:16]}..., which was changed "
            "since; rehearse it again",
            code="SF-ASSUMPTION-REHEARSAL",
        )
    rung = found.rung
    if rung is None:
        raise AssumptionError(
            f"trust='rehearsed' needs a rung that was accepted, got none of {len(found.rungs)}: {found.text} Rehearse more plants or a more "
            "cautious ladder, with previous= this policy set",
            code="SF-ASSUMPTION-REHEARSAL",
        )
    if evidence != found.evidence:
        raise AssumptionError(
            f"evidence must be {found.evidence!r}, with which the deployment was rehearsed, got {evidence!r}; give that, or rehearse again",
            code="SF-ASSUMPTION-REHEARSAL",
        )
    if found.upper > delta * (1.0 + 1e-12):
        raise AssumptionError(
            f"delta must be at least {found.upper:.4g}, the share of violating deployments that was certified, got {delta:g}; rehearse with "
            f"alpha={delta:g} or less",
            code="SF-ASSUMPTION-REHEARSAL",
        )
    return Rung.of(rung.boldness, found.episodes, evidence, found.protocol, found.surprise)
