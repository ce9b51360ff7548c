"""Every exception the library raises on purpose.

::

    SurefootError
    ├── InvalidInput (ValueError)        an argument breaks a rule; the message names it, the rule, the value, the remedy
    │   └── InvalidReport                a report about an episode was refused; the episode stays pending
    │       └── ConflictError            the episode (or the request) is known already, with other contents
    ├── SolverError                      a solver stopped without an answer that the certificate accepts
    ├── SimulationError                  an environment, or a policy in it, broke a rule; the message says in which task, episode and step
    ├── InfeasibleError                  a CMDP has no feasible policy and the caller insisted on one
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

A message has the form ``name: rule, got value; remedy``.
"""

from __future__ import annotations

__all__ = [
    "AgentBroken",
    "AssumptionError",
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
    """Base of every error raised on purpose."""


class InvalidInput(SurefootError, ValueError):
    """An argument breaks a rule."""


class InvalidReport(InvalidInput):
    """A report about an episode was refused; nothing was recorded and the episode stays pending."""


class ConflictError(InvalidReport):
    """An episode was told or declared lost before with other contents, or a request key was used for another request."""


class SolverError(SurefootError):
    """A solver stopped without an answer that the independent certificate accepts."""


class SimulationError(SurefootError):
    """An environment, or a policy running in it, broke a rule; nothing of the rollout is used."""


class InfeasibleError(SurefootError):
    """A CMDP has no feasible policy and the caller insisted on one."""


class AssumptionError(SurefootError):
    """The task family breaks an assumption that the method rests on."""


class PolicySetError(SurefootError):
    """A policy-set file cannot be trusted."""


class LedgerError(SurefootError):
    """An error probability was spent twice, or more of it than there is."""


class JournalError(SurefootError):
    """A journal cannot be trusted."""


class JournalUnavailable(JournalError):
    """The database behind a journal cannot be reached, written or locked; whether the last operation was recorded shows on the next try."""


class ReplayError(JournalError):
    """Recomputing a journal's events leads to other decisions than it records.

    Attributes:
        event: number of the first event that cannot be followed, or 0.
    """

    event: int = 0


class SettingsMismatch(JournalError):
    """A deployment was reopened with another policy set, library version or setting than it was opened with."""


class AgentBroken(SurefootError):
    """An agent in memory was left half changed (memory ran out, a defect); what it holds cannot be trusted and it refuses every call."""


class PausedError(SurefootError):
    """The deployment is paused and hands out no episodes."""


class OutputExists(SurefootError, FileExistsError):
    """A run directory exists already; results are never overwritten."""


class MissingExtra(SurefootError, ImportError):
    """An optional dependency is missing."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f'{package} is not installed; it comes with an extra: pip install "surefoot[{extra}]"')
        self.package = package
        self.extra = extra
