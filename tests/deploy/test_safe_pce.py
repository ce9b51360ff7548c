"""Safe-PCE: the schedule of the proof to the episode, the published constants against a plain loop, and honesty about both."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surefoot import (
    PCE,
    Criterion,
    PolicySet,
    SafePCE,
    Simulator,
    TabularPolicy,
    train,
)
from surefoot.deploy import Batch
from surefoot.deploy.safe_pce_constants import Between, Candidates, Locomotion, Published, PublishedPCE, Theory
from surefoot.experiments.runner import play
from surefoot.policyset.schema import Cells, EpisodeBounds, Predictions, TrainingReport
from surefoot.tasks import NoisyGridworld
from surefoot.training import ParameterDistance
from tests.refusals import refused
from tests.strategies import random_policy_set

DELTA, EPISODES = 0.05, 100_000


def tiny_cover(
    values: Any, costs: Any, safe_value: float, safe_costs: Any, *, limits: Any, eps: float, discount: float = 0.5
) -> PolicySet:
    """A policy set with hand-made predictions: N cells, each with its own policy, and a fine cover.

    Args:
        values, costs: (N,) and (N, I) of the cells' own policies.
        safe_value, safe_costs: of the safe policy, the same in every cell; safe_costs (I,).
        limits: (I,).
        eps: the radius of the cover that the set claims.
        discount: of the criterion.
    """
    values, costs, limits = np.asarray(values), np.asarray(costs), np.asarray(limits)
    n, i = costs.shape
    reward = np.full((n, n + 1), 0.1)
    cost = np.zeros((n, n + 1, i))
    reward[:, 0], cost[:, 0] = safe_value, safe_costs
    own = np.arange(1, n + 1)
    reward[np.arange(n), own], cost[np.arange(n), own] = values, costs
    cells = Cells(own, values, values, np.zeros((n, 1)), Predictions(reward, reward, cost, cost, reward, cost))
    return _assembled(cells, Criterion(discount, limits, (0.0, 1.0), np.ones(i)), eps)


def _assembled(cells: Cells, criterion: Criterion, eps: float) -> PolicySet:
    i = criterion.n_constraints
    base = random_policy_set(np.random.default_rng(0), constraints=i)
    top = criterion.effective_horizon
    return replace(
        base,
        criterion=criterion,
        policies=tuple(TabularPolicy(np.ones((1, 1))) for _ in range(len(cells) + 1)),
        cells=cells,
        bounds=EpisodeBounds(0.0, top, (top,) * i),
        training=TrainingReport("hand-made", ("p0",), "CMDP distance", eps, 500, 1, 0.0, 0.1),
    )


FINE = tiny_cover([1.9, 1.7], [[1.5], [0.4]], 0.6, [0.0], limits=[1.8], eps=1e-3)


def theory(policy_set: PolicySet = FINE, **options: Any) -> SafePCE:
    return SafePCE(policy_set, **({"preset": "theory", "delta": DELTA, "episodes": EPISODES} | options))


class Proof:
    """The constants of the proof, computed from their formulas for one candidate (rewards and costs of range one)."""

    def __init__(self, safe_slack: float, eps: float, discount: float, constraints: int, candidates: int) -> None:
        g = discount
        self.h, self.eps, self.slack = 1 / (1 - g), eps, safe_slack
        self.lipschitz = max(1 / (1 - g) + 2 * g / (1 - g) ** 2, 2 / (1 - g) + g / (1 - g) ** 2)
        self.error = (4 * self.lipschitz + 9) * eps
        self.contraction = (2 * safe_slack + self.error) / (3 * safe_slack)
        self.levels = math.floor(math.log(eps) / math.log(self.contraction))
        windows = candidates * (self.levels + 2)
        self.log = math.log(2 * (1 + constraints) * EPISODES * windows / DELTA)

    def radius(self, n: int) -> float:
        return math.sqrt(2 * self.log / n) * self.h + self.eps * (self.lipschitz + 1)

    def episodes(self, mixture_slack: float) -> int:
        return math.ceil(32 * self.log * self.h**2 / mixture_slack**2)

    def weight(self, level: int) -> float:
        """Closed form."""
        if level == 0:
            return 0.0
        usable = self.slack - 2 * self.eps * (self.lipschitz + 2)
        first = usable / (usable + 2 * self.h)
        room = self.slack - self.error
        power = self.contraction ** (level - 1)
        return room * first / (self.slack * first + (room - self.slack * first) * power)


def tell(agent: SafePCE, batch: Batch, reward: float, cost: Any) -> None:
    agent.tell(batch.ids, np.full(len(batch), reward), np.tile(np.atleast_1d(cost), (len(batch), 1)))


def predicted(policy_set: PolicySet, agent: SafePCE) -> tuple[float, np.ndarray]:
    """Return and costs that the current candidate predicts for the current mixture."""
    k = int(np.argsort(-policy_set.cells.optimal_center, kind="stable")[agent.candidate or 0])
    weights, predictions = agent.mixture.weights, policy_set.cells.predictions
    return float(weights @ predictions.reward_center[k]), weights @ predictions.cost_center[k]


def test_the_first_candidate_is_the_one_of_largest_value_and_starts_safe() -> None:
    shuffled = tiny_cover([1.1, 1.9, 1.5], [[0.1], [0.2], [0.3]], 0.6, [0.0], limits=[1.8], eps=1e-3)
    agent = theory(shuffled)
    assert agent.mixture.weights.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert PCE(shuffled, preset="theory").mixture.weights.tolist() == [0.0, 0.0, 1.0, 0.0]


def test_promotion_happens_at_the_promised_episode_and_weights_follow_the_closed_form() -> None:
    proof = Proof(1.8, 1e-3, 0.5, 1, 2)
    assert (8 * proof.lipschitz + 18) * 1e-3 <= 1.8, "the proof's condition holds for this cover"
    agent = theory()
    for level in range(proof.levels + 1):
        assert agent.level == level
        assert agent.weight == pytest.approx(proof.weight(level), abs=1e-12)
        assert agent.mixture.weights[:2].tolist() == pytest.approx([1 - agent.weight, agent.weight])
        reward, cost = predicted(FINE, agent)
        needed = proof.episodes(float(1.8 - cost[0]))
        tell(agent, agent.ask(needed - 1), reward, cost)
        assert agent.level == level, "one episode early"
        tell(agent, agent.ask(1), reward, cost)
        assert agent.level == level + 1, "at the promised episode"
    assert agent.weight > 0.9
    reward, cost = predicted(FINE, agent)
    final = agent.weight
    tell(agent, agent.ask(100_000), reward, cost)
    assert (agent.level, agent.weight) == (proof.levels + 1, final), "after the last level nothing rises"


def test_weights_never_exceed_what_the_slack_allows() -> None:
    """Whatever the level, the predicted mixture keeps the limit: that is what the schedule is for."""
    agent, proof = theory(), Proof(1.8, 1e-3, 0.5, 1, 2)
    for _ in range(proof.levels + 1):
        reward, cost = predicted(FINE, agent)
        assert cost[0] <= 1.8
        tell(agent, agent.ask(proof.episodes(float(1.8 - cost[0]))), reward, cost)
    assert agent.level == proof.levels + 1


@pytest.mark.parametrize(
    ("reward_error", "cost_error"), [(0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5)], ids=["R+", "R-", "C+", "C-"]
)
def test_elimination_happens_when_the_mean_leaves_the_radius(reward_error: float, cost_error: float) -> None:
    """A constant error is outside from the first n with radius(n) < |error|; both sides of both signals count."""
    policy_set = tiny_cover([1.9, 1.7], [[1.5], [0.4]], 0.9, [0.6], limits=[1.9], eps=1e-3)
    proof = Proof(1.3, 1e-3, 0.5, 1, 2)
    first = next(n for n in range(1, 10**6) if proof.radius(n) < 0.5)
    assert first < proof.episodes(1.3), "elimination must come before promotion here"
    agent = theory(policy_set)
    tell(agent, agent.ask(first - 1), 0.9 + reward_error, 0.6 + cost_error)
    assert agent.candidate == 0
    tell(agent, agent.ask(1), 0.9 + reward_error, 0.6 + cost_error)
    assert agent.candidate == 1
    assert (agent.level, agent.weight) == (0, 0.0)


def test_an_error_inside_the_model_error_is_tolerated_for_ever() -> None:
    proof = Proof(1.8, 1e-3, 0.5, 1, 2)
    tolerated = 0.99 * proof.eps * (proof.lipschitz + 1)
    agent = theory()
    for _ in range(20):
        reward, cost = predicted(FINE, agent)
        tell(agent, agent.ask(50_000), reward - tolerated, cost + tolerated)
    assert agent.candidate == 0
    assert agent.level == proof.levels + 1


def test_a_window_that_leaves_and_returns_inside_one_batch_still_eliminates() -> None:
    """The mean is judged after every episode, not at the end of the batch."""
    agent = theory()
    rewards = np.concatenate([np.full(1200, 1.6), np.zeros(2000)])
    assert abs(rewards.mean() - 0.6) < 0.01
    batch = agent.ask(rewards.size)
    agent.tell(batch.ids, rewards, np.zeros((rewards.size, 1)))
    assert agent.candidate == 1


def test_when_every_candidate_is_gone_the_safe_policy_is_played() -> None:
    agent = theory()
    for _ in range(2):
        tell(agent, agent.ask(5_000), 2.0, 2.0)
    assert agent.candidate is None
    assert agent.weight == 0.0
    assert agent.mixture.weights.tolist() == [1.0, 0.0, 0.0]
    tell(agent, agent.ask(5_000), 2.0, 2.0)
    assert agent.ask().policy_index == 0


def test_late_reports_of_an_earlier_mixture_do_not_enter_the_window() -> None:
    """Asked before the promotion, told after it, and far from the new mixture's prediction."""
    agent, proof = theory(), Proof(1.8, 1e-3, 0.5, 1, 2)
    early, late = agent.ask(proof.episodes(1.8)), agent.ask(50_000)
    tell(agent, early, 0.6, 0.0)
    assert agent.level == 1
    tell(agent, late, 2.0, 2.0)
    assert (agent.candidate, agent.level) == (0, 1)
    for _ in range(3):
        reward, cost = predicted(FINE, agent)
        tell(agent, agent.ask(proof.episodes(float(1.8 - cost[0]))), reward, cost)
    assert (agent.candidate, agent.level) == (0, 4)


def test_with_two_constraints_the_tighter_one_rules() -> None:
    policy_set = tiny_cover([1.9], [[1.5, 0.3]], 0.6, [0.0, 0.4], limits=[1.8, 1.6], eps=1e-3)
    proof, agent = Proof(1.2, 1e-3, 0.5, 2, 1), theory(policy_set)
    needed = proof.episodes(1.2)
    tell(agent, agent.ask(needed - 1), 0.6, [0.0, 0.4])
    assert agent.level == 0
    tell(agent, agent.ask(1), 0.6, [0.0, 0.4])
    assert agent.weight == pytest.approx(proof.weight(1))
    outside = theory(policy_set)
    first = next(n for n in range(1, 10**6) if proof.radius(n) < 0.9)
    tell(outside, outside.ask(first), 0.6, [0.0, 1.3])
    assert outside.candidate is None, "the second constraint alone eliminates"


@pytest.mark.parametrize(("factor", "moves"), [(0.999, True), (1.001, False)])
def test_the_proofs_condition_on_the_cover_decides_whether_the_weight_moves(factor: float, moves: bool) -> None:
    lipschitz = Proof(1.8, 1e-3, 0.5, 1, 1).lipschitz
    eps = factor * 1.8 / (8 * lipschitz + 18)
    agent = theory(tiny_cover([1.9], [[1.5]], 0.6, [0.0], limits=[1.8], eps=eps))
    assert bool(agent.notes) != moves
    tell(agent, agent.ask(20_000), 0.6, 0.0)
    assert (agent.weight > 0.0) == moves
    if not moves:
        assert "too coarse for the proof in 1 of 1 cells" in agent.notes[0]


def test_theory_never_leaves_the_safe_policy_on_the_gridworld_and_says_why(gridworld_set: PolicySet) -> None:
    agent = SafePCE(gridworld_set, preset="theory", delta=DELTA, episodes=40_000, seed=0)
    cells = len(gridworld_set.cells)
    assert agent.notes == (
        f"the cover is too coarse for the proof in {cells} of {cells} cells: the weight stays 0 there",
    )
    trace = play(agent, NoisyGridworld().cmdp(0.31), 40_000, seed=1)
    assert trace.ends[-1] == 40_000
    assert trace.weight.max() == 0.0
    assert trace.violating(np.array([1.5])) == 0


class PublishedReference:
    """The published rule, one episode at a time, in plain Python: sums of outcomes as ``[n, reward, cost]``.

    Written from the description in the module under test and the published description: candidates by predicted value; level 0 of
    later candidates judges all data of the safe policy at level 0 with half the variance; 1000 episodes before an elimination.
    """

    def __init__(self, policy_set: PolicySet) -> None:
        p, own = policy_set.cells.predictions, policy_set.cells.policy_index
        rows = range(len(own))
        every = [
            (
                p.reward_center[i, own[i]],
                p.cost_center[i, own[i], 0],
                p.reward_center[i, 0],
                p.cost_center[i, 0, 0],
                own[i],
            )
            for i in rows
        ]
        self.left = sorted(every, key=lambda c: -c[0])
        self.first, self.level, self.alpha = True, 0, 0.0
        self.window = [0, 0.0, 0.0]
        self.pool = [0, 0.0, 0.0]

    def played(self) -> tuple[int, float]:
        """Index of the candidate's policy and its weight."""
        return (int(self.left[0][4]), self.alpha) if self.left else (0, 0.0)

    def observe(self, reward: float, cost: float) -> None:
        if not self.left:
            return
        u, v, u_safe, v_safe, _ = self.left[0]
        value = self.alpha * u + (1 - self.alpha) * u_safe
        dear = self.alpha * v + (1 - self.alpha) * v_safe
        pooled = self.level == 0 and not self.first
        for sums in (self.window, self.pool) if pooled else (self.window,):
            sums[0] += 1
            sums[1] += reward
            sums[2] += cost
        n, total_reward, total_cost = self.pool if pooled else self.window
        off_reward = abs(total_reward / n - value) > math.sqrt(4000 / n) + 0.08
        off_cost = abs(total_cost / n - dear) > math.sqrt((150 if pooled else 300) / n) + 0.01
        if self.window[0] >= 1000 and (off_reward or off_cost):
            self._next_window()
            self.left.pop(0)
            self.first, self.level, self.alpha = False, 0, 0.0
            return
        needed = min(max(100 / (1.5 - dear) ** 2, 1000), 5200)
        if self.window[0] - 2 >= needed and self.level <= math.log(0.01) / math.log(2 / 3):
            self._next_window()
            self.level += 1
            slack = 1.5 - v_safe
            if self.level == 1:
                self.alpha = (slack - 0.02) / (slack - 0.02 + 2)
            else:
                self.alpha = 3 * slack * self.alpha / ((self.alpha + 2) * slack + 0.03)
            self.alpha = min(max(self.alpha, 0.0), 1.0)

    def _next_window(self) -> None:
        if self.level == 0 and self.first:
            self.pool = list(self.window)
        self.window = [0, 0.0, 0.0]


@pytest.fixture(scope="module")
def coarse() -> PolicySet:
    """The cover that the published constants go with."""
    return train(NoisyGridworld(), tasks=150, holdout=0, radius=0.01, coverage=ParameterDistance(), seed=0)


def gridworld_plant(policy_set: PolicySet, noise: float, episodes: int) -> Callable[[int, int], tuple[float, float]]:
    """Outcome of episode k under policy j, the same whichever agent asks."""
    tables = np.stack([p.table for p in policy_set.policies if isinstance(p, TabularPolicy)])
    simulator = Simulator(NoisyGridworld().cmdp(noise), tables)
    cache = {}

    def outcome(j: int, k: int) -> tuple[float, float]:
        if j not in cache:
            played = simulator.run(np.full(episodes, j), seed=17)
            cache[j] = played.returns.tolist(), played.costs[:, 0].tolist()
        return cache[j][0][k], cache[j][1][k]

    return outcome


def shifting_plant(policy_set: PolicySet, noise: float, episodes: int) -> Callable[[int, int], tuple[float, float]]:
    """A plant that pretends to be another task every 2000 episodes, so that candidates die at different levels."""
    plants = [gridworld_plant(policy_set, q, episodes) for q in (0.27, 0.36, 0.3, 0.34)]
    return lambda j, k: plants[(k // 2000) % 4](j, k)


def deceitful_plant(policy_set: PolicySet, noise: float, episodes: int) -> Callable[[int, int], tuple[float, float]]:
    """Costs .33 above what the second candidate predicts of the safe policy: outside the pooled radius, inside that of one window.

    Returns that are off by 4, first one way and then the other, kill the first candidate and cancel in the pool.
    """
    p = policy_set.cells.predictions
    k = int(np.argsort(-p.reward_center[np.arange(len(policy_set.cells)), policy_set.cells.policy_index])[1])
    value, cost = float(p.reward_center[k, 0]), float(p.cost_center[k, 0, 0]) + 0.33
    return lambda j, episode: (value + (4.0 if episode < 1000 else -4.0), cost)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "noise", "episodes"),
    [(gridworld_plant, 0.27, 6_000), (shifting_plant, 0.0, 8_000), (deceitful_plant, 0.0, 2_100)],
    ids=["one task", "shifting", "deceitful"],
)
def test_published_preset_equals_a_plain_loop_at_every_episode(
    plant: Callable[..., Callable[[int, int], tuple[float, float]]], noise: float, episodes: int, coarse: PolicySet
) -> None:
    outcome = plant(coarse, noise, episodes)
    agent, reference = SafePCE(coarse, preset="published", seed=5), PublishedReference(coarse)
    levels, candidates = set(), set()
    for k in range(episodes):
        episode = agent.ask()
        index, alpha = reference.played()
        expected = np.zeros(len(coarse.policies))
        expected[index] += alpha
        expected[0] += 1.0 - alpha
        assert np.abs(episode.weights - expected).max() < 1e-12, f"episode {k}"
        reward, cost = outcome(episode.policy_index, k)
        agent.tell(episode.id, reward, cost)
        reference.observe(reward, cost)
        levels.add(agent.level)
        candidates.add(agent.candidate)
    if plant is not deceitful_plant:
        assert len(levels) > 1, "the weight must have moved, or the comparison shows nothing"
    if plant is not gridworld_plant:
        assert len(candidates) > 2, "several candidates must have died"


def test_published_preset_says_that_nothing_is_guaranteed(coarse: PolicySet) -> None:
    assert "outside the proof" in SafePCE(coarse, preset="published").notes[0]


def test_pce_plays_the_candidate_at_full_weight_and_violates(coarse: PolicySet) -> None:
    task = NoisyGridworld().cmdp(0.3399476)
    agent = PCE(coarse, preset="published", seed=0)
    assert "safety is not attempted" in agent.notes[0]
    trace = play(agent, task, 5_000, seed=0)
    assert trace.weight.min() == 1.0
    assert trace.violating(task.cost_limits) > 1_000
    assert trace.costs.max() > 1.6


def test_pce_eliminates_after_a_hundred_episodes_at_the_earliest(coarse: PolicySet) -> None:
    agent = PCE(coarse, preset="published")
    batch = agent.ask(99)
    agent.tell(batch.ids, np.zeros(99), np.zeros((99, 1)))
    assert agent.candidate == 0
    episode = agent.ask()
    agent.tell(episode.id, 0.0, 0.0)
    assert agent.candidate == 1
    assert agent.weight == 1.0


def test_the_same_seed_asks_for_the_same_policies() -> None:
    def draws(seed: int) -> list[int]:
        agent = PCE(FINE, preset="theory", seed=seed)
        safe = theory(seed=seed)
        tell(safe, safe.ask(5_000), 0.6, 0.0)
        return [*agent.ask(20).policy_index, *safe.ask(200).policy_index]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown preset": ({"preset": "paper"}, ("SF-ARGUMENT-CHOICE", "preset", "'paper'")),
    "delta zero": ({"delta": 0.0}, ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "0")),
    "delta one": ({"delta": 1.0}, ("SF-ARGUMENT-RANGE", "delta", "(0, 1)", "1")),
    "no episodes": ({"episodes": 0}, ("SF-ARGUMENT-RANGE", "episodes", "1", "0")),
    "fractional episodes": ({"episodes": 4e4}, ("SF-ARGUMENT-TYPE", "episodes", "1", "40000.0")),
    "negative seed": ({"seed": -1}, ("SF-ARGUMENT-RANGE", "seed", "0", "-1")),
    "radius zero": ({"eps": 0.0}, ("SF-ARGUMENT-RANGE", "eps", "(0, inf]", "0")),
    "radius negative": ({"eps": -0.1}, ("SF-ARGUMENT-RANGE", "eps", "(0, inf]", "-0.1")),
}


@pytest.mark.parametrize(("options", "refusal"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("kind", [SafePCE, PCE])
def test_bad_arguments_are_refused(kind: type[SafePCE], options: dict[str, Any], refusal: tuple[str, ...]) -> None:
    with refused(*refusal):
        kind(FINE, **options)


def test_a_radius_in_other_units_is_not_taken_for_the_papers(coarse: PolicySet) -> None:
    with refused("SF-ARGUMENT-MISSING", "eps", "None"):
        SafePCE(coarse, preset="theory")
    assert SafePCE(coarse, preset="theory", eps=0.0075).weight == 0.0


def test_a_refused_report_leaves_the_window_alone() -> None:
    agent, proof = theory(), Proof(1.8, 1e-3, 0.5, 1, 2)
    batch = agent.ask(proof.episodes(1.8))
    rewards = np.full(len(batch), 0.6)
    rewards[-1] = np.nan
    with refused("SF-REPORT-FINITE"):
        agent.tell(batch.ids, rewards, np.zeros((len(batch), 1)))
    assert agent.level == 0
    tell(agent, batch, 0.6, 0.0)
    assert agent.level == 1


def test_the_hand_set_constants_of_the_locomotion_code() -> None:
    """Returns there are sums over 200 steps; here a discounted episode is as long as its effective horizon."""
    constants, n, slack = Locomotion(50.0), np.array([400.0]), np.array([2.0])
    np.testing.assert_allclose(constants.reward_radius(n, 0, 0), (np.sqrt(150.0) + 28.0) * 0.25)
    np.testing.assert_allclose(constants.cost_radius(n, 0, 0), [[np.sqrt(1.5) + 1.0]])
    assert (constants.first_check, constants.promotion(slack), constants.last_level(slack)) == (301, 350.0, 14.0)
    assert constants.weight(1, 0.0, slack) == 0.5
    assert constants.weight(2, 0.5, slack) == 0.6
    assert constants.weight(3, 1.0, slack) == 1.0


def test_between_goes_from_the_proofs_radii_to_the_published_ones_and_beyond() -> None:
    n, slack = np.array([500.0, 4000.0]), np.array([0.4])
    proof = Theory(FINE, Candidates.of(FINE), 0.01, 1000, 0.05)
    for hand_set in (Published(), PublishedPCE()):
        radii = []
        for share in (0.0, 0.5, 1.0, 1.2):
            found = Between(proof, hand_set, share)
            radii.append([*found.reward_radius(n, 1, 0), *found.cost_radius(n, 1, 0)[:, 0], found.promotion(slack)])
            assert (found.first_check, found.weight(1, 0.0, slack)) == (
                hand_set.first_check,
                hand_set.weight(1, 0.0, slack),
            )
        ends = [
            [*c.reward_radius(n, 1, 0), *c.cost_radius(n, 1, 0)[:, 0], c.promotion(slack)] for c in (proof, hand_set)
        ]
        np.testing.assert_allclose(radii[0], ends[0])
        np.testing.assert_allclose(radii[2], ends[1])
        np.testing.assert_allclose(np.square(radii[1]), np.multiply(*ends))
    none = np.array([0.0])
    assert math.isinf(proof.promotion(none)), "the proof never raises the weight here"
    assert math.isinf(Between(proof, Published(), 0.9).promotion(none))
    assert Between(proof, Published(), 1.1).promotion(none) == Published().promotion(none)


def test_between_gets_bolder_and_at_share_one_plays_as_published(coarse: PolicySet) -> None:
    n, slack = np.array([500.0, 4000.0]), np.array([0.4])
    proof = Theory(coarse, Candidates.of(coarse), Published.eps, 6000, 0.05)
    ladder = [Between(proof, Published(), share) for share in (0.0, 0.8, 1.0, 1.3)]
    sizes = [[*c.reward_radius(n, 1, 0), *c.cost_radius(n, 1, 0)[:, 0], c.promotion(slack)] for c in ladder]
    assert (np.diff(np.asarray(sizes), axis=0) < 0.0).all(), "in the units of the published code every step is bolder"
    task = NoisyGridworld().cmdp(0.3)
    played = [
        play(SafePCE(coarse, seed=3, **options), task, 6000, seed=2)
        for options in (
            {"preset": "published"},
            {"preset": "between", "share": 1.0},
            {"preset": "between", "share": 0.0},
        )
    ]
    np.testing.assert_array_equal(played[0].costs, played[1].costs)
    assert played[0].weight.max() > 0.0 == played[2].weight.max()
    assert SafePCE(coarse, preset="between").notes[0].startswith("constants between")
    with refused("SF-ARGUMENT-RANGE", "share"):
        SafePCE(coarse, preset="between", share=-0.1)
