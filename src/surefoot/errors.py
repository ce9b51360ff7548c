"""Every exception the library raises on purpose.

::

    SurefootError
    ├── InvalidInput (ValueError)        an argument breaks a rule; the message names it, the rule, the value, the remedy
    │   └── InvalidReport                a report about an episode was refused; the episode stays pending
    │       └── ConflictError            the episode (or the request) is known already, with other contents
    ├── SolverError                      a solver stopped without an answer that the certificate accepts
    ├── SimulationError                  an environment, or a policy in it, broke a rule; the message says in which task, episode and step
    ├── InfeasibleError                  a CMDP has no feasible policy and the caller insisted on one
    ├── ClusterError                     workers of another process or machine were lost, are missing, or have other versions
    ├── AssumptionError                  the task family breaks an assumption that the method rests on
    ├── PolicySetError                   a policy-set file cannot be trusted (damaged, truncated, hostile, other version)
    ├── LedgerError                      an error probability was spent twice, or more of it than there is
    ├── JournalError                     a journal cannot be trusted: damaged, cut short, edited, not a journal
    │   ├── JournalUnavailable           the database cannot be reached, written or locked; nothing was recorded, try again
    │   ├── ReplayError                  what the journal records is not what its events lead to
    │   └── SettingsMismatch             a deployment was reopened with another policy set, version or setting
    ├── AgentBroken                      an agent in memory was left half changed by something unforeseen and refuses to go on
    ├── PausedError                      the deployment is paused and hands out no episodes
    ├── OutputExists                     a run directory is there already and is never overwritten
    └── MissingExtra (ImportError)       an optional dependency is not installed; the message names the extra

A message has the form ``name: rule, got value; remedy``. Every error also has a ``code``, such as ``SF-REPORT-RANGE``, which names the rule that was
broken and stays when the wording changes; :mod:`surefoot.error_codes` lists all of them with cause and remedy.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AgentBroken",
    "AssumptionError",
    "ClusterError",
    "ConflictError",
    "InfeasibleError",
    "InvalidInput",
    "InvalidReport",
    "JournalError",
    "JournalUnavailable",
    "LedgerError",
    "MissingExtra",
    "OutputExists",
    "PausedError",
    "PolicySetError",
    "ReplayError",
    "SettingsMismatch",
    "SimulationError",
    "SolverError",
    "SurefootError",
]


class SurefootError(Exception):
    """Base of every error raised on purpose.

    Args:
        args: the message.
        code: which rule was broken; without it the code of the class stands.

    Attributes:
        code: which rule was broken, for programs; the message is for people. It survives copying and pickling.
    """

    code: str = "SF-ERROR"

    def __init__(self, *args: object, code: str | None = None) -> None:
        super().__init__(*args)
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        # By class, arguments and attributes, for a subclass may take other arguments than the message that it hands on.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[SurefootError], args: tuple[object, ...], attributes: dict[str, Any]) -> SurefootError:
    """The inverse of ``__reduce__``."""
    error = kind.__new__(kind)
    SurefootError.__init__(error, *args)
    error.__dict__.update(attributes)
    return error


class InvalidInput(SurefootError, ValueError):
    """An argument breaks a rule."""

    code = "SF-ARGUMENT"


class InvalidReport(InvalidInput):
    """A report about an episode was refused; nothing was recorded and the episode stays pending."""

    code = "SF-REPORT"


class ConflictError(InvalidReport):
    """An episode was told or declared lost before with other contents, or a request key was used for another request."""

    code = "SF-CONFLICT"


class SolverError(SurefootError):
    """A solver stopped without an answer that the independent certificate accepts."""

    code = "SF-SOLVER-UNCERTIFIED"


class SimulationError(SurefootError):
    """An environment, or a policy running in it, broke a rule; nothing of the rollout is used."""

    code = "SF-SIMULATION"


class InfeasibleError(SurefootError):
    """A CMDP has no feasible policy and the caller insisted on one."""

    code = "SF-SOLVER-INFEASIBLE"


class ClusterError(SurefootError):
    """Workers were lost again and again with the same call, cannot be reached, or have other versions than this process."""

    code = "SF-CLUSTER"


class AssumptionError(SurefootError):
    """The task family breaks an assumption that the method rests on."""

    code = "SF-ASSUMPTION"


class PolicySetError(SurefootError):
    """A policy-set file cannot be trusted."""

    code = "SF-POLICYSET"


class LedgerError(SurefootError):
    """An error probability was spent twice, or more of it than there is."""

    code = "SF-LEDGER"


class JournalError(SurefootError):
    """A journal cannot be trusted."""

    code = "SF-JOURNAL"


class JournalUnavailable(JournalError):
    """The database behind a journal cannot be reached, written or locked; whether the last operation was recorded shows on the next try."""

    code = "SF-JOURNAL-UNAVAILABLE"


class ReplayError(JournalError):
    """Recomputing a journal's events leads to other decisions than it records.

    Attributes:
        event: number of the first event that cannot be followed, or 0.
    """

    code = "SF-REPLAY"

    event: int = 0


class SettingsMismatch(JournalError):
    """A deployment was reopened with another policy set, library version or setting than it was opened with."""

    code = "SF-SETTINGS"


class AgentBroken(SurefootError):
    """An agent in memory was left half changed (memory ran out, a defect); what it holds cannot be trusted and it refuses every call."""

    code = "SF-AGENT-BROKEN"


class PausedError(SurefootError):
    """The deployment is paused and hands out no episodes."""

    code = "SF-DEPLOYMENT-PAUSED"


class OutputExists(SurefootError, FileExistsError):
    """A run directory exists already; results are never overwritten."""

    code = "SF-OUTPUT-EXISTS"


class MissingExtra(SurefootError, ImportError):
    """An optional dependency is missing."""

    code = "SF-EXTRA-MISSING"

    def __init__(self, package: str, extra: str, *, code: str | None = None) -> None:
        message = f'{package} is not installed; it comes with an extra: pip install "surefoot[{extra}]"'
        super().__init__(message, code=code)
        self.package = package
        self.extra = extra
