"""Many plants of one kind in one database: each a deployment of its own, looked at together, and what they taught for the next one.

    fleet = Fleet.open("plants.db", policy_set, trust="data")
    plant = fleet.plant("line 3")                      a Deployment; ask and tell as always
    print(fleet.text)                                  a line for every plant
    family = fleet.prior(family)                       tasks like the plants so far, more often: train with it

Every plant has an error probability of its own: of n plants at most ``n delta`` violate a limit on average, and all are safe together with
probability at least ``1 - n delta``. A plant's guarantee does not rest on the others.

**What survives a new prior.** Training with :meth:`Fleet.prior` is a new training. Its policies were chosen by what earlier plants reported, and that
is independent of what a new plant will report: so ``data``, ``envelope`` and ``cells`` hold for a new plant as they did, for every task that meets
their assumptions. Statements about *shares* of tasks, the hold-out's ``p`` and a rehearsal's ``alpha``, are then about the new family: they are true
of the next plant only as far as it is a draw from that family, which earlier plants make plausible and do not prove. Rehearse again. A plant whose
reports shaped the prior must not be deployed anew with it as if nothing had been seen of it.

Letters: N cells, p parameters.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Any, Self, Unpack

import numpy as np
import sqlalchemy as sa

from surefoot.arrays import FloatArray
from surefoot.deploy.evidence.predictions import PredictionTable
from surefoot.deploy.posterior import CellPosterior
from surefoot.deploy.trust import simulated_ceilings
from surefoot.errors import InvalidInput
from surefoot.journal.deployment import Deployment
from surefoot.journal.opening import own_policy_set
from surefoot.journal.settings import SettingOptions
from surefoot.journal.status import DeploymentStatus
from surefoot.journal.store import Store
from surefoot.journal.tables import DEPLOYMENTS
from surefoot.journal.transaction import Transaction
from surefoot.policyset.schema import PolicySet
from surefoot.tasks.reweighted import reweighted
from surefoot.text_table import text_table

__all__ = ["Fleet"]


class Fleet:
    """See the module's docstring; made by :meth:`open`.

    Attributes:
        policy_set: with which its plants are deployed.
    """

    def __init__(self, url: str | os.PathLike[str], policy_set: PolicySet, settings: SettingOptions) -> None:
        self._url, self.policy_set, self._settings = url, policy_set, settings
        self._plants: dict[str, Deployment] = {}

    @classmethod
    def open(
        cls, url: str | os.PathLike[str], policy_set: PolicySet | None = None, **settings: Unpack[SettingOptions]
    ) -> Self:
        """A fleet in a database, which may have plants already.

        Args:
            url: as for :meth:`Deployment.open <surefoot.journal.deployment.Deployment.open>`.
            policy_set: of the plants; by default the one that all deployments in the database have.
            settings: of plants that are opened from now on; without ``seed`` every plant has one of its own, made of its name.

        Raises:
            InvalidInput: no policy set, and none or several in the database.
        """
        if policy_set is None:
            policy_set = _only_policy_set(url)
        return cls(url, policy_set, settings)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the plants that were opened with this policy set, in this process or another, sorted."""
        return tuple(name for name, found in _deployments(self._url).items() if found == self.policy_set.hash)

    def plant(self, name: str, **settings: Unpack[SettingOptions]) -> Deployment:
        """The deployment of a plant: opened where there is none yet, continued where there is.

        Args:
            name: of the plant.
            settings: what differs from the fleet's.

        Raises:
            SettingsMismatch: it exists with another policy set or other settings.
        """
        if name not in self._plants or settings:
            fresh = name not in self._plants and name not in self.names
            # Plants draw independently of each other, and the same again if the same one is opened anew.
            own: SettingOptions = {"seed": int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])}
            given: SettingOptions = {**own, **self._settings, **settings} if fresh else settings
            self._plants[name] = Deployment.open(self._url, self.policy_set, name=name, **given)
        return self._plants[name]

    def status(self) -> dict[str, DeploymentStatus]:
        """The status of every plant by its name."""
        return {name: self.plant(name).status() for name in self.names}

    def data(self) -> dict[str, Any]:
        """What the page shows, as plain values: ``policy_set``, ``family``, and ``plants``, a status each."""
        return {
            "policy_set": self.policy_set.hash,
            "family": self.policy_set.training.family,
            "plants": [status.as_dict() for status in self.status().values()],
        }

    @property
    def text(self) -> str:
        """A line for every plant, for people."""
        rows = [["plant", "stage", "episodes", "off the safe policy", "mean costs (limit)", "mean return", "state"]]
        for name, one in self.status().items():
            costs = ", ".join(
                f"{'-' if cost is None else format(cost, '.4g')} ({one.cost_limits[label]:.4g})"
                for label, cost in one.mean_costs.items()
            )
            earned = "-" if one.mean_return is None else f"{one.mean_return:.4g}"
            off = 1.0 - one.weights.get(0, 0.0)
            rows.append(
                [name, one.stage, str(one.episodes), f"{off:.0%}", costs or "-", earned, one.alarm or one.state]
            )
        return "\n".join(text_table(rows))

    def learned(self, name: str) -> FloatArray:
        """(N,) how plausible the cells are after everything that a plant reported; equal where it reported nothing.

        The journal is read from its beginning. What is logged from before counts as well.
        """
        found, criterion = self.policy_set, self.policy_set.criterion
        table = PredictionTable.of(found, simulated_ceilings(found))
        posterior, draws = CellPosterior.of(found, table), dict[int, int]()
        for event in self.plant(name).events():
            body = event.body
            if event.kind == "asked":
                draws.update({body["first"] + k: policy for k, policy in enumerate(body["draws"])})
            if event.kind not in ("told", "recalled"):
                continue
            reward = np.atleast_1d(np.asarray(body["reward"], dtype=np.float64))
            n = reward.size
            costs = criterion.measure(np.asarray(body["costs"], dtype=np.float64).reshape(n, -1))
            drawn = [draws.pop(k) for k in body["ids"]] if event.kind == "told" else [0] * n
            signals = (
                None if body.get("signals") is None else np.asarray(body["signals"], dtype=np.float64).reshape(n, -1)
            )
            outcomes, columns = np.column_stack([reward, costs]), table.column(body.get("initial_state"), n)
            whole = np.isfinite(outcomes).all(axis=1) & (True if signals is None else np.isfinite(signals).all(axis=1))
            if whole.any():
                told = None if signals is None else signals[whole]
                posterior.update(np.asarray(drawn, dtype=np.int64)[whole], columns[whole], outcomes[whole], told, None)
        return posterior.posterior()

    def prior(self, family: Any, *, plants: Iterable[str] | None = None, share: float = 0.5) -> Any:
        """The family with tasks like the plants drawn more often: for a training of policies for the next plant.

        Args:
            family: that the policy set was trained on.
            plants: whose reports count, each as much as any other; by default all.
            share: part of the tasks that is drawn like the plants (:func:`~surefoot.tasks.reweighted.reweighted`).

        Raises:
            InvalidInput: no plants, another family, or a policy set whose cells do not tell tasks apart.
        """
        names = self.names if plants is None else tuple(plants)
        cells = self.policy_set.cells
        wrong = (
            "plants must hold at least one, got none; deploy one first" if not names
            else f"family must be {self.policy_set.training.family}, on which the policy set was trained, got {family.name}; pass that one"
            if family.name != self.policy_set.training.family
            else f"policy_set must have cells that tell tasks apart, got {len(cells)}; train with cells=" if len(cells) < 2
            else None
        )  # fmt: skip
        if wrong is not None:
            raise InvalidInput(wrong, code="SF-ARGUMENT-MISMATCH")
        weights = np.mean([self.learned(name) for name in names], axis=0)
        return reweighted(family, cells.parameters, weights, share=share)

    def close(self) -> None:
        """Let go of the database."""
        for plant in self._plants.values():
            plant.close()
        self._plants.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _deployments(url: str | os.PathLike[str]) -> dict[str, str]:
    """Hash of the policy set by the name of every deployment in a database, sorted by name; empty where there is no database yet."""
    store = Store(url, "default")
    try:
        if store.sqlite and not os.path.exists(store.file):
            return {}
        with store.reading() as transaction:
            if not sa.inspect(transaction.connection).has_table(DEPLOYMENTS.name):
                return {}
            names = [str(name) for name in transaction.run(sa.select(DEPLOYMENTS.c.name)).scalars()]
            firsts = {
                name: Transaction(transaction.connection, name, transaction.context).first() for name in sorted(names)
            }
        return {name: str(first.body.get("policy_set")) for name, first in firsts.items() if first is not None}
    finally:
        store.close()


def _only_policy_set(url: str | os.PathLike[str]) -> PolicySet:
    """The policy set that all deployments in a database have."""
    found = _deployments(url)
    if len(set(found.values())) != 1:
        raise InvalidInput(
            f"policy_set must be given where a database holds deployments of none or several, got {len(set(found.values()))} of them; pass it",
            code="SF-ARGUMENT-MISSING",
        )
    store = Store(url, next(iter(found)))
    try:
        with store.reading() as transaction:
            first = transaction.first()
        assert first is not None
        return own_policy_set(store, first)
    finally:
        store.close()
