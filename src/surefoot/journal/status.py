"""The status of a deployment, as values for programs and as text for people.

A certificate is always about a *mixture*: one policy is drawn per episode, and expected costs are bounded over that draw. A single draw may be a
policy that alone would exceed the limit, and discarding draws selectively voids the bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from surefoot.deploy.stages import DRIFTED, RAMPING, STOPPED, Stage, Standing, stage_of
from surefoot.deploy.trust import trust_level
from surefoot.journal.bodies import recorded_rung
from surefoot.journal.degraded import Outline
from surefoot.journal.settings import CERTIFIED, Settings
from surefoot.journal.state import DeploymentState
from surefoot.journal.stop_requests import Stop
from surefoot.journal.succession import predecessor_text
from surefoot.policyset.schema import PolicySet

__all__ = ["BriefStatus", "DeploymentStatus"]


@dataclass(frozen=True)
class BriefStatus:
    """What a plant's loop needs to know after a report; the attributes are those of :class:`DeploymentStatus`."""

    seq: int
    pending: int
    state: str

    @staticmethod
    def of(projection: DeploymentState, stops: Sequence[Stop] = ()) -> BriefStatus:
        """The brief status of a deployment whose journal was replayed; what its last report led to is worked in."""
        seq = projection.last
        return BriefStatus(seq, projection.agent.pending, _state(projection, stops)[0])


@dataclass(frozen=True)
class DeploymentStatus:
    """A deployment at one moment; all values are plain.

    Attributes:
        name: of the deployment.
        state: ``"running"``, ``"paused"``, ``"aborted"``, ``"alarm"`` (the safe policy is played for good) or ``"degraded"`` (the safe policy is
            played until the fault is mended).
        why: the reason of a pause, an abort or an alarm; else empty.
        seq: number of the last event.
        episodes, pending: how many were asked so far; how many of these were neither told nor lost.
        weights: policy index to weight in the mixture that is played now; 0 is the safe policy.
        reasons: policy index to the reason for its weight.
        plan: number of the event that recorded this mixture; ``approve`` takes it.
        certified_costs, cost_limits: by name of the constraint.
        certified: ``False`` after an alarm: then the safe policy's cost is what the user assumed; and while a rehearsed belief plans: then costs are
            what it takes them to be at most, and what is certified is the whole deployment.
        cells_left, cells: how many cells are not eliminated, and how many there are.
        cap: the exposure limit, a bound on the weight off the safe policy.
        waiting: weights of a plan that waits for approval, or ``None``.
        trust, delta: trust level and error probability of the guarantee.
        ledger: name to part of delta.
        next: what the agent is learning.
        notes: limitations, flags, deviations.
        policy_set: hash of the policy set.
        agent: who chooses; nothing is certified unless it is ``certified``.
        rehearsal: under ``trust="rehearsed"`` whether the deployment is ``inside`` the protocol, why it ``left`` and ``since`` which episode, its
            ``surprise`` (``None``: infinite) and the alarm's ``threshold`` (``None``: no alarm), what was ``rehearsed`` in numbers, and what that
            ``promises``; else ``None``.
        stage: how far it is (:mod:`surefoot.deploy.stages`): ``"comparing"``, ``"ramping"``, ``"learned"``, ``"drifted"`` or ``"stopped"``; while
            it is degraded ``"stopped"``.
        stage_text, stage_until: what that means now, and what would end it, a sentence for people each.
        logged: episodes of today's controller from before the first ask that count as episodes of the safe policy.
        alarm: why everything stopped, or empty; whatever ``state`` says, for an abort may have followed. ``None`` while it is degraded.
        reported, lost: episodes that were told, and that were declared lost; ``None`` while it is degraded.
        mean_return, mean_costs: of the episodes told, by name of the constraint; ``None`` where none is known.
        last_report: when the last report was recorded or, before the first, when the deployment was opened; by the clock of whoever wrote it.
        hook_failures: how often a subscriber of this process raised, or an attempt of a webhook to deliver failed; the notes say more.
        degraded: why the journal cannot be replayed, or empty. While it cannot, the safe policy is played, whatever ``state`` says, and what rests on
            the evidence is unknown: no cell counts as left, nothing is certified.
    """

    name: str
    state: str
    why: str
    seq: int
    episodes: int
    pending: int
    weights: dict[int, float]
    reasons: dict[int, str]
    plan: int
    certified_costs: dict[str, float]
    cost_limits: dict[str, float]
    certified: bool
    cells_left: int
    cells: int
    cap: float
    waiting: dict[int, float] | None
    trust: str
    delta: float
    ledger: dict[str, float]
    next: str
    notes: tuple[str, ...]
    policy_set: str
    degraded: str = ""
    agent: str = CERTIFIED
    rehearsal: dict[str, Any] | None = None
    stage: str = RAMPING
    stage_text: str = ""
    stage_until: str = ""
    logged: int = 0
    alarm: str | None = None
    reported: int | None = None
    lost: int | None = None
    mean_return: float | None = None
    mean_costs: dict[str, float | None] = field(default_factory=dict)
    last_report: str = ""
    hook_failures: int = 0

    @staticmethod
    def of(
        projection: DeploymentState, name: str, stops: Sequence[Stop] = (), last_report: str = ""
    ) -> DeploymentStatus:
        """The status of a deployment whose journal was replayed.

        Args:
            fold: of the journal.
            name: of the deployment.
            stops: requests that are in effect and not yet in the journal.
            last_report: time stamp of the last report, or of the opening.
        """
        agent, (number, plan) = projection.agent, projection.standing
        now, criterion, state, why = agent.status(), projection.policy_set.criterion, *_state(projection, stops)
        stage = _stage(now.stage, stops)
        return DeploymentStatus(
            name=name,
            state=state,
            why=why,
            seq=projection.last,
            episodes=now.episodes,
            pending=now.pending,
            weights=_weights(plan, stops),
            reasons={int(j): text for j, text in plan["reasons"].items()},
            plan=number,
            certified_costs=dict(zip(criterion.cost_names, plan["bounds"])),
            cost_limits=dict(zip(criterion.cost_names, criterion.cost_limits.tolist())),
            certified=agent.alarm is None and projection.settings.agent == CERTIFIED and now.proved,
            cells_left=now.cells_left,
            cells=now.cells,
            cap=projection.operator.cap,
            waiting=None if plan["waiting"] is None else {int(j): w for j, w in plan["waiting"]["weights"].items()},
            trust=projection.settings.trust,
            delta=projection.settings.delta,
            ledger={entry.name: entry.delta for entry in now.ledger.entries},
            next=now.next,
            notes=(
                *(stop.text for stop in stops),
                *now.notes,
                *projection.flags,
                *([] if projection.predecessor is None else [predecessor_text(projection.predecessor)]),
                *_deviations(projection),
                *_bare(projection),
            ),
            policy_set=projection.policy_set.hash,
            agent=projection.settings.agent,
            rehearsal=_rehearsal(projection),
            stage=stage.name,
            stage_text=stage.text,
            stage_until=stage.until,
            logged=now.logged,
            alarm=agent.alarm or "",
            reported=projection.tally.told,
            lost=projection.tally.lost,
            mean_return=projection.tally.mean_return,
            mean_costs=projection.tally.mean_costs,
            last_report=last_report,
        )

    @staticmethod
    def outlined(
        outline: Outline,
        policy_set: PolicySet,
        settings: Settings,
        name: str,
        fault: tuple[int, str],
        stops: Sequence[Stop],
    ) -> DeploymentStatus:
        """The status of a deployment whose journal cannot be replayed.

        Args:
            outline: what was read of it.
            policy_set, settings, name: of the deployment.
            fault: number of the event that cannot be replayed, and why.
            stops: requests that are in effect and not yet in the journal.
        """
        criterion, (event, why) = policy_set.criterion, fault
        limits = criterion.cost_limits.tolist()
        margin = float(outline.first.get("margin", 0.0))
        state, said = _last_word(outline.paused, outline.aborted, stops)
        text = (
            f"DEGRADED: event {event} cannot be followed, so the safe policy is played and nothing else is certified. Reports are kept. Run verify, "
            f"compare the library's version, then recover. ({why})"
        )
        return DeploymentStatus(
            name=name,
            state=state or "degraded",
            why=said or f"event {event} cannot be followed",
            seq=outline.seq,
            episodes=outline.opened,
            pending=len(outline.pending),
            weights={0: 1.0},
            reasons={0: f"event {event} cannot be followed"},
            plan=0,
            certified_costs={n: d - margin for n, d in zip(criterion.cost_names, limits)},
            cost_limits=dict(zip(criterion.cost_names, limits)),
            certified=False,
            cells_left=0,
            cells=len(policy_set.cells),
            cap=1.0,
            waiting=None,
            trust=settings.trust,
            delta=settings.delta,
            ledger={str(entry["name"]): float(entry["delta"]) for entry in outline.first.get("ledger", [])},
            next="how the fault is mended",
            notes=(text, *(stop.text for stop in stops)),
            policy_set=policy_set.hash,
            degraded=text,
            agent=settings.agent,
            stage=STOPPED,
            stage_text="the safe policy alone is played, because the journal cannot be followed",
            stage_until="the fault is mended and the deployment is recovered; then the stage is what its evidence says",
        )

    def with_stops(self, stops: Sequence[Stop]) -> DeploymentStatus:
        """This earlier status, with stop requests that came into effect since."""
        paused, aborted = (self.why if self.state == state else None for state in ("paused", "aborted"))
        state, why = _last_word(paused, aborted, stops)
        late = (
            f"as of event {self.seq}: an operation that waits for the journal's lock keeps later ones from being read"
        )
        texts = [stop.text for stop in stops]
        stage = _stage(Stage(self.stage, self.stage_text, self.stage_until), stops)
        return replace(
            self,
            stage=stage.name,
            stage_text=stage.text,
            stage_until=stage.until,
            state=state or self.state,
            why=why or self.why,
            weights={0: 1.0} if state == "aborted" else self.weights,
            notes=(late, *texts, *(note for note in self.notes if note not in texts)),
        )

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values that JSON can hold."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("weights", "reasons", "waiting"):
            part = found[name]
            found[name] = None if part is None else {str(j): value for j, value in part.items()}
        return {**found, "notes": list(self.notes), "statement": self.statement}

    @property
    def statement(self) -> str:
        """The guarantee, in one sentence."""
        if self.agent != CERTIFIED:
            return (
                f"Nothing is certified: agent {self.agent!r} is not surefoot's own. A cost above its ceiling and the monitor, on real costs, return "
                "to the safe policy."
            )
        if self.rehearsal is not None and self.rehearsal["promises"]:
            return _rehearsed_statement(self.rehearsal, self.delta)
        rests = trust_level(self.trust).assumes
        return (
            f"With probability at least {1.0 - self.delta:g} every mixture deployed so far meets every cost limit in expectation, if {rests}. What "
            "is certified is the mixture, not the single draw: discarding draws selectively voids it."
        )

    @property
    def text(self) -> str:
        """A paragraph for people."""
        said = {"running": "running", "paused": "PAUSED", "aborted": "ABORTED (safe policy only)", "alarm": "ALARM"}
        said["degraded"] = "DEGRADED (safe policy only)"
        head = f"Deployment {self.name!r}: {said[self.state]}{f': {self.why}' if self.why else ''}"
        played = [f"  policy {j} with weight {w:.3f}: {self.reasons.get(j, '')}" for j, w in self.weights.items()]
        sure = "" if self.certified else " (assumed, no longer certified)"
        if not self.certified and self.state not in ("alarm", "degraded") and self.rehearsal is not None:
            sure = " (the belief's, which proves nothing)"
        costs = [
            f"  expected {name} of the mixture at most {cost:.4g}, limit {self.cost_limits[name]:.4g}{sure}"
            for name, cost in self.certified_costs.items()
        ]
        lines = [
            head,
            f"stage: {self.stage}: {self.stage_text}; it ends when: {self.stage_until}",
            f"after {self.episodes} episodes ({self.pending} pending), event {self.seq}; deployed now (plan {self.plan}):",
            *([f"  {self.logged} logged episodes of the safe policy from before count"] if self.logged else []),
            *played,
            *costs,
            f"  cells left {self.cells_left} of {self.cells}; next: {self.next}",
            *([f"  capped: at most {self.cap:g} off the safe policy"] if self.cap < 1.0 else []),
            *([f"  a plan waits for approval: {_listed(self.waiting)}"] if self.waiting is not None else []),
            *(f"  note: {note}" for note in self.notes),
            self.statement,
        ]
        return "\n".join(lines)


def _rehearsed_statement(found: dict[str, Any], delta: float) -> str:
    """What a rehearsed deployment promises, inside its protocol and outside."""
    promise = f"{found['promises']} This is a statement about the average task of the family, not about each one."
    mixture = "What counts is the mixture, not the single draw: discarding draws selectively voids it."
    if found["inside"]:
        return f"{promise} Costs shown for one mixture are the belief's and prove nothing. {mixture}"
    then = trust_level("data").assumes
    return (
        f"Until the deployment left its protocol, after {found['since']} episodes ({found['left']}): {promise} From then on, with probability at "
        f"least {1.0 - delta:g}, every mixture meets every cost limit in expectation, if {then}. {mixture}"
    )


def _rehearsal(projection: DeploymentState) -> dict[str, Any] | None:
    """What was rehearsed, and whether the deployment still is that."""
    run, found = projection.agent.rehearsed, projection.policy_set.rehearsed
    if run is None:
        return None
    surprise, threshold = run.planner.surprise, run.rung.surprise
    return {
        "inside": run.inside,
        "left": run.left,
        "since": run.left_at if run.left is not None else None,
        "surprise": surprise if math.isfinite(surprise) else None,
        "threshold": threshold if math.isfinite(threshold) else None,
        "rehearsed": recorded_rung(projection.policy_set, run.rung),
        "promises": "" if found is None else found.text,
    }


def _listed(weights: dict[int, float]) -> str:
    return ", ".join(f"policy {j} with weight {w:.3f}" for j, w in weights.items())


def _state(projection: DeploymentState, stops: Sequence[Stop]) -> tuple[str, str]:
    state, why = _last_word(projection.operator.paused, projection.operator.aborted, stops)
    if state:
        return state, why
    return ("running", "") if projection.agent.alarm is None else ("alarm", projection.agent.alarm)


def _last_word(paused: str | None, aborted: str | None, stops: Sequence[Stop]) -> tuple[str, str]:
    """State and reason after these requests; both empty where nothing is stopped."""
    for stop in stops:
        if stop.kind == "paused":
            paused = stop.reason if paused is None else paused
        elif aborted is None:
            paused, aborted = None, stop.reason  # an abort ends a pause
    if paused is not None:
        return "paused", paused
    return ("", "") if aborted is None else ("aborted", aborted)


def _stage(stage: Stage, stops: Sequence[Stop]) -> Stage:
    """The stage, that of an abort included which is not in the journal yet."""
    aborts = [stop.reason for stop in stops if stop.kind == "aborted"]
    return stage_of(Standing(aborted=aborts[0])) if aborts and stage.name not in (DRIFTED, STOPPED) else stage


def _weights(plan: dict[str, Any], stops: Sequence[Stop]) -> dict[int, float]:
    if any(stop.kind == "aborted" for stop in stops):
        return {0: 1.0}
    return {int(j): weight for j, weight in plan["weights"].items()}


def _bare(projection: DeploymentState) -> list[str]:
    return [
        f"{count} episodes were told without {name}, which could be used; what was recorded stands, so report it from now on"
        for name, count in projection.bare.items()
        if count
    ]


def _deviations(projection: DeploymentState) -> list[str]:
    if not projection.deviations:
        return []
    return [
        f"{projection.deviations} recorded plans differ from what this machine computes; they are certified by its computation and are followed"
    ]
