r"""A belief about the real task in a few latent numbers, learned from training tasks.

A task is summarised by latents ``z`` (d of them), whose law over the family is taken to be standard normal. Training fits, once,

    transitions   P_e(z)     = kernel_center_e + kernel_slope_e z                      entries e of the joint support (tabular tasks)
    outcomes      E y_jbf    = center + slope z + sum_{i<=k} curve_ik z_i z_k          return, costs, signals of policy j from initial state b
    values        V_jf       = center + slope z + sum_{i<=k} curve_ik z_i z_k          return and costs of policy j

and how far the fit misses. Real episodes then move ``z``, its covariance says what is still unknown, and a plan keeps costs ``boldness`` standard
deviations below their limits (:mod:`surefoot.deploy.belief`). **Nothing here is proved or has to be true**: what the agent does with it is certified
by rehearsal (:mod:`surefoot.rehearsal`), and a wrong belief costs speed. The cost of an episode does not depend on how many parameters tasks have.

Letters: d latents, D = d (d+1) / 2 pairs, E entries, J policies, I constraints, V = 1 + I, F = 1 + I + X outcomes, B initial states (1 where
predictions do not depend on them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surefoot.arrays import FloatArray, IntArray, ReadOnly, as_floats, check_integer, check_real, freeze
from surefoot.errors import InvalidInput

__all__ = ["Belief"]

REBUILD = "rebuild the belief"


@dataclass(frozen=True, eq=False)
class Belief(ReadOnly):
    """See the module's docstring.

    Attributes:
        support: (E, 3) triples ``(s, a, s')``, increasing; none where transitions are not used.
        kernel_center: (E,).
        kernel_slope: (E, d).
        initial_states: (B,) increasing, or (0,) where predictions do not depend on them (then B is 1).
        outcome_center: (J, B, F).
        outcome_slope: (J, B, F, d).
        outcome_curve: (J, B, F, D), or (J, B, F, 0) for a linear fit.
        outcome_residual: (J, B, F) standard deviation of what the fit misses.
        outcome_noise: (J, B, F, F) covariance of one episode's outcomes within a task and initial state.
        value_center: (J, V).
        value_slope: (J, V, d).
        value_curve: (J, V, D), or (J, V, 0).
        value_residual: (J, V).
        informative: whether outcomes move the latents; not where transitions say all that outcomes could.
        tasks: number of training tasks that it was learned from.
    """

    support: IntArray
    kernel_center: FloatArray
    kernel_slope: FloatArray
    initial_states: IntArray
    outcome_center: FloatArray
    outcome_slope: FloatArray
    outcome_curve: FloatArray
    outcome_residual: FloatArray
    outcome_noise: FloatArray
    value_center: FloatArray
    value_slope: FloatArray
    value_curve: FloatArray
    value_residual: FloatArray
    informative: bool
    tasks: int

    def __post_init__(self) -> None:
        values = as_floats("value_slope", self.value_slope, (None, None, None))
        j, v, d = values.shape
        center = as_floats("outcome_center", self.outcome_center, (j, None, None))
        b, f = center.shape[1:]
        pairs = d * (d + 1) // 2
        entries = len(as_floats("kernel_center", self.kernel_center, (None,)))
        shapes: dict[str, tuple[int | None, ...]] = {
            "kernel_center": (entries,),
            "kernel_slope": (entries, d),
            "outcome_center": (j, b, f),
            "outcome_slope": (j, b, f, d),
            "outcome_curve": (j, b, f, None),
            "outcome_residual": (j, b, f),
            "outcome_noise": (j, b, f, f),
            "value_center": (j, v),
            "value_slope": (j, v, d),
            "value_curve": (j, v, None),
            "value_residual": (j, v),
        }
        for name, shape in shapes.items():
            array = as_floats(name, getattr(self, name), shape)
            if shape[-1] is None and array.shape[-1] not in (0, pairs):
                raise InvalidInput(
                    f"{name} must have {pairs} pairs of latents or none, got {array.shape[-1]}; {REBUILD}",
                    code="SF-ARGUMENT-SHAPE",
                )
            object.__setattr__(self, name, array)
        for name in ("support", "initial_states"):
            whole = as_floats(name, getattr(self, name), (entries, 3) if name == "support" else (None,))
            if (whole != np.floor(whole)).any() or (whole < 0).any() or (whole >= 2**31).any():
                raise InvalidInput(
                    f"{name} must hold whole numbers in [0, 2^31), got others; {REBUILD}", code="SF-ARGUMENT-RANGE"
                )
            object.__setattr__(self, name, freeze(whole.astype(np.int64)))
        object.__setattr__(self, "informative", bool(self.informative))
        object.__setattr__(self, "tasks", check_integer("tasks", self.tasks, low=2))
        self._check_relations(d, v, f, b)

    def _check_relations(self, d: int, v: int, f: int, b: int) -> None:
        rules = [
            (d >= 1, "value_slope", "at least one latent", d),
            (2 <= v <= f, "outcome_center", f"at least the {v} outcomes that have values", f),
            (
                b == max(1, self.initial_states.size) and bool((np.diff(self.initial_states) > 0).all()),
                "initial_states",
                f"{b} increasing states",
                self.initial_states.size,
            ),
            (
                self.informative or self.support.size > 0,
                "informative",
                "True where no transitions are used",
                self.informative,
            ),
            (bool((self.kernel_center > 0.0).all()), "kernel_center", "positive", "others"),
            (
                bool(min(self.value_residual.min(), self.outcome_residual.min()) >= 0.0),
                "value_residual",
                ">= 0",
                "less",
            ),
            (_positive_definite(self.outcome_noise), "outcome_noise", "positive definite", "others"),
        ]
        keys = self.support
        if len(keys) > 1:
            ordered = bool((np.sign(np.diff(keys, axis=0)) @ np.array([4, 2, 1]) > 0).all())
            rules.append((ordered, "support", "increasing triples", "others"))
        for kept, name, wanted, got in rules:
            if not kept:
                raise InvalidInput(f"{name} must hold {wanted}, got {got}; {REBUILD}", code="SF-ARGUMENT-RANGE")

    @property
    def latents(self) -> int:
        """d."""
        return int(self.value_slope.shape[2])

    @property
    def wants(self) -> frozenset[str]:
        """Which optional parts of a report are made use of."""
        found = set()
        if self.support.size:
            found.add("transitions")
        if self.initial_states.size:
            found.add("initial_state")
        if self.outcome_center.shape[2] > self.value_center.shape[1]:
            found.add("signals")
        return frozenset(found)


def _positive_definite(noise: FloatArray) -> bool:
    if not np.array_equal(noise, noise.transpose(0, 1, 3, 2)):
        return False
    try:
        np.linalg.cholesky(noise)
    except np.linalg.LinAlgError:
        return False
    return True


def check_boldness(name: str, value: float) -> float:
    """A knob: positive and finite standard deviations."""
    return check_real(name, value, low=0.0, high=100.0, open_low=True)
