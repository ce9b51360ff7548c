"""``surefoot deploy fleet``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from surefoot.cli.exit_codes import leave_with
from surefoot.cli.printing import printable


@click.command(name="fleet")
@click.argument("url")
@click.option(
    "--policy-set", type=click.Path(path_type=Path), help="Whose plants; needed where a database has several."
)
@click.option(
    "--page", type=click.Path(path_type=Path, dir_okay=False), help="Write a page here; one that is there is replaced."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def fleet(url: str, policy_set: Path | None, page: Path | None, as_json: bool) -> None:
    """Look at all plants in a database together: those that were opened with one policy set."""
    from surefoot.errors import SurefootError
    from surefoot.journal.fleet import Fleet
    from surefoot.policyset.file import load
    from surefoot.report.fleet import fleet_page

    try:
        with Fleet.open(url, None if policy_set is None else load(policy_set)) as found:
            data, text = found.data(), found.text
        if page is not None:
            page.write_text(fleet_page(data), encoding="utf-8")
    except SurefootError as error:
        leave_with(error, as_json)
    else:
        click.echo(json.dumps(data) if as_json else printable(text))
