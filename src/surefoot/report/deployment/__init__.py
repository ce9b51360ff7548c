"""One self-contained page about a deployment, drawn from its events alone, for readers who are not statisticians.

Events are those of a journal, in order: ``opened`` first, then ``asked``, ``told``, ``lost``, ``planned`` (the mixture w, upper bounds on its
expected costs, reasons), ``eliminated``, ``readmitted``, ``alarm`` and what people did. They are read once (:mod:`.model`); what is kept does not
grow with the number of episodes. Then every section is put into words (:mod:`.wording`, :mod:`.sections`; what it cost and gained:
:mod:`.outcomes`, from :mod:`.measured`), and the template ``deployment.html.j2`` lays them out.

Every number on the page is one that an event holds, or is computed from such numbers and from what the policy set declares and predicts.

Letters: J policies (0 is the safe one), I constraints, N cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from surefoot.errors import InvalidInput
from surefoot.report.deployment.model import EventLike, ReportModel
from surefoot.report.deployment.outlook import Forecast
from surefoot.report.deployment.sections import sections, standing
from surefoot.report.pages import printable, render_template

if TYPE_CHECKING:
    from surefoot.policyset.schema import PolicySet

__all__ = ["DeploymentReport", "EventLike", "render"]


def render(
    events: Iterable[EventLike],
    *,
    policy_names: Mapping[int, str] | None = None,
    verified: str | None = None,
    policy_set: PolicySet | None = None,
    status: Mapping[str, Any] | None = None,
    forecast: Mapping[str, Any] | None = None,
) -> str:
    """The page.

    Args:
        events: all of a deployment's events, from the first.
        policy_names: names for people, by policy index.
        verified: what an audit of the same events found, in a sentence.
        policy_set: what was deployed: declares the range of returns and predicts outcomes. Without it the page says less.
        status: the deployment's status as plain values, for what it learns next; without it what the journal last said stands there.
        forecast: what ``surefoot plan --json`` printed for the same policy set.

    Raises:
        InvalidInput: the first event does not open a deployment, a body lacks what its kind needs, or the forecast is none, or about another set.
    """
    report = DeploymentReport(policy_names=policy_names, policy_set=policy_set)
    report.read(events)
    return report.page(verified=verified, status=status, forecast=forecast)


class DeploymentReport:
    """The same for a deployment that goes on: events are read as they come, each once; memory does not grow with the number of episodes.

    Args:
        policy_names, policy_set: see :func:`render`.

    Attributes:
        seq: number of the last event that was read; 0 before the first.
    """

    def __init__(self, *, policy_names: Mapping[int, str] | None = None, policy_set: PolicySet | None = None) -> None:
        self._model, self.seq = ReportModel(dict(policy_names or {}), policy_set), 0

    def read(self, events: Iterable[EventLike]) -> None:
        """Further events.

        Raises:
            InvalidInput: see :func:`render`; then this report is of no more use.
        """
        seq = 1
        try:
            for event in events:
                seq = event.seq
                self._model.take(event)
                self.seq = seq
            if not self._model.opened:
                raise ValueError("there is none")
        except _DAMAGE as error:
            raise _refused(seq, error) from error

    def page(
        self, *, verified: str | None = None, status: Mapping[str, Any] | None = None, forecast: Mapping[str, Any] | None = None
    ) -> str:  # fmt: skip
        """The page as it stands; see :func:`render`."""
        return str(render_template("deployment.html.j2", **self._sections(verified, status, forecast)))

    def parts(
        self, *, status: Mapping[str, Any] | None = None, forecast: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """What a live page needs, as plain values.

        ``title``, ``seq``, ``at`` (time of the last event), ``said`` (stage and alarms in a sentence, to be read aloud when it changes) and ``html``
        (the sections of the page, each with an id of its own). Long tables show their last rows.

        Raises:
            InvalidInput: see :func:`render`.
        """
        values = self._sections(None, status, forecast, rows=LIVE_ROWS)
        html = render_template("deployment_parts.html.j2", **values)
        said = printable(standing(self._model, status))
        return {
            "title": printable(values["title"]), "seq": self.seq, "at": printable(values["at"]), "said": said, "html": str(html),
        }  # fmt: skip

    def _sections(
        self,
        verified: str | None,
        status: Mapping[str, Any] | None,
        forecast: Mapping[str, Any] | None,
        rows: int | None = None,
    ) -> dict[str, Any]:
        opened = self._model.opened
        try:
            trust, policy_set = str(opened["settings"]["trust"]), str(opened["policy_set"])
        except _DAMAGE as error:
            raise _refused(1, error) from error
        expected = None if forecast is None else Forecast.of(forecast, trust, policy_set)
        try:
            return sections(self._model, verified, status, expected, rows=rows)
        except _DAMAGE as error:
            raise _refused(1, error) from error


LIVE_ROWS = 40
_DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def _refused(seq: int, error: Exception) -> InvalidInput:
    return InvalidInput(
        f"event {seq} must be as a deployment's journal holds it, got: {type(error).__name__} {error}; pass all events, verify the journal",
        code="SF-RECORD-FIELD",
    )
