"""The sepsis family against the package whose kernel it is built on, and what the module promises about it."""

from __future__ import annotations

import importlib.util
import itertools
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.errors import MissingExtra
from surefoot.worlds import sepsis
from surefoot.worlds.sepsis import ABSORBED, DEATH, SUPPORT, SURVIVAL, Sepsis, load_records, restricted, spread

FAMILY = Sepsis()
MIDDLE = np.zeros(6)


@pytest.fixture(scope="module")
def records() -> sepsis.Records:
    return load_records()


@pytest.fixture(scope="module")
def package() -> Any:
    """The package itself, which imports the old gym and pandas."""
    return pytest.importorskip("icu_sepsis")


def row(cmdp: sf.TabularCMDP, state: int, action: int) -> np.ndarray:
    k = state * cmdp.n_actions + action
    found = np.zeros(cmdp.n_states)
    part = slice(cmdp.row_start[k], cmdp.row_start[k + 1])
    found[cmdp.successors[part]] = cmdp.probabilities[part]
    return found


def test_the_middle_of_the_family_is_the_packages_kernel(records: sepsis.Records) -> None:
    cmdp = FAMILY.cmdp(MIDDLE)
    assert (cmdp.n_states, cmdp.n_actions) == (716, 25)
    pairs = np.argwhere(records.admissible[:DEATH])
    for s, a in pairs[:: len(pairs) // 40]:
        np.testing.assert_allclose(row(cmdp, s, a), records.kernel[s, a], atol=1e-12)
    for s, a in np.argwhere(~records.admissible)[::500]:
        np.testing.assert_array_equal(row(cmdp, s, a), np.eye(716)[DEATH])
    for s in (DEATH, SURVIVAL, ABSORBED):
        np.testing.assert_array_equal(row(cmdp, s, 7), np.eye(716)[ABSORBED])
    np.testing.assert_allclose(cmdp.start, records.start, atol=1e-12)


@pytest.mark.parametrize("strategy", ["terminate", "mean"])
def test_the_packages_environment_moves_like_the_kernel(package: Any, records: sepsis.Records, strategy: str) -> None:
    """Seeded steps from one state under one action, admissible and not, of each strategy; and where reward is paid."""
    env = package.ICUSepsisEnv(inadmissible_action_strategy=strategy)
    assert env.gamma == 1.0 and env.dynamics["admissible_actions"][3] == np.flatnonzero(records.admissible[3]).tolist()
    np.testing.assert_array_equal(env.expert_policy, records.clinicians)
    env.reset(seed=5)
    state = int(np.flatnonzero(records.admissible[:DEATH].sum(axis=1) >= 4)[0])
    (inside, outside) = (int(np.flatnonzero(records.admissible[state] == kept)[0]) for kept in (True, False))
    for action in (inside, outside):
        if strategy == "terminate":
            expected = row(FAMILY.cmdp(MIDDLE), state, action)
        else:
            expected = records.kernel[state, action]
        counts = np.zeros(716)
        for _ in range(1500):
            env._current_state = state
            after, reward, done, cut, _ = env.step((action // 5, action % 5))
            counts[after] += 1
            assert reward == float(after == SURVIVAL) and done == (after >= DEATH) and not cut
        assert (counts[expected == 0.0] == 0.0).all()
        likely = expected * 1500 >= 5.0
        statistic = float((((counts - 1500 * expected) ** 2)[likely] / (1500 * expected)[likely]).sum())
        # chi-square with as many degrees of freedom: six standard deviations
        assert statistic < likely.sum() + 6.0 * np.sqrt(2.0 * max(likely.sum(), 1))


def test_spreading_a_policy_changes_nothing_that_it_does(records: sepsis.Records) -> None:
    """The package's default kernel under the expert policy, against admissible actions alone: same survival, without discount, as published."""
    patients = slice(0, DEATH)

    def survival(policy: np.ndarray, kernel: np.ndarray) -> tuple[float, float]:
        moves = np.einsum("sa,sat->st", policy[patients], kernel[patients])
        visits = np.linalg.solve(np.eye(DEATH) - moves[:, patients].T, records.start[patients])
        return float(visits @ moves[:, SURVIVAL]), float(visits.sum())

    spread_out = spread(records.clinicians, records.admissible)
    assert (spread_out[~records.admissible] == 0.0).all()
    strict = records.kernel.copy()
    strict[~records.admissible] = np.eye(716)[DEATH]
    ours, theirs = survival(spread_out, strict), survival(records.clinicians, records.kernel)
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert theirs == pytest.approx((0.78, 9.22), abs=0.02), "the table of the package's README"


def test_the_protocol_avoids_heavy_fluids_where_a_state_admits_less(records: sepsis.Records) -> None:
    policy = spread(records.clinicians, records.admissible)
    table = restricted(policy, records.admissible)
    np.testing.assert_allclose(table.sum(axis=1), 1.0)
    assert (table[~records.admissible] == 0.0).all()
    low = np.arange(25) // 5 < sepsis.RESTRICTED
    able = (records.admissible & low).any(axis=1)
    assert able.mean() > 0.9 and (table[able][:, ~low] == 0.0).all()
    np.testing.assert_allclose(table[~able], policy[~able], atol=1e-12)
    s = int(np.flatnonzero((policy[:, low] > 0.0).sum(axis=1) > 1)[0])
    kept = np.flatnonzero(low & (policy[s] > 0.0))
    np.testing.assert_allclose(table[s, kept] / table[s, kept[0]], policy[s, kept] / policy[s, kept[0]])


def test_effects_are_shifts_of_log_odds(records: sepsis.Records) -> None:
    """Against staying, exactly; other successors keep their proportions."""
    parameters = dict(zip(SUPPORT, [0.0, 0.1, -0.15, 0.3, -0.5, 0.4]))
    base, moved = FAMILY.cmdp(MIDDLE), FAMILY.cmdp(list(parameters.values()))
    mortal = (
        records.admissible[:DEATH] & (records.kernel[:DEATH, :, DEATH] > 0) & (records.kernel[:DEATH, :, SURVIVAL] > 0)
    )
    for f, v in ((0, 0), (1, 0), (2, 1), (3, 0), (4, 2)):
        where = np.flatnonzero(mortal[:, 5 * f + v])
        if not where.size:
            continue
        before, after = (row(c, where[0], 5 * f + v) for c in (base, moved))
        stay = int(np.argmax(before[:DEATH]))
        fluids = parameters["moderate"] if f in (1, 2) else parameters["heavy"] if f > 2 else 0.0
        death = parameters["mortality"] + fluids + (parameters["vasopressor"] if v else 0.0)
        for successor, shift in ((DEATH, death), (SURVIVAL, parameters["discharge"])):
            odds = np.log(after[successor] / after[stay]) - np.log(before[successor] / before[stay])
            assert odds == pytest.approx(shift, abs=1e-9)
        np.testing.assert_allclose(after[:DEATH] / after[stay], before[:DEATH] / before[stay], rtol=1e-9)


def test_severity_reweights_admissions(records: sepsis.Records) -> None:
    sicker, healthier = (FAMILY.cmdp([s, 0, 0, 0, 0, 0]).start @ records.sofa for s in (0.3, -0.3))
    assert healthier < records.start @ records.sofa < sicker


def test_the_safe_policy_keeps_a_margin_on_the_whole_support() -> None:
    """Five unknowns at their low ends are the worst, which is proved; the sixth is looked at finely, and corners are tried all the same."""
    policy = FAMILY.safe_policy()
    worst = [sf.evaluate(FAMILY.cmdp(FAMILY.worst_end(s)), policy).costs[0] for s in np.linspace(-0.3, 0.3, 13)]
    assert 0.05 * FAMILY.limit < FAMILY.limit - max(worst) < 0.1 * FAMILY.limit
    corners = np.array(list(itertools.product(*FAMILY.support)))
    costs = [sf.evaluate(FAMILY.cmdp(c), policy).costs[0] for c in corners[::5]]
    assert max(costs) <= max(worst) + 1e-9


def test_the_clinicians_without_the_protocol_would_break_the_limit(records: sepsis.Records) -> None:
    policy = spread(records.clinicians, records.admissible)
    assert sf.evaluate(FAMILY.cmdp(MIDDLE), policy).costs[0] > 1.3 * FAMILY.limit


@pytest.mark.slow
def test_the_limit_binds_and_no_optimum_orders_what_is_inadmissible(records: sepsis.Records) -> None:
    points = FAMILY.sample(6, np.random.default_rng(4))
    policy, prices = FAMILY.safe_policy(), []
    for point in points:
        cmdp = FAMILY.cmdp(point)
        found = sf.solve(cmdp).value_or_raise()
        assert found.costs[0] == pytest.approx(FAMILY.limit, rel=1e-6)
        prices.append(sf.solve(cmdp.with_limits([50.0])).value - found.value)
        assert found.value > sf.evaluate(cmdp, policy).reward + 0.03
        assert found.policy[:DEATH][~records.admissible[:DEATH]].max() <= 1e-9
    assert min(prices) > 1e-5 and np.mean(prices) > 0.002, "what the limit costs in survival"


def test_realities_outside_lie_outside() -> None:
    rng = np.random.default_rng(0)
    beyond = FAMILY.stretched("heavy")
    drawn = beyond.sample(300, rng)
    assert (np.abs(drawn[:, 4]) >= 0.6).all() and (np.abs(drawn[:, 4]) <= 1.2).all() and np.abs(drawn[:, 4]).max() > 1.1
    assert (drawn[:, 4] > 0).any() and (drawn[:, 4] < 0).any()
    others = np.delete(np.arange(6), 4)
    low, high = FAMILY.support[others].T
    assert (drawn[:, others] >= low).all() and (drawn[:, others] <= high).all()
    assert beyond.criterion.cost_limits == FAMILY.criterion.cost_limits
    inside = FAMILY.sample(200, rng)
    assert (inside >= FAMILY.support[:, 0]).all() and (inside <= FAMILY.support[:, 1]).all()


def test_orders_that_are_not_followed_mix_kernel_and_doses(records: sepsis.Records) -> None:
    """A deterministic order under deviation is a mixed one without."""
    share, family = 0.2, Sepsis(deviation=0.2)
    base, mixed = FAMILY.cmdp(MIDDLE), family.cmdp(MIDDLE)
    states = np.flatnonzero(records.admissible[:DEATH].sum(axis=1) > 2)[:3]
    for s in states:
        admissible = np.flatnonzero(records.admissible[s])
        a = admissible[-1]
        expected = (1.0 - share) * row(base, s, a) + share * np.mean([row(base, s, b) for b in admissible], axis=0)
        np.testing.assert_allclose(row(mixed, s, a), expected, atol=1e-12)
        dose = (1.0 - share) * (a // 5) / 4 + share * np.mean(admissible // 5) / 4
        assert mixed.costs[0, s, a] == pytest.approx(dose)
        np.testing.assert_array_equal(row(mixed, s, np.flatnonzero(~records.admissible[s])[0]), np.eye(716)[DEATH])


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load_records.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"surefoot\[sepsis\]"):
        load_records()
    load_records.cache_clear()
