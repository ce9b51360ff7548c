"""Whole procedures: train, let the hold-out judge, accept or refuse, deploy.

What is tried here is the other half of the guarantee. An agent that trusts cells accepts a policy set only if its hold-out shows that at most
``p_max`` of the family is in no cell; with probability at least ``1 - delta_coverage / 2`` over the hold-outs it is right (the other half pays for
the margin of the safe policy). Every run trains policy sets of its own on :class:`~.rare.RareTasks` and computes the true uncovered share of each:

* in even runs a little more than ``p_max`` of the family is rare, so that every acceptance is *wrong*;
* in odd runs less is, and what is accepted is deployed on a task drawn from the family.

=========== ==========================================================================================================
``starts``  rare tasks start where no training task starts
``support`` rare tasks move where no training task moves, and cells keep no boxes of transitions that would show it
``looks``   as ``starts``, but whoever is refused trains again, with other cells and tasks, up to :data:`LOOKS` times
=========== ==========================================================================================================

A task counts as uncovered when it lies in no cell, when an episode of it can cost more than the policy set's ceiling, or when the safe policy has
less margin there than stated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from surefoot.errors import AssumptionError
from surefoot.experiments.registry import AgentContext, make_agent
from surefoot.experiments.validation.rare import RareTasks
from surefoot.experiments.validation.scenarios import SCENARIOS, World
from surefoot.experiments.validation.trial import Job, Outcome, TrialSettings, play_jobs
from surefoot.experiments.validation.truth import Truth, library_tables
from surefoot.policyset.schema import PolicySet
from surefoot.training.pipeline import train

__all__ = ["ALLOWED", "P_MAX", "Attempt", "run_procedure"]

P_MAX = 0.05
"""What certified agents accept by default."""
ALLOWED = 0.025
"""Half of the default ``delta_coverage``: the rate of wrong acceptances that is promised."""
SHARES = (1.02 * P_MAX, 0.2 * P_MAX)
LOOKS = 6
TASKS, HOLDOUT, CELLS = 40, 200, 2
NET = 20


@dataclass(frozen=True)
class Attempt:
    """What a procedure led to.

    Attributes:
        agent: its name.
        scenario: which procedure.
        run: its number.
        looks: hold-outs that were seen.
        accepted: whether the agent started.
        uncovered: the true share of the family in no cell, of the last policy set.
        wrong: whether the agent started although that share is above ``p_max``; ``None`` in runs where it is not.
        claims: whether the agent's trust rests on the hold-out at all.
        deployed: what followed, ``None`` where nothing was deployed.
    """

    agent: str
    scenario: str
    run: int
    looks: int
    accepted: bool
    uncovered: float
    wrong: bool | None
    claims: bool
    deployed: Outcome | None


def run_procedure(scenario: str, agent: str, run: int, settings: TrialSettings) -> Attempt:
    """One attempt; all chance depends on the settings' seed, the scenario and the number of the run.

    Args:
        scenario: one of :data:`~.scenarios.PROCEDURES`.
        agent: its name in the registry.
        run: its number.
        settings: of the deployment.
    """
    entropy = np.random.SeedSequence([settings.seed, list(SCENARIOS).index(scenario), run])
    seeds = [int(s.generate_state(1, np.uint64)[0] >> 1) for s in entropy.spawn(LOOKS + 1)]
    share = SHARES[run % 2]
    policy_set: PolicySet | None = None
    refused: AssumptionError | None = None
    for look, seed in enumerate(seeds[: LOOKS if scenario == "looks" else 1], start=1):
        family = RareTasks("support" if scenario == "support" else "starts", share)
        policy_set = train(
            family, tasks=TASKS + 5 * (look - 1), holdout=HOLDOUT, cells=CELLS + look % 2, seed=seed, previous=policy_set,
            kernel_entries=0 if scenario == "support" else None, progress=False,
        )  # fmt: skip
        try:
            _start(agent, family, policy_set, settings)
        except AssumptionError as error:
            refused = error
            continue
        refused = None
        break
    assert policy_set is not None
    missed = uncovered_share(family, policy_set)
    deployed = None
    if refused is None:
        drawn = family.sample(1, np.random.default_rng(seeds[-1]))[0]
        job = Job(agent, scenario, run, tuple(drawn.tolist()))
        (deployed,) = play_jobs(World(family, policy_set, policy_set), [job], settings)
    accepted = refused is None
    wrong = accepted if missed > P_MAX else None
    claims = not accepted or (deployed is not None and deployed.trust == "cells")
    return Attempt(agent, scenario, run, look, accepted, missed, wrong, claims, deployed)


def _start(agent: str, family: Any, policy_set: PolicySet, settings: TrialSettings) -> None:
    """Make the agent, or let it refuse."""
    task = family.cmdp((0.0, 0.45))
    make_agent(agent, AgentContext(family, policy_set, policy_set, task, settings.episodes, settings.delta, 0))


def uncovered_share(family: RareTasks, policy_set: PolicySet) -> float:
    """The exact weights of both kinds of tasks, times the share of each that is uncovered on an even net."""
    tables = library_tables(policy_set.policies)
    shares = []
    for points in family.net(NET):
        truths = [Truth.of(policy_set, tables, family.cmdp(point), point) for point in points]
        shares.append(float(np.mean([_uncovered(truth, policy_set.safe_margin) for truth in truths])))
    return (1.0 - family.share) * shares[0] + family.share * shares[1]


def _uncovered(truth: Truth, margin: float) -> bool:
    return not truth.cells.size or truth.above_ceiling > truth.room or truth.margin < margin - truth.room
