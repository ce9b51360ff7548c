"""The belief's kernels against closed forms, optimisers and brute force; the planner's rules about time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from surefoot.deploy.belief.kernels import innovation, misfit, mixture, moments, posterior
from surefoot.deploy.belief.planner import BeliefPlanner, following_time
from surefoot.policyset.belief import Belief
from tests.refusals import refused


def made_belief(
    rng: np.random.Generator, *, j: int = 4, i: int = 1, d: int = 3, curved: bool = True, **changes: Any
) -> Belief:
    f, pairs = 1 + i, d * (d + 1) // 2
    center = np.concatenate([rng.uniform(5, 9, (j, 1)), rng.uniform(0.5, 2.0, (j, i))], axis=1)
    slope = 0.2 * rng.standard_normal((j, f, d))
    curve = 0.02 * rng.standard_normal((j, f, pairs)) if curved else np.zeros((j, f, 0))
    residual = rng.uniform(0.01, 0.03, (j, f))
    noise = np.stack([np.eye(f) + 0.3 for _ in range(j)])[:, None]
    values: dict[str, Any] = {
        "support": np.zeros((0, 3), dtype=np.int64),
        "kernel_center": np.zeros(0),
        "kernel_slope": np.zeros((0, d)),
        "initial_states": np.zeros(0, dtype=np.int64),
        "outcome_center": center[:, None],
        "outcome_slope": slope[:, None],
        "outcome_curve": curve[:, None],
        "outcome_residual": residual[:, None],
        "outcome_noise": noise,
        "value_center": center,
        "value_slope": slope,
        "value_curve": curve,
        "value_residual": residual,
        "informative": True,
        "tasks": 50,
    }
    return Belief(**{**values, **changes})


def outcome_parts(b: Belief) -> tuple[Any, ...]:
    return b.outcome_center, b.outcome_slope, b.outcome_curve, b.outcome_residual, b.outcome_noise


def no_moves(b: Belief) -> tuple[Any, ...]:
    return np.zeros(len(b.support)), b.kernel_center, b.kernel_slope


def value_at(b: Belief, z: np.ndarray) -> np.ndarray:
    """(J, V) values by the definition."""
    first, second = np.triu_indices(z.size)
    found = b.value_center + b.value_slope @ z
    return found + (b.value_curve @ (z[first] * z[second]) if b.value_curve.shape[2] else 0.0)


def test_a_linear_belief_is_updated_by_the_gaussian_formula() -> None:
    rng = np.random.default_rng(1)
    b = made_belief(rng, curved=False)
    seen = np.array([[5.0], [0.0], [12.0], [1.0]])
    sums = rng.normal(size=(4, 1, 2)) + seen[..., None] * b.outcome_center
    z, precision = posterior(np.zeros(3), *no_moves(b), seen, sums, *outcome_parts(b), True, 2)
    wanted, right = np.eye(3), np.zeros(3)
    for j in (0, 2, 3):
        n, a = seen[j, 0], b.outcome_slope[j, 0]
        weight = np.linalg.inv(b.outcome_noise[j, 0] / n + np.diag(b.outcome_residual[j, 0] ** 2))
        wanted += a.T @ weight @ a
        right += a.T @ weight @ (sums[j, 0] / n - b.outcome_center[j, 0])
    np.testing.assert_allclose(precision, wanted, rtol=1e-12)
    np.testing.assert_allclose(z, np.linalg.solve(wanted, right), rtol=1e-10)


def test_what_the_fit_misses_does_not_average_out() -> None:
    rng = np.random.default_rng(2)
    b = made_belief(rng, curved=False, outcome_residual=np.full((4, 1, 2), 0.5))
    many = np.full((4, 1), 1e9)
    _, precision = posterior(
        np.zeros(3), *no_moves(b), many, many[..., None] * b.outcome_center, *outcome_parts(b), True, 1
    )
    slopes = b.outcome_slope.reshape(-1, 3)
    np.testing.assert_allclose(precision, np.eye(3) + slopes.T @ slopes / 0.25, rtol=1e-6)


def kernel_belief(rng: np.random.Generator) -> Belief:
    """Two rows of three entries each, linear in two latents."""
    support = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 0, 0], [1, 0, 1], [1, 0, 2]])
    slope = 0.05 * rng.standard_normal((6, 2))
    slope[2], slope[5] = -slope[0] - slope[1], -slope[3] - slope[4]
    center = np.array([0.5, 0.3, 0.2, 0.2, 0.6, 0.2])
    return made_belief(rng, d=2, support=support, kernel_center=center, kernel_slope=slope, informative=False)


def test_transitions_lead_to_the_mode_that_an_optimiser_finds() -> None:
    rng = np.random.default_rng(3)
    b = kernel_belief(rng)
    moves = np.array([40.0, 50.0, 10.0, 5.0, 30.0, 25.0])
    z = np.zeros(2)
    for _ in range(4):
        z, precision = posterior(
            z,
            moves,
            b.kernel_center,
            b.kernel_slope,
            np.zeros((4, 1)),
            np.zeros((4, 1, 2)),
            *outcome_parts(b),
            False,
            2,
        )

    def loss(x: np.ndarray) -> float:
        return float(0.5 * x @ x - moves @ np.log(np.maximum(b.kernel_center + b.kernel_slope @ x, 1e-9)))

    best = minimize(loss, np.zeros(2), tol=1e-12).x
    np.testing.assert_allclose(z, best, atol=1e-5)
    step = 1e-4
    second = np.array(
        [
            [
                (
                    loss(z + step * (e + f))
                    - loss(z + step * (e - f))
                    - loss(z - step * (e - f))
                    + loss(z - step * (e + f))
                )
                / (4 * step**2)
                for f in np.eye(2)
            ]
            for e in np.eye(2)
        ]
    )
    np.testing.assert_allclose(precision, second, rtol=1e-4)


def test_moments_are_those_of_values_at_random_latents() -> None:
    rng = np.random.default_rng(4)
    b = made_belief(rng)
    z, half = rng.standard_normal(3) * 0.3, rng.standard_normal((3, 3))
    precision = np.eye(3) * 40 + half @ half.T
    mean, axes = moments(z, precision, b.value_center, b.value_slope, b.value_curve)
    draws = z + rng.multivariate_normal(np.zeros(3), np.linalg.inv(precision), 200_000)
    values = np.array([value_at(b, x)[:, 1] for x in draws[:20_000]])
    first, second = np.triu_indices(3)
    all_returns = (
        b.value_center[:, 0]
        + draws @ b.value_slope[:, 0].T
        + (draws[:, first] * draws[:, second]) @ b.value_curve[:, 0].T
    )
    np.testing.assert_allclose(mean[:, 0], all_returns.mean(axis=0), atol=5 * all_returns.std() / 400)
    np.testing.assert_allclose(axes[:, 0] @ axes[:, 0].T, np.cov(values, rowvar=False), rtol=0.06, atol=2e-4)


def rule(b: Belief, mean: Any, axes: Any, boldness: float, a: int, c: int, w: np.ndarray) -> np.ndarray:
    """(n, I) left side of the rule for policies a and c at shares w (n,) of c."""
    middle = (1 - w)[:, None, None] * axes[a] + w[:, None, None] * axes[c]
    squares = b.value_residual[:, 1:] ** 2
    own = (1 - w)[:, None] ** 2 * squares[a] + w[:, None] ** 2 * squares[c] if a != c else squares[[a]]
    expected = (1 - w)[:, None] * mean[a, 1:] + w[:, None] * mean[c, 1:]
    return expected + boldness * np.sqrt((middle**2).sum(axis=2) + own)


@pytest.mark.parametrize("i", [1, 2])
@pytest.mark.parametrize("boldness", [0.5, 2.0, 4.0])
def test_the_mixture_is_the_best_pair_that_brute_force_finds(i: int, boldness: float) -> None:
    found_any, grid = 0, np.linspace(0.0, 1.0, 4001)
    for seed in range(20):
        rng = np.random.default_rng([5, seed])
        b = made_belief(rng, j=5, i=i)
        limits = np.full(i, 1.5)
        mean, axes = moments(
            0.2 * rng.standard_normal(3), np.eye(3) * 9.0, b.value_center, b.value_slope, b.value_curve
        )
        first, second, share, found = mixture(mean, axes, b.value_residual, limits, boldness)
        best = -np.inf
        for a in range(5):
            if (rule(b, mean, axes, boldness, a, a, np.zeros(1)) > limits).any():
                continue
            for c in range(5):
                if a != c:
                    good = grid[(rule(b, mean, axes, boldness, a, c, grid) <= limits).all(axis=1)]
                    best = max(best, ((1 - good) * mean[a, 0] + good * mean[c, 0]).max())
        assert found == np.isfinite(best)
        if found:
            found_any += 1
            value = (1 - share) * mean[first, 0] + share * mean[second, 0]
            assert best - 1e-9 <= value <= best + 2e-3
            assert (rule(b, mean, axes, boldness, first, second, np.array([share])) <= limits + 1e-9).all()
    assert found_any > 5


def test_surprise_is_standard_on_plants_of_the_belief_and_grows_off_them() -> None:
    rng = np.random.default_rng(6)
    b = made_belief(rng, curved=False)
    usual, shifted = [], []
    for _ in range(4000):
        z = rng.standard_normal(3)
        n = np.array([[20.0], [0.0], [10.0], [5.0]])
        mean = (
            b.outcome_center[:, 0] + b.outcome_slope[:, 0] @ z + b.outcome_residual[:, 0] * rng.standard_normal((4, 2))
        )
        totals = n * mean + np.sqrt(n) * np.array(
            [rng.multivariate_normal(np.zeros(2), m) for m in b.outcome_noise[:, 0]]
        )
        usual.append(innovation(np.zeros(3), np.eye(3), n, totals[:, None], *outcome_parts(b)))
        shifted.append(innovation(np.zeros(3), np.eye(3), n, (totals + 2.0 * n)[:, None], *outcome_parts(b)))
    assert abs(np.mean(usual)) < 5 * np.std(usual) / np.sqrt(len(usual))
    assert np.mean(shifted) > 20.0


def test_transition_misfit_is_standard_on_the_kernel_and_grows_off_it() -> None:
    rng = np.random.default_rng(7)
    b = kernel_belief(rng)
    row = np.array([0, 0, 0, 1, 1, 1])
    z = np.array([0.5, -0.5])
    p = (b.kernel_center + b.kernel_slope @ z).reshape(2, 3)
    found = [
        misfit(
            z, np.concatenate([rng.multinomial(300, q) for q in p]).astype(float), row, b.kernel_center, b.kernel_slope
        )
        for _ in range(2000)
    ]
    assert abs(np.mean(found)) < 5 * np.std(found) / np.sqrt(2000)
    other = np.concatenate([rng.multinomial(300, [0.2, 0.3, 0.5]), rng.multinomial(300, p[1])]).astype(float)
    assert misfit(z, other, row, b.kernel_center, b.kernel_slope) > 20.0


# ------------------------------------------------------------------------------------------------------------- planner


def test_plan_times_grow_by_a_tenth_and_keep_to_batches() -> None:
    times = [0]
    while times[-1] < 40_000:
        times.append(following_time(times[-1]))
    assert times[:12] == list(range(12)) and len(times) < 115
    assert all(following_time(t, batch=20) % 20 == 0 for t in range(0, 300, 20))


def planner_of(rng: np.random.Generator, **how: Any) -> BeliefPlanner:
    return BeliefPlanner(made_belief(rng, curved=False), [1.4], 1.5, 200, **how)


def reports(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(0, 4, n), rng.normal(size=(n, 2)) + 1.0


def run(planner: BeliefPlanner, index: np.ndarray, outcomes: np.ndarray, order: Any) -> list[np.ndarray]:
    """Mixtures of a run whose reports arrive in the order that ``order(opened)`` gives: ids to be told once so many were asked."""
    found, told = [], set()
    for opened in range(len(index)):
        for k in order(opened, told):
            assert planner.tell(np.array([k]), index[[k]], outcomes[[k]])
            told.add(k)
        if planner.is_due(opened):
            assert planner.missing() == 0
            planner.refresh()
        found.append(planner.weights)
    return found


def test_mixtures_do_not_depend_on_when_reports_come_within_the_delay() -> None:
    index, outcomes = reports(np.random.default_rng(8), 150)

    def at_once(opened: int, told: set[int]) -> list[int]:
        return [k for k in range(opened) if k not in told]

    def last_moment(opened: int, told: set[int]) -> list[int]:
        return [k for k in range(opened - 10) if k not in told]

    def shuffled(opened: int, told: set[int]) -> list[int]:
        late = [k for k in range(opened) if k not in told and (k < opened - 10 or (7 * k + opened) % 3 == 0)]
        return late[::-1]

    runs = [
        run(planner_of(np.random.default_rng(9), delay=10), index, outcomes, o)
        for o in (at_once, last_moment, shuffled)
    ]
    for other in runs[1:]:
        np.testing.assert_allclose(other, runs[0], rtol=0, atol=1e-12)
    assert len({w.tobytes() for w in runs[0]}) > 10
    assert not np.allclose(run(planner_of(np.random.default_rng(9)), index, outcomes, at_once), runs[0])


def test_reports_that_are_too_late_or_belong_to_two_plans_are_not_used() -> None:
    rng = np.random.default_rng(10)
    planner = planner_of(rng)
    index, outcomes = reports(rng, 40)
    for t in range(30):
        if planner.is_due(t):
            planner.refresh()
        if t != 3:
            planner.tell(np.array([t]), index[[t]], outcomes[[t]])
    assert not planner.tell(np.array([3]), index[[3]], outcomes[[3]])
    due = planner.due
    assert not planner.tell(np.array([due - 1, due]), index[:2], outcomes[:2])
    assert planner.missing() == planner.cutoff_at(due) - 30 and planner.total.seen.sum() == planner.cutoff - 1


def test_lost_episodes_are_accounted_for_and_say_nothing() -> None:
    rng = np.random.default_rng(11)
    planner = planner_of(rng)
    planner.refresh()
    assert planner.lost([0]) and planner.missing() == 0
    before = planner.latents.copy()
    planner.refresh()
    np.testing.assert_array_equal(planner.latents, before)


def test_exposure_limits_weights_off_the_safe_policy() -> None:
    rng = np.random.default_rng(12)
    index, outcomes = reports(rng, 60)
    outcomes[:, 1] -= 1.0
    capped, free = (planner_of(np.random.default_rng(13), exposure=e) for e in (0.2, 1.0))
    for planner in (capped, free):
        run(planner, index, outcomes, lambda opened, told: [k for k in range(opened) if k not in told])
    assert 1.0 - capped.weights[0] == pytest.approx(0.2) and free.weights[0] < 0.5
    assert capped.weights.sum() == pytest.approx(1.0)


def test_upper_costs_are_the_rule_at_the_mixture() -> None:
    rng = np.random.default_rng(14)
    planner = planner_of(rng)
    index, outcomes = reports(rng, 30)
    run(planner, index, outcomes, lambda opened, told: [k for k in range(opened) if k not in told])
    assert planner.found
    b, w = planner._belief, planner.weights
    mean, axes = moments(planner.latents, planner.precision, b.value_center, b.value_slope, b.value_curve)
    own = (w**2) @ b.value_residual[:, 1] ** 2
    wanted = w @ mean[:, 1] + planner._planned * np.sqrt(((w @ axes[:, 0]) ** 2).sum() + own)
    assert float(w @ planner.upper[:, 0]) == pytest.approx(wanted, rel=1e-12)
    assert wanted <= 1.4


def test_a_transition_that_no_training_task_makes_is_infinitely_surprising() -> None:
    rng = np.random.default_rng(15)
    planner = BeliefPlanner(kernel_belief(rng), [1.4], 2.0, 50)
    planner.refresh()
    known = np.array([[0, 0, 0, 3], [1, 0, 1, 2]])
    planner.tell(np.array([0]), np.array([0]), np.array([[1.0, 0.0]]), transitions=known)
    assert np.isfinite(planner.surprise)
    planner.tell(np.array([1]), np.array([0]), np.array([[1.0, 0.0]]), transitions=np.array([[0, 0, 3, 1]]))
    assert planner.surprise == np.inf


def test_state_goes_on_as_if_nothing_had_happened() -> None:
    rng = np.random.default_rng(16)
    index, outcomes = reports(rng, 60)

    def late(opened: int, told: set[int]) -> list[int]:
        return [k for k in range(opened - 5) if k not in told]

    first, twin = planner_of(np.random.default_rng(17), delay=5), planner_of(np.random.default_rng(17), delay=5)
    run(first, index[:31], outcomes[:31], late)
    twin.load_state_dict(first.state_dict())
    for planner in (first, twin):
        for k in range(25, 55):
            planner.tell(np.array([k]), index[[k]], outcomes[[k]])
        planner.refresh()
    np.testing.assert_array_equal(first.weights, twin.weights)
    assert first.due == twin.due


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"value_slope": np.zeros((4, 2, 2))}, "SF-ARGUMENT-SHAPE", ("kernel_slope", "2", "3")),
        ({"outcome_curve": np.zeros((4, 1, 2, 5))}, "SF-ARGUMENT-SHAPE", ("outcome_curve", "6", "5")),
        ({"outcome_noise": np.full((4, 1, 2, 2), 1.0)}, "SF-ARGUMENT-RANGE", ("outcome_noise",)),
        ({"informative": False}, "SF-ARGUMENT-RANGE", ("informative",)),
        ({"value_residual": np.full((4, 2), -1.0)}, "SF-ARGUMENT-RANGE", ("value_residual",)),
        ({"initial_states": np.array([3, 1])}, "SF-ARGUMENT-RANGE", ("initial_states",)),
        ({"support": np.array([[0.5, 0, 0]]), "kernel_center": np.ones(1), "kernel_slope": np.zeros((1, 3))}, "SF-ARGUMENT-RANGE", ("support",)),
    ],
)  # fmt: skip
def test_a_belief_that_makes_no_sense_is_refused(changes: dict[str, Any], code: str, words: tuple[str, ...]) -> None:
    with refused(code, *words):
        made_belief(np.random.default_rng(0), **changes)
