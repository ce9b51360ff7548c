"""The opening of a deployment: what its settings imply, and the state that every later event is checked against.

Letters: J policies, I constraints.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.audit.bounds import DataBounds
from surefoot.audit.cell_wealth import CellWealth
from surefoot.audit.event import AuditedEvent
from surefoot.audit.groups import PredictedBoxes
from surefoot.audit.log import LogAudit
from surefoot.audit.monitor import ChangeWatch, CostWatch, SafeCheck
from surefoot.audit.order import CLOSE, AskOrder, MissingDraws
from surefoot.audit.posterior import CellPosterior
from surefoot.audit.region import Region
from surefoot.audit.rehearsed import RehearsedRun, certified_rung, unsupported
from surefoot.audit.returns import ReturnBounds
from surefoot.audit.stationarity import StationarityWatch
from surefoot.deploy.evidence.mixture import FINAL
from surefoot.deploy.trust import BOUNDS_SHARE
from surefoot.deploy.tuning import TUNING
from surefoot.policyset.schema import PolicySet

__all__ = ["Disagreement", "Opening"]


class Disagreement(Exception):
    """An event that does not follow."""


class Opening:
    """What an audit knows, from the first event on.

    Args:
        policy_set: that the deployment was opened with.

    Attributes:
        checked: events that follow from those before them.
        group: the event being checked and its consequences.
        seq: its number.
    """

    def __init__(self, policy_set: PolicySet) -> None:
        self.policy_set = policy_set
        self.seq = self.target = 0
        self.group: list[AuditedEvent] = []
        self.expected_alarm: str | None = None
        self.checked = self.inert = 0
        self.degraded: AuditedEvent | None = None
        self.recovering = False
        self.held: list[dict[str, Any]] = []
        self.again: list[dict[str, Any]] = []
        self.run: RehearsedRun | None = None
        self.leaving: str | None = None
        self.stage = self.successor = ""

    def _object(self, text: str) -> NoReturn:
        raise Disagreement(f"event {self.seq} ({self.group[0].kind}): {text}")

    def _recorded(self, kind: str) -> list[dict[str, Any]]:
        return [event.body for event in self.group if event.kind == kind]

    def _expect(self, why: str) -> None:
        if not self.alarm:
            self.expected_alarm = self.expected_alarm or why

    @property
    def _ramping(self) -> bool:
        return self.safe is not None and self.safe.compared < self.ramp

    def _opened(self, body: dict[str, Any]) -> None:
        if body["policy_set"] != self.policy_set.hash:
            self._object("the policy set has another hash")
        before = body.get("readapts", {"seq": 2, "digest": "0" * 64})
        if before["seq"] < 2 or len(before["digest"]) != 64 or before.get("name") == body.get("name"):
            self._object("the deployment before this one is not named by one of its later events")
        settings, criterion = body["settings"], self.policy_set.criterion
        self.settings, self.trust, delta = settings, settings["trust"], settings["delta"]
        self.limits = np.array(criterion.cost_limits)
        self._check_certificate()
        rehearsed = self.trust == "rehearsed"
        if rehearsed:
            self.trust = "data"  # which runs along, and is what remains
        margin = self.policy_set.safe_margin if settings["margin"] is None else settings["margin"]
        self.ceilings = self._ceilings(settings["cost_ceilings"], self.trust)
        paid = [entry["delta"] for entry in body["ledger"]]
        if not math.isclose(body["margin"], margin) or body["margin"] <= 0.0 or math.fsum(paid) > delta * (1.0 + 1e-9):
            self._object("margin and ledger do not follow from the settings")
        largest = self.ceilings.max(axis=0)
        if np.shape(body["cost_ceilings"]) != largest.shape or not np.allclose(
            body["cost_ceilings"], largest, atol=0.0
        ):
            self._object("the declared ceilings do not follow from the settings")
        self._start(margin, delta)
        if rehearsed:
            self._rehearse(body, margin)

    def _rehearse(self, body: dict[str, Any], margin: float) -> None:
        """What was rehearsed, and the first plan of it."""
        found = self.policy_set.rehearsed
        why = "it was not rehearsed" if found is None else unsupported(found, 1 + len(self.policy_set.rehearsal_looks))
        if found is None or why is not None:
            self._object(f"trust 'rehearsed' needs a policy set whose rehearsal says so: {why}")
        bare = replace(self.policy_set, rehearsed=None, rehearsal_looks=()).hash
        if found.library != bare:
            self._object(
                f"the rehearsal was of a policy set with the hash {found.library[:16]}..., this one has {bare[:16]}..."
            )
        if found.evidence != self.settings["evidence"] or found.upper > self.settings["delta"] * (1.0 + 1e-9):
            self._object("what was rehearsed is not what the settings say")
        wanted = certified_rung(found)
        if {name: body["rehearsed"].get(name) for name in wanted} != wanted:
            self._object(f"the policy set's rehearsal certifies {wanted}, recorded is {body['rehearsed']}")
        self.run = RehearsedRun(self.policy_set, body["rehearsed"], margin)
        self._keep_to_protocol(None)
        if self.settings["approve"]:
            self._keep_to_protocol("plans wait for approval")

    @property
    def followed(self) -> RehearsedRun | None:
        """The rehearsed run, while it is what is played."""
        stopped = self.alarm or self.expected_alarm is not None or self.aborted or self.recovering
        return None if self.run is None or self.run.left is not None or stopped else self.run

    def _keep_to_protocol(self, reason: str | None) -> None:
        """Follow the rehearsed plan; or, with a reason, no longer."""
        run = self.followed
        if run is None:
            return
        if reason is not None:
            self.leaving = self.leaving or reason
            return
        self.replan |= run.follow(self.opened)
        if run.surprise > run.threshold * (1.0 + CLOSE):
            self._expect("what happens fits the belief worse than on rehearsed plants")

    def _check_protocol(self) -> None:
        """The protocol is left when something happens that was not rehearsed, once, and not otherwise."""
        recorded = self._recorded("protocol")
        if len(recorded) > 1 or bool(recorded) != (self.leaving is not None):
            what = "was left without cause, or twice" if recorded else f"was left ({self.leaving}), which is concealed"
            self._object(f"the rehearsed protocol {what}")
        if recorded and self.run is not None:
            self.run.left, self.replan = self.leaving, True
        self.leaving = None

    def _start(self, margin: float, delta: float) -> None:
        cells_pay, set_ = self.trust == "cells", self.policy_set
        start = self.ceilings.copy()
        if self.trust == "envelope":
            start = np.minimum(start, set_.cells.predictions.cost_upper.max(axis=0))
        start[0] = np.minimum(start[0], self.limits - margin)
        self.data_start = self.ceilings.copy()
        self.data_start[0] = np.minimum(self.data_start[0], self.limits - margin)
        share = delta * BOUNDS_SHARE if cells_pay else delta
        self.bounds: DataBounds | Region
        if self.settings.get("joint_bounds", False) and not cells_pay:
            self.bounds = Region(start, self.ceilings, self.limits, share)
        else:
            self.bounds = DataBounds(start, self.ceilings, self.limits, share, selected=not cells_pay)
        boxes = PredictedBoxes(set_, self._ceilings(None, "cells")[0])
        level = delta * (1 - BOUNDS_SHARE) if cells_pay else self.settings["monitor_delta"]
        self.skips_lost = self.settings["losses"] == "independent"
        self.wealth = CellWealth(set_, self.settings["evidence"], boxes, level, final=FINAL if cells_pay else 1.0)
        self.posterior = None if cells_pay else CellPosterior(set_, boxes)
        self.look, self.objective = TUNING.first_update, set_.cells.predictions.reward_center.mean(axis=0)
        if not cells_pay:
            self.bounds.select(0, 0)
        largest = self.ceilings.max(axis=0)
        self.watch = CostWatch(self.limits, largest)
        self.change = ChangeWatch(self.limits, largest, self.settings.get("false_alarm_every", 0.0))
        self.stationarity = StationarityWatch(self.settings.get("false_change_every", 0.0), self.settings["seed"])
        self.ramp = 0 if self.trust == "data" else self.settings.get("ramp", 0)
        self.safe = SafeCheck(set_, boxes) if self.ramp else None
        self.returns = ReturnBounds(set_) if self.ramp else None
        self.ramped, self.barred = False, np.zeros(len(set_.policies), dtype=bool)
        self.random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.settings["seed"])))
        self.order, self.opened, self.target, self.changed = AskOrder(), 0, 0, 0
        self.log = LogAudit(1 + self.limits.size)
        self.open: dict[int, int] = {}
        self.asks: deque[tuple[int, list[int], FloatArray | None]] = deque()
        self.missing = MissingDraws(len(set_.policies))
        self.plan: dict[str, Any] = {}
        self.plan_seq = 0
        self.alarm = self.outside = self.aborted = self.paused = False
        self.cap, self.approved = 1.0, np.eye(len(set_.policies))[0]
        self.replan = True

    def _check_certificate(self) -> None:
        """``cells`` was allowed: the exact binomial limit of the hold-out's misses, by the beta quantile."""
        from scipy.stats import beta

        if self.trust != "cells":
            return
        found = self.policy_set.certificate
        p = 1.0
        if found is not None and found.uncovered < found.holdout:
            spent = sum(entry.delta for entry in self.policy_set.ledger.entries if entry.name == "simulation")
            # One look after the other pays half of what the looks before it left.
            left = self.settings["delta_coverage"] / 2.0 ** (1 + len(self.policy_set.looks)) - spent
            if left > 0.0:
                rest = found.holdout - found.uncovered
                stated, p = (float(beta.isf(error, found.uncovered + 1, rest)) for error in (1e-6, left / 2))
                # What simulation adds was stated at an error of a millionth; it is in proportion to the limit at any smaller one.
                p += found.simulation_error * (p / stated if p > stated else 1.0)
        if p > self.settings["p_max"] + 1e-9:
            self._object(f"trust 'cells' needs coverage p <= {self.settings['p_max']}, the hold-out shows {p:.4g}")

    def _ceilings(self, declared: Any, trust: str) -> FloatArray:
        """(J, I) of every policy."""
        size = (len(self.policy_set.policies), len(self.policy_set.criterion.cost_limits))
        if declared is not None:
            given = np.array(declared, dtype=np.float64)
            if given.shape not in (size, size[1:]):
                self._object("the declared ceilings are not one per constraint, for all policies or for each")
            return np.broadcast_to(given, size).copy()
        theirs = np.array(self.policy_set.criterion.cost_ceilings, dtype=np.float64)
        ours = np.array(self.policy_set.bounds.cost_ceilings, dtype=np.float64)
        return np.tile(theirs if trust == "data" else np.where(ours > 0.0, ours, theirs), (size[0], 1))
