r"""Glucose and insulin of one person with type-1 diabetes: the model of Hovorka et al. 2004, integrated by compiled Runge-Kutta steps.

Roman Hovorka et al., "Nonlinear model predictive control of glucose concentration in subjects with type 1 diabetes", Physiological Measurement 25
(2004) 905-920. Time in minutes, insulin in mU, glucose in mmol, concentrations per litre; u is insulin into the skin, d glucose into the gut:

    D1' = A_G d - D1/t_G,   D2' = (D1 - D2)/t_G,   U_G = D2/t_G               gut; the response to a meal is A_G D t exp(-t/t_G)/t_G^2
    S1' = u - S1/t_I,       S2' = (S1 - S2)/t_I,   U_I = S2/t_I               skin
    I'  = U_I/V_I - k_e I                                                     plasma insulin
    x_i' = -k_ai x_i + k_bi I,   k_b1 = S_IT k_a1, k_b2 = S_ID k_a2, k_b3 = S_IE k_a3     insulin's three actions
    Q1' = -F01c - F_R - x1 Q1 + k12 Q2 + U_G + EGP0 max(0, 1 - x3)            glucose in plasma, G = Q1/V_G
    Q2' = x1 Q1 - (k12 + x2) Q2                                               and where it is not measured
    F01c = F01 min(1, G/4.5)            what the brain uses;        F_R = .003 max(0, G - 9) V_G            what the kidneys lose

    constants (Table 1 of that paper)                                         means that patients differ about (Tables 1 and 2)
    k12 .066, k_a1 .006, k_a2 .06, k_a3 .03, k_e .138   per minute            S_IT 51.2e-4, S_ID 8.2e-4 L/min/mU, S_IE 520e-4 L/mU
    V_I .12, V_G .16   L/kg                                                   EGP0 .0161, F01 .0097 mmol/kg/min, t_I 55, t_G 40 min, A_G .8

Glucose has 180.16 g/mol (as everywhere), so 1 mmol/L is 18.016 mg/dl. The clip of EGP at zero is that of Wilinska et al., "Simulation environment to
evaluate closed-loop insulin delivery systems in type 1 diabetes", J. Diabetes Sci. Technol. 4 (2010) 132-144.

*A day* runs from 6 in the morning to 6, after a run-in of twelve hours (with its dinner) that is not counted: the morning's glucose then is what the
settings made of the night. A pump carries out six settings every :data:`PERIOD` minutes, as pumps with a sensor do:

    meal bolus   max(0, c/carb_ratio + (g - target)/correction - insulin on board), c counted by the patient, g the reading; at every meal
    basal        basal clip(1 + gain (g - target)/target, 0, :data:`MOST_BASAL`), 0 where g < suspend

Insulin on board is what is left of boluses by the skin's two compartments at the mean t_I. When the reading is below 70 mg/dl (below 54, the alarm
that wakes, between 23 and 6 o'clock) the patient takes 15 g of carbohydrate, at most every 45 minutes: the rule of fifteen of the American Diabetes
Association, "Standards of Care", section 6.

    what differs from day to day (ours, unless a source is given)
    start        6 to 9 mmol/L at 18 o'clock, skin and plasma at the settings' basal rate
    meals        breakfast, lunch, dinner around 7, 12:30, 19 o'clock (normal, 30 minutes), 50, 70, 80 g (normal, deviation a fifth); a snack of 20 g
                 at 16 o'clock on three days in ten; 200 g a day are usual in trials (Percival et al. 2011, J. Process Control 21, 391-404)
    counting     the patient counts a meal wrong by a factor of deviation .2: errors of 21% on average are reported (Brazeau et al. 2013, Diabetes
                 Res. Clin. Pract. 99, e19-e23)
    sensor       reading = G (1 + e), e autoregressive with coefficient .7 per reading (the form of Breton & Kovatchev 2008, J. Diabetes Sci. Technol.
                 2, 853-862), deviation .1, which is a mean error of 8%
    sensitivity  all three of the day times exp(normal, deviation .25): action varies by 20 to 30% within a person (Heinemann 2002, Diabetes Technol.
                 Ther. 4, 673-682)

Parameters that a day needs are an array (8,): S_IT, S_ID, S_IE, EGP0, F01, t_I, t_G, A_G in the units above.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.kernels import compiled

__all__ = [
    "MEANS", "MG_PER_MMOL", "PERIOD", "SLOTS", "STATES", "advance", "draw_day", "run_day", "run_days", "slope", "start_state", "steady_state",
]  # fmt: skip

MG_PER_MMOL, MMOL_PER_GRAM = 18.016, 1000.0 / 180.16
MEANS = np.array([51.2e-4, 8.2e-4, 520e-4, 0.0161, 0.0097, 55.0, 40.0, 0.8])
K12, KA1, KA2, KA3, KE = 0.066, 0.006, 0.06, 0.03, 0.138
VI, VG = 0.12, 0.16
KIDNEY, KIDNEY_FROM, BRAIN_UNTIL = 0.003, 9.0, 4.5

STATES = 10
"""D1, D2, S1, S2, I, x1, x2, x3, Q1, Q2."""
PERIOD = 15.0
"""Minutes between decisions of the pump."""
SUBSTEPS = 3
"""Runge-Kutta steps per period, at least."""
SLOTS, RUN_IN = 144, 48
"""Periods that are simulated, and of these that come before the day."""
MOST_BASAL = 2.5
ASLEEP = 68
"""Period of the day at which the patient goes to bed: 23 o'clock."""
LOW, HIGH = 70.0, 180.0
VERY_LOW, VERY_HIGH = 54.0, 250.0
"""Ends of the range, mg/dl (Battelino et al. 2019, Diabetes Care 42, 1593-1603)."""
TREAT_AWAKE, TREAT_ASLEEP, TREATMENT, TREAT_AGAIN = 70.0, 54.0, 15.0, 3
NOMINAL_TI = 55.0
MEALS = np.array([[-660.0, 80.0], [60.0, 50.0], [390.0, 70.0], [780.0, 80.0], [600.0, 20.0]])
"""Minutes from 6 o'clock and grams of the evening before, breakfast, lunch, dinner and a snack."""
SNACKS, MEAL_TIMES, MEAL_SIZES, COUNTING = 0.3, 30.0, 0.2, 0.2
SENSOR, SENSOR_MEMORY, SENSITIVITY = 0.1, 0.7, 0.25
DRAWS = 2 + 3 * 5 + 1 + SLOTS
OUTCOMES = ("in range", "below 70", "below 54", "above 250", "mean reading", "insulin", "treatments")


@compiled
def slope(y: Any, p: Any, weight: float, u: float, out: Any) -> None:
    """Right-hand side at state y (10,) with u mU/min into the skin; into ``out`` (10,)."""
    s_it, s_id, s_ie, egp, f01, t_i, t_g = p[0], p[1], p[2], p[3], p[4], p[5], p[6]
    g = y[8] / (VG * weight)
    brain = f01 * weight * min(1.0, g / BRAIN_UNTIL)
    kidney = KIDNEY * max(0.0, g - KIDNEY_FROM) * VG * weight
    liver = egp * weight * max(0.0, 1.0 - y[7])
    out[0] = -y[0] / t_g
    out[1] = (y[0] - y[1]) / t_g
    out[2] = u - y[2] / t_i
    out[3] = (y[2] - y[3]) / t_i
    out[4] = y[3] / (t_i * VI * weight) - KE * y[4]
    out[5] = KA1 * (s_it * y[4] - y[5])
    out[6] = KA2 * (s_id * y[4] - y[6])
    out[7] = KA3 * (s_ie * y[4] - y[7])
    moved = y[5] * y[8]
    out[8] = -brain - kidney - moved + K12 * y[9] + y[1] / t_g + liver
    out[9] = moved - (K12 + y[6]) * y[9]


@compiled
def advance(y: Any, p: Any, weight: float, u: float, minutes: float, work: Any) -> None:
    """One classical Runge-Kutta step of y (10,) in place; ``work`` is (5, 10)."""
    slope(y, p, weight, u, work[0])
    for k in range(STATES):
        work[4, k] = y[k] + 0.5 * minutes * work[0, k]
    slope(work[4], p, weight, u, work[1])
    for k in range(STATES):
        work[4, k] = y[k] + 0.5 * minutes * work[1, k]
    slope(work[4], p, weight, u, work[2])
    for k in range(STATES):
        work[4, k] = y[k] + minutes * work[2, k]
    slope(work[4], p, weight, u, work[3])
    for k in range(STATES):
        y[k] += minutes / 6.0 * (work[0, k] + 2.0 * (work[1, k] + work[2, k]) + work[3, k])


@compiled
def start_state(p: Any, weight: float, basal: float, glucose: float) -> Any:
    """(10,) state with insulin settled at ``basal`` U/h, an empty gut, ``glucose`` mmol/L, and the unmeasured glucose at rest with it."""
    u = basal * 1000.0 / 60.0
    y = np.zeros(STATES)
    y[2] = y[3] = u * p[5]
    y[4] = u / (KE * VI * weight)
    y[5], y[6], y[7] = p[0] * y[4], p[1] * y[4], p[2] * y[4]
    y[8] = glucose * VG * weight
    y[9] = y[5] * y[8] / (K12 + y[6])
    return y


def steady_state(p: FloatArray, basal: float, *, weight: float = 70.0) -> float:
    """Fasting glucose, mmol/L, that ``basal`` U/h keeps for ever, in closed form; 0 where nothing is left.

    At rest ``Q2 = x1 Q1/(k12 + x2)``, so ``F01c + F_R + c Q1 = EGP0 max(0, 1 - x3)`` with ``c = x1 x2/(k12 + x2)``, which is linear in G on each of
    the three pieces, and increasing.
    """
    insulin = basal * 1000.0 / 60.0 / (KE * VI * weight)
    x1, x2, x3 = p[0] * insulin, p[1] * insulin, p[2] * insulin
    made = p[3] * max(0.0, 1.0 - x3)
    per_g = VG * x1 * x2 / (K12 + x2)
    low = made / (per_g + p[4] / BRAIN_UNTIL)
    if low <= BRAIN_UNTIL:
        return float(low)
    middle = (made - p[4]) / per_g if per_g > 0.0 else np.inf
    if middle <= KIDNEY_FROM:
        return float(middle)
    return float((made - p[4] + KIDNEY * KIDNEY_FROM * VG) / (per_g + KIDNEY * VG))


def draw_day(rng: np.random.Generator) -> FloatArray:
    """(162,) standard normal numbers, all that chance contributes to a day; the two that are shares are made uniform where they are used."""
    return rng.standard_normal(DRAWS)


@compiled
def _uniform(z: float) -> float:
    return 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))


@compiled
def meals_of(draws: Any) -> Any:
    """(5, 3) slot, grams and counted grams of the meals; slots count from the beginning of the run-in."""
    found = np.empty((5, 3))
    for m in range(5):
        z = draws[2 + 3 * m : 5 + 3 * m]
        minutes = MEALS[m, 0] + MEAL_TIMES * min(2.0, max(-2.0, z[0]))
        grams = MEALS[m, 1] * max(0.2, 1.0 + MEAL_SIZES * z[1])
        if m == 4 and _uniform(draws[17]) >= SNACKS:
            grams = 0.0
        found[m, 0] = RUN_IN + np.round(minutes / PERIOD)
        found[m, 1] = grams
        found[m, 2] = grams * max(0.2, 1.0 + COUNTING * z[2])
    return found


@compiled
def start_glucose(draws: Any) -> float:
    """mmol/L at 18 o'clock."""
    return 6.0 + 3.0 * _uniform(draws[1])


@compiled
def pump_rate(settings: Any, reading: float) -> Any:
    """Basal insulin, U/h, for this period."""
    if reading < settings[5]:
        return 0.0
    factor = 1.0 + settings[4] * (reading - settings[3]) / settings[3]
    return settings[0] * min(MOST_BASAL, max(0.0, factor))


@compiled
def meal_bolus(settings: Any, reading: float, counted: float, on_board: float) -> Any:
    """Units for a meal of ``counted`` grams."""
    return max(0.0, counted / settings[1] + (reading - settings[3]) / settings[2] - on_board)


@compiled
def on_board(first: float, second: float, bolus: float) -> Any:
    """What of boluses is in the two compartments of a skin with the mean t_I, after ``bolus`` units and one period."""
    keep = np.exp(-PERIOD / NOMINAL_TI)
    first += bolus
    return first * keep, (second + first * PERIOD / NOMINAL_TI) * keep


@compiled
def run_period(y: Any, p: Any, weight: float, rate: float, substeps: int, work: Any, found: Any) -> None:
    """Advance y (10,) by one period at ``rate`` mU/min; into ``found`` (4,) the shares of it in range, below 70, below 54 and above 250 mg/dl."""
    found[:] = 0.0
    # Very much insulin makes glucose fast: steps stay inside the region in which the method is stable.
    substeps = max(substeps, math.ceil((y[5] + y[6] + 0.2) * PERIOD / 1.5))
    for _ in range(substeps):
        advance(y, p, weight, rate, PERIOD / substeps, work)
        g = y[8] / (VG * weight) * MG_PER_MMOL
        if g < LOW:
            found[1] += 1.0 / substeps
            if g < VERY_LOW:
                found[2] += 1.0 / substeps
        elif g <= HIGH:
            found[0] += 1.0 / substeps
        elif g > VERY_HIGH:
            found[3] += 1.0 / substeps


@compiled
def patient_today(parameters: Any, draws: Any) -> Any:
    """(8,) parameters with the day's sensitivities."""
    p = parameters.copy()
    for k in range(3):
        p[k] *= np.exp(SENSITIVITY * draws[0])
    return p


@compiled
def sensor(glucose: float, error: float, bias: float) -> float:
    """What the sensor reads, mg/dl."""
    return max(20.0, glucose * (1.0 + bias) * (1.0 + SENSOR * error))


@compiled
def next_error(t: int, error: float, draws: Any) -> Any:
    """The sensor's error at period t, in its standard deviations, from the one before."""
    fresh = draws[18 + t]
    return fresh if t == 0 else SENSOR_MEMORY * error + np.sqrt(1.0 - SENSOR_MEMORY**2) * fresh


@compiled
def is_treated(t: int, reading: float, last: int) -> bool:
    """Whether the patient takes fast carbohydrate at period t, having done so at ``last``."""
    clock = t - RUN_IN
    asleep = clock >= ASLEEP or -96 + ASLEEP <= clock < 0
    return reading < (TREAT_ASLEEP if asleep else TREAT_AWAKE) and t - last >= TREAT_AGAIN


@compiled
def run_day(
    parameters: Any, weight: float, settings: Any, draws: Any, bias: float, delay: float, substeps: int, trace: Any
) -> Any:
    """One day of the pump's settings.

    Args:
        parameters: (8,) of the patient.
        weight: kg.
        settings: (6,) basal U/h, carbohydrate ratio g/U, correction mg/dl per U, target mg/dl, gain, suspend below mg/dl.
        draws: (162,) from :func:`draw_day`.
        bias: the sensor reads this share too much, 0 in the family.
        delay: minutes by which a blocked skin holds insulin back before it reaches the first compartment, 0 in the family: a multiple of PERIOD.
        substeps: Runge-Kutta steps per period, :data:`SUBSTEPS`.
        trace: (144, 4) glucose mg/dl, reading, insulin of the period in U, grams eaten, at the beginning of every period; or (0, 4).

    Returns:
        (7,) :data:`OUTCOMES`: shares of the day, mean reading in mg/dl, units of insulin, number of treatments.
    """
    p = patient_today(parameters, draws)
    meals = meals_of(draws)
    y = start_state(p, weight, settings[0], start_glucose(draws))
    work = np.empty((5, STATES))
    out = np.zeros(7)
    found = np.empty(4)
    first = second = error = 0.0
    last_treated = -TREAT_AGAIN
    held = int(delay / PERIOD)
    line = np.full(SLOTS + held, settings[0] * PERIOD / 60.0)
    scale = VG * weight
    for t in range(SLOTS):
        error = next_error(t, error, draws)
        glucose = y[8] / scale * MG_PER_MMOL
        reading = sensor(glucose, error, bias)
        eaten = counted = 0.0
        for m in range(5):
            if meals[m, 0] == t:
                eaten += meals[m, 1]
                counted += meals[m, 2]
        bolus = meal_bolus(settings, reading, counted, first + second) if counted > 0.0 else 0.0
        if is_treated(t, reading, last_treated):
            last_treated = t
            eaten += TREATMENT
            if t >= RUN_IN:
                out[6] += 1.0
        first, second = on_board(first, second, bolus)
        basal = pump_rate(settings, reading) * PERIOD / 60.0
        line[t + held] = basal + bolus
        # A bolus enters the first compartment at once, a basal rate over the period, and so does what a blocked skin held back.
        if held == 0:
            y[2] += bolus * 1000.0
            rate = basal * 1000.0 / PERIOD
        else:
            rate = line[t] * 1000.0 / PERIOD
        y[0] += p[7] * eaten * MMOL_PER_GRAM
        if trace.shape[0] > 0:
            trace[t, 0], trace[t, 1], trace[t, 2], trace[t, 3] = glucose, reading, basal + bolus, eaten
        run_period(y, p, weight, rate, substeps, work, found)
        if t >= RUN_IN:
            for k in range(4):
                out[k] += found[k]
            out[4] += reading / (SLOTS - RUN_IN)
            out[5] += basal + bolus
    for k in range(4):
        out[k] /= SLOTS - RUN_IN
    return out


@compiled
def run_days(parameters: Any, weight: float, settings: Any, draws: Any, bias: float, delay: float) -> Any:
    """(n, J, 7) outcomes of J settings (J, 6) on the same n days (n, 162); other arguments as in :func:`run_day`."""
    out = np.empty((draws.shape[0], settings.shape[0], 7))
    nothing = np.empty((0, 4))
    for k in range(draws.shape[0]):
        for j in range(settings.shape[0]):
            out[k, j] = run_day(parameters, weight, settings[j], draws[k], bias, delay, SUBSTEPS, nothing)
    return out
