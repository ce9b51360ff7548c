r"""Insulin for one person with type-1 diabetes: who reacts how strongly is unknown.

An episode is a day of the model in :mod:`surefoot.worlds.diabetes_model`. Eight parameters of the patient are unknown, independent, and distributed
about the published means (in brackets) as truncated log-normals:

    unknown          mean         range           why
    S_IT             51.2e-4      34.1 to 76.8    effect of insulin on transport, 1e-4 L/min/mU; among the six subjects of Hovorka 2002 19 to 86
    S_ID             8.2e-4       5.5 to 12.3     on disposal, 1e-4 L/min/mU; .9 to 20 there
    S_IE             520e-4       347 to 780      on the liver, 1e-4 L/mU; 82 to 961 there
    EGP0             .0161        .0141 to .0181  mmol/kg/min; .0105 to .0213 there
    F01              .0097        .0087 to .0107  mmol/kg/min; .0071 to .0121 there
    t_I              55           40 to 75        minutes until insulin under the skin is absorbed fastest
    t_G              40           30 to 60        and food
    A_G              .8           .7 to .95       share of carbohydrate that arrives

"There" is Hovorka et al. 2002, Am. J. Physiol. Endocrinol. Metab. 282, E992-E1007, as quoted in Table 2 of the paper of 2004. Our ranges are
narrower than these six subjects span: a rule that is safe for every one of them is no treatment. The ranges of the last three are ours.

The *reward* is the share of the day in the range of 70 to 180 mg/dl, in percent. The *cost* is the share below 70 mg/dl, in percent; less than 4% is
the consensus of Battelino et al. 2019, Diabetes Care 42, 1593-1603, and so the limit is 4. A task is safe if the *mean* over days is.

A policy is a pump's six settings (:class:`PumpSettings`). The first is today's rule: basal rate, carbohydrate ratio and correction, without feedback
and set so low that it is safe for everybody in the family. Six others were tuned by
:func:`tune_library`, each for one patient drawn from the family.

:class:`PumpDay` takes settings and returns the day, compiled; the family is made of it. :class:`Patient` is the same day in steps of a quarter of an
hour, for whoever wants to dose by hand (or by a network); :class:`PumpRule` plays the pump there, and both give the same day.

Days are independent here, as a deployment assumes. In reality an evening reaches into the next morning; the run-in of twelve hours stands for that.
Comes with an extra: ``pip install "surefoot[gym]"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.special import ndtri

from surefoot.arrays import FloatArray, as_floats, check_integer, check_real
from surefoot.criterion import Criterion
from surefoot.errors import MissingExtra
from surefoot.gym.family import GymFamily, Signal
from surefoot.policyset.kinds import register_controller
from surefoot.worlds import diabetes_model as model

try:
    import gymnasium
    from gymnasium.spaces import Box
except ModuleNotFoundError as error:
    raise MissingExtra("gymnasium", "gym") from error

__all__ = [
    "LIMIT", "NAMES", "SETTINGS", "SUPPORT", "Patient", "PumpDay", "PumpRule", "PumpSettings", "diabetes", "diabetes_policies",
    "judge_settings", "tune_library", "very_sensitive",
]  # fmt: skip

NAMES = ("S_IT", "S_ID", "S_IE", "EGP0", "F01", "t_I", "t_G", "A_G")
SUPPORT = np.array(
    [
        [34.1e-4, 76.8e-4],
        [5.5e-4, 12.3e-4],
        [347e-4, 780e-4],
        [0.0141, 0.0181],
        [0.0087, 0.0107],
        [40.0, 75.0],
        [30.0, 60.0],
        [0.7, 0.95],
    ]
)
SPREAD = np.array([0.3, 0.3, 0.3, 0.08, 0.07, 0.2, 0.2, 0.1])
"""Standard deviations of the logarithms, before truncation."""
SETTINGS = ("basal", "carb_ratio", "correction", "target", "gain", "suspend")
LOWEST = np.array([0.0, 5.0, 20.0, 70.0, 0.0, 0.0])
HIGHEST = np.array([3.0, 200.0, 1000.0, 250.0, 5.0, 200.0])
LIMIT = 4.0
WEIGHT = 70.0
READINGS, UNITS = (20.0, 500.0), (0.0, 150.0)
NO_TRACE = np.empty((0, 4))


class PumpDay(gymnasium.Env[Any, Any]):
    """A day in one step: the action is the pump's settings.

    Args:
        parameters: (8,) of the patient, in the order of the module's table.
        weight: kg.
        bias: the sensor reads this share too much; the family has 0.
        delay: minutes by which insulin is held back under the skin, a multiple of 15; the family has 0.
    """

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = Box(0.0, 500.0, (1,), np.float64)
    action_space = Box(LOWEST, HIGHEST, (len(SETTINGS),), np.float64)

    def __init__(self, parameters: Any, weight: float = WEIGHT, bias: float = 0.0, delay: float = 0.0) -> None:
        self._patient = np.array(parameters, dtype=np.float64)
        self._weight, self._bias, self._delay = float(weight), float(bias), float(delay)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draws the day; the observation is the weight."""
        super().reset(seed=seed)
        self._draws = model.draw_day(self.np_random)
        return np.array([self._weight]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The day."""
        settings = np.array(action, dtype=np.float64)
        found = model.run_day(
            self._patient, self._weight, settings, self._draws, self._bias, self._delay, model.SUBSTEPS, NO_TRACE
        )
        outcome = dict(zip(model.OUTCOMES, found.tolist(), strict=True))
        return (
            np.array([self._weight]), 100.0 * outcome["in range"], True, False, {"cost": 100.0 * outcome["below 70"], **outcome},
        )  # fmt: skip


class Patient(gymnasium.Env[Any, Any]):
    """The same day, run-in included, in 144 steps of a quarter of an hour.

    Observation (5,): reading mg/dl, grams that the patient counts in a meal now, units of boluses on board, hours since 6 o'clock (negative during
    the run-in), weight. Action (2,): bolus in U, basal rate in U/h. Reward and cost of the run-in are 0.

    Args:
        parameters: (8,) of the patient.
        weight: kg.
        basal: U/h at which insulin is settled when the run-in begins.
    """

    metadata = {"render_modes": []}  # noqa: RUF012
    observation_space = Box(
        np.array([0.0, 0.0, 0.0, -12.0, 0.0]), np.array([5000.0, 1000.0, 500.0, 24.0, 500.0]), (5,), np.float64
    )
    action_space = Box(np.zeros(2), np.array([100.0, 10.0]), (2,), np.float64)

    def __init__(self, parameters: Any, weight: float = WEIGHT, basal: float = 0.1) -> None:
        self._patient = np.array(parameters, dtype=np.float64)
        self._weight, self._basal = float(weight), float(basal)
        self._work, self._found = np.empty((5, model.STATES)), np.empty(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """18 o'clock the evening before."""
        super().reset(seed=seed)
        self._draws = model.draw_day(self.np_random)
        self._today = model.patient_today(self._patient, self._draws)
        self._meals = model.meals_of(self._draws)
        self._state = model.start_state(self._today, self._weight, self._basal, model.start_glucose(self._draws))
        self._t, self._error, self._last = 0, 0.0, -model.TREAT_AGAIN
        self._first = self._second = 0.0
        return self._look(), {}

    def _look(self) -> Any:
        if self._t < model.SLOTS:
            self._error = model.next_error(self._t, self._error, self._draws)
        glucose = self._state[8] / (model.VG * self._weight) * model.MG_PER_MMOL
        self._reading = model.sensor(glucose, self._error, 0.0)
        now = self._meals[self._meals[:, 0] == self._t]
        self._grams = float(now[:, 1].sum())
        clock = (self._t - model.RUN_IN) * model.PERIOD / 60.0
        return np.array([self._reading, now[:, 2].sum(), self._first + self._second, clock, self._weight])

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """A quarter of an hour."""
        bolus, basal = (float(x) for x in action)
        eaten = self._grams
        if model.is_treated(self._t, self._reading, self._last):
            self._last = self._t
            eaten += model.TREATMENT
        self._first, self._second = model.on_board(self._first, self._second, bolus)
        self._state[2] += bolus * 1000.0
        self._state[0] += self._today[7] * eaten * model.MMOL_PER_GRAM
        rate = basal * model.PERIOD / 60.0 * 1000.0 / model.PERIOD
        model.run_period(self._state, self._today, self._weight, rate, model.SUBSTEPS, self._work, self._found)
        share = 100.0 / (model.SLOTS - model.RUN_IN) if self._t >= model.RUN_IN else 0.0
        self._t += 1
        reward, cost = share * float(self._found[0]), share * float(self._found[1])
        return self._look(), reward, self._t == model.SLOTS, False, {"cost": cost}


class PumpSettings:
    """The pump's settings, the same every day.

    Attributes:
        basal: U/h.
        carb_ratio: grams that one unit covers.
        correction: mg/dl that one unit is taken to lower.
        target: mg/dl.
        gain: by how much the basal rate follows the reading.
        suspend: mg/dl below which the pump stops.
    """

    def __init__(self, basal: float, carb_ratio: float, correction: float, target: float, gain: float, suspend: float) -> None:  # fmt: skip
        self.basal, self.carb_ratio, self.correction = float(basal), float(carb_ratio), float(correction)
        self.target, self.gain, self.suspend = float(target), float(gain), float(suspend)

    @property
    def settings(self) -> FloatArray:
        """(6,)."""
        return np.array([self.basal, self.carb_ratio, self.correction, self.target, self.gain, self.suspend])

    def for_episode(self) -> PumpSettings:
        """Itself: it has no memory."""
        return self

    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[FloatArray, None]:
        """The settings, whatever is seen."""
        return self.settings, None


class PumpRule(PumpSettings):
    """What a pump with these settings does in :class:`Patient`."""

    def predict(self, observation: Any, *, deterministic: bool = True) -> tuple[FloatArray, None]:
        """(2,) bolus and basal rate."""
        reading, counted, on_board, _, _ = (float(x) for x in observation)
        settings = self.settings
        bolus = model.meal_bolus(settings, reading, counted, on_board) if counted > 0.0 else 0.0
        return np.array([bolus, model.pump_rate(settings, reading)]), None


register_controller("pump-settings", PumpSettings, list(SETTINGS))
register_controller("pump-rule", PumpRule, list(SETTINGS))


def _truncated(n: int, rng: np.random.Generator, centre: FloatArray, support: FloatArray) -> FloatArray:
    """(n, 8) log-normals about ``centre`` (8,), drawn again until inside ``support`` (8, 2)."""
    found: FloatArray = np.empty((n, len(NAMES)))
    for k, (low, high) in enumerate(support):
        open_rows = np.arange(n)
        while open_rows.size:
            values = centre[k] * np.exp(SPREAD[k] * rng.standard_normal(open_rows.size))
            found[open_rows, k] = values
            open_rows = open_rows[(values < low) | (values > high)]
    return found


@dataclass(frozen=True)
class _Outcome:
    """A number of ``info``, inside its range."""

    name: str
    low: float
    high: float

    def __call__(self, obs: Any, action: Any, after: Any, reward: float, info: dict[str, Any]) -> float:
        return min(max(float(info[self.name]), self.low), self.high)


def _signal(name: str, ends: tuple[float, float]) -> Signal:
    return Signal(name, *ends, _Outcome(name, *ends), "last")


def diabetes(weight: float = WEIGHT, *, bias: float = 0.0, delay: float = 0.0) -> GymFamily:
    """The family.

    Args:
        weight: kg, known.
        bias, delay: of :class:`PumpDay`; other than 0 for studies of what happens where reality is not in the family.

    Raises:
        InvalidInput: a weight outside 30 to 200, a bias outside -.5 to .5, a delay outside 0 to 240.
    """
    weight = check_real("weight", weight, low=30.0, high=200.0)
    bias = check_real("bias", bias, low=-0.5, high=0.5)
    delay = check_real("delay", delay, low=0.0, high=240.0)
    criterion = Criterion(
        discount=1.0, cost_limits=np.array([LIMIT]), reward_bounds=(0.0, 100.0), cost_bounds=np.array([100.0]), horizon=1,
        cost_names=("percent below 70",),
    )  # fmt: skip
    return GymFamily(
        name="diabetes",
        parameter_names=NAMES,
        support=SUPPORT,
        criterion=criterion,
        sampler=partial(_truncated, centre=model.MEANS, support=SUPPORT),
        make=partial(PumpDay, weight=weight, bias=bias, delay=delay),
        signals=(_signal("mean reading", READINGS), _signal("insulin", UNITS)),
    )


def very_sensitive() -> GymFamily:
    """Patients outside the family: all three sensitivities between the upper ends of their ranges and twice as far from the mean (as logarithms)."""
    support, centre = SUPPORT.copy(), model.MEANS.copy()
    support[:3, 0] = SUPPORT[:3, 1]
    support[:3, 1] = SUPPORT[:3, 1] ** 2 / model.MEANS[:3]
    centre[:3] = np.sqrt(support[:3, 0] * support[:3, 1])
    return replace(
        diabetes(),
        name="diabetes, very sensitive",
        support=support,
        sampler=partial(_truncated, centre=centre, support=support),
    )


def judge_settings(
    parameters: Any, policies: Sequence[PumpSettings], *, days: int, seed: int, weight: float = WEIGHT, bias: float = 0.0, delay: float = 0.0
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Means (J, 2) of reward and cost of J settings on one patient, over the same ``days`` for all, and their standard errors (J, 2).

    What varies most, the day's sensitivity, is stratified: day k has the (k + u)/n quantile of it. The error is that of differences between
    neighbours.

    Args:
        parameters: (8,).
        policies: J.
        days: n, at least 2.
        seed: of the days.
        weight, bias, delay: as in :class:`PumpDay`.
    """
    patient = as_floats("parameters", parameters, (len(NAMES),)).copy()
    days = check_integer("days", days, low=2)
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal((days, model.DRAWS))
    draws[:, 0] = ndtri((np.arange(days) + rng.uniform(1e-9, 1.0 - 1e-9, days)) / days)
    settings = np.array([policy.settings for policy in policies])
    found = 100.0 * model.run_days(patient, weight, settings, draws, bias, delay)[:, :, :2]
    spread = np.sqrt((np.diff(found, axis=0) ** 2).mean(axis=0) / 2.0)
    return found.mean(axis=0), spread / np.sqrt(days)


TUNED_LOW = np.array([0.1, 8.0, 25.0, 90.0, 0.0, 0.0])
TUNED_HIGH = np.array([1.0, 80.0, 200.0, 160.0, 2.0, 120.0])
"""Box in which :func:`tune_library` searches."""


def _of_unit(x: FloatArray) -> PumpSettings:
    """Settings from (6,) numbers in [0, 1]: the first three on a logarithmic scale."""
    found = TUNED_LOW + x * (TUNED_HIGH - TUNED_LOW)
    found[:3] = TUNED_LOW[:3] * (TUNED_HIGH[:3] / TUNED_LOW[:3]) ** x[:3]
    return PumpSettings(*found)


def tune_library(
    patients: int = 12, *, seed: int = 0, generations: int = 35, episodes: int = 400, share: float = 1.0, weight: float = WEIGHT
) -> list[PumpSettings]:  # fmt: skip
    """Settings tuned by CMA-ES (:func:`surefoot.gym.cma.tune`) for so many patients drawn from the family, one each. Needs ``surefoot[cma]``.

    Args:
        patients: how many.
        seed: of patients and search.
        generations, episodes, share: of the search.
        weight: kg.
    """
    from surefoot.gym.cma import tune

    family, found = diabetes(weight), []
    for k, patient in enumerate(family.sample(check_integer("patients", patients, low=1), np.random.default_rng(seed))):
        tuned = tune(
            family, _of_unit, np.full(6, 0.5), tasks=[patient], seed=seed + k, bounds=(0.0, 1.0), generations=generations, episodes=episodes,
            judged_episodes=500, share=share,
        )  # fmt: skip
        found.append(PumpSettings(*np.round(tuned.policy.settings, 3)))
    return found


TODAY = (0.22, 80.0, 70.0, 145.0, 0.0, 0.0)
TUNED = (
    (0.292, 27.366, 160.08, 134.283, 0.014, 39.065),
    (0.338, 58.279, 132.233, 113.764, 1.223, 44.533),
    (0.376, 27.693, 33.441, 106.983, 0.508, 86.919),
    (0.234, 30.218, 191.19, 93.854, 1.512, 86.112),
    (0.665, 30.653, 73.843, 131.173, 0.735, 114.622),
    (0.382, 30.495, 179.353, 114.544, 0.452, 1.736),
)
"""The first six that ``tune_library()`` found."""


def diabetes_policies() -> list[PumpSettings]:
    """Today's settings first, then six that :func:`tune_library` found."""
    return [PumpSettings(*TODAY), *(PumpSettings(*values) for values in TUNED)]
