"""Table and figure of ``surefoot reproduce locomotion-deep``, from its logs alone, with agents of ``surefoot reproduce locomotion`` beside them.

The figure is Figure 4 of Ni & Kamgarpour 2026: what the policy in force is expected to return and to cost, against the episodes of a test task;
lines are means over tasks, bands their range. The table adds what training spent and how many of its episodes were above the limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from surefoot.errors import InvalidInput
from surefoot.json_reading import read_object
from surefoot.policyset.file import ARCHIVE_ERRORS
from surefoot.report.canvas import save
from surefoot.report.figures import compose_returns
from surefoot.report.records import Curves, check_kind, read_curves, read_summary
from surefoot.text_table import text_table

__all__ = ["figure4_deep", "read_deep", "render_deep"]

REMEDY = "run surefoot reproduce locomotion-deep again"
KIND = "locomotion-deep"


def read_deep(directory: Path | str) -> tuple[dict[str, Any], dict[str, Curves]]:
    """The content of ``summary.json``, and the curves of every method that was tested.

    Raises:
        InvalidInput: missing, damaged, or of another experiment.
    """
    directory = Path(directory)
    summary = read_object(directory / "summary.json", remedy=REMEDY)
    _check(summary)
    curves = {}
    for name, row in summary["methods"].items():
        path = directory / "curves" / f"{name}.npz"
        if "test" not in row:
            continue
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                episodes, reward, cost = (
                    np.asarray(arrays[k], dtype=np.float64) for k in ("episodes", "reward", "cost")
                )
                if episodes.ndim != 1 or reward.shape != cost.shape or reward.shape[1:] != episodes.shape:
                    raise ValueError(f"shapes {episodes.shape}, {reward.shape} and {cost.shape}")
        except (*ARCHIVE_ERRORS, OSError) as error:
            raise InvalidInput(
                f"path must be the curves of {name}, got {path}: {error}; {REMEDY}", code="SF-RECORD-UNREADABLE"
            ) from error
        # The policy in force from the last update on, until the episode at which it is replaced.
        begun = np.concatenate([[0.0], episodes[:-1]])
        points = np.stack([begun + 1.0, episodes], axis=1).ravel()
        reward, cost = (np.repeat(part, 2, axis=1) for part in (reward, cost))
        curves[name] = Curves(points, np.zeros_like(reward), cost[:, :, None], reward, np.ones_like(reward))
    return summary, curves


def _check(summary: Mapping[str, Any]) -> str:
    """The family."""
    kind, _, env = str(summary.get("experiment", "")).partition(":")
    check_kind({**summary, "experiment": kind}, KIND, remedy=REMEDY)
    return env


def figure4_deep(directory: Path | str, beside: Path | str | None = None) -> Path:
    """Draw ``figure4-deep.png`` beside the logs in ``directory``.

    Args:
        directory: of the run.
        beside: of a run of ``surefoot reproduce locomotion``, whose agents are drawn up to the same number of episodes.

    Raises:
        InvalidInput: a log is missing or damaged, or ``beside`` is of another family or has other limits.
        MissingExtra: matplotlib is not installed.
    """
    summary, curves = read_deep(directory)
    limits = np.array([float(summary["limit"])])
    if beside is not None:
        other = read_summary(beside)
        wanted = f"locomotion:{_check(summary)}"
        if other.experiment != wanted or not np.array_equal(other.cost_limits, limits):
            raise InvalidInput(
                f"beside must be a run of {wanted} with limit {limits[0]:g}, got {other.experiment} with {other.cost_limits.tolist()}; name that one",
                code="SF-ARGUMENT-MISMATCH",
            )
        for agent in other.agents:
            whole = read_curves(beside, agent.name, tasks=len(other.tasks), constraints=1)
            curves[agent.name] = _until(whole, float(summary["episodes"]))
    return save(compose_returns(curves, limits), Path(directory) / "figure4-deep.png")


def _until(curve: Curves, last: float) -> Curves:
    """The first episodes; a mixture in force beyond the end is cut off there."""
    n = max(1, int((curve.episodes < last).sum()) + 1)
    episodes = np.minimum(curve.episodes[:n], last)
    return Curves(episodes, *(getattr(curve, k)[:, :n] for k in ("regret", "cost", "reward", "weight")))


def render_deep(summary: Mapping[str, Any]) -> str:
    """The table of a parsed ``summary.json``, without a newline at the end.

    Raises:
        InvalidInput: not the summary of this experiment.
    """
    _check(summary)
    head = ["method", "steps", "seconds", "training episodes above limit"]
    tested = all("test" in row for row in summary["methods"].values())
    if tested:
        head += ["first return", "last return", "last cost", "violating", "surely", "tasks", "worst cost - limit"]
    rows = []
    for name, row in summary["methods"].items():
        t = row["training"]
        cells = [name, f"{t['steps']}", f"{t['seconds']:.0f}", f"{t['episodes_above_limit']} of {t['episodes']}"]
        if tested:
            e = row["test"]
            first, last = e["first"], e["last"]
            cells += [
                f"{first['reward']:.1f}", f"{last['reward']:.1f} ({last['reward_low']:.1f} to {last['reward_high']:.1f})",
                f"{last['cost']:.2f}", f"{e['violating_episodes']}", f"{e['surely_violating_episodes']}",
                f"{e['tasks_violated']} of {summary['tasks']}", f"{e['worst_excess']:.2f}",
            ]  # fmt: skip
        rows.append(cells)
    below = (
        f"\n\nlimit {summary['limit']:g}; {summary['tasks']} tasks of {summary['episodes']} episodes, an update every {summary['every']}; "
        f"each policy judged by {summary['judged']} fresh episodes. No method here bounds its violations."
    )
    return "\n".join(text_table([head, *rows])) + (below if tested else "")
