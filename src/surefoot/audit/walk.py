"""One walk through a journal, event by event: what follows from what, what operators do, alarms, and what happens while a deployment is degraded."""

from __future__ import annotations

import math
from typing import Any

from surefoot.audit.event import COMMANDS, AuditedEvent
from surefoot.audit.opening import Disagreement
from surefoot.audit.order import CLOSE
from surefoot.audit.together import Together

__all__ = ["Audit"]

ENDED = ("drifted", "stopped")
NEXT = {
    "comparing": ("ramping", "learned", *ENDED),
    "ramping": ("learned", *ENDED),
    "learned": ("ramping", *ENDED),
}
"""Which stage may follow which."""
HELD = frozenset({"asked", "told", "lost", "paused", "resumed", "capped", "aborted"})


class Audit(Together):
    """One walk through a journal."""

    def passed(self, event: AuditedEvent) -> None:
        """What happened while the journal could not be followed: kept, and nothing but the safe policy handed out.

        Raises:
            Disagreement: it says otherwise.
        """
        self.inert += 1
        if event.kind == "degraded":
            self.degraded = self.degraded or event
            return
        kind, body = event.body["kind"], event.body["body"]
        if self.degraded is None or kind not in HELD or (kind == "asked" and any(body["draws"])):
            raise Disagreement(
                f"event {event.seq} (held): nothing but the safe policy is handed out, and only while the deployment is degraded"
            )
        self.held.append(event.body)

    def finish(self) -> None:
        """After the last event.

        Raises:
            Disagreement: the deployment is degraded still.
        """
        if self.degraded is not None:
            body = self.degraded.body
            raise Disagreement(
                f"event {body['event']} cannot be followed: the deployment is degraded since event {self.degraded.seq} and plays the safe policy "
                f"only; mend what is wrong and recover it ({body['why']})"
            )

    def _recovering(self, body: dict[str, Any]) -> None:
        if self.degraded is None or self.recovering:
            self._object("only a deployment that is degraded can recover")
        self._keep_to_protocol("the safe policy was played meanwhile")
        self.recovering, self.again, self.replan = True, [], True

    def _recovered(self, body: dict[str, Any]) -> None:
        refused = {entry["held"] for entry in body["refused"]}
        wanted = [event for k, event in enumerate(self.held) if k not in refused]
        if not self.recovering or self.again != wanted:
            self._object("what was held while the deployment was degraded must happen once more, and nothing else")
        self.degraded, self.recovering, self.held, self.replan = None, False, [], True

    def check(self, group: list[AuditedEvent], *, last: bool = False) -> None:
        """Everything about one group; where a report is all there is of the last, its consequences need not be recorded yet.

        Raises:
            Disagreement: the first thing that does not follow.
        """
        if not group:
            return
        self.group, first, self.replan = group, group[0], False
        self.seq = first.seq
        self.expected_alarm = None
        if (first.kind == "opened") != (first.seq == 1):
            self._object("a journal opens once, at its first event")
        known = COMMANDS | {
            "planned",
            "eliminated",
            "readmitted",
            "target",
            "noted",
            "flagged",
            "ramp",
            "barred",
            "protocol",
            "stage",
            "alarm",
        }
        if any(event.kind not in known for event in group) or first.kind not in COMMANDS:
            self._object(f"kinds {[event.kind for event in group]} do not follow from each other")
        later = {event.kind for event in group[1:]}
        caused = {"eliminated", "readmitted", "target", "ramp", "barred", "alarm"}
        if first.kind == "asked" and self.followed is not None:
            caused.remove("alarm")  # a plan may be made then, of reports that surprise
        if first.kind not in ("told", "lost", "recalled") and later & caused:
            self._object(f"{sorted(later)} do not follow from it")
        if self.recovering and first.kind not in ("recovering", "recovered"):
            self.again.append({"kind": first.kind, "body": as_held(first)})
        target = self.target
        if last and first.kind == "told" and not later:
            self._report(first.body)
            return
        getattr(self, f"_{first.kind}")(first.body)
        if "target" in later and self.target == target:
            self._object("a target was chosen without need")
        self._check_protocol()
        self._check_alarm()
        self._check_ramp()
        self._check_flag()
        self._check_plan()
        self._check_stage()

    def check_all(self, groups: list[list[AuditedEvent]]) -> None:
        """Check groups without consequences, in order, and remove them from the list.

        What can be recomputed together is: where that shows, or nearly shows, that anything should have happened on the way, the groups are
        checked one by one, and the first that does not follow is named.

        Raises:
            Disagreement: the first thing that does not follow.
        """
        while groups:
            done = self.together(groups)
            for group in groups[: max(1, done)]:
                if not done:
                    self.check(group)
                self.checked += len(group)
            del groups[: max(1, done)]

    def _paused(self, body: dict[str, Any]) -> None:
        self.paused = True

    def _resumed(self, body: dict[str, Any]) -> None:
        self.paused = False

    def _capped(self, body: dict[str, Any]) -> None:
        if self.followed is not None and body["weight"] < self.followed.exposure:
            self._keep_to_protocol("the exposure limit was not rehearsed")
        self.cap, self.replan = body["weight"], True
        if not 0.0 <= self.cap <= 1.0:
            self._object(f"a cap must lie in [0, 1], got {self.cap}")

    def _aborted(self, body: dict[str, Any]) -> None:
        self.aborted, self.paused, self.replan = True, False, True

    def _readapted(self, body: dict[str, Any]) -> None:
        if self.successor or not body["name"]:
            self._object(f"the deployment ended twice, or without a successor: {body['name']!r}")
        self.successor = body["name"]
        self.aborted, self.paused, self.replan = True, False, True

    def _approved(self, body: dict[str, Any]) -> None:
        if body["plan"] != self.plan_seq or self.plan.get("waiting") is None:
            self._object(f"plan {body['plan']} was approved, waiting was {self.plan_seq}")
        self.approved, self.replan = self._weights(self.plan["waiting"]), True

    def _check_alarm(self) -> None:
        recorded = self._recorded("alarm")
        level = -math.log(self.settings["monitor_delta"])
        if self.expected_alarm is not None and not recorded:
            self._object(f"an alarm is missing: {self.expected_alarm}")
        if recorded and self.expected_alarm is None:
            near = max(self.watch.peak - level, self.change.peak, self.stationarity.peak) >= -CLOSE or (
                self.safe is not None and self.safe.log_wealth() >= level - CLOSE
            )
            near |= self.run is not None and self.run.surprise > self.run.threshold * (1.0 - CLOSE)
            if self.alarm or not near:
                self._object(f"an alarm was raised without cause: {recorded[0]['text']}")
        self.alarm |= bool(recorded)
        self.replan |= bool(recorded)

    def _check_stage(self) -> None:
        """Stages in their order, each where its cause is. When a mixture counts as learned is no decision, and is not recomputed."""
        if self.group[0].kind == "opened":
            self.stage = self.group[0].body.get("stage", {}).get("stage", "")
            if self.stage and self.stage != ("comparing" if self._ramping else "ramping"):
                self._object(f"a deployment does not begin with the stage {self.stage!r}")
        before, ended = self.stage, self.alarm or self.aborted
        for body in self._recorded("stage"):
            if not before or body["was"] != self.stage or body["stage"] not in NEXT.get(self.stage, ()):
                self._object(f"stage {self.stage!r} is not followed by {body['stage']!r} after {body['was']!r}")
            self.stage = body["stage"]
        if not before:
            return
        if (self.stage in ENDED) != ended:
            self._object(f"the stage is {self.stage!r} {'after' if ended else 'without'} an alarm or an abort")
        if before == "comparing" and self.stage in ("ramping", "learned") and not self._recorded("ramp"):
            self._object(f"stage {self.stage!r} came before the end of the ramp")

    def _check_flag(self) -> None:
        due, recorded = self.missing.rejected(), bool(self._recorded("flagged"))
        if due != recorded and not self.missing.near():
            self._object("draws seem to be discarded selectively, or not, against what is recorded")
        self.missing.flagged |= recorded


def as_held(event: AuditedEvent) -> dict[str, Any]:
    """The body that was held when this happened first: an episode's plan and evidence were not known then."""
    if event.kind != "asked":
        return event.body
    return {name: value for name, value in event.body.items() if name not in ("plan", "settled")}
