"""The bodies of requests and answers. FastAPI makes the OpenAPI description from them; :mod:`surefoot.service.bodies` checks requests by them.

Requests are strict: a field that is not listed is refused, ``true`` is no number, ``"3"`` is no number, 3.0 is no whole number, and NaN and infinity
are refused. What the numbers mean (that an episode is pending, that a cost lies in its range) is checked by the library, not here. Answers may get
further fields in later versions, so clients should ignore fields that they do not know.

Letters: n episodes, I constraints, S states, A actions.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

__all__ = [
    "Abort", "Answer", "Approve", "Ask", "Body", "Cap", "Draws", "Episode", "Error", "Log", "Lost", "Parameters", "Pause", "Readapt", "Readapted",
    "Recorded", "Report", "Resume", "Status", "Stopped", "StoppedAtOnce", "Table", "Told",
]  # fmt: skip


def _one_or_many(value: Any) -> str:
    return "many" if isinstance(value, list) else "one"


def _axes(value: Any) -> str:
    """``one`` number, a ``row`` of them or ``rows``."""
    if not isinstance(value, list):
        return "one"
    return "rows" if value and isinstance(value[0], list) else "row"


# Lists stop at the first mistake: a body of a million mistakes is not to become a million messages.
Whole = Annotated[int, Field(ge=0)]
Wholes = Annotated[
    Annotated[Whole, Tag("one")] | Annotated[list[Whole], Field(min_length=1, fail_fast=True), Tag("many")],
    Discriminator(_one_or_many),
]
Numbers = Annotated[
    Annotated[float, Tag("one")] | Annotated[list[float], Field(min_length=1, fail_fast=True), Tag("many")],
    Discriminator(_one_or_many),
]
Row = Annotated[list[float], Field(fail_fast=True)]
Grid = Annotated[
    Annotated[float, Tag("one")]
    | Annotated[list[float], Field(fail_fast=True), Tag("row")]
    | Annotated[list[Row], Field(min_length=1, fail_fast=True), Tag("rows")],
    Discriminator(_axes),
]
Transition = Annotated[list[Whole], Field(min_length=4, max_length=4, fail_fast=True)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Ids = Annotated[Wholes, Field(description="One episode's id, or those of several.", examples=[17, [17, 18]])]


class Body(BaseModel):
    """A request.

    Attributes:
        refusal: status and kind of the error where a field has the wrong type or range.
    """

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)
    refusal: ClassVar[tuple[int, str]] = (400, "InvalidInput")

    def given(self) -> dict[str, Any]:
        """The fields that were sent."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


class Ask(Body):
    """How many episodes to draw."""

    n: int = Field(1, ge=1, le=100_000, description="How many episodes.", examples=[1, 10])


class Report(Body):
    """What was measured in one episode, or in several: then every field but ``transitions`` holds one entry per episode."""

    refusal = (422, "InvalidReport")
    ids: Ids
    reward: Numbers = Field(description="Discounted return of each episode.", examples=[3.2, [3.2, 4.1]])
    costs: Grid = Field(
        description="Discounted costs: a list with one number per constraint; for several episodes a list of such lists.",
        examples=[[0.4], [[0.4], [0.0]]],
    )
    initial_state: Wholes | None = Field(None, description="First state of each episode.", examples=[0, [0, 2]])
    transitions: Annotated[list[Transition], Field(fail_fast=True)] | None = Field(
        None,
        description="Rows [s, a, s', count] over all episodes of this report together.",
        examples=[[[0, 1, 2, 5], [2, 0, 2, 1]]],
    )
    signals: Grid | None = Field(
        None, description="Declared further signals, one list per episode.", examples=[[[0.65], [0.7]]]
    )


class Log(Body):
    """Logged episodes of today's controller, the safe policy, on this plant: one entry per episode in every field but ``transitions``."""

    refusal = (422, "InvalidReport")
    reward: Numbers = Field(description="Discounted return of each episode.", examples=[[3.2, 4.1]])
    costs: Grid = Field(description="Discounted costs, one list per episode.", examples=[[[0.4], [0.0]]])
    initial_state: Wholes | None = Field(None, description="First state of each episode.", examples=[[0, 2]])
    transitions: Annotated[list[Transition], Field(fail_fast=True)] | None = Field(
        None, description="Rows [s, a, s', count] over all episodes together.", examples=[[[0, 1, 2, 5], [2, 0, 2, 1]]]
    )
    signals: Grid | None = Field(
        None, description="Declared further signals, one list per episode.", examples=[[[0.65], [0.7]]]
    )


class Lost(Body):
    """Episodes that will never be reported."""

    refusal = (422, "InvalidReport")
    ids: Ids


class Pause(Body):
    """Why no episodes are to be handed out."""

    reason: Text = Field("paused by the operator", description="Why, for the journal.", examples=["shift change"])


class Abort(Body):
    """Why the safe policy is to be played for good."""

    reason: Text = Field("aborted by the operator", description="Why, for the journal.", examples=["noise in the gear"])


class Readapt(Body):
    """Which deployment goes on after this one."""

    name: Text = Field(description="Name of the new deployment, in the same database.", examples=["second"])
    reason: Text = Field("the plant has changed", description="Why, for both journals.", examples=["new pump"])
    delta: float | None = Field(
        None, gt=0.0, lt=1.0, description="Of the new deployment; as before where left out.", examples=[0.05]
    )
    seed: Whole | None = Field(None, description="Of its draws; the next one where left out.", examples=[1])


class Resume(Body):
    """An empty object."""


class Cap(Body):
    """A bound on exposure."""

    weight: float = Field(ge=0.0, le=1.0, description="Bound on the total weight off the safe policy.", examples=[0.5])


class Approve(Body):
    """Which plan is approved."""

    plan: int = Field(
        ge=1, description="Its number in the status, so that nobody approves what they have not seen.", examples=[42]
    )


class Answer(BaseModel):
    """An answer."""


class Episode(Answer):
    """One episode to run."""

    id: Whole = Field(description="To be given back with the report.", examples=[17])
    policy: Whole = Field(
        description="Index of the policy to run from the first step to the last; 0 is the safe policy.", examples=[0]
    )
    reason: str = Field(
        description="Why this policy has its weight; during the ramp it begins with 'the ramp'.",
        examples=["the ramp: its real episodes are compared with simulation first"],
    )


class Draws(Answer):
    """Episodes and the mixture that they were drawn from."""

    episodes: list[Episode]
    weights: dict[str, float] = Field(
        description="Policy index to weight; those of weight 0 are left out.", examples=[{"0": 1.0}]
    )
    certified: str = Field(description="What is certified, in one sentence for people.")


class Table(Answer):
    """A policy as a table."""

    policy: Whole = Field(description="Its index.", examples=[0])
    kind: Literal["table"]
    table: list[list[float]] = Field(
        description="(S, A) probability of each action in each state.", examples=[[[0.25, 0.75]]]
    )


class Parameters(Answer):
    """A policy of another kind, as the numbers that it consists of."""

    policy: Whole = Field(description="Its index.", examples=[1])
    kind: str = Field(
        description="'linear-map', 'mlp', or the name under which a controller was registered.", examples=["linear-map"]
    )
    parameters: dict[str, Any] = Field(
        description="Name to number, text, list or null (no bound).",
        examples=[{"weight": [[1.0, 2.0]], "bias": [0.5], "low": [-1.0], "high": [None]}],
    )


State = Literal["running", "paused", "aborted", "alarm", "degraded"]
Stage = Literal["comparing", "ramping", "learned", "drifted", "stopped"]


class Readapted(Answer):
    """Another deployment goes on."""

    recorded: Literal[True]
    name: str = Field(description="Of the new deployment.")
    seq: Whole = Field(description="Number of the last event of its journal.", examples=[2])
    text: str = Field(description="The same for people.")


class Recorded(Answer):
    """What stands after a report."""

    recorded: Literal[True]
    seq: Whole = Field(description="Number of the last event.", examples=[12])
    pending: Whole = Field(description="Episodes that are neither told nor lost.", examples=[3])
    state: State


class Told(Recorded):
    """What stands after a report, and what the report left out."""

    warnings: list[str] = Field(description="What this deployment could have used and the report lacks.", examples=[[]])


class Status(Answer):
    """Where the deployment stands."""

    name: str = Field(description="Of the deployment.", examples=["default"])
    state: State = Field(
        description="'alarm': the safe policy is played for good; 'degraded': until the fault is mended."
    )
    why: str = Field(description="The reason of a pause, an abort or an alarm; else empty.")
    seq: Whole = Field(description="Number of the last event.")
    episodes: Whole = Field(description="Asked so far.")
    pending: Whole = Field(description="Of these neither told nor lost.")
    weights: dict[str, float] = Field(description="Policy index to weight of what is played now; 0 is the safe policy.")
    reasons: dict[str, str] = Field(description="Policy index to why.")
    plan: Whole = Field(description="Number of the event that recorded this mixture; /approve takes it.")
    certified_costs: dict[str, float] = Field(description="Name of the constraint to the bound on the mixture's cost.")
    cost_limits: dict[str, float] = Field(description="Name of the constraint to its limit.")
    certified: bool = Field(
        description="False after an alarm: then the safe policy's cost is what the user assumed. False while a rehearsed belief plans: then "
        "the bounds are the belief's."
    )
    cells_left: Whole = Field(description="Hypotheses that survive.")
    cells: Whole = Field(description="All of them.")
    cap: float = Field(description="Bound on the weight off the safe policy.")
    waiting: dict[str, float] | None = Field(description="Weights of a plan that waits for approval.")
    trust: str = Field(
        description="What is assumed: cells, data, envelope, rehearsed, or what was registered.", examples=["cells"]
    )
    delta: float = Field(description="Bound on the probability of any violation.")
    ledger: dict[str, float] = Field(description="What delta is spent on.")
    next: str = Field(description="What is being learned.")
    notes: list[str] = Field(
        description="Limitations, flags, deviations; during the ramp one that says how many episodes of how many have been compared."
    )
    policy_set: str = Field(description="Its hash.")
    agent: str = Field(
        description="Who chooses; nothing is certified unless it is 'certified'.", examples=["certified"]
    )
    rehearsal: dict[str, Any] | None = Field(
        description="Under trust 'rehearsed': whether the deployment is inside the rehearsed protocol, why it left and since which episode, "
        "its surprise and the alarm's threshold, what was rehearsed and what that promises; else null."
    )
    stage: Stage = Field(
        description="How far the deployment is. 'comparing': the safe policy alone is played and compared with simulation; 'ramping': weight moves "
        "as evidence allows; 'learned': the mixture no longer changes noticeably; 'drifted': an alarm says that the plant does not do what was "
        "assumed; 'stopped': any other alarm, an abort, or a journal that cannot be followed."
    )
    stage_text: str = Field(
        description="What the stage means now, for people.",
        examples=["the safe policy alone is played and compared with simulation, 13 of 50 episodes so far"],
    )
    stage_until: str = Field(
        description="What would end the stage, for people.",
        examples=["37 more of its episodes have been reported and fit"],
    )
    logged: Whole = Field(
        description="Episodes of today's controller from before the first ask that count as episodes of the safe policy."
    )
    alarm: str | None = Field(
        description="Why everything stopped, or empty; whatever 'state' says, for an abort may have followed. Null while the deployment is degraded."
    )
    reported: Whole | None = Field(description="Episodes that were told; null while the deployment is degraded.")
    lost: Whole | None = Field(description="Episodes that were declared lost; null while the deployment is degraded.")
    mean_return: float | None = Field(description="Mean return of the episodes told; null before the first.")
    mean_costs: dict[str, float | None] = Field(
        description="Name of the constraint to the mean of what it limits, over the episodes told; null before the first."
    )
    last_report: str = Field(
        description="When the last report was recorded or, before the first, when the deployment was opened (ISO 8601, UTC); empty while the "
        "deployment is degraded."
    )
    hook_failures: Whole = Field(
        description="How often a hook of the service raised, or an attempt of a webhook to deliver failed; the notes say more."
    )
    degraded: str = Field(description="Why the journal cannot be followed, or empty; then the safe policy is played.")
    statement: str = Field(description="What is promised, in one sentence for people.")
    text: str = Field(description="All of this as a paragraph for people.")


class Stopped(Status):
    """The status after a pause or an abort that is in the journal."""

    in_effect: Literal[True]
    recorded: Literal[True]


class StoppedAtOnce(Answer):
    """What is known of a pause or an abort where the status cannot be had at once, because somebody holds the journal's lock."""

    state: Literal["paused", "aborted"]
    why: str = Field(description="The reason given.")
    in_effect: Literal[True]
    recorded: bool = Field(description="False: whoever writes next records it first.")
    text: str = Field(description="For people.")


class Error(Answer):
    """Every answer but 200. Nothing was changed, unless the status is 503: then whether it was shows on the next try."""

    error: str = Field(description="Kind, for programs.", examples=["InvalidReport"])
    code: str = Field(
        description="Which rule was broken, for programs: a code of surefoot's list of errors.",
        examples=["SF-REPORT-TYPE"],
    )
    message: str = Field(
        description="For people: the name of the field, the rule, the value, and what to do about it.",
        examples=["reward must be a number, got '30'; send it like 3.2; the episodes stay pending"],
    )
