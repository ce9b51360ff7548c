"""Exit statuses of the commands, and how an error becomes one.

0 done      2 an error you can mend      3 a refused assumption      4 an audit found a disagreement      5 paused, nothing is handed out
6 contradicts what was recorded before   7 the journal is damaged or out of reach                       130 interrupted
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from surefoot.cli.printing import printable

if TYPE_CHECKING:
    from surefoot.errors import SurefootError

__all__ = ["ASSUMPTION", "CONFLICT", "DISAGREES", "INTERRUPTED", "JOURNAL", "MENDABLE", "PAUSED", "leave_with"]

MENDABLE, ASSUMPTION, DISAGREES, PAUSED, CONFLICT, JOURNAL = 2, 3, 4, 5, 6, 7
INTERRUPTED = 130


def leave_with(error: SurefootError, as_json: bool) -> NoReturn:
    """Report an error on the stream that fits, and leave with its status."""
    from surefoot.errors import AssumptionError, ConflictError, JournalError, PausedError

    kinds = ((AssumptionError, ASSUMPTION), (PausedError, PAUSED), (ConflictError, CONFLICT), (JournalError, JOURNAL))
    status = next((status for kind, status in kinds if isinstance(error, kind)), MENDABLE)
    if as_json:
        click.echo(
            json.dumps({"error": type(error).__name__, "code": error.code, "message": str(error), "status": status})
        )
    else:
        click.echo(printable(f"error {error.code}: {error}"), err=True)
    sys.exit(status)
