"""The model of Hovorka et al. 2004: its integration against another method, its rest states in closed form, its mass balance, its curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from surefoot.arrays import FloatArray
from surefoot.worlds import diabetes_model as model

WEIGHT = 70.0


def right_hand_side(y: Any, p: Any, u: float) -> list[float]:
    """The module's equations, written down once more, per kilogram where the paper has it so."""
    d1, d2, s1, s2, i, x1, x2, x3, q1, q2 = y
    s_it, s_id, s_ie, egp0, f01, t_i, t_g, _ = p
    g = q1 / (0.16 * WEIGHT)
    f01c = f01 * WEIGHT if g >= 4.5 else f01 * WEIGHT * g / 4.5
    renal = 0.003 * (g - 9.0) * 0.16 * WEIGHT if g >= 9.0 else 0.0
    egp = egp0 * WEIGHT * (1.0 - x3) if x3 < 1.0 else 0.0
    return [
        -d1 / t_g,
        d1 / t_g - d2 / t_g,
        u - s1 / t_i,
        s1 / t_i - s2 / t_i,
        s2 / t_i / (0.12 * WEIGHT) - 0.138 * i,
        -0.006 * x1 + s_it * 0.006 * i,
        -0.06 * x2 + s_id * 0.06 * i,
        -0.03 * x3 + s_ie * 0.03 * i,
        -(f01c / (0.16 * WEIGHT * g) + x1) * q1 + 0.066 * q2 - renal + d2 / t_g + egp,
        x1 * q1 - (0.066 + x2) * q2,
    ]


def simulated(y: FloatArray, p: FloatArray, u: float, minutes: float, step: float = 5.0) -> FloatArray:
    """(n + 1, 10) states, ``step`` minutes apart."""
    states, work = [y.copy()], np.empty((5, model.STATES))
    for _ in range(round(minutes / step)):
        model.advance(y, p, WEIGHT, u, step, work)
        states.append(y.copy())
    return np.array(states)


def rest(basal: float, p: FloatArray = model.MEANS) -> FloatArray:
    return np.asarray(model.start_state(p, WEIGHT, basal, model.steady_state(p, basal, weight=WEIGHT)))


def glucose(states: FloatArray) -> FloatArray:
    """mmol/L."""
    return np.asarray(states[..., 8] / (0.16 * WEIGHT))


def eat(y: FloatArray, grams: float, p: FloatArray = model.MEANS) -> FloatArray:
    y[0] += p[7] * grams * 1000.0 / 180.16
    return y


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.4])
def test_steps_of_five_minutes_agree_with_another_method(scale: float) -> None:
    p = model.MEANS * np.array([scale, 1.0 / scale, scale, 1.0, 1.0, 1.0, scale, 1.0])
    y = eat(rest(0.38, p), 70.0, p)
    y[2] += 4000.0
    found = glucose(simulated(y.copy(), p, 6.3, 600.0))
    exact = solve_ivp(
        lambda t, z: right_hand_side(z, p, 6.3), (0.0, 600.0), y, rtol=1e-10, atol=1e-10, t_eval=np.arange(0.0, 601.0, 5.0), max_step=5.0
    )  # fmt: skip
    assert exact.success
    assert np.abs(found - glucose(exact.y.T)).max() * 18.0 < 0.1
    assert np.ptp(found) > 3.0


def test_smaller_steps_change_a_day_by_nothing_that_matters() -> None:
    rng, nothing = np.random.default_rng(0), np.empty((0, 4))
    settings = np.array([0.35, 25.0, 70.0, 120.0, 0.8, 80.0])
    differences = []
    for _ in range(200):
        draws = model.draw_day(rng)
        coarse, fine = (model.run_day(model.MEANS, WEIGHT, settings, draws, 0.0, 0.0, n, nothing) for n in (3, 24))
        differences.append(100.0 * (coarse - fine)[:2])
    assert np.abs(np.mean(differences, axis=0)).max() < 0.1
    assert np.abs(differences).max() < 4.0


@pytest.mark.parametrize("basal", [0.0, 0.15, 0.3, 0.386, 0.6])
def test_rest_is_where_its_closed_form_says(basal: float) -> None:
    y = rest(basal)
    assert np.abs(right_hand_side(y, model.MEANS, basal * 1000.0 / 60.0)).max() < 1e-9
    away = y.copy()
    away[8:] *= 1.3
    assert glucose(simulated(away, model.MEANS, basal * 1000.0 / 60.0, 6000.0))[-1] == pytest.approx(
        glucose(y), rel=1e-3
    )


def test_the_published_mean_patient_is_normal_at_the_usual_basal_rate() -> None:
    """About 6.4 mU/min are what implementations of the paper give the mean patient of 70 kg for a normal fasting glucose (4 to 6 mmol/L)."""
    assert 4.5 < model.steady_state(model.MEANS, 6.43 * 60.0 / 1000.0) < 6.0
    assert model.steady_state(model.MEANS, 0.0) > 15.0
    levels = [model.steady_state(model.MEANS, basal) for basal in np.linspace(0.0, 1.0, 50)]
    assert (np.diff(levels) < 0.0).all()


def test_what_is_eaten_arrives_and_what_is_injected_is_cleared() -> None:
    y = eat(np.zeros(model.STATES), 60.0)
    y[2] = 5000.0
    states = simulated(y, model.MEANS, 0.0, 3000.0, step=1.0)
    arrived, cleared = np.trapezoid(states[:, 1] / 40.0), np.trapezoid(0.138 * states[:, 4] * 0.12 * WEIGHT)
    assert arrived == pytest.approx(0.8 * 60.0 * 1000.0 / 180.16, rel=1e-3)
    assert cleared == pytest.approx(5000.0, rel=1e-3)


def test_absorption_has_the_published_shape() -> None:
    """``A_G D t exp(-t/t_G)/t_G^2``, largest at t_G."""
    states = simulated(eat(np.zeros(model.STATES), 60.0), model.MEANS, 0.0, 300.0, step=1.0)
    t = np.arange(301.0)
    expected = 0.8 * 60.0 * 1000.0 / 180.16 * t * np.exp(-t / 40.0) / 40.0**2
    assert np.abs(states[:, 1] / 40.0 - expected).max() < 1e-4
    assert (states[:, 1]).argmax() == 40


def test_glucose_is_neither_made_nor_lost_but_where_the_equations_say() -> None:
    y = eat(rest(0.3), 50.0)
    states = simulated(y, model.MEANS, 5.0, 400.0, step=1.0)
    g = glucose(states)
    made = 0.0161 * WEIGHT * np.maximum(0.0, 1.0 - states[:, 7]) + states[:, 1] / 40.0
    used = (
        0.0097 * WEIGHT * np.minimum(1.0, g / 4.5)
        + 0.003 * np.maximum(0.0, g - 9.0) * 0.16 * WEIGHT
        + states[:, 6] * states[:, 9]
    )
    stored = states[-1, 8:].sum() - states[0, 8:].sum()
    assert np.trapezoid(made - used) == pytest.approx(stored, rel=1e-3)


def test_a_meal_raises_and_a_bolus_lowers_as_in_people() -> None:
    """50 g without a bolus raise a person of 70 kg by 3 to 5 mg/dl a gram, with a peak after one to three hours; a unit lowers by
    1800 mg/dl over the total daily dose, which is about 22 units for the mean patient."""
    basal = 0.36
    u = basal * 1000.0 / 60.0
    meal = glucose(simulated(eat(rest(basal), 50.0), model.MEANS, u, 480.0))
    assert 3.0 < (meal.max() - meal[0]) * 18.0 / 50.0 < 5.0
    assert 60.0 <= 5.0 * meal.argmax() <= 180.0
    y = rest(basal)
    y[8:] *= 1.6
    still = glucose(simulated(y.copy(), model.MEANS, u, 300.0))
    y[2] += 1000.0
    unit = still - glucose(simulated(y, model.MEANS, u, 300.0))
    assert unit.max() * 18.0 == pytest.approx(1800.0 / 22.0, rel=0.2)
    plasma = simulated(np.concatenate([np.zeros(2), [1000.0], np.zeros(7)]), model.MEANS, 0.0, 300.0)[:, 4]
    assert 50.0 <= 5.0 * plasma.argmax() <= 75.0


def test_chance_of_a_day_is_what_the_table_says() -> None:
    rng = np.random.default_rng(1)
    meals = np.array([model.meals_of(model.draw_day(rng)) for _ in range(4000)])
    assert meals[:, :4, 1].mean(axis=0) == pytest.approx([80.0, 50.0, 70.0, 80.0], rel=0.02)
    assert (meals[:, 4, 1] > 0.0).mean() == pytest.approx(0.3, abs=0.03)
    assert (meals[:, 1, 0] - model.RUN_IN).mean() * 15.0 == pytest.approx(60.0, abs=2.0)
    assert (meals[:, 1, 0] - model.RUN_IN).std() * 15.0 == pytest.approx(30.0, rel=0.1)
    wrong = meals[:, :4, 2] / meals[:, :4, 1]
    assert (wrong.mean(), wrong.std()) == pytest.approx((1.0, 0.2), rel=0.05)
    starts = np.array([model.start_glucose(model.draw_day(rng)) for _ in range(2000)])
    assert 6.0 < starts.min() < 6.1 and 8.9 < starts.max() < 9.0 and abs(starts.mean() - 7.5) < 0.06


def test_the_sensor_errs_by_a_tenth_and_remembers() -> None:
    rng = np.random.default_rng(2)
    errors = []
    for _ in range(300):
        draws, error, row = model.draw_day(rng), 0.0, []
        for t in range(model.SLOTS):
            error = model.next_error(t, error, draws)
            row.append(error)
        errors.append(row)
    table = np.array(errors)
    assert table.std(axis=0) == pytest.approx(np.ones(model.SLOTS), abs=0.2)
    assert (table[:, 1:] * table[:, :-1]).mean() == pytest.approx(0.7, abs=0.03)
    assert model.sensor(100.0, 1.0, 0.0) == pytest.approx(110.0)
    assert model.sensor(100.0, 0.0, 0.15) == pytest.approx(115.0)
