"""Five traps that wrong implementations of the certified agent fall into, each with a mutant that does.

Rates are judged by a one-sided binomial test of "rate <= delta" at level 1e-3: sound code fails it once in a thousand seeds, and seeds are fixed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surefoot import PolicySet, Simulator, TabularCMDP
from surefoot.arrays import FloatArray
from surefoot.deploy.bounds import SELECTION_SHARES, CostBounds, ProductRegion
from surefoot.deploy.certified import CertifiedAgent
from surefoot.deploy.evidence import Evidence
from surefoot.deploy.evidence.alternatives import Alternatives, choose_alternatives
from surefoot.deploy.evidence.predictions import PredictionTable
from surefoot.deploy.evidence.transitions import log_average, log_ratios
from surefoot.deploy.objective import Objective
from surefoot.deploy.planner import Plan
from surefoot.policyset.schema import Cells
from surefoot.stats.betting import IntervalWealth, MeanUpperBounds, bet_grid
from surefoot.stats.binomial import rate_test
from surefoot.tasks import NoisyGridworld
from tests.deploy.mutants import against_centre, against_training_tasks, groups_of, kelly, kernel_of
from tests.deploy.worlds import box_cells, hand_made, told, two_point, vertex_towards

pytestmark = pytest.mark.statistical

GUILTY = 1e-3


def convicted(failures: int, runs: int, delta: float) -> bool:
    return rate_test(failures, runs, delta) < GUILTY


# 1. Low outcomes told 50 episodes late, or never.

DELAY = 50


def two_cells() -> PolicySet:
    """One policy to speak of; cell 0 is the truth (mean return 5, cost 1), cell 1 predicts a larger return."""
    return hand_made([[5.0, 5.0], [6.0, 6.0]], [[[1.0], [1.0]], [[1.0], [1.0]]], width=0.05, own=[1, 1])


def late_agent(seed: int, never: bool) -> bool:
    """Whether the agent rejects the true cell; returns are 0 or 10, zeros come 50 episodes late or never."""
    one = CertifiedAgent(two_cells(), evidence="returns", delta=0.2, seed=seed)
    rng, letters = np.random.default_rng(seed), []
    for step in range(25):
        asked = one.ask(10)
        rewards, costs = rng.choice([0.0, 10.0], 10), rng.choice([0.0, 2.0], (10, 1))
        letters += [
            (step, asked.ids, rewards, costs, rewards > 0.0),
            (step + DELAY // 10, asked.ids, rewards, costs, rewards == 0.0),
        ]
        for due, ids, values, prices, part in letters:
            if due == step and part.any():
                if never and values[part][0] == 0.0:
                    one.lost(ids[part])
                else:
                    one.tell(ids[part], values[part], prices[part])
    return bool(one.ever_rejected[0])


def late_mutant(seed: int) -> bool:
    """The same with evidence that takes reports as they come and leaves pending episodes out."""
    found = Evidence(two_cells(), "returns", 0.2, np.array([10.0]))
    rng, late = np.random.default_rng(seed), []
    for step in range(25):
        rewards, costs = rng.choice([0.0, 10.0], 10), rng.choice([0.0, 2.0], 10)
        outcomes = np.column_stack([rewards, costs])
        late.append(outcomes[rewards == 0.0])
        arrived = [outcomes[rewards > 0.0]] + ([late[step - DELAY // 10]] if step >= DELAY // 10 else [])
        for part in arrived:
            if len(part):
                found.settle(told([0], part, first=10 * step), [(found.bets(), np.arange(len(part)))])
        found.review()
    return bool(found.ever_rejected[0])


@pytest.mark.parametrize("never", [False, True])
def test_late_low_outcomes_do_not_refute_the_truth(never: bool) -> None:
    assert not convicted(sum(late_agent(seed, never) for seed in range(60)), 60, 0.2)


def test_evidence_that_drops_pending_episodes_refutes_the_truth_in_every_run() -> None:
    assert sum(late_mutant(seed) for seed in range(20)) == 20


def late_bound(seed: int, never: bool, drop: bool) -> bool:
    """Whether the bound of policy 1 ever falls below its mean cost .5; costly episodes (2 instead of 0) come late or never."""
    process = CostBounds(np.full((2, 1), 2.0), np.array([2.0]), np.array([0.6]), 0.2, selected=True)
    process.select(1, 0)
    rng, letters, one = np.random.default_rng(seed), [], np.ones(1, dtype=np.int64)
    for k in range(200):
        cost = 2.0 if rng.random() < 0.25 else 0.0
        letters.append((k + DELAY if cost else k, k, cost))
        if not drop:
            process.asked(np.array([k]), one)
        for _, name, value in [x for x in letters if x[0] == k and not (x[2] and never)]:
            if drop:
                process.asked(np.array([name]), one)
            process.told(np.array([name]), one, np.array([[value]]))
        if process.values[1, 0] < 0.5:
            return True
    return False


@pytest.mark.parametrize("never", [False, True])
def test_late_dear_episodes_leave_bounds_valid(never: bool) -> None:
    assert not convicted(sum(late_bound(seed, never, False) for seed in range(40)), 40, 0.2)


@pytest.mark.parametrize("never", [False, True])
def test_bounds_that_count_only_what_was_told_fail(never: bool) -> None:
    assert convicted(sum(late_bound(seed, never, True) for seed in range(20)), 20, 0.2)


# 2. The truth inside the cell, at vertices of its boxes, given the initial state; no training task.


@pytest.fixture(scope="module")
def tempting() -> Cells:
    """Two cells; tasks outside are vertices of their boxes: what a true cell can look most like."""
    rng = np.random.default_rng(11)
    cells = box_cells(rng, cells=2, outside=4, holes=0.0, width=0.15)
    kernel, far = kernel_of(cells), np.zeros((4, len(kernel_of(cells).support)))
    for k in range(4):
        for mine in groups_of(cells):
            far[k, mine] = vertex_towards(rng.random(mine.size), kernel.lower[k % 2, mine], kernel.upper[k % 2, mine])
    assert cells.outside is not None
    return replace(cells, outside=replace(cells.outside, kernel=far))


def vertex_crossings(cells: Cells, table: FloatArray, runs: int = 2000, steps: int = 200, delta: float = 0.1) -> int:
    """Runs, over both cells, in which the true one is rejected; table (E, N, R), the average over alternatives is read at every step."""
    rng, kernel, total = np.random.default_rng(2), kernel_of(cells), 0
    log_weights = np.full((1, table.shape[2]), -np.log(table.shape[2]))
    for i in range(2):
        wish = np.exp(table[:, i]).mean(axis=1)
        rows = groups_of(cells)
        truth = [vertex_towards(wish[mine], kernel.lower[i, mine], kernel.upper[i, mine]) for mine in rows]
        wealth, active = np.zeros((runs, table.shape[2])), np.ones(runs, dtype=bool)
        for _ in range(steps):
            g = int(rng.integers(len(rows)))
            wealth += table[rows[g][np.searchsorted(np.cumsum(truth[g])[:-1], rng.random(runs), side="right")], i]
            active &= log_average(wealth, log_weights) < -np.log(delta)
        total += int((~active).sum())
    return total


def everybody(cells: Cells) -> Alternatives:
    index = np.tile(np.arange(6), (2, 1))
    return Alternatives(index, np.full(index.shape, -np.log(6)))


def test_kernels_at_vertices_do_not_refute_their_cell(tempting: Cells) -> None:
    assert not convicted(vertex_crossings(tempting, log_ratios(tempting, everybody(tempting))), 4000, 0.1)


def test_likelihood_ratios_without_the_penalty_do(tempting: Cells) -> None:
    assert convicted(vertex_crossings(tempting, against_centre(tempting)), 4000, 0.1)


def test_a_penalty_over_training_tasks_does(tempting: Cells) -> None:
    assert convicted(vertex_crossings(tempting, against_training_tasks(tempting, np.random.default_rng(1))), 4000, 0.1)


def test_trained_cells_survive_their_own_vertices(deploy_set: PolicySet) -> None:
    """Gridworld kernels with every row at the vertex towards an alternative, which is the kernel of no noise at all; read every five episodes."""
    cells, runs, reads, per, delta = deploy_set.cells, 100, 40, 5, 0.1
    kernel, alternatives = kernel_of(cells), choose_alternatives(deploy_set.cells, 1.5, 0.97, 0.006)
    table, state, base = log_ratios(cells, alternatives), kernel.support, NoisyGridworld().cmdp([0.3])
    crossed = 0
    for i in (3, 7, 12):
        alternative = int(alternatives.index[i, np.argmax(alternatives.log_weights[i])])
        dense = np.zeros_like(base.dense)
        for mine in groups_of(cells):
            wish = np.exp(table[mine, i, list(alternatives.index[i]).index(alternative)])
            dense[state[mine, 0], state[mine, 1], state[mine, 2]] = vertex_towards(
                wish, kernel.lower[i, mine], kernel.upper[i, mine]
            )
        task = TabularCMDP(
            dense / dense.sum(axis=2, keepdims=True), base.rewards, base.costs, base.cost_limits, base.start, 0.9
        )
        policy = np.random.default_rng(i).integers(len(deploy_set.policies), size=runs * reads * per)
        groups = np.arange(policy.size) // per
        counts = Simulator(task, list(deploy_set.policies)).run(policy, seed=i, groups=groups).transitions
        assert counts is not None
        where = {tuple(key): e for e, key in enumerate(kernel.support.tolist())}
        s, a = np.divmod(task.rows, task.n_actions)
        columns = [where[key] for key in zip(s.tolist(), a.tolist(), task.successors.tolist())]
        logs = (counts @ table[columns, i]).reshape(runs, reads, -1).cumsum(axis=1)
        wealth = log_average(logs.reshape(runs * reads, -1), alternatives.log_weights[i : i + 1]).reshape(runs, reads)
        crossed += int((wealth.max(axis=1) >= -np.log(delta)).sum())
    assert not convicted(crossed, 3 * runs, delta)


def joint_crossings(mutant: str, runs: int = 1000, episodes: int = 200, delta: float = 0.1) -> int:
    """Two initial states with boxes of their own; in each the mean stands at the vertex nearest the alternative's."""
    lower, upper = np.array([[4.0, 1.0], [6.0, 0.4]]), np.array([[5.0, 1.6], [7.0, 0.8]])
    alternative, inverse = np.array([[5.6, 2.0], [7.6, 1.2]]), np.diag([0.08, 0.12])
    low, high, rng = np.zeros(2), np.array([10.0, 6.0]), np.random.default_rng(5)
    bets = [kelly(lower[b], upper[b], alternative[b], inverse, low, high, mutant) for b in range(2)]
    u, offset, means = (
        np.array([x[0] for x in bets]),
        np.array([x[1] for x in bets]),
        np.clip(alternative, lower, upper),
    )
    wealth, active = np.zeros(runs), np.ones(runs, dtype=bool)
    for _ in range(episodes):
        start = rng.integers(2, size=runs)
        outcome = two_point(means[start], low, high, rng)
        wealth += np.log1p((u[start] * outcome).sum(axis=1) - offset[start])
        active &= wealth < -np.log(delta)
    return int((~active).sum())


def test_joint_bets_at_the_centre_refute_the_truth_and_at_the_edge_do_not() -> None:
    assert not convicted(joint_crossings(""), 1000, 0.1)
    assert convicted(joint_crossings("centre"), 1000, 0.1)


def by_state_set() -> PolicySet:
    """Two cells that promise a return of 5 or 6 on average, two less from state 0 and two more from state 1."""
    reward, cost = np.array([[5.0, 5.0], [6.0, 6.0]]), np.ones((2, 2, 1))
    by_state = (reward[:, :, None] + np.array([-2.0, 2.0]), np.ones((2, 2, 1, 2)))
    return hand_made(reward, cost, width=0.05, own=[1, 1], by_state=by_state)


def state_crossings(seed: int, broken: bool) -> bool:
    """Whether joint bets reject the true cell 0 when state 1 comes three times as often as state 0; the mutant ignores the state."""
    found, rng = (
        Evidence(by_state_set(), "returns", 0.2, np.array([10.0])),
        np.random.default_rng(seed),
    )
    for k in range(15):
        start = (rng.random(20) < 0.75).astype(int)
        mean = np.where(start == 1, 7.0, 3.0)
        outcome = np.column_stack([mean + rng.choice([-1.0, 1.0], 20), rng.choice([0.0, 2.0], 20)])
        # Only the joint bets are watched: separate ones assume the family's start distribution, which this plant breaks.
        group = told(np.zeros(20, dtype=int), outcome, first=20 * k, states=None if broken else start)
        found.settle(group, [(found.bets(), np.arange(20))])
        if found.parts()["joint"][0] > np.log(5.0):
            return True
    return False


def test_predictions_given_the_initial_state_hold_whatever_states_come() -> None:
    assert not convicted(sum(state_crossings(seed, False) for seed in range(60)), 60, 0.2)
    assert convicted(sum(state_crossings(seed, True) for seed in range(20)), 20, 0.2)


# 3. A policy off by a fifth of the range, played at weight .2, while the safe policy's interval is a tenth wide around the truth.


def off_by_a_fifth() -> PolicySet:
    """One cell only, so that there is no alternative that is right: separate bets must do it. The truth is a mean return of 5 under both."""
    width = np.zeros((1, 2, 2))
    width[0, 0, 0] = 1.0
    return hand_made([[5.0, 7.0]], np.ones((1, 2, 1)), width=width, own=[1])


def episodes_of(rng: np.random.Generator, n: int = 1000) -> tuple[Any, FloatArray]:
    policy = (rng.random(n) < 0.2).astype(np.int64)
    return policy, np.column_stack([rng.choice([2.5, 7.5], n), rng.choice([0.0, 2.0], n)])


def dies(seed: int) -> bool:
    found, rng = (
        Evidence(off_by_a_fifth(), "returns", 0.05, np.array([10.0])),
        np.random.default_rng(seed),
    )
    policy, outcome = episodes_of(rng)
    for part in np.array_split(np.arange(1000), 20):
        found.settle(told(policy[part], outcome[part], first=int(part[0])), [(found.bets(), np.arange(part.size))])
        found.review()
    return bool(found.ever_rejected[0])


def pooled_dies(seed: int) -> bool:
    """All policies bet with one wealth: the safe policy's four episodes of five eat what the fifth earns."""
    process, rng = IntervalWealth(1, 1, 0.0, 10.0, bets=bet_grid(4, 0.02, tilt=0.0)), np.random.default_rng(seed)
    policy, outcome = episodes_of(rng)
    minus, plus = np.array([4.0, 7.0])[policy][:, None], np.array([6.0, 7.0])[policy][:, None]
    dead = False
    for part in np.array_split(np.arange(1000), 20):
        process.update(0, outcome[part, 0].copy(), minus[part], plus[part])
        dead |= bool(process.log_mean()[0] >= np.log(20.0))
    return dead


def test_a_wrong_cell_dies_by_its_own_policy_alone() -> None:
    assert sum(dies(seed) for seed in range(40)) >= 39


def test_pooled_wealth_is_eaten_by_the_safe_policy() -> None:
    assert sum(pooled_dies(seed) for seed in range(40)) <= 10


# 4. Two hundred policies that cost just above the limit; the luckiest is selected, and selected again.

MEAN, DELTA_B, LUCK = 0.31, 0.2, 200


def lucky_failure(rng: np.random.Generator, whole_history: bool) -> bool:
    """Whether some bound falls below the common mean; each policy is tried 20 times, the luckiest is played on, and re-picked once."""
    process = CostBounds(np.full((LUCK, 1), 1.0), np.ones(1), np.array([0.3]), DELTA_B, selected=True)
    history = MeanUpperBounds(np.ones(LUCK), focus=0.3)
    sums, counts, first, failed = np.zeros(LUCK), np.zeros(LUCK), 0, False

    def play(policy: int, n: int) -> None:
        nonlocal first, failed
        costs = (rng.random((n, 1)) < MEAN).astype(float)
        ids, index = np.arange(first, first + n), np.full(n, policy)
        process.asked(ids, index)
        process.told(ids, index, costs)
        history.update(policy, costs[:, 0].copy())
        sums[policy] += costs.sum()
        counts[policy] += n
        first += n
        if not whole_history:
            failed |= bool((process.values < MEAN).any())

    for policy in range(LUCK):
        play(policy, 20)
    for share in SELECTION_SHARES:
        pick = int((sums / counts).argmin())
        process.select(pick, first)
        for _ in range(10):
            if whole_history:
                failed |= history.bound(pick, -np.log(DELTA_B * share)) < MEAN
            play(pick, 10)
    return failed


def test_selection_does_not_make_bounds_fail_and_whole_history_at_selection_levels_does() -> None:
    for whole_history, guilty in ((False, False), (True, True)):
        rng = np.random.default_rng(9)
        assert convicted(sum(lucky_failure(rng, whole_history) for _ in range(30)), 30, DELTA_B) == guilty


# 5. Alarms: none for a feasible mixture with an infeasible member; ceilings return when all cells are dead; a cost above the ceiling.


def mixed_agent(monkeypatch: pytest.MonkeyPatch) -> CertifiedAgent:
    """An agent that plays policy 1 (mean cost 4.5) at weight .25 and the safe one (.5) otherwise: 1.5 in all, the limit."""
    reward, cost = np.full((2, 2), 5.0), np.array([[[0.5], [4.5]], [[0.4], [4.4]]])
    fixed = Plan(np.array([0.75, 0.25]), np.array([1.5]), 5.0, True, {0: "test", 1: "test"})
    monkeypatch.setattr(CertifiedAgent, "_make_plan", lambda self: fixed)
    monkeypatch.setattr(Objective, "update", lambda self, *_, **__: (False, None))
    monkeypatch.setattr(CertifiedAgent, "_bounds_matter", lambda self: False)
    return CertifiedAgent(hand_made(reward, cost, own=[1, 1]), trust="data", monitor_delta=0.2)


def mixture_alarms(monkeypatch: pytest.MonkeyPatch, seed: int, per_draw: bool) -> bool:
    one, rng = mixed_agent(monkeypatch), np.random.default_rng(seed)
    for _ in range(5):
        asked = one.ask(40)
        cost = np.where(rng.random(40) < np.array([0.05, 0.45])[asked.policy_index], 10.0, 0.0)
        if per_draw:
            # The mutant bets on episodes of the infeasible policy alone; the others pass it by at the limit, a factor of one.
            cost = np.where(asked.policy_index == 1, cost, 1.5)
        one.tell(asked.ids, np.full(40, 5.0), cost[:, None])
    return one.alarm is not None


def test_a_feasible_mixture_with_an_infeasible_member_does_not_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not convicted(sum(mixture_alarms(monkeypatch, seed, False) for seed in range(100)), 100, 0.2)


def test_a_bet_that_looks_at_the_draw_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    assert convicted(sum(mixture_alarms(monkeypatch, seed, True) for seed in range(40)), 40, 0.2)


def refuted_agent() -> CertifiedAgent:
    one = CertifiedAgent(two_cells(), trust="envelope")
    one._evidence.active[:] = one._evidence.watched[:] = False
    one.tell(one.ask().id, 5.0, [1.0])
    return one


def test_killing_all_cells_restores_the_ceilings_and_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CertifiedAgent(two_cells(), trust="envelope").bounds[1, 0] < 1.1
    one = refuted_agent()
    assert one.bounds.ravel().tolist() == [1.0, 10.0]
    assert one.alarm is not None
    monkeypatch.setattr(ProductRegion, "drop_start", lambda self, start: None)
    assert refuted_agent().bounds[1, 0] < 1.1, "the mutant trusts the simulator that was just rejected"


def test_a_cost_above_the_ceiling_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    for trust in ("cells", "envelope", "data"):
        one = CertifiedAgent(two_cells(), trust=trust, cost_ceilings=[8.0])  # type: ignore[arg-type]
        one.tell(one.ask().id, 5.0, [8.5])
        assert one.alarm is not None and "declared ceiling" in one.alarm
        assert one.plan.weights.tolist() == [1.0, 0.0]
    monkeypatch.setattr(CertifiedAgent, "_raise_alarm", lambda self, why, kind="": None)
    silent = CertifiedAgent(off_by_a_fifth(), trust="data", cost_ceilings=[8.0])
    silent.tell(silent.ask().id, 5.0, [8.5])
    assert silent.plan.weights[1] > 0.0, "without the alarm the mutant plays on"


def test_the_table_that_joint_bets_use_is_the_whole_box(deploy_set: PolicySet) -> None:
    """Centre and box differ wherever tasks of a cell differ; the traps above rest on bets looking at the box."""
    table = PredictionTable.of(deploy_set, np.asarray(deploy_set.bounds.cost_ceilings))
    n = len(deploy_set.cells)
    assert ((table.lower <= table.center[:n]) & (table.center[:n] <= table.upper)).all()
    assert (table.upper - table.lower)[:, 1:].max() > 0.1
