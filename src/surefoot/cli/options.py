"""Options that several commands share."""

from __future__ import annotations

import click

__all__ = ["anchor"]

anchor = click.option(
    "--anchor",
    envvar="SUREFOOT_ANCHOR",
    metavar="FILE",
    help="A file elsewhere that remembers the last event; a journal that lacks it is refused.  [env: SUREFOOT_ANCHOR]",
)
