"""What the service offers, as one table: addresses, bodies, answers, errors, and what is done.

The table serves three readers: routing, the check of bodies, and the OpenAPI description. Every operation may be repeated: ``ask`` by its key,
everything else by its contents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from surefoot.errors import InvalidReport
from surefoot.journal import Deployment, Stop, Ticket
from surefoot.policyset.codec import described
from surefoot.service import models
from surefoot.service.guard import Refusal
from surefoot.service.token import OWNER

__all__ = ["EVERYBODY", "KEY_HEADER", "LARGEST_NUMBER", "LOOKING", "OPERATIONS", "Call", "Operation"]

KEY_HEADER = "idempotency-key"
LARGEST_NUMBER = 2**53

RUNNING = frozenset({OWNER, "robot"})
STEERING = frozenset({OWNER, "operator"})
LOOKING = frozenset({OWNER, "operator", "reader"})
EVERYBODY = RUNNING | LOOKING


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        body: checked.
        key: idempotency key, or ``None``.
        number: the number in its path.
        by: who sent it, for the journal, or ``None``.
    """

    body: Any = None
    key: str | None = None
    number: int = 0
    by: str | None = None


@dataclass(frozen=True)
class Operation:
    """One address.

    Attributes:
        method, path: of HTTP.
        summary: for readers.
        work: answers with what JSON can hold, as ``answer`` describes it.
        answer: a model, or several of which one fits.
        body: the model of the request's body; ``None`` where there is none.
        keyed: whether an idempotency key is demanded.
        roles: of the tokens that allow it.
        urgent: must not wait for anything.
        errors: statuses besides those that every address may answer.
    """

    method: str
    path: str
    summary: str
    work: Callable[[Deployment, Call], dict[str, Any]]
    answer: Any
    body: type[models.Body] | None = None
    keyed: bool = False
    roles: frozenset[str] = EVERYBODY
    urgent: bool = False
    errors: tuple[int, ...] = ()


def _ask(plant: Deployment, call: Call) -> dict[str, Any]:
    return _tickets(plant.ask(call.body.n, request=call.key, by=call.by))


def _tickets(tickets: tuple[Ticket, ...]) -> dict[str, Any]:
    weights = {str(j): float(w) for j, w in enumerate(tickets[0].weights) if w > 0.0}
    episodes = [{"id": t.id, "policy": t.policy_index, "reason": t.reason} for t in tickets]
    return {"episodes": episodes, "weights": weights, "certified": CERTIFIED}


CERTIFIED = "the mixture given by weights, not the single draw: run every episode with the policy drawn; discarding draws selectively voids it"


def _episode(plant: Deployment, call: Call) -> dict[str, Any]:
    try:
        return _tickets((plant.ticket(call.number),))
    except InvalidReport as error:
        raise Refusal(404, "NoSuchEpisode", str(error)) from error


def _policy(plant: Deployment, call: Call) -> dict[str, Any]:
    policies = plant.policy_set.policies
    if call.number >= len(policies):
        raise Refusal(404, "NoSuchPolicy", f"a policy must be in [0, {len(policies)}), got {call.number}")
    kind, parameters = described(policies[call.number])
    # A table is served under its own name, as it always was.
    return {"policy": call.number, "kind": kind, **(parameters if kind == "table" else {"parameters": parameters})}


def _tell(plant: Deployment, call: Call) -> dict[str, Any]:
    warnings = plant.tell(**call.body.given(), by=call.by)
    return {**_standing(plant), "warnings": list(warnings)}


def _lost(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.lost(call.body.ids, by=call.by)
    return _standing(plant)


def _history(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.recall(**call.body.given(), by=call.by)
    return _standing(plant)


def _standing(plant: Deployment) -> dict[str, Any]:
    found = plant.brief_status()
    return {"recorded": True, "seq": found.seq, "pending": found.pending, "state": found.state}


def _look(plant: Deployment, call: Call) -> dict[str, Any]:
    status = plant.status_at_once() or plant.status()
    return {**status.as_dict(), "text": status.text}


def _status(plant: Deployment, call: Call) -> dict[str, Any]:
    status = plant.status()
    return {**status.as_dict(), "text": status.text}


def _pause(plant: Deployment, call: Call) -> dict[str, Any]:
    return _stopped(plant, plant.pause(call.body.reason, by=call.by))


def _resume(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.resume(by=call.by)
    return _status(plant, call)


def _cap(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.cap(call.body.weight, by=call.by)
    return _status(plant, call)


def _approve(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.approve(call.body.plan, by=call.by)
    return _status(plant, call)


def _abort(plant: Deployment, call: Call) -> dict[str, Any]:
    return _stopped(plant, plant.abort(call.body.reason, by=call.by))


def _readapt(plant: Deployment, call: Call) -> dict[str, Any]:
    name, reason = call.body.name, call.body.reason
    with plant.readapt(name, reason, by=call.by, delta=call.body.delta, seed=call.body.seed) as new:
        said = f"deployment {name!r} goes on after this one, from the safe policy: {reason}. Serve it to use it."
        return {"recorded": True, "name": name, "seq": new.status().seq, "text": said}


def _stopped(plant: Deployment, stop: Stop) -> dict[str, Any]:
    """The status, where it can be had at once; else what matters of it."""
    status = plant.status_at_once() if stop.recorded else None
    if status is None:
        return {
            "state": stop.state,
            "why": stop.reason,
            "in_effect": True,
            "recorded": stop.recorded,
            "text": stop.text,
        }
    return {**status.as_dict(), "text": status.text, "in_effect": True, "recorded": True}


ASKING: dict[str, Any] = {"body": models.Ask, "keyed": True, "roles": RUNNING, "errors": (409, 415, 423)}
TELLING: dict[str, Any] = {"roles": RUNNING, "errors": (409, 415, 422)}
STOPPING: dict[str, Any] = {"roles": STEERING, "urgent": True, "errors": (415,)}
STOPPED = models.Stopped | models.StoppedAtOnce
NUMBERED: dict[str, Any] = {"errors": (404,)}

OPERATIONS = (
    Operation("POST", "/ask", "Draw episodes from the mixture certified now.", _ask, models.Draws, **ASKING),
    Operation("GET", "/episodes/{number}", "An episode that was asked before: the same draw.", _episode, models.Draws, **NUMBERED),
    Operation(
        "GET", "/policies/{number}", "A policy as data: its kind and its numbers; a table is [state][action] of probabilities.", _policy,
        models.Table | models.Parameters, **NUMBERED,
    ),
    Operation("POST", "/tell", "Report episodes. The same report again changes nothing.", _tell, models.Told, models.Report, **TELLING),
    Operation(
        "POST", "/lost", "Declare episodes lost: they count as the ceiling, for good.", _lost, models.Recorded, models.Lost, **TELLING
    ),
    Operation(
        "POST", "/history", "Give logged episodes of the safe policy, before the first ask. The same log again changes nothing.", _history,
        models.Recorded, models.Log, roles=STEERING, errors=(409, 415, 422),
    ),
    Operation("GET", "/status", "Where the deployment stands.", _look, models.Status),
    Operation(
        "POST", "/pause", "Hand out no episodes until resumed; reports are still taken. In effect at once.", _pause, STOPPED, models.Pause, **STOPPING
    ),
    Operation("POST", "/resume", "End a pause.", _resume, models.Status, models.Resume, roles=STEERING, errors=(415,)),
    Operation(
        "POST", "/cap", "Bound the weight off the safe policy; 1 lifts the bound.", _cap, models.Status, models.Cap, roles=STEERING, errors=(415,)
    ),
    Operation(
        "POST", "/approve", "Let the plan that waits be played.", _approve, models.Status, models.Approve, roles=STEERING, errors=(409, 415)
    ),
    Operation(
        "POST", "/readapt", "End this deployment and open another that goes on after it: the plant has changed. Once more changes nothing.", _readapt,
        models.Readapted, models.Readapt, roles=STEERING, errors=(409, 415),
    ),
    Operation(
        "POST", "/abort", "Return to the safe policy for good. In effect at once; once more changes nothing.", _abort, STOPPED, models.Abort,
        **STOPPING,
    ),
)  # fmt: skip
