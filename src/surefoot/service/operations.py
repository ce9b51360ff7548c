"""What the service offers, as one table: addresses, fields of bodies, and what is done.

The table serves three readers: routing, the check of bodies (unknown fields are refused, so that a misspelt optional one cannot get lost), and the
OpenAPI description. Every operation may be repeated: ``ask`` by its key, everything else by its contents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from surefoot.errors import InvalidInput, InvalidReport
from surefoot.journal import Deployment, Ticket
from surefoot.policy import TabularPolicy
from surefoot.service.guard import Refusal

__all__ = ["KEY_HEADER", "OPERATIONS", "Call", "Field", "Operation"]

KEY_HEADER = "idempotency-key"


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
    """

    body: dict[str, Any]
    key: str | None = None
    number: int = 0


@dataclass(frozen=True)
class Operation:
    """One address.

    Attributes:
        method, path: of HTTP.
        summary: for readers.
        work: answers with what JSON can hold.
        fields: of the body.
        keyed: whether an idempotency key is demanded.
    """

    method: str
    path: str
    summary: str
    work: Callable[[Deployment, Call], dict[str, Any]]
    fields: dict[str, Field] = field(default_factory=dict)
    keyed: bool = False

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
    return _tickets(plant.ask(call.body.get("n", 1), request=call.key))


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
    policy = policies[call.number]
    if not isinstance(policy, TabularPolicy):
        raise InvalidInput(
            f"policy {call.number} must be a table to be sent, got {type(policy).__name__}; use the policy-set file"
        )
    return {"policy": call.number, "table": policy.table.tolist()}


def _tell(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.tell(**call.body)
    return _standing(plant)


def _lost(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.lost(call.body["ids"])
    return _standing(plant)


def _standing(plant: Deployment) -> dict[str, Any]:
    status = plant.status()
    return {"recorded": True, "seq": status.seq, "pending": status.pending, "state": status.state}


def _status(plant: Deployment, call: Call) -> dict[str, Any]:
    status = plant.status()
    return {**status.as_dict(), "text": status.text}


def _pause(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.pause(**call.body)
    return _status(plant, call)


def _resume(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.resume()
    return _status(plant, call)


def _abort(plant: Deployment, call: Call) -> dict[str, Any]:
    plant.abort(**call.body)
    return _status(plant, call)


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

OPERATIONS = (
    Operation("POST", "/ask", "Draw episodes from the mixture certified now.", _ask, {"n": COUNT}, keyed=True),
    Operation("GET", "/episodes/{number}", "An episode that was asked before: the same draw.", _episode),
    Operation("GET", "/policies/{number}", "The table [state][action] of probabilities of a policy.", _policy),
    Operation("POST", "/tell", "Report episodes. The same report again changes nothing.", _tell, REPORT),
    Operation("POST", "/lost", "Declare episodes lost: they count as the ceiling, for good.", _lost, {"ids": IDS}),
    Operation("GET", "/status", "Where the deployment stands.", _status),
    Operation("POST", "/pause", "Hand out no episodes until resumed; reports are still taken.", _pause, REASON),
    Operation("POST", "/resume", "End a pause.", _resume),
    Operation("POST", "/abort", "Return to the safe policy for good. Once more changes nothing.", _abort, REASON),
)
