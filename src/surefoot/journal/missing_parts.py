"""What a deployment says about reports that lack something."""

from __future__ import annotations

from collections.abc import Collection

from surefoot.deploy.report import OPTIONAL, Report

__all__ = ["lacking", "warning"]


def lacking(report: Report, usable: Collection[str]) -> tuple[str, ...]:
    """Optional parts that could be used and are not there."""
    return tuple(name for name in OPTIONAL if name in usable and getattr(report, name) is None)


def warning(part: str) -> str:
    """What a report without an optional part is told."""
    return f"the report has no {part}, which this deployment could use; what was recorded stands, and it cannot be added later"
