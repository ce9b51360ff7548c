"""One self-contained page about a deployment, drawn from its events alone, for readers who are not statisticians.

Events are those of a journal, in order: ``opened`` first, then ``asked``, ``told``, ``lost``, ``planned`` (the mixture w, upper bounds on its
expected costs, reasons), ``eliminated``, ``readmitted``, ``alarm`` and what people did. They are read once (:mod:`.model`); what is kept does not
grow with the number of episodes. Then every section is put into words (:mod:`.wording`, :mod:`.sections`), and the template
``deployment.html.j2`` lays them out.

The page shows no number that an event does not hold.

Letters: J policies (0 is the safe one), I constraints, N cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from surefoot.errors import InvalidInput
from surefoot.report.deployment.model import EventLike, ReportModel
from surefoot.report.deployment.sections import sections
from surefoot.report.pages import render_template

__all__ = ["EventLike", "render"]


def render(
    events: Iterable[EventLike], *, policy_names: Mapping[int, str] | None = None, verified: str | None = None
) -> str:
    """The page.

    Args:
        events: all of a deployment's events, from the first.
        policy_names: names for people, by policy index.
        verified: what an audit of the same events found, in a sentence.

    Raises:
        InvalidInput: the first event does not open a deployment, or a body lacks what its kind needs.
    """
    model, seq = ReportModel(dict(policy_names or {})), 1
    try:
        for event in events:
            seq = event.seq
            model.take(event)
        if not model.opened:
            raise ValueError("there is none")
        seq = 1
        return str(render_template("deployment.html.j2", **sections(model, verified)))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"event {seq} must be as a deployment's journal holds it, got: {type(error).__name__} {error}; pass all events, verify the journal",
            code="SF-RECORD-FIELD",
        ) from error
