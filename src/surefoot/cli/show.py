"""``surefoot show``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from surefoot.text_table import text_table

if TYPE_CHECKING:
    from surefoot.policyset.schema import PolicySet

SHOWN_CELLS = 40


@click.command(name="show")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def command(path: Path, as_json: bool) -> None:
    """Describe the policy set in the file PATH."""
    from surefoot.policyset.file import describe, load

    policy_set = load(path)
    click.echo(json.dumps(describe(policy_set)) if as_json else describe_text(policy_set))


def describe_text(policy_set: PolicySet) -> str:
    """A policy set in plain words."""
    report, criterion = policy_set.training, policy_set.criterion
    limits = ", ".join(f"{n} <= {d:g}" for n, d in zip(criterion.cost_names, criterion.cost_limits))
    if criterion.functionals:
        limits = "; ".join(criterion.limit_texts)
    lines = [
        f"policy set for {report.family}, written by surefoot {policy_set.version}, seed {policy_set.seed}",
        f"  hash         {policy_set.hash}",
        f"  criterion    discount {criterion.discount:g}, limits {limits}",
        f"  training     {report.tasks_sampled} tasks, {len(policy_set.cells)} cells, {len(policy_set.policies)} policies "
        f"({report.oracle}, radius {report.radius:.4g})",
        *_chosen(policy_set.extra.get("cells")),
        f"  paper's      coverage >= {report.proved_coverage:.2f} by Subroutine 3"
        + (" (nothing at this sample size; the hold-out below says more)" if report.proved_coverage == 0.0 else ""),
        f"  certificate  {_certificate(policy_set)}",
        f"  assumption   {policy_set.assumption.statement}",
        *_beliefs(policy_set),
        *_ceilings(policy_set),
        "",
        *_cells(policy_set),
        "",
        *_in_words(policy_set),
    ]
    return "\n".join(lines)


def _in_words(policy_set: PolicySet) -> list[str]:
    """What the set is for, and under which trust levels it can be deployed as it is."""
    cells, others = len(policy_set.cells), len(policy_set.policies) - 1
    boxes = (
        "one cell: no box of tasks is told from another"
        if cells == 1
        else f"{cells} cells: boxes of tasks that are alike"
    )
    return [
        f"In words: the safe policy and {plural(others, 'other policy', 'other policies')}, with what each returns and costs at most in {boxes}.",
        "A deployment plays mixtures of them, whose weight moves off the safe policy as far as real data proves that the limits are met.",
        *(f"  {level:10} {said}" for level, said in _levels(policy_set)),
    ]


def _levels(policy_set: PolicySet) -> list[tuple[str, str]]:
    """Trust level, and whether a deployment under it opens with the usual p_max and delta_coverage of .05."""
    from surefoot.deploy.admission import check_certificate, check_margin
    from surefoot.errors import AssumptionError

    try:
        check_margin(policy_set, None)
    except AssumptionError as error:
        return [(level, f"no: {error}") for level in ("cells", "envelope", "data", "rehearsed")]
    try:
        check_certificate(policy_set, 0.05, 0.05)
    except AssumptionError as error:
        boxed = f"no: {error}"
    else:
        boxed = "yes, if the real task lies in some cell"
    found = policy_set.rehearsed
    if found is not None and found.chosen >= 0:
        rehearsed = "yes, as rehearsed"
    elif policy_set.beliefs:
        rehearsed = "after a rehearsal: surefoot rehearse" if found is None else "no: no setting passed its rehearsal"
    else:
        rehearsed = "after a rehearsal, which learns a belief first: surefoot rehearse"
    return [
        ("cells", boxed),
        ("envelope", "yes, if no policy costs more in reality than in the worst cell"),
        ("data", "yes, if no episode costs more than its ceiling; nothing else is assumed of the simulator"),
        ("rehearsed", rehearsed),
    ]


def _ceilings(policy_set: PolicySet) -> list[str]:
    """What the largest possible episode costs mean where nothing simulated is trusted."""
    from surefoot.stats.start_up import ceiling_advice

    criterion = policy_set.criterion
    safe = policy_set.cells.predictions.cost_center[:, 0].mean(axis=0)
    advice = ceiling_advice(criterion.cost_ceilings.tolist(), criterion.cost_limits.tolist(), safe.tolist(), 0.05)
    return [] if advice is None else [f"  ceilings     {advice}"]


def _beliefs(policy_set: PolicySet) -> list[str]:
    """What ``trust="rehearsed"`` would plan with, and what a rehearsal of it found."""
    lines = [
        f"  belief       {evidence}: {plural(belief.latents, 'latent')}, from {belief.tasks} tasks"
        for evidence, belief in sorted(policy_set.beliefs.items())
    ]
    found = policy_set.rehearsed
    if found is not None:
        lines += [
            f"  rehearsal    look {found.attempt}: {found.text}",
            *(f"               {s.text}" for s in found.speed),
        ]
    elif policy_set.rehearsal_looks:
        lines.append(
            f"  rehearsal    none that speaks of this belief; {len(policy_set.rehearsal_looks)} were looked at before"
        )
    return lines


def plural(count: int, noun: str, many: str = "") -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {many or f'{noun}s'}"


def _chosen(choice: Any) -> list[str]:
    """How the number of cells was chosen, where it was: ``extra`` may come from anybody, so nothing about its shape is taken for granted."""
    try:
        misses = ", ".join(f"{int(row['cells'])}: {int(row['missed'])}" for row in choice["tried"])
        return [
            f"  cells        at most {int(choice['cells'])}, chosen on the training tasks for p_max {float(choice['p_max']):g}; of "
            f"{int(choice['tasks'])} left out once each, in no cell by number of cells: {misses}"
        ]
    except (KeyError, TypeError, ValueError):
        return []


def _certificate(policy_set: PolicySet) -> str:
    c = policy_set.certificate
    if c is None:
        return "none: no hold-out was drawn"
    return (
        f"{c.uncovered} of {c.holdout} fresh tasks in no cell: at most {c.uncovered_upper:.2%} of the distribution is uncovered, and the "
        f"safe policy's margin is below {policy_set.safe_margin:.3g} on at most {c.margin_failure_upper:.2%} "
        f"(together with confidence {100 * (1 - c.delta_coverage):.4g}%); {_look(policy_set)}"
    )


def _look(policy_set: PolicySet) -> str:
    """Which look the certificate is, and what is known of those before."""
    if not policy_set.lineage_known:
        return f"counted as look {policy_set.attempt}, from a file that kept no count: whether others were seen before is unknown"
    if policy_set.attempt == 1:
        return "the first look, as far as training was told: no previous= was given"
    return f"look {policy_set.attempt}, which pays 1/{2**policy_set.attempt} of the error that all looks share"


def _cells(policy_set: PolicySet) -> list[str]:
    cells, names = policy_set.cells, policy_set.training.parameter_names
    rows = [["cell", *names, "optimum", "cost there", "safe cost there"]]
    for k in range(min(len(cells), SHOWN_CELLS)):
        j, p = int(cells.policy_index[k]), cells.predictions
        own = f"{p.cost_lower[k, j, 0]:.3f}..{p.cost_upper[k, j, 0]:.3f}"
        safe = f"{p.cost_lower[k, 0, 0]:.3f}..{p.cost_upper[k, 0, 0]:.3f}"
        rows.append([str(k), *(f"{v:.4g}" for v in cells.parameters[k]), f"{cells.optimal_center[k]:.3f}", own, safe])
    lines = [f"  {line}" for line in text_table(rows, left=())]
    if len(cells) > SHOWN_CELLS:
        lines.append(f"  ... and {len(cells) - SHOWN_CELLS} more cells")
    return lines
