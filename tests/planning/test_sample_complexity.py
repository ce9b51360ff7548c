"""Theorem T9, inequality by inequality: information against closed forms and simulation, losses against real plans, counts against real runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.cmdp.simulate import transition_rows
from surefoot.deploy.evidence.marginal import SEPARATE_BETS, MarginalEvidence
from surefoot.deploy.evidence.mixture import FINAL
from surefoot.deploy.evidence.transitions import TransitionEvidence
from surefoot.deploy.planner import Program, largest_weight, plan
from surefoot.deploy.trace import batch_sizes
from surefoot.deploy.trust import Knowledge, data_start, simulated_ceilings, trust_level
from surefoot.experiments.lower_bound.listed import listed_set
from surefoot.experiments.runner import play
from surefoot.planning import sample_complexity as module
from surefoot.planning.sample_complexity import Bound, Losses, RealTask, Use, moment_information, sample_complexity
from surefoot.stats.betting import IntervalWealth, bet_grid
from surefoot.stats.binomial import rate_test
from tests.refusals import refused

GRID = sf.tasks.NoisyGridworld()
HARD = sf.tasks.HardInstance(depth=2, margin=0.5, accuracy=0.3, discount=0.9, scale=0.4)
NOISE = 0.306


@pytest.fixture(scope="module")
def grid_truth(deploy_set: sf.PolicySet) -> RealTask:
    return RealTask.of(GRID.cmdp([NOISE]), deploy_set)


@pytest.fixture(scope="module")
def grid_bound(deploy_set: sf.PolicySet, grid_truth: RealTask) -> Bound:
    return sample_complexity(deploy_set, grid_truth, Use(pending=50))


@pytest.fixture(scope="module")
def hard_set() -> sf.PolicySet:
    return listed_set(HARD, radius=1e-3, delta=0.05, seed=0)


# --- information --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("s", [0.125, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("b", [1e-7, 1e-4, 0.00099, 0.00101, 0.1, 0.9, 0.99])
def test_information_is_exact_where_the_outcome_takes_two_values(s: float, b: float) -> None:
    """One of them the worst, the other the mean's counterpart at zero; no law with these moments tells less."""
    for p in (0.1, 0.5):
        mean, variance = -b * p, b * b * p * (1 - p)
        exact = -p * math.expm1(-s * math.log1p(-b))
        found = moment_information(s, 1.0, mean, variance, b)
        assert found <= exact + 1e-15
        assert found == pytest.approx(exact, rel=1e-3 if b < 1e-3 else 1e-9)


def test_information_is_a_lower_bound_for_any_law(rng: np.random.Generator) -> None:
    for _ in range(500):
        b, s = float(rng.uniform(0.001, 0.98)), float(rng.uniform(0.05, 2.0))
        y = np.maximum(rng.normal(rng.uniform(-0.5, 1.0), rng.uniform(0.01, 2.0), 6), -b)
        p = rng.dirichlet(np.full(6, 0.5))
        mean = float(p @ y)
        exact = float(p @ -np.expm1(-s * np.log1p(y)))
        assert moment_information(s, 1.0, mean, float(p @ (y - mean) ** 2), b) <= exact + 1e-12
        # With a smaller worst case than there is it is no bound; the scale of the bet does not matter.
        assert moment_information(s, 0.5, 2 * mean, 4 * float(p @ (y - mean) ** 2), b) == pytest.approx(
            moment_information(s, 1.0, mean, float(p @ (y - mean) ** 2), b)
        )
    assert moment_information(1.0, 1.0, -0.45, 0.9**2 * 0.25, 0.5) > -0.5 * (1 / (1 - 0.9) - 1) + 1e-3


def test_one_of_the_bets_is_near_enough_to_the_best() -> None:
    """The closed form of the page: at s = 1 some bet tells at least ``min(g^2 / (21 m2), g / (8 range))`` for gaps above ``.06 m2 / range``."""
    fractions = bet_grid(SEPARATE_BETS, 0.02, tilt=0.0).fractions
    for m2 in np.geomspace(1e-6, 1.0, 30):
        for gap in np.geomspace(max(0.06 * m2, 1e-9), math.sqrt(m2), 40):
            told = moment_information(1.0, fractions, gap, m2 - gap**2, fractions)
            assert told.max() >= min(gap**2 / (21.0 * m2), gap / 8.0)


def test_budgets_are_within_the_closed_form_of_the_page(deploy_set: sf.PolicySet, grid_truth: RealTask) -> None:
    """``T <= L max(21 m2 / g^2, 8 range / g) + D`` with the weight of the right bet, for every cost that a cell misstates by enough."""
    found, use, cells = module.budgets(deploy_set, grid_truth, Use(evidence="returns")), Use(), deploy_set.cells
    j, (ceiling,) = len(deploy_set.policies), simulated_ceilings(deploy_set)
    threshold = -math.log(FINAL * trust_level("cells").shares(use.delta)["elimination"])
    omega = 0.1 * np.r_[0.25, np.full(j - 1, 0.75 / (j - 1))] / 2 / 2 / SEPARATE_BETS
    level = threshold - np.log(omega) + math.log(len(cells) * (j + 1) / use.delta_speed)
    checked = 0
    for gap, end in (
        (grid_truth.costs[:, 0] - cells.predictions.cost_upper[:, :, 0], cells.predictions.cost_upper[:, :, 0]),
        (cells.predictions.cost_lower[:, :, 0] - grid_truth.costs[:, 0], cells.predictions.cost_lower[:, :, 0]),
    ):
        m2 = grid_truth.variances[:, 1] + (grid_truth.costs[:, 0] - end) ** 2
        covered = gap > 0.06 * m2 / ceiling
        with np.errstate(divide="ignore"):
            most = level * np.maximum(21.0 * m2 / gap**2, 8.0 * ceiling / gap) + 1.0
        assert (found.plays[covered] <= most[covered]).all()
        checked += int(covered.sum())
    assert checked > 40


def plays_by_hand(policy_set: sf.PolicySet, truth: RealTask, cell: int, policy: int) -> float:
    """``beta / a + D`` of the best separate bet, in plain loops from the page's formulas; evidence from returns only, default errors, D = 1."""
    predictions, best, policies = policy_set.cells.predictions, math.inf, len(policy_set.policies)
    ranges = [(0.0, policy_set.criterion.return_range[1]), (0.0, float(simulated_ceilings(policy_set)[0]))]
    ends = [
        (predictions.reward_lower[cell, policy], predictions.reward_upper[cell, policy]),
        (predictions.cost_lower[cell, policy, 0], predictions.cost_upper[cell, policy, 0]),
    ]
    for f, (low, high) in enumerate(ranges):
        mean, variance = truth.means[policy, f], truth.variances[policy, f]
        for gap, loss in ((mean - ends[f][1], ends[f][1] - low), (ends[f][0] - mean, high - ends[f][0])):
            for fraction in np.geomspace(0.02, 0.99, 4).tolist():
                bet = fraction / (high - low)
                share = 0.1 * (0.25 if policy == 0 else 0.75 / (policies - 1)) / (2 * 2 * 4)
                for s in module.EXPONENTS:
                    beta = s * math.log(1.0 / (0.02 * 0.98 * 0.05 * share))
                    beta += math.log(len(policy_set.cells) * (policies + 1) / 0.05)
                    b = bet * loss
                    told = s * bet * gap - bet**2 * (variance + gap**2) * ((1 - b) ** -s - 1 - s * b) / b**2
                    if gap > 0.0 and told > 0.0:
                        best = min(best, beta / told + 1.0)
    return best


def test_plays_are_those_of_a_plain_loop(deploy_set: sf.PolicySet, grid_truth: RealTask) -> None:
    found = module.budgets(deploy_set, grid_truth, Use(evidence="returns"))
    assert np.isinf(found.episodes).all()
    for cell in (0, 4, 9, 15, 19):
        for policy in (0, 2, 7):
            by_hand = plays_by_hand(deploy_set, grid_truth, cell, policy)
            assert found.plays[cell, policy] == pytest.approx(by_hand, rel=1e-6)


def test_episodes_are_those_under_the_policy_that_tells_least(deploy_set: sf.PolicySet, grid_truth: RealTask) -> None:
    found, task = module.budgets(deploy_set, grid_truth, Use()), GRID.cmdp([NOISE])
    kind = sf.CertifiedAgent(deploy_set)._evidence.kinds["transitions"]
    assert isinstance(kind, TransitionEvidence)
    (alternatives, ratios), paths = kind.pairs, module._Paths.of(deploy_set, task)
    error = math.log(len(deploy_set.cells) * (len(deploy_set.policies) + 1) / 0.05)
    for cell in (0, 5, 12):
        possible = []
        for r in np.flatnonzero(np.isfinite(alternatives.log_weights[cell])):
            level = -math.log(0.02 * 0.98 * 0.05 * 0.95) - float(alternatives.log_weights[cell, r])
            for s in module.EXPONENTS:
                told = 1.0 - paths.mean_power(ratios[:, cell, r], s)
                if told.min() > 0.0:
                    possible.append(((s * level + error) / told).max() + 1.0)
        assert any(found.episodes[cell] == pytest.approx(n, rel=1e-9) for n in possible)
        assert found.episodes[cell] <= 1.5 * min(possible)
        assert (found.plays[cell] <= found.episodes[cell] + 1e-9).all()


@pytest.mark.statistical
def test_wealth_grows_as_fast_as_claimed_whatever_is_played() -> None:
    """``s log W >= sum w a - ln(1/delta')`` for all k at once fails in at most delta' of runs; with three times the information in more."""
    rng, runs, length, delta, s = np.random.default_rng(11), 200, 300, 0.1, 0.5
    bet = float(bet_grid(SEPARATE_BETS, 0.02, tilt=0.0).fractions[3])
    told = 1.0 - 0.75 * (1.0 + 0.5 * bet) ** -s - 0.25 * (1.0 - 0.5 * bet) ** -s
    assert moment_information(s, bet, 0.25, 0.25 - 0.25**2, 0.5 * bet) <= told
    failed, tripled = 0, 0
    for _ in range(runs):
        process = IntervalWealth(1, 2, -0.5, 0.5, bets=bet_grid(SEPARATE_BETS, 0.02, tilt=0.0))
        log, spent, worst, worst_tripled = 0.0, 0.0, math.inf, math.inf
        for _ in range(length):
            weight = 0.9 if log < 0.5 else 0.3  # plays follow the wealth
            spent += weight * told
            if rng.random() < weight:
                process.update(1, [0.5 if rng.random() < 0.75 else -0.5], [0.0], [0.0])
                log = float(process.log_wealth()[0, 1, 0, 3])
            worst, worst_tripled = min(worst, s * log - spent), min(worst_tripled, s * log - 3.0 * spent)
        failed += worst < math.log(delta)
        tripled += worst_tripled < math.log(delta)
    assert rate_test(failed, runs, delta) >= 1e-3
    assert rate_test(tripled, runs, delta) < 1e-3


def test_weights_of_components_are_those_of_the_agent(deploy_set: sf.PolicySet) -> None:
    """The separate bets' wealth is the average of components with the weights that budgets are computed from."""
    agent = sf.CertifiedAgent(deploy_set, evidence="returns", ramp=0)
    play(agent, GRID.cmdp([NOISE]), 300, 4)
    kind = agent._evidence.kinds["separate"]
    assert isinstance(kind, MarginalEvidence)
    total = 0.0
    for process in kind.processes:
        weight = process.policy_weights[:, None, None] * 0.5 * process.bets.weights / len(kind.processes)
        total = total + (np.exp(process.log_wealth()) * weight).sum(axis=(1, 2, 3))
    parts, active = agent._evidence.parts(), agent._evidence.active
    np.testing.assert_allclose(parts["separate"][active], np.log(total)[active], rtol=1e-9)
    assert (agent._evidence.log_wealth() >= np.log(agent._evidence.weights["separate"]) + parts["separate"])[
        active
    ].all()


def test_powers_along_paths_agree_with_simulation(deploy_set: sf.PolicySet) -> None:
    agent = sf.CertifiedAgent(deploy_set)
    kind = agent._evidence.kinds["transitions"]
    assert isinstance(kind, TransitionEvidence)
    task, (_, ratios) = GRID.cmdp([NOISE]), kind.pairs
    paths = module._Paths.of(deploy_set, task)
    # The pair that tells most.
    powers = {(c, r): paths.mean_power(ratios[:, c, r], 0.25)[3] for c in range(len(ratios[0])) for r in range(2)}
    cell, pair = min(powers, key=lambda key: float(powers[key]))
    n, policy, logs = 4000, 3, ratios[:, cell, pair]
    index = np.full(n, policy)
    seen = sf.Simulator(task, paths.tables).run(index, seed=5, groups=np.arange(n))
    assert seen.transitions is not None
    for s in (0.125, 0.25):
        drawn = np.exp(-s * (seen.transitions @ logs[paths.place]))
        exact = float(paths.mean_power(logs, s)[policy])
        assert abs(drawn.mean() - exact) < 4.5 * drawn.std() / math.sqrt(n)
        assert abs(1.0 - exact) > 8.0 * drawn.std() / math.sqrt(n)


# --- losses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [0.02, 0.3])
@pytest.mark.parametrize("ramp", [0, 50])
def test_no_plan_loses_more_than_the_bound(
    deploy_set: sf.PolicySet, grid_truth: RealTask, kappa: float, ramp: int
) -> None:
    """The agent's own program, with random active cells and random data bounds that hold."""
    rng, cells, limits = np.random.default_rng(2), deploy_set.cells, deploy_set.criterion.cost_limits
    own, losses = module.true_cell(deploy_set, grid_truth), Losses(deploy_set, grid_truth, Use(ramp=ramp))
    start, level = data_start(deploy_set, simulated_ceilings(deploy_set), deploy_set.safe_margin), trust_level("cells")
    closest = math.inf
    for trial in range(60):
        active = rng.random(len(cells)) < (0.1, 0.4, 0.9)[trial % 3]
        active[own] = True
        share = rng.random((len(start), 1)) * (trial % 2)
        bounds = np.maximum(share * grid_truth.costs + (1.0 - share) * start, grid_truth.costs)
        rows = level.rows(Knowledge(deploy_set, active, bounds, limits, grid_truth.returns, 0, (), bounds[None]))
        doubted = tuple(np.flatnonzero(rng.random(len(start)) < 0.3)[1:].tolist()) if ramp else ()
        program = Program(rows.objective, rows.rows, rows.names, limits, rows.candidate, kappa, 1.0, (), doubted, 0.25)
        found = plan(program)
        assert found.certified
        living = np.flatnonzero(active)
        cell = int(living[cells.optimal_upper[living].argmax()])
        more = np.flatnonzero(active | (rng.random(len(cells)) < 0.2 * (trial % 4 == 3)))
        lost = grid_truth.optimum - float(grid_truth.returns @ found.weights)
        over = np.maximum(cells.predictions.reward_center[cell] - grid_truth.returns, 0.0)
        exactly = float(over @ found.weights)
        for among in (living, more):
            assert lost <= losses.worst(cell, among)
            assert lost <= losses.worst(cell, among, over, exactly * (1 + 1e-9) + 1e-9)
            assert found.weights[rows.candidate] >= losses.weight(cell, among) * kappa / 0.02
        closest = min(closest, losses.worst(cell, living) - lost)
        assert losses.worst(cell, living, over, 0.1) <= losses.worst(cell, living) + 1e-6
    assert closest < 0.5  # the bound is not far from what plans do lose


def test_the_smallest_value_is_certified_by_multipliers(rng: np.random.Generator) -> None:
    """Against enumeration: with one row the optimum mixes two policies."""
    for _ in range(30):
        objective, row = rng.normal(size=5), rng.normal(size=5)
        end = float(np.quantile(row, 0.3))
        shares = np.linspace(0.0, 1.0, 2001)
        mixed = np.array(
            [
                (x * objective[a] + (1 - x) * objective[b], x * row[a] + (1 - x) * row[b])
                for a in range(5)
                for b in range(5)
                for x in shares
            ]
        )
        by_hand = mixed[mixed[:, 1] <= end, 0].min()
        found = module._smallest(objective, row[None], np.array([end]))
        assert found <= by_hand + 1e-9
        assert found == pytest.approx(by_hand, abs=0.01)
    assert module._smallest(np.ones(3), np.ones((1, 3)), np.array([0.5])) == math.inf


def test_the_least_weight_is_the_exploration_share_of_the_largest(
    deploy_set: sf.PolicySet, grid_truth: RealTask
) -> None:
    losses, everything = Losses(deploy_set, grid_truth, Use()), np.arange(len(deploy_set.cells))
    rows, limits = losses._rows, deploy_set.criterion.cost_limits
    for cell in (0, 5):
        own = int(deploy_set.cells.policy_index[cell])
        room = (limits - rows[:, 0]) / np.maximum(rows[:, own] - rows[:, 0], 1e-12)
        by_hand = min(1.0, float(np.where(rows[:, own] > rows[:, 0], room, 1.0).min()))
        assert losses.weight(cell, everything) == pytest.approx(0.02 * by_hand, rel=1e-4)
        program = Program(rows[0, :, 0], rows, tuple("c" for _ in rows), limits, own, 0.02, 1.0)
        assert largest_weight(program) == pytest.approx(by_hand, rel=1e-4)


# --- the count ----------------------------------------------------------------------------------------------------------


def test_the_integral_is_what_the_slowest_adversary_takes(hard_set: sf.PolicySet) -> None:
    """Episode by episode: the candidate's policy gets the least weight there is, and cells leave as late as they may."""
    truth = RealTask.of(HARD.cmdp(1.0), hard_set)
    bound = sample_complexity(hard_set, truth)
    cell, eps = 1, 0.3
    plays = bound.budgets.plays[:, hard_set.cells.policy_index[cell]].copy()
    plays[[0, 2, 3]] = [40.0, 3.0, 25.0]
    spent, episodes, harmless = 0.0, 0, {}
    while True:
        among = np.flatnonzero((plays > spent) | (np.arange(4) == bound.cell))
        if among.tobytes() not in harmless:
            harmless[among.tobytes()] = bound._losses.worst(cell, among) <= eps
        if harmless[among.tobytes()]:
            break
        spent, episodes = spent + bound._losses.weight(cell, among), episodes + 1
    found = bound._until_harmless(cell, plays, np.zeros(5), math.inf, eps)
    assert episodes > 500
    assert episodes == pytest.approx(found, rel=0.01)
    # A cell with a larger budget than any that is known makes the count infinite where it matters.
    plays[0] = math.inf
    assert bound._until_harmless(cell, plays, np.zeros(5), math.inf, eps) == math.inf


def test_counts_fall_in_eps_and_grow_with_what_is_pending(
    deploy_set: sf.PolicySet, grid_bound: Bound, grid_truth: RealTask
) -> None:
    counts = [grid_bound.episodes(eps) for eps in (0.4, 0.8, 1.5, 3.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
    more = sample_complexity(deploy_set, grid_truth, Use(pending=500))
    assert more.episodes(1.0) == pytest.approx(grid_bound.episodes(1.0) + 450)
    ramped = sample_complexity(deploy_set, grid_truth, Use(pending=50, ramp=50))
    assert ramped.episodes(1.5) >= grid_bound.episodes(1.5) + 100
    assert ramped.confidence == pytest.approx(grid_bound.confidence - 0.011)


def test_the_count_is_the_sum_over_candidates(deploy_set: sf.PolicySet, grid_truth: RealTask) -> None:
    """Both parts by hand: what over-stated returns cost, for every threshold, and the integral; never more than the candidate lives."""
    eps = 1.2
    bound = sample_complexity(deploy_set, grid_truth, Use(evidence="returns"))
    assert bound.settled(eps) == math.inf
    total, both = 0.0, 0
    for cell in bound.candidates.tolist():
        own, over = (
            int(deploy_set.cells.policy_index[cell]),
            deploy_set.cells.predictions.reward_center[cell] - grid_truth.returns,
        )
        options = [bound._until_harmless(cell, bound.budgets.plays[:, own], np.zeros(over.size), math.inf, eps)]
        for share in module.THRESHOLDS:
            theta = share * eps
            counted = [
                j for j in range(over.size) if over[j] >= theta / 2 and math.isfinite(bound.budgets.plays[cell, j])
            ]
            if counted:
                kept = np.array([over[j] if j in counted else 0.0 for j in range(over.size)])
                paid = sum(bound.budgets.plays[cell, j] * over[j] for j in counted) / theta
                options.append(paid + bound._until_harmless(cell, bound.budgets.plays[:, own], kept, theta, eps))
        both += min(options) < options[0]
        total += min(options)
    assert both > 0
    assert bound.counted(eps) == pytest.approx(total, rel=1e-6)
    bound.budgets.episodes[:] = 100.0
    assert bound.counted(eps) <= 100.0 * bound.candidates.size


def test_regret_is_the_area_under_the_counts(grid_bound: Bound, grid_truth: RealTask) -> None:
    most = grid_truth.optimum - float(grid_truth.returns.min())
    assert grid_bound.regret(0) == 0.0
    assert grid_bound.regret(1) == pytest.approx(most, rel=0.5)
    by_hand = sum(width * min(40_000.0, grid_bound.episodes(e)) for e, width in ((1.0, 1.0), (2.0, most - 2.0)))
    assert grid_bound.regret(40_000, [1.0, 2.0]) == pytest.approx(40_000.0 + by_hand)


@pytest.mark.parametrize("accuracy", [0.1, 0.3])
@pytest.mark.parametrize("margin", [0.35, 1.0])
def test_the_count_is_within_the_order_of_the_page(accuracy: float, margin: float) -> None:
    """``C (672 rho^2 / (kappa xi^2) + 378 J) m2 L / eps^2`` on a family whose cells have no width."""
    family = replace(HARD, accuracy=accuracy, margin=margin)
    listed = listed_set(family, radius=1e-3, delta=0.05, seed=0)
    truth = RealTask.of(family.cmdp(2.0), listed)
    bound, j, n = sample_complexity(listed, truth), len(listed.policies), len(listed.cells)
    rho = float((listed.cells.optimal_center - listed.cells.predictions.reward_center[:, 0]).max())
    m2 = float((truth.variances[:, 1] + 1.0).max())
    omega = 0.02 * 0.75 / (j - 1) / 2 / 2 / SEPARATE_BETS
    level = -math.log(FINAL * 0.049 * omega) + math.log(n * (j + 1) / 0.05)
    order = bound.candidates.size * (672 * (rho / margin) ** 2 / 0.02 + 378 * j) * m2 * level / accuracy**2
    assert 0 < bound.episodes(accuracy) <= order


# --- real runs ----------------------------------------------------------------------------------------------------------


def followed(agent: sf.CertifiedAgent, task: sf.TabularCMDP, episodes: int, seed: int) -> tuple[Any, Any, Any]:
    """(T, J) mixtures, (T,) sizes of the batches, and (T, N) cells that were watched when each was asked."""
    simulator = sf.Simulator(task, np.stack([p.table for p in agent.policies if isinstance(p, sf.TabularPolicy)]))
    weights, sizes, watched, played = [], [], [], 0
    for n in batch_sizes(episodes, largest_batch=50):
        batch = agent.ask(n)
        weights.append(agent.weights.copy())
        watched.append(agent._evidence.watched.copy())
        sizes.append(n)
        seen = simulator.run(batch.policy_index, seed=seed, first_episode=played, groups=np.zeros(n, np.int64))
        assert seen.transitions is not None
        agent.tell(
            batch.ids, seen.returns, seen.costs, initial_state=seen.initial_states,
            transitions=transition_rows(task, seen.transitions[0]),
        )  # fmt: skip
        played += n
    return np.array(weights), np.array(sizes), np.array(watched)


@pytest.mark.statistical
def test_runs_on_the_gridworld_stay_within_every_budget_and_count(
    deploy_set: sf.PolicySet, grid_truth: RealTask, grid_bound: Bound
) -> None:
    task, runs, failed, used = GRID.cmdp([NOISE]), 6, 0, []
    allowed, total = {eps: grid_bound.episodes(eps) for eps in (0.4, 0.7, 1.0, 1.5, 2.0)}, grid_bound.regret(4000)
    plays, episodes = grid_bound.budgets.plays, grid_bound.budgets.episodes
    for seed in range(runs):
        agent = sf.CertifiedAgent(deploy_set, seed=seed, ramp=0, false_alarm_every=0.0)
        weights, sizes, watched = followed(agent, task, 4000, seed)
        assert agent.alarm is None
        shares = (weights * sizes[:, None])[:, None, :] * watched[:, :, None]
        spent, lived = shares.sum(axis=0), (watched * sizes[:, None]).sum(axis=0)
        lost = grid_truth.optimum - weights @ grid_truth.returns
        bad = all((sizes * (lost > eps)).sum() <= most for eps, most in allowed.items())
        regret = float((sizes * lost).sum()) <= total
        failed += not (
            watched[:, grid_bound.cell].all()
            and (spent <= plays).all()
            and (lived <= episodes).all()
            and bad
            and regret
        )
        used.append((lived / episodes)[np.isfinite(episodes) & (episodes < 4000)].max())
    assert rate_test(failed, runs, 1.0 - grid_bound.confidence) >= 1e-3
    # Not vacuous: a fifth of some budget is used in every run.
    assert min(used) > 0.2


@pytest.mark.statistical
@pytest.mark.parametrize("number", [0, 1, 3])
def test_runs_on_the_hard_instance_stay_within_the_count(hard_set: sf.PolicySet, number: int) -> None:
    task = HARD.cmdp(float(number))
    truth = RealTask.of(task, hard_set)
    assert truth.optimum == pytest.approx(HARD.optimal_value(number))
    bound, eps, counts = sample_complexity(hard_set, truth, Use(pending=200)), HARD.accuracy, []
    for seed in range(4):
        agent = sf.CertifiedAgent(hard_set, seed=seed, ramp=0, false_alarm_every=0.0)
        trace = play(agent, task, 30_000, seed, largest_batch=200)
        assert not agent.ever_rejected[
            bound.cell
        ]  # such a run, of which there are at most delta, is outside of the statement
        bad = trace.reward < truth.optimum - eps * (1 + 1e-9)
        counts.append(int((np.diff(np.r_[0, trace.ends]) * bad).sum()))
    assert max(counts) <= bound.episodes(eps * (1 + 1e-9))
    assert bound.episodes(eps) < 2e6


# --- refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "refusal"),
    [
        (lambda s, t: sample_complexity(s, replace(t, returns=t.returns + 9.0)), ("SF-ARGUMENT-MISMATCH", "truth")),
        (
            lambda s, t: sample_complexity(s, RealTask(np.ones(2), np.ones((2, 1)), np.ones((2, 2)), 1.0)),
            ("SF-ARGUMENT-MISMATCH", "truth"),
        ),
        (lambda s, t: RealTask(np.ones(2), np.ones((3, 1)), np.ones((2, 2)), 1.0), ("SF-ARGUMENT-SHAPE", "costs")),
        (lambda s, t: Use(delta_speed=0.0), ("SF-ARGUMENT-RANGE", "delta_speed", "(0, 1)", "0")),
        (lambda s, t: Use(pending=0), ("SF-ARGUMENT-RANGE", "pending", "1", "0")),
        (lambda s, t: sample_complexity(s, t).episodes(0.0), ("SF-ARGUMENT-RANGE", "eps", "0")),
    ],
)
def test_wrong_arguments_are_refused(
    deploy_set: sf.PolicySet, grid_truth: RealTask, call: Callable[..., Any], refusal: tuple[str, ...]
) -> None:
    with refused(*refusal):
        call(deploy_set, grid_truth)


def test_the_constants_are_those_of_the_code() -> None:
    assert (FINAL, trust_level("cells").exploration, SEPARATE_BETS) == (0.02, 0.02, 4)
