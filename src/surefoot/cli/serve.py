"""``surefoot serve``."""

from __future__ import annotations

from pathlib import Path

import click

from surefoot.cli.options import anchor as anchored

LOCK_SECONDS = 5.0
"""A client is told to try again rather than kept waiting longer for whoever holds the journal's lock."""


@click.command(name="serve")
@click.argument("url")
@click.option("--name", default="default", show_default=True, help="Which deployment in the database.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to bind; anything but the loopback needs a token."
)
@click.option("--port", default=8321, show_default=True, help="0 for any free one.")
@click.option(
    "--token-file", type=click.Path(path_type=Path, dir_okay=False),
    help="File with the bearer token, or a line ROLE NAME TOKEN for each bearer (owner, robot, operator, reader); readable by its owner only. "
    "Else the environment variable SUREFOOT_TOKEN.",
)  # fmt: skip
@anchored
@click.option("--max-body", default=4 * 2**20, show_default=True, help="Largest request body in bytes.")
@click.option("--rate", default=200.0, show_default=True, help="Requests per second, for each token.")
@click.option(
    "--tls-certificate", type=click.Path(path_type=Path, exists=True), help="Serve HTTPS with this certificate."
)
@click.option("--tls-key", type=click.Path(path_type=Path, exists=True), help="Its private key.")
@click.option(
    "--webhook",
    "webhooks",
    multiple=True,
    metavar="URL",
    help="Where to POST every change of stage, alarm, pause and abort; may be given more than once.",
)
@click.option(
    "--webhook-key-file", type=click.Path(path_type=Path, dir_okay=False),
    help="File with the key that webhooks are signed with, readable by its owner only. Else the environment variable SUREFOOT_WEBHOOK_KEY.",
)  # fmt: skip
@click.option(
    "--forecast", "plan", type=click.Path(path_type=Path, dir_okay=False),
    help="What 'surefoot plan --json' printed for the same policy set: pages then say what remains.",
)  # fmt: skip
def command(
    url: str, name: str, host: str, port: int, token_file: Path | None, anchor: str | None, max_body: int, rate: float,
    tls_certificate: Path | None, tls_key: Path | None, webhooks: tuple[str, ...], webhook_key_file: Path | None, plan: Path | None,
) -> None:  # fmt: skip
    """Serve a deployment over HTTP, for controllers in any language.

    URL is the path of a SQLite file or a database URL; open the deployment first with 'surefoot deploy open'. The description of the service is at
    /openapi.json, a page for people that stays up to date at /live, the same as one file at /report. Without a token only this machine is served.

    \b
    Example:  surefoot serve plant.db --token-file token.txt
    """
    from surefoot.journal import Deployment, Webhook
    from surefoot.json_reading import read_object
    from surefoot.service import Limits, read_tokens, read_webhook_key, serve

    tokens = read_tokens(token_file)
    forecast = None if plan is None else read_object(plan, remedy="write it with surefoot plan --json")
    key = read_webhook_key(webhook_key_file) if webhooks else None
    hooks = [Webhook(address, key=key) for address in webhooks]
    limits = Limits(body_bytes=max_body, rate=rate, burst=max(1, round(2 * rate)))
    with Deployment.open(url, name=name, create=False, lock_seconds=LOCK_SECONDS, anchor=anchor) as plant:
        serve(
            plant, host=host, port=port, token=tokens, limits=limits, tls_certificate=tls_certificate, tls_key=tls_key, webhooks=hooks,
            forecast=forecast, ready=lambda address: click.echo(f"serving {name!r} on {address}" + ("" if tokens else ", without a token")),
        )  # fmt: skip
