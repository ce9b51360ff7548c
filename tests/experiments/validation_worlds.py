"""What the tests of ``surefoot validate`` share: a small certified policy set, and agents that are broken on purpose."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import surefoot as sf
from surefoot.deploy.certified import CertifiedAgent
from surefoot.experiments.registry import AGENTS, AgentContext, Recipe
from surefoot.experiments.validation.scenarios import TaskSampler, World
from surefoot.tasks import NoisyGridworld

__all__ = ["WORLD", "points", "small_atlas", "small_set", "small_world", "with_mutants"]

WORLD = NoisyGridworld()


@cache
def small_set() -> sf.PolicySet:
    """Few cells, hence wide boxes; a hold-out large enough for trust in cells."""
    return sf.train(WORLD, tasks=150, holdout=150, cells=8, policies=6, seed=0, progress=False)


@cache
def small_world() -> World:
    """The same set with its family."""
    return World(WORLD, small_set(), small_set())


@cache
def small_atlas() -> TaskSampler:
    """Finds tasks there."""
    return TaskSampler(small_world())


class Hasty(CertifiedAgent):
    """Spends eighteen times the delta that its ledger shows."""

    def __init__(self, policy_set: sf.PolicySet, **options: Any) -> None:
        honest = CertifiedAgent(policy_set, **options)
        super().__init__(policy_set, **options | {"delta": 0.9})
        self.ledger = honest.ledger


class Halving(CertifiedAgent):
    """Believes that every policy costs half of what is certain, once it has begun to learn."""

    def ask(self, n: Any = None) -> Any:
        if self._tracker.opened == 10:
            self._bounds.drop_start(0.5 * self._bounds.values)
            self._stale = True
        return super().ask(n)


class Fragile(CertifiedAgent):
    """Fails in the middle of a deployment."""

    def tell(self, *arguments: Any, **options: Any) -> None:
        super().tell(*arguments, **options)
        if self._tracker.opened > 30:
            raise sf.InvalidReport("costs must be told in another order; sort them")


def with_mutants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register ``hasty:TRUST``, ``halving:TRUST``, ``fragile:TRUST`` and ``honest:TRUST`` beside the library's agents."""

    def factory(kind: type[CertifiedAgent]) -> Any:
        def make(context: AgentContext, argument: str) -> CertifiedAgent:
            trust: Any = argument
            return kind(context.policy_set, trust=trust, delta=context.delta, seed=context.seed)

        return make

    for name, kind in (("hasty", Hasty), ("halving", Halving), ("fragile", Fragile), ("honest", CertifiedAgent)):
        monkeypatch.setitem(AGENTS, name, Recipe(factory(kind)))


def points(*noises: float) -> Any:
    """(n, 1) parameters."""
    return np.asarray(noises)[:, None]
