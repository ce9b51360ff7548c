"""``surefoot deploy``: one durable deployment, from any shell on any machine that reaches its database."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from surefoot.cli.deploy_fleet import fleet
from surefoot.cli.deploy_report import report
from surefoot.cli.exit_codes import DISAGREES, leave_with
from surefoot.cli.options import anchor as anchored
from surefoot.cli.options import ceilings_of, policy_ceiling
from surefoot.cli.printing import printable
from surefoot.json_reading import parse_strictly
from surefoot.text_table import text_table

if TYPE_CHECKING:
    from surefoot.journal import Deployment

LARGEST_REPORT = 2**26
"""JSON of so many bytes takes twenty times the memory once it is read; no report needs more."""

ANCHOR = "surefoot.anchor"

Options = Callable[..., Any]


@click.group(name="deploy")
def command() -> None:
    """Operate a durable deployment on a real plant.

    URL is the path of a SQLite file (plant.db) or a database URL (postgresql://user@host/name). What is certified is the mixture that
    episodes are drawn from; discarding draws selectively voids it.

    \b
    Exit status: 0 done                     4 verify found a disagreement
                 2 an error you can mend    5 paused, nothing is handed out
                 3 a refused assumption     6 contradicts what was recorded before
                                            7 the journal is damaged or out of reach

    \b
    Example:  surefoot deploy open plant.db --policy-set set.sf
              surefoot deploy ask plant.db --json
              surefoot deploy tell plant.db 0 --reward 3.2 --cost 0.4
    """


command.add_command(report)
command.add_command(fleet)


def operation(function: Options) -> click.Command:
    """A subcommand on URL with ``--name`` and ``--json``; typed errors become exit statuses."""

    @functools.wraps(function)
    def run(*, as_json: bool, anchor: str | None, **arguments: Any) -> None:
        from surefoot.errors import SurefootError

        click.get_current_context().meta[ANCHOR] = anchor
        try:
            found, text = function(**arguments)
        except SurefootError as error:
            leave_with(error, as_json)
        else:
            click.echo(json.dumps(found) if as_json else printable(text))
            if found.get("ok") is False:
                sys.exit(DISAGREES)

    run = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(run)
    run = click.option("--name", default="default", show_default=True, help="Which deployment in the database.")(run)
    run = anchored(run)
    run = click.argument("url")(run)
    name = function.__name__.removeprefix("deploy_")
    return command.command(name=name)(run)


by_whom = click.option("--by", help="Who does this, for the journal.")


def _opened(url: str, name: str) -> Deployment:
    from surefoot.journal import Deployment

    return Deployment.open(url, name=name, create=False, anchor=_anchor())


def _anchor() -> str | None:
    """What ``--anchor`` named."""
    found: str | None = click.get_current_context().meta.get(ANCHOR)
    return found


@operation
@click.option("--policy-set", type=click.Path(path_type=Path), help="File from training; not needed to look again.")
@click.option(
    "--trust", type=click.Choice(["cells", "data", "envelope", "rehearsed"]), help="What is assumed.  [default: cells]"
)
@click.option("--delta", type=float, help="Bound on the probability of any violation.  [default: 0.05]")
@click.option("--seed", type=int, help="Of the draws.  [default: 0]")
@click.option("--evidence", type=click.Choice(["all", "returns"]), help="What the plant reports.  [default: all]")
@click.option("--margin", type=float, help="Margin of the safe policy you vouch for.  [default: the training's]")
@click.option("--cost-ceiling", "ceilings", type=float, multiple=True, help="Largest possible episode cost, once each.")
@policy_ceiling
@click.option("--p-max", type=float, help="Refuse a policy set that may leave more uncovered.  [default: 0.05]")
@click.option("--delta-coverage", type=float, help="Error of that certificate.  [default: 0.05]")
@click.option("--losses", type=click.Choice(["independent", "worst"]), help="What a lost episode is.  [default: worst]")
@click.option("--ramp", type=int, help="Episodes that compare the safe policy with simulation first.  [default: 50]")
@click.option(
    "--false-alarm-every", type=float,
    help="Mean number of episodes between false alarms that the plant has changed; 0: never look.  [default: 1000000]",
)  # fmt: skip
@click.option("--false-change-every", type=float, help="The same for any change in returns or costs.  [default: 0]")
@click.option("--approve", is_flag=True, help="New plans wait for 'surefoot deploy approve'.")
@click.option(
    "--history", type=click.Path(path_type=Path), multiple=True,
    help="File of logged episodes of today's controller, the safe policy: CSV, one row each, complete and unselected. May be given several times.",
)  # fmt: skip
@click.option(
    "--columns", multiple=True, metavar="ROLE=COLUMN,...",
    help="Its columns: reward, every cost by its name (or cost), initial_state, signals by their names, episode (distinct).",
)  # fmt: skip
@click.option("--decimal", type=click.Choice([".", ","]), help="Its decimal sign, where the numbers leave that open.")
def deploy_open(
    url: str, name: str, policy_set: Path | None, ceilings: tuple[float, ...], own_ceilings: tuple[str, ...], approve: bool,
    history: tuple[Path, ...], columns: tuple[str, ...], decimal: str | None, **settings: Any,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Open a deployment, or check that it agrees with these settings. They hold for good.

    With --history logged episodes count as episodes of the safe policy, before the first ask; the same file again changes nothing.
    """
    from surefoot.deploy.history_files import parse_columns, read_history
    from surefoot.journal import Deployment
    from surefoot.policyset.schema import PolicySet

    roles = parse_columns(columns)
    if (roles or decimal) and not history:
        raise click.UsageError("--columns and --decimal say how to read --history; give a file")
    found = None if policy_set is None else PolicySet.load(policy_set)
    declared = ceilings_of(ceilings, own_ceilings, None if found is None else len(found.policies))
    # A file that cannot be read is refused before anything is opened.
    logs = [read_history(path, found, roles, decimal=decimal) for path in history] if found is not None else []
    with Deployment.open(
        url, found, name=name, anchor=_anchor(), cost_ceilings=declared, approve=approve or None, **settings
    ) as plant:
        if found is None:
            logs = [read_history(path, plant.policy_set, roles, decimal=decimal) for path in history]
        for log in logs:
            plant.recall(**log.arguments())
        status = plant.status()
        return status.as_dict(), status.text


@operation
@click.option("-n", "n", default=1, show_default=True, help="How many episodes.")
@click.option("--request", help="Your key: asking again with it gives the same episodes.")
def deploy_ask(url: str, name: str, n: int, request: str | None) -> tuple[dict[str, Any], str]:
    """Draw episodes from the mixture certified now. Run every one of them with the policy drawn."""
    with _opened(url, name) as plant:
        tickets = plant.ask(n, request=request)
    weights = {str(j): float(w) for j, w in enumerate(tickets[0].weights) if w > 0.0}
    episodes = [{"id": t.id, "policy": t.policy_index, "reason": t.reason} for t in tickets]
    lines = [f"episode {t.id}: run policy {t.policy_index} ({t.reason})" for t in tickets]
    return {"episodes": episodes, "weights": weights, "certified": "the mixture, not the single draw"}, "\n".join(lines)


@operation
@click.argument("episode", type=int, required=False)
@click.option("--reward", type=float, help="Discounted return.")
@click.option("--cost", "costs", type=float, multiple=True, help="Discounted cost, once per constraint.")
@click.option("--initial-state", type=int, help="First state.")
@click.option("--transitions", help="Rows [s, a, s', count] as JSON.")
@click.option("--signals", help="Declared signals as JSON.")
@click.option(
    "--report", type=click.File(), help="JSON object with ids, reward, costs, ... of many episodes; '-' reads stdin."
)
def deploy_tell(
    url: str, name: str, episode: int | None, reward: float | None, costs: tuple[float, ...], report: Any, **extra: Any
) -> tuple[dict[str, Any], str]:
    """Report an episode (or, with --report, many). The same report again changes nothing."""
    body = _batch(report) if report is not None else _single(episode, reward, costs, extra)
    with _opened(url, name) as plant:
        warnings = plant.tell(**body)
        status = plant.status()
    found = {"told": body["ids"], "seq": status.seq, "pending": status.pending, "warnings": list(warnings)}
    return found, "\n".join([f"told; {status.pending} pending", *(f"warning: {text}" for text in warnings)])


def _single(episode: int | None, reward: float | None, costs: tuple[float, ...], extra: Any) -> dict[str, Any]:
    if episode is None or reward is None:
        raise click.UsageError("give EPISODE, --reward and one --cost per constraint, or --report")
    parts = {name: _parsed(name, extra[name]) for name in ("transitions", "signals") if extra[name] is not None}
    return {"ids": episode, "reward": reward, "costs": list(costs), "initial_state": extra["initial_state"], **parts}


def _batch(report: Any) -> dict[str, Any]:
    text = report.read(LARGEST_REPORT + 1)
    if len(text) > LARGEST_REPORT:
        raise click.UsageError(f"--report must hold at most {LARGEST_REPORT} characters; tell fewer episodes at once")
    body = _parsed("report", text)
    known = {"ids", "reward", "costs", "initial_state", "transitions", "signals"}
    if not isinstance(body, dict) or not {"ids", "reward", "costs"} <= set(body) <= known:
        raise click.UsageError(f"--report must hold an object with ids, reward, costs and at most {sorted(known)}")
    return body


def _parsed(name: str, text: str) -> Any:
    try:
        return parse_strictly(text)
    except ValueError as error:
        raise click.UsageError(f"--{name} must hold JSON, got {text[:60]!r} ({error})") from error


@operation
@click.argument("episodes", type=int, nargs=-1, required=True)
def deploy_lost(url: str, name: str, episodes: tuple[int, ...]) -> tuple[dict[str, Any], str]:
    """Declare episodes lost: they count as the ceiling, for good."""
    with _opened(url, name) as plant:
        plant.lost(list(episodes))
        status = plant.status()
    return {"lost": list(episodes), "seq": status.seq, "pending": status.pending}, f"lost; {status.pending} pending"


@operation
def deploy_status(url: str, name: str) -> tuple[dict[str, Any], str]:
    """Where it stands: what is deployed and why, the certified cost bounds, notes and alarms."""
    return _after(url, name, lambda plant: None)


@operation
@click.option("--reason", default="paused by the operator", show_default=True)
@by_whom
def deploy_pause(url: str, name: str, reason: str, by: str | None) -> tuple[dict[str, Any], str]:
    """Hand out no episodes until resumed; reports are still taken. In effect at once, whoever holds the journal's lock."""
    _stop(url, name, "paused", reason, by)
    return _after(url, name, lambda plant: plant.pause(reason, by=by))


@operation
@by_whom
def deploy_resume(url: str, name: str, by: str | None) -> tuple[dict[str, Any], str]:
    """End a pause."""
    return _after(url, name, lambda plant: plant.resume(by=by))


@operation
@click.argument("weight", type=float)
@by_whom
def deploy_cap(url: str, name: str, weight: float, by: str | None) -> tuple[dict[str, Any], str]:
    """Bound the total weight off the safe policy by WEIGHT; 1 lifts the bound."""
    return _after(url, name, lambda plant: plant.cap(weight, by=by))


@operation
@click.option("--reason", default="aborted by the operator", show_default=True)
@by_whom
def deploy_abort(url: str, name: str, reason: str, by: str | None) -> tuple[dict[str, Any], str]:
    """Return to the safe policy for good, from every state; once more changes nothing. In effect at once, whoever holds the journal's lock."""
    _stop(url, name, "aborted", reason, by)
    return _after(url, name, lambda plant: plant.abort(reason, by=by))


@operation
@click.argument("successor")
@click.option("--reason", default="the plant has changed", show_default=True)
@click.option("--delta", type=float, help="Of the new deployment.  [default: as before]")
@click.option("--seed", type=int, help="Of its draws.  [default: the next one]")
@by_whom
def deploy_readapt(
    url: str, name: str, successor: str, reason: str, by: str | None, **settings: Any
) -> tuple[dict[str, Any], str]:
    """End this deployment and open SUCCESSOR, which goes on after it from the safe policy: the plant is another now.

    Both journals name each other. The old one hands out no episodes any more; what it asked may still be told. The new one has a delta of its own.
    """
    with _opened(url, name) as plant, plant.readapt(successor, reason, by=by, **settings) as new:
        status = new.status()
    return status.as_dict(), status.text


@operation
@click.option("--plan", type=int, help="Its number in the status, so that nobody approves what they have not seen.")
@by_whom
def deploy_approve(url: str, name: str, plan: int | None, by: str | None) -> tuple[dict[str, Any], str]:
    """Let the plan that waits be played."""
    return _after(url, name, lambda plant: plant.approve(plan, by=by))


@operation
@by_whom
def deploy_recover(url: str, name: str, by: str | None) -> tuple[dict[str, Any], str]:
    """Carry on after a fault: what happened while the deployment was degraded happens once more, with its consequences."""
    return _after(url, name, lambda plant: plant.recover(by=by))


def _stop(url: str, name: str, kind: Literal["paused", "aborted"], reason: str, by: str | None) -> None:
    """Stop before the journal is read, which may take long."""
    from surefoot.errors import JournalUnavailable
    from surefoot.journal import Deployment

    try:
        Deployment.stop(url, kind, reason, name=name, by=by)
    except JournalUnavailable:
        pass  # the ordinary way may be open, and says what is wrong


def _after(url: str, name: str, act: Callable[[Deployment], object]) -> tuple[dict[str, Any], str]:
    """Act, then say where the deployment stands."""
    with _opened(url, name) as plant:
        act(plant)
        status = plant.status()
    return status.as_dict(), status.text


@operation
def deploy_verify(url: str, name: str) -> tuple[dict[str, Any], str]:
    """Recompute every decision from the events, by other code than made it. Exit status 4 at the first disagreement."""
    with _opened(url, name) as plant:
        found = plant.verify()
    text = f"{found.checked} events checked: every decision follows from the events before it"
    if not found.ok:
        text = f"after {found.checked} events: {found.first_disagreement}"
    elif found.not_audited:
        text = found.text
    return {
        "ok": found.ok,
        "checked": found.checked,
        "first_disagreement": found.first_disagreement,
        "not_audited": list(found.not_audited),
    }, text


@operation
@click.option("--yes", is_flag=True, help="Do not ask.")
def deploy_remove(url: str, name: str, yes: bool) -> tuple[dict[str, Any], str]:
    """Take a deployment away for good, with its events and every file that belongs to it; others in the database stay."""
    from surefoot.journal.removal import belongings, remove

    found = belongings(url, name)
    if not yes:
        click.echo(printable(found.text), err=True)
        if not click.confirm("Remove all of it for good?", err=True):
            return {"removed": False, "files": []}, "nothing was removed"
    gone = remove(url, name)
    return {
        "removed": True,
        "events": gone.events,
        "files": [str(path) for path in gone.files],
    }, f"removed: {gone.text}"


@operation
@click.option("--since", default=0, show_default=True, help="Only events after this number.")
@click.option("--limit", default=0, show_default=True, help="At most so many; 0 for all.")
def deploy_log(url: str, name: str, since: int, limit: int) -> tuple[dict[str, Any], str]:
    """Print events, one per line."""
    from itertools import islice

    with _opened(url, name) as plant:
        events = list(islice(plant.events(since), limit or None))
    rows = [{"seq": e.seq, "at": e.at, "kind": e.kind, "body": e.body, "digest": e.digest} for e in events]
    shown = text_table([[str(e.seq), e.at, e.kind, _shortened(e.body)] for e in events], left=(1, 2, 3))
    return {"events": rows}, "\n".join(shown)


def _shortened(body: dict[str, Any], width: int = 120) -> str:
    text = json.dumps(body, sort_keys=True)
    return text if len(text) <= width else text[: width - 3] + "..."
