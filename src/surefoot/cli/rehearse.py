"""``surefoot rehearse``."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import click

from surefoot.cli import options
from surefoot.cli.exit_codes import ASSUMPTION


@click.command(name="rehearse")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--family", "name", required=True,
    help="Where the real plant comes from: gridworld, zoned-gridworld:4, ..., or MODULE:NAME of your own.",
)  # fmt: skip
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Policy-set file to write; it must not exist."
)
@click.option("--episodes", required=True, type=int, help="Episodes that the real deployment will learn from.")
@click.option("--plants", default=500, show_default=True, help="Fresh simulated plants; the more, the bolder the rung.")
@click.option("--alpha", default=0.05, show_default=True, help="Share of deployments that may ever exceed a limit.")
@click.option(
    "--delta-coverage", default=0.05, show_default=True, help="Error probability of the certificate, over all looks."
)
@click.option("--batch", default=1, show_default=True, help="Episodes that are asked at once.")
@click.option("--delay", default=0, show_default=True, help="Episodes that may be asked before one is told.")
@click.option("--lost", default=0.0, show_default=True, help="Share of the reports that never come.")
@click.option("--history", default=0, show_default=True, help="Logged episodes of the safe policy, told first.")
@click.option("--exposure", default=1.0, show_default=True, help="Most weight that is ever off the safe policy.")
@click.option(
    "--ladder", help="Boldness of the rungs, from cautious to bold: 4,3.5,3.  [default: a dozen from 4.5 to 2]"
)
@click.option(
    "--evidence", default="all", show_default=True, type=click.Choice(["all", "returns"]),
    help="What the plant will report besides returns and costs: 'all' with transitions, 'returns' without.",
)  # fmt: skip
@click.option(
    "--belief-tasks", default=500, show_default=True, help="Tasks to learn a belief from, if the policy set has none."
)
@click.option(
    "--previous", type=click.Path(path_type=Path),
    help="Policy set whose rehearsal was seen last, if another one than PATH: this is then counted as the next look.",
)  # fmt: skip
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Folder that keeps finished runs, to go on after an interruption.  [default: OUT.unfinished, removed at the end]",
)
@click.option(
    "--figure", type=click.Path(path_type=Path), help="PNG file to draw the rehearsal into; it must not exist."
)
@click.option("--page", type=click.Path(path_type=Path), help="HTML file that says it in words; it must not exist.")
@click.option("--seed", default=0, show_default=True, help="Of plants and runs.")
@options.workers
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    path: Path, name: str, out: Path, episodes: int, plants: int, alpha: float, delta_coverage: float, batch: int, delay: int, lost: float,
    history: int, exposure: float, ladder: str | None, evidence: str, belief_tasks: int, previous: Path | None, checkpoint: Path | None,
    figure: Path | None, page: Path | None, seed: int, workers: int, as_json: bool,
) -> None:  # fmt: skip
    """Rehearse the deployment of the policy set in the file PATH on fresh simulated plants.

    Every rung of a ladder from cautious to bold is run on every plant, and runs that break a limit are counted. The boldest rung that passes is
    written to a new policy-set file, which can be deployed with --trust rehearsed. Leaves with status 3 where no rung passes.

    \b
    Example:  surefoot rehearse set.sf --family zoned-gridworld:4 --episodes 10000 --workers 2 --out rehearsed.sf
    """
    from surefoot.cli.families import find_family
    from surefoot.errors import InvalidInput, OutputExists
    from surefoot.policyset.file import load
    from surefoot.protocol import Protocol
    from surefoot.rehearsal import rehearse

    for name_of, file in (("out", out), ("figure", figure), ("page", page)):
        if file is not None and file.exists():
            raise OutputExists(f"{name_of} must be a new file, got {file}, which exists; choose another name")
    if figure is not None:
        from surefoot.report.style import require_matplotlib

        require_matplotlib()
    kept = out.with_name(f"{out.name}.unfinished") if checkpoint is None else checkpoint
    protocol = Protocol(batch=batch, delay=delay, lost=lost, history=history, exposure=exposure)
    rungs = None if ladder is None else _numbers(ladder)
    policy_set, family = load(path), find_family(name)
    if evidence not in policy_set.beliefs:
        if not hasattr(family, "cmdp"):
            raise InvalidInput(
                f"policy set must have a belief about {family.name}, got none; train it with surefoot.gym.train_simulated(..., cells=None)",
                code="SF-ARGUMENT-MISSING",
            )
        from surefoot.training.belief import learn_belief

        if not as_json:
            click.echo(f"learning a belief from {belief_tasks} tasks first", err=True)
        policy_set = learn_belief(
            policy_set, family, tasks=belief_tasks, evidence=evidence, seed=seed, workers=workers, progress=not as_json  # type: ignore[arg-type]
        )  # fmt: skip
    found = rehearse(
        policy_set, family, episodes=episodes, plants=plants, alpha=alpha, delta_coverage=delta_coverage, protocol=protocol, ladder=rungs,
        evidence=evidence, seed=seed, workers=workers, progress=not as_json, checkpoint=kept,
        previous=None if previous is None else load(previous),
    )  # fmt: skip
    assert found.policy_set is not None
    found.policy_set.save(out)
    if checkpoint is None:
        shutil.rmtree(kept)
    data = found.data()
    if figure is not None:
        from surefoot.report.rehearsal import draw_rehearsal

        draw_rehearsal(data, figure)
    if page is not None:
        from surefoot.report.rehearsal import rehearsal_page

        page.write_text(rehearsal_page(data), encoding="utf-8")
    click.echo(json.dumps(data) if as_json else found.text)
    if found.chosen is None:
        sys.exit(ASSUMPTION)


def _numbers(text: str) -> list[float]:
    from surefoot.errors import InvalidInput

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInput(
            f"ladder must be numbers with commas between them, got {text!r}; e.g. --ladder 4,3.5,3",
            code="SF-ARGUMENT-SYNTAX",
        ) from None
