"""``surefoot deploy report``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from surefoot.audit import Verification

from surefoot.cli.exit_codes import DISAGREES, leave_with
from surefoot.cli.options import anchor as anchored


@click.command(name="report")
@click.argument("url")
@click.option("--name", default="default", show_default=True, help="Which deployment in the database.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("deployment.html"), show_default=True,
    help="The page; one that is there is replaced.",
)  # fmt: skip
@click.option("--audit", is_flag=True, help="Recompute every decision first and say on the page what came of it.")
@click.option(
    "--policy-name",
    "names",
    multiple=True,
    metavar="INDEX=TEXT",
    help="What people call a policy; may be given several times.",
)
@click.option(
    "--forecast", "plan", type=click.Path(path_type=Path, dir_okay=False),
    help="What 'surefoot plan --json' printed for the same policy set: the page then says what remains.",
)  # fmt: skip
@anchored
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def report(
    url: str, name: str, out: Path, audit: bool, names: tuple[str, ...], plan: Path | None, anchor: str | None, as_json: bool
) -> None:  # fmt: skip
    """Write a self-contained HTML page about the deployment, for people who are not statisticians.

    Exit status 4 if --audit finds a disagreement; the page is written all the same, and says so.
    """
    from surefoot.errors import SurefootError
    from surefoot.journal import Deployment
    from surefoot.json_reading import read_object
    from surefoot.report.deployment import render

    policy_names = dict(_named(text) for text in names)
    try:
        forecast = None if plan is None else read_object(plan, remedy="write it with surefoot plan --json")
        with Deployment.open(url, name=name, create=False, anchor=anchor) as plant:
            found = plant.verify() if audit else None
            said = None if found is None else _audit(found)
            page = render(
                plant.events(), policy_names=policy_names, verified=said, policy_set=plant.policy_set, status=plant.status().as_dict(),
                forecast=forecast,
            )  # fmt: skip
        _replace(out, page)
    except SurefootError as error:
        leave_with(error, as_json)
    else:
        answer = {
            "out": str(out),
            "bytes": len(page.encode()),
            "ok": None if found is None else found.ok,
            "audit": said,
        }
        click.echo(json.dumps(answer) if as_json else f"written: {out}" + (f"\n{said}" if said else ""))
        if found is not None and not found.ok:
            sys.exit(DISAGREES)


def _named(text: str) -> tuple[int, str]:
    index, equals, name = text.partition("=")
    if not equals or not index.strip().isdigit():
        raise click.UsageError(f"--policy-name must look like 3=fast, got {text!r}")
    return int(index), name


def _audit(found: Verification) -> str:
    if found.ok:
        return found.text
    return f"The journal cannot be trusted: after {found.checked} events, {found.first_disagreement}"


def _replace(out: Path, page: str) -> None:
    """All of the page or none of it, whoever is looking.

    Raises:
        InvalidInput: it cannot be written there.
    """
    from surefoot.errors import InvalidInput

    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page)
        # What mkstemp makes is readable by its owner only; a page is for others.
        os.chmod(temporary, 0o644)
        os.replace(temporary, out)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise InvalidInput(
            f"out must be a file that can be written, got {out} ({error}); choose another place", code="SF-OUTPUT-WRITE"
        ) from error
