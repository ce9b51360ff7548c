"""The promise of the certified agent as a rate: runs in which any deployed mixture costs more than the limit, for every trust level.

Worlds are bandits with two-point outcomes, as hard as the assumption of the trust level allows: the real task stands at the corner of its
cell where costs are largest, or at the corner of the envelope, or anywhere. ``delta`` is large (.2), so that a few hundred short runs tell
sound from broken; verdicts are one-sided binomial tests at level 1e-3. The large study is the command ``surefoot validate``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from surefoot import PolicySet
from surefoot.arrays import FloatArray
from surefoot.deploy import reorder
from surefoot.deploy.certified import CertifiedAgent
from surefoot.stats.binomial import rate_test
from tests.deploy.worlds import hand_made

pytestmark = pytest.mark.statistical

DELTA, RUNS, BATCH = 0.2, 80, 40
LIMIT, CEILING = 1.5, 6.0


def world() -> PolicySet:
    """Four cells of growing danger, five policies of growing cost; the last cell allows hardly anything."""
    danger, price = np.array([0.6, 0.8, 1.0, 1.3]), np.array([0.8, 1.4, 1.6, 1.9, 2.4])
    cost = danger[:, None] * price + 0.1
    cost[:, 0] = 0.9
    reward = 3.0 + 1.5 * np.arange(5) - 0.4 * danger[:, None]
    return hand_made(reward, cost[:, :, None], width=0.04, limits=(LIMIT,), ceilings=(CEILING,), margin=0.5)


def truth(policy_set: PolicySet, where: str) -> tuple[int | None, FloatArray]:
    """The cell of the real task, and the means (J, 2) of return and cost of every policy."""
    whole = policy_set.cells.predictions
    if where == "envelope":
        means = np.column_stack([whole.reward_center[3], whole.cost_upper.max(axis=0)[:, 0]])
        home = None
    elif where == "anywhere":
        means = np.column_stack([whole.reward_center[1], [0.9, 5.0, 0.2, 4.0, 5.5]])
        home = None
    else:
        home = {"dear edge": 3, "middle edge": 1, "outside": 3}[where]
        # Towards the cheaper neighbour in return, dearest in cost: the vertex that tempts most and costs most.
        means = np.column_stack([whole.reward_upper[home], whole.cost_upper[home, :, 0]])
    if where == "outside":
        means[:, 0] += 2.0
    means[0, 1] = min(means[0, 1], LIMIT - 0.5)
    return home, means


def failures(trust: str, where: str, batches: int, tamper: Any = None, runs: int = RUNS) -> dict[str, int]:
    """Runs with a violating mixture, with the true cell rejected, with a bound below the truth."""
    policy_set, found = world(), {"violations": 0, "refuted": 0, "bounds": 0, "learned": 0}
    home, means = truth(policy_set, where)
    share = np.clip(means / [10.0, CEILING], 0.0, 1.0)
    for run in range(runs):
        rng = np.random.default_rng([17, run])
        one = CertifiedAgent(policy_set, trust=trust, delta=DELTA, seed=run, ramp=0, cost_ceilings=[CEILING])  # type: ignore[arg-type]
        if tamper is not None:
            tamper(one)
        violated = low = False
        for _ in range(batches):
            asked = one.ask(BATCH)
            violated |= float(asked.weights @ means[:, 1]) > LIMIT + 1e-9
            outcome = (rng.random((BATCH, 2)) < share[asked.policy_index]) * [10.0, CEILING]
            one.tell(asked.ids, outcome[:, 0], outcome[:, 1:])
            low |= bool((one.bounds[:, 0] < means[:, 1] - 1e-12).any())
        found["violations"] += violated
        found["bounds"] += low
        found["refuted"] += home is not None and trust == "cells" and one.ever_rejected[home]
        found["learned"] += float(one.plan.weights @ means[:, 0]) > means[0, 0] + 0.2
    return found


@pytest.mark.parametrize(
    ("trust", "where", "batches"),
    [
        ("cells", "dear edge", 10),
        ("cells", "middle edge", 10),
        ("envelope", "envelope", 15),
        ("envelope", "dear edge", 15),
        ("data", "envelope", 15),
        ("data", "anywhere", 15),
    ],
)
def test_mixtures_violate_in_at_most_delta_of_the_runs(trust: str, where: str, batches: int) -> None:
    found = failures(trust, where, batches)
    ledger = {e.name: e.delta for e in CertifiedAgent(world(), trust=trust, delta=DELTA).ledger.entries}  # type: ignore[arg-type]
    assert rate_test(found["violations"], RUNS, DELTA) > 1e-3
    assert rate_test(found["bounds"], RUNS, ledger["bounds"]) > 1e-3
    assert rate_test(found["refuted"], RUNS, ledger.get("elimination", 1.0)) > 1e-3


def test_a_sound_agent_still_learns() -> None:
    assert failures("cells", "middle edge", 50, runs=20)["learned"] >= 16


def optimistic_bounds(one: CertifiedAgent) -> None:
    one._bounds.drop_start(np.full(one.bounds.shape, 0.9))
    one._stale = True


def test_a_task_outside_its_cell_is_convicted() -> None:
    """The counter of rejected cells is not blind: a return of two more than cell 3 allows rejects it in most runs."""
    assert rate_test(failures("cells", "outside", 25)["refuted"], RUNS, DELTA) < 1e-3


def test_bounds_that_start_too_low_are_convicted() -> None:
    assert rate_test(failures("envelope", "envelope", 3, optimistic_bounds)["violations"], RUNS, DELTA) < 1e-3


def late_agent_violates(losses: str, seed: int, skip_given_up: bool) -> bool:
    """Two cells; one candidate costs 2.5 in the first, the truth, and .1 in the second. Its expensive episodes are told fifteen batches late."""
    reward, cost = np.array([[5.0, 6.0]] * 2), np.array([[[0.5], [2.5]], [[0.5], [0.1]]])
    found = hand_made(reward, cost, width=0.1, limits=(2.0,), ceilings=(5.0,), margin=1.0, own=[1, 1])
    one = CertifiedAgent(found, trust="cells", evidence="returns", seed=seed, ramp=0, losses=losses, delta=DELTA)  # type: ignore[arg-type]
    if skip_given_up:
        one._evidence.forfeit = lambda policy, bets: None  # type: ignore[method-assign]
    means, rng, worst = np.array([0.5, 2.5]), np.random.default_rng(1000 + seed), -np.inf
    late: list[Any] = []
    for _ in range(45):
        asked = one.ask(400)
        worst = max(worst, float(asked.weights @ means))
        costs = 5.0 * (rng.random(400) < means[asked.policy_index] / 5.0)
        slow = (costs > 0.0) & (asked.policy_index == 1)
        one.tell(asked.ids[~slow], 5.0 + asked.policy_index[~slow], costs[~slow][:, None])
        late.append((asked.ids[slow], np.full(int(slow.sum()), 6.0), costs[slow][:, None]))
        if len(late) > 15 and (report := late.pop(0))[0].size:
            one.tell(*report)
    return worst > 2.0 + 1e-9


@pytest.mark.parametrize("losses", ["worst", "independent"])
def test_what_is_late_because_it_is_expensive_violates_nothing(losses: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is declared lost, so nothing may be skipped, whatever holds for lost episodes. Who skips what was given up violates in every run."""
    monkeypatch.setattr(reorder, "PATIENCE", 2000)
    assert rate_test(sum(late_agent_violates(losses, seed, False) for seed in range(20)), 20, DELTA) > 1e-3
    assert sum(late_agent_violates(losses, seed, True) for seed in range(4)) == 4
