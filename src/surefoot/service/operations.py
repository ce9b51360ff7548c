"""What the service offers, as one table: addresses, fields of bodies, and what is done.

The table serves three readers: routing, the check of bodies (unknown fields are refused, so that a misspelt optional one cannot get lost), and the
OpenAPI description. Every operation may be repeated: ``ask`` by its key, everything else by its contents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from surefoot.errors import InvalidReport
from surefoot.journal import Deployment, Stop, Ticket
from surefoot.policyset.codec import described
from surefoot.service.guard import Refusal
from surefoot.service.token import OWNER

__all__ = ["KEY_HEADER", "LOOKING", "OPERATIONS", "Call", "Field", "Operation"]

KEY_HEADER = "idempotency-key"

RUNNING = frozenset({OWNER, "robot"})
STEERING = frozenset({OWNER, "operator"})
LOOKING = frozenset({OWNER, "operator", "reader"})
EVERYBODY = RUNNING | LOOKING


@dataclass(frozen=True)
class Field:
    """One field of a body.

    Attributes:
        schema: JSON schema, for readers; the library checks values itself.
        required: whether a body must have it.
    """

    schema: dict[str, Any]
    required: bool = False


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        body: its fields, all of them known.
        key: idempotency key, or ``None``.
        number: the number in its path.
        by: who sent it, for the journal, or ``None``.
    """

    body: dict[str, Any]
    key: str | None = None
    number: int = 0
    by: str | None = None


@dataclass(frozen=True)
class Operation:
    """One address.

    Attributes:
        method, path: of HTTP.
        summary: for readers.
        work: answers with what JSON can hold.
        fields: of the body.
        keyed: whether an idempotency key is demanded.
        roles: of the tokens that allow it.
        urgent: must not wait for anything.
    """

    method: str
    path: str
    summary: str
    work: Callable[[Deployment, Call], dict[str, Any]]
    fields: dict[str, Field] = field(default_factory=dict)
    keyed: bool = False
    roles: frozenset[str] = EVERYBODY
    urgent: bool = False

    def checked(self, body: Any) -> dict[str, Any]:
        """A body whose fields are known and complete.

        Raises:
            Refusal: no object, unknown or missing fields.
        """
        names = ", ".join(self.fields) or "nothing"
        if not isinstance(body, dict):
            raise Refusal(400, "InvalidBody", f"a body must be an object with {names}, got {type(body).__name__}")
        unknown = sorted(set(body) - set(self.fields))
        if unknown:
            raise Refusal(
                400, "UnknownField", f"a body must hold only {names}, got {ascii(unknown[0])[:80]}; check the spelling"
            )
        missing = [name for name, part in self.fields.items() if part.required and name not in body]
        if missing:
            raise Refusal(400, "MissingField", f"a body must hold {missing[0]}, got {names_of(body)}; add it")
        return body


def names_of(body: dict[str, Any]) -> str:
    """What a body holds, for messages."""
    return ", ".join(body) or "nothing"


def _ask(plant: Deployment, call: Call) -> dict[str, Any]:
    return _tickets(plant.ask(call.body.get("n", 1), request=call.key, by=call.by))


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
    warnings = plant.tell(**call.body, by=call.by)
    return {**_standing(plant), "warnings": list(warnings)}


def _lost(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.lost(call.body["ids"], by=call.by)
    return _standing(plant)


def _standing(plant: Deployment) -> dict[str, Any]:
    status = plant.status()
    return {"recorded": True, "seq": status.seq, "pending": status.pending, "state": status.state}


def _look(plant: Deployment, call: Call) -> dict[str, Any]:
    status = plant.status_at_once() or plant.status()
    return {**status.as_dict(), "text": status.text}


def _status(plant: Deployment, call: Call) -> dict[str, Any]:
    status = plant.status()
    return {**status.as_dict(), "text": status.text}


def _pause(plant: Deployment, call: Call) -> dict[str, Any]:
    return _stopped(plant, plant.pause(**call.body, by=call.by))


def _resume(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.resume(by=call.by)
    return _status(plant, call)


def _cap(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.cap(call.body["weight"], by=call.by)
    return _status(plant, call)


def _approve(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.approve(call.body["plan"], by=call.by)
    return _status(plant, call)


def _abort(plant: Deployment, call: Call) -> dict[str, Any]:
    return _stopped(plant, plant.abort(**call.body, by=call.by))


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


NUMBER, WHOLE, TEXT = (
    {"type": "number"},
    {"type": "integer", "minimum": 0},
    {"type": "string", "minLength": 1, "maxLength": 200},
)


def _one_or_many(schema: dict[str, Any], note: str) -> dict[str, Any]:
    return {"oneOf": [schema, {"type": "array", "items": schema, "minItems": 1}], "description": note}


COSTS = {"type": "array", "items": NUMBER}
ROW = {"type": "array", "items": WHOLE, "minItems": 4, "maxItems": 4}
IDS = Field(_one_or_many(WHOLE, "One episode's id, or those of several."), required=True)
REASON = {"reason": Field(TEXT | {"description": "Why, for the journal."})}
REPORT = {
    "ids": IDS,
    "reward": Field(_one_or_many(NUMBER, "Discounted return of each episode."), required=True),
    "costs": Field(
        {"oneOf": [COSTS, {"type": "array", "items": COSTS}], "description": "Discounted costs: one list per episode, one number per constraint."},
        required=True,
    ),
    "initial_state": Field(_one_or_many(WHOLE, "First state of each episode.")),
    "transitions": Field({"type": "array", "items": ROW, "description": "Rows [s, a, s', count] over all episodes of this report together."}),
    "signals": Field({"type": "array", "description": "Declared further signals, one list per episode."}),
}  # fmt: skip
COUNT = Field({"type": "integer", "minimum": 1, "default": 1, "description": "How many episodes."})

WEIGHT = Field(
    NUMBER | {"minimum": 0, "maximum": 1, "description": "Bound on the total weight off the safe policy."},
    required=True,
)
STOPPING: dict[str, Any] = {"roles": STEERING, "urgent": True}
SEEN = "Its number in the status, so that nobody approves what they have not seen."
PLAN = Field({"type": "integer", "minimum": 1, "description": SEEN}, required=True)

OPERATIONS = (
    Operation("POST", "/ask", "Draw episodes from the mixture certified now.", _ask, {"n": COUNT}, keyed=True, roles=RUNNING),
    Operation("GET", "/episodes/{number}", "An episode that was asked before: the same draw.", _episode),
    Operation("GET", "/policies/{number}", "A policy as data: its kind and its numbers; a table is [state][action] of probabilities.", _policy),
    Operation("POST", "/tell", "Report episodes. The same report again changes nothing.", _tell, REPORT, roles=RUNNING),
    Operation("POST", "/lost", "Declare episodes lost: they count as the ceiling, for good.", _lost, {"ids": IDS}, roles=RUNNING),
    Operation("GET", "/status", "Where the deployment stands.", _look),
    Operation("POST", "/pause", "Hand out no episodes until resumed; reports are still taken. In effect at once.", _pause, REASON, **STOPPING),
    Operation("POST", "/resume", "End a pause.", _resume, roles=STEERING),
    Operation("POST", "/cap", "Bound the weight off the safe policy; 1 lifts the bound.", _cap, {"weight": WEIGHT}, roles=STEERING),
    Operation("POST", "/approve", "Let the plan that waits be played.", _approve, {"plan": PLAN}, roles=STEERING),
    Operation("POST", "/abort", "Return to the safe policy for good. In effect at once; once more changes nothing.", _abort, REASON, **STOPPING),
)  # fmt: skip
