"""The rules of a family of finite CMDPs (:class:`surefoot.tasks.TabularFamily`).

    sample(n, rng) -> (n, p) parameters x inside the support;      cmdp(x) -> (S, A, P_x, r_x, c_x, rho_x, gamma, d)

What all tasks share is the criterion: discount, limits, and ranges of rewards and costs per step. Training reads ceilings off the criterion, so a
task that exceeds them breaks what is promised later.

Letters: p parameters, n tasks, S states, A actions, I constraints.
"""

from __future__ import annotations

from itertools import islice, product
from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.cmdp.evaluate import evaluate
from surefoot.cmdp.model import TabularCMDP
from surefoot.criterion import Criterion
from surefoot.policy import as_tables
from surefoot.testing.suite import Suite, require

__all__ = ["TaskFamilySuite"]

TOLERANCE = 1e-9
"""Relative rounding allowed at the ends of a range."""
MANY = 50
"""Tasks that are sampled where chance must show."""
CORNERS = 32
"""Corners of the support that are tried."""
PARTS = ("rewards", "costs", "start", "row_start", "successors", "probabilities")
"""Arrays that make up a task."""


class TaskFamilySuite(Suite):
    """Conformance of a tabular family; inherit it and return a fresh family from :meth:`make`.

    Attributes:
        tasks: how many sampled tasks are looked at.
        seed: of the samples.
    """

    tasks: int = 5
    seed: int = 0

    def make(self) -> Any:
        """A fresh family."""
        raise NotImplementedError("make() must return a fresh family; define it in the class that inherits the suite")

    def sampled(self, family: Any) -> FloatArray:
        """(tasks, p) parameters."""
        return np.asarray(family.sample(self.tasks, np.random.default_rng(self.seed)), dtype=np.float64)

    def _models(self, family: Any) -> list[TabularCMDP]:
        return [family.cmdp(row) for row in self.sampled(family)]

    def test_a_family_has_name_and_parameters(self) -> None:
        family = self.make()
        name, names = family.name, tuple(family.parameter_names)
        require(isinstance(name, str) and bool(name), f"name must be text, got {name!r}; reports use it")
        good = len(names) > 0 and all(isinstance(n, str) and n for n in names) and len(set(names)) == len(names)
        require(good, f"parameter_names must be distinct names, at least one, got {names!r}; name every parameter")

    def test_the_support_bounds_every_parameter(self) -> None:
        family = self.make()
        support, p = np.asarray(family.support, dtype=np.float64), len(tuple(family.parameter_names))
        require(
            support.shape == (p, 2),
            f"support must have shape ({p}, 2), got {support.shape}; one row (low, high) per parameter",
        )
        require(
            bool((support[:, 0] <= support[:, 1]).all()),
            f"support must hold rows (low, high) with low <= high, got {support.tolist()}; swap them, use infinity where there is no bound",
        )

    def test_the_criterion_is_one_of_tabular_tasks(self) -> None:
        criterion = self.make().criterion
        require(
            isinstance(criterion, Criterion),
            f"criterion must be a surefoot.Criterion, got {type(criterion).__name__}; make one",
        )
        require(
            criterion.horizon is None,
            f"criterion.horizon must be None for finite CMDPs, got {criterion.horizon}; their episodes go on for ever and are discounted",
        )

    def test_a_sample_has_one_row_per_task(self) -> None:
        family = self.make()
        p = len(tuple(family.parameter_names))
        for n in (1, self.tasks):
            sample = np.asarray(family.sample(n, np.random.default_rng(self.seed)))
            require(
                sample.shape == (n, p),
                f"sample({n}, rng) must have shape ({n}, {p}), got {sample.shape}; one row per task",
            )
            require(
                sample.dtype.kind in "fiu" and bool(np.isfinite(sample).all()),
                f"sample({n}, rng) must hold finite numbers, got {sample!r}; fix the sampler",
            )

    def test_a_sample_lies_in_the_support(self) -> None:
        family = self.make()
        sample = np.asarray(family.sample(MANY, np.random.default_rng(self.seed)), dtype=np.float64)
        low, high = np.asarray(family.support, dtype=np.float64).T
        inside = (sample >= low) & (sample <= high)
        require(
            bool(inside.all()),
            f"sample must keep to the support {np.stack([low, high], 1).tolist()}, got {sample[~inside.all(axis=1)][:1].tolist()}; widen the "
            "support, or clip",
        )

    def test_a_seed_decides_the_sample(self) -> None:
        family = self.make()
        first, again, other = (
            np.asarray(f.sample(self.tasks, np.random.default_rng(self.seed))) for f in (family, family, self.make())
        )
        require(
            np.array_equal(first, again) and np.array_equal(first, other),
            f"sample must be decided by the generator it is given, got {first.tolist()} and {again.tolist()} from the same seed; draw from rng alone",
        )

    def test_tasks_are_drawn_and_not_listed(self) -> None:
        family = self.make()
        low, high = np.asarray(family.support, dtype=np.float64).T
        if bool((low == high).all()):
            return  # there is one task only
        rng = np.random.default_rng(self.seed)
        first, second = (np.asarray(family.sample(MANY, rng)) for _ in range(2))
        require(
            not np.array_equal(first, second),
            f"sample must give fresh tasks at every call, got the same {MANY} twice; draw from rng, and do not seed it again",
        )

    def test_sampled_tasks_are_models(self) -> None:
        family = self.make()
        for row in self.sampled(family):
            self._model(family, row, "sampled")

    def test_corners_of_the_support_are_tasks(self) -> None:
        family = self.make()
        ends = np.asarray(family.support, dtype=np.float64)
        if not np.isfinite(ends).all():
            return  # no corner to look at
        for corner in islice(product(*ends), CORNERS):
            self._model(family, np.array(corner), "at a corner of the support")

    def test_tasks_between_sampled_ones_are_models(self) -> None:
        family = self.make()
        sample = self.sampled(family)
        for row in 0.5 * (sample[1:] + sample[:-1]):
            self._model(family, row, "between two sampled tasks")

    def _model(self, family: Any, parameters: FloatArray, where: str) -> None:
        """A valid model; a constructor that refuses its numbers says why."""
        try:
            model = family.cmdp(parameters.copy())
        except Exception as error:
            raise AssertionError(
                f"cmdp({parameters.tolist()}), {where}, must be a task, got {type(error).__name__}: {error}; narrow the support, or fix the model"
            ) from error
        require(
            isinstance(model, TabularCMDP),
            f"cmdp({parameters.tolist()}), {where}, must return a surefoot.TabularCMDP, got {type(model).__name__}; make one",
        )

    def test_all_tasks_have_the_same_states_actions_and_constraints(self) -> None:
        family = self.make()
        shapes = {model.costs.shape for model in self._models(family)}
        require(
            len(shapes) == 1,
            f"cmdp must give every task the same constraints, states and actions, got (I, S, A) {sorted(shapes)}; add states that are never reached",
        )

    def test_tasks_keep_discount_and_limits_of_the_criterion(self) -> None:
        family = self.make()
        criterion = family.criterion
        for model in self._models(family):
            require(
                model.discount == criterion.discount,
                f"discount of every task must be criterion.discount {criterion.discount}, got {model.discount}; pass the same number",
            )
            require(
                np.array_equal(model.cost_limits, criterion.cost_limits),
                f"cost_limits of every task must be criterion.cost_limits {criterion.cost_limits.tolist()}, got {model.cost_limits.tolist()}; pass "
                "the same limits",
            )

    def test_rewards_stay_within_the_criterion(self) -> None:
        family = self.make()
        low, high = family.criterion.reward_bounds
        room = TOLERANCE * (1.0 + max(abs(low), abs(high)))
        for model in self._models(family):
            least, most = float(model.rewards.min()), float(model.rewards.max())
            require(
                low - room <= least and most <= high + room,
                f"rewards must lie in criterion.reward_bounds [{low:g}, {high:g}], got {least:g}..{most:g}; widen the bounds",
            )

    def test_costs_stay_under_their_ceilings(self) -> None:
        family = self.make()
        bounds = np.asarray(family.criterion.cost_bounds)
        for model in self._models(family):
            require(
                len(model.costs) == bounds.size,
                f"costs must hold one table for each of the {bounds.size} limits of the criterion, got {len(model.costs)}; name all or none",
            )
            most = model.costs.max(axis=(1, 2))
            require(
                bool((most <= bounds * (1.0 + TOLERANCE)).all()),
                f"costs per step must be at most criterion.cost_bounds {bounds.tolist()}, got {most.tolist()}; raise the bounds: the ceilings of "
                "episodes are computed from them",
            )

    def test_parameters_decide_a_task(self) -> None:
        family = self.make()
        sample = self.sampled(family)
        first = [family.cmdp(row) for row in sample]
        for row, model, fresh in zip(sample[::-1], first[::-1], (family, self.make()) * self.tasks):
            again = fresh.cmdp(row)
            same = all(np.array_equal(getattr(model, name), getattr(again, name)) for name in PARTS)
            require(
                same,
                f"cmdp({row.tolist()}) must be the same task at every call, got another one; draw nothing in it, and keep no state",
            )

    def test_parameters_are_left_alone(self) -> None:
        family = self.make()
        sample = self.sampled(family)
        for row in sample:
            given = row.copy()
            family.cmdp(given)
            require(
                np.array_equal(given, row),
                f"cmdp must leave the parameters it is given alone, got {given.tolist()} where {row.tolist()} was passed; copy them first",
            )

    def test_the_safe_policy_keeps_the_limits(self) -> None:
        family = self.make()
        if not callable(getattr(family, "safe_policy", None)):
            return  # training searches for one
        for row, model in zip(self.sampled(family), self._models(family)):
            table = as_tables("safe_policy()", family.safe_policy(), model.n_states, model.n_actions)
            costs = np.asarray(evaluate(model, table[0]).costs)
            require(
                bool((costs <= model.cost_limits + TOLERANCE * (1.0 + model.cost_limits)).all()),
                f"safe_policy() must keep the limits {model.cost_limits.tolist()} in every task, got {costs.tolist()} at {row.tolist()}; bring a "
                "controller that is safe everywhere, or leave safe_policy out",
            )
