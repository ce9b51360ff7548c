"""The table of ``surefoot validate``, from ``validation.json`` alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from surefoot.json_reading import read_object
from surefoot.report.records import check_kind
from surefoot.text_table import text_table

__all__ = ["read_validation", "render_validation"]

REMEDY = "run surefoot validate again"


def read_validation(directory: Path | str) -> dict[str, Any]:
    """The content of ``validation.json``.

    Raises:
        InvalidInput: missing, not JSON, or of another schema.
    """
    summary = read_object(Path(directory) / "validation.json", remedy=REMEDY)
    check_kind(summary, "validation", remedy=REMEDY)
    return summary


ROWS = (
    "agent", "scenario", "status", "runs", "violations (interval)", "rejected", "bounds", "alarms", "regret", "",
)  # fmt: skip
CALIBRATION = ("calibration", "position", "runs", "crossings (interval)", "")
PROCEDURES = ("agent", "procedure", "status", "runs", "wrong acceptances", "right", "looks", "")


def render_validation(summary: Mapping[str, Any]) -> str:
    """The result as tables for people."""
    lines = [
        f"{summary['family']}: {summary['runs']} runs of {summary['episodes']} episodes per agent and scenario, delta {summary['delta']:g}",
        "",
        *text_table([ROWS, *map(_row, summary["rows"])], left=(0, 1, 2, 9)),
    ]
    if summary["calibration"]:
        lines += ["", *text_table([CALIBRATION, *map(_calibration, summary["calibration"])], left=(0, 1, 4))]
    procedures = summary.get("procedures", ())
    if procedures:
        lines += ["", *text_table([PROCEDURES, *map(_procedure, procedures)], left=(0, 1, 2, 7))]
    lines += [_protocol(row) for row in summary["rows"] if (row.get("protocol") or {}).get("left")]
    lines += [line for row in summary["rows"] if row.get("changes") for line in _changes(row)]
    causes = _causes(summary["rows"])
    lines += [_error(row) for row in summary["rows"] if row["errors"]["count"]]
    lines += [
        "",
        *([f"causes: {causes}"] if causes else []),
        "all judged rows pass" if summary["passed"] else "A JUDGED ROW FAILS",
    ]
    return "\n".join(lines)


def _row(row: Mapping[str, Any]) -> list[str]:
    return [
        row["agent"],
        row["scenario"],
        row["status"],
        str(row["runs"]),
        _rate(row["violations"]),
        _count(row["eliminations"]),
        _count(row["bound_failures"]),
        _count(row["alarms"]),
        "" if row["regret"] is None else f"{row['regret']['mean']:.0f}",
        _verdict(row),
    ]


def _calibration(row: Mapping[str, Any]) -> list[str]:
    return [row["kind"], row["position"], str(row["runs"]), _rate(row["crossings"]), _verdict(row)]


def _procedure(row: Mapping[str, Any]) -> list[str]:
    wrong = row["wrong_acceptances"]
    accepted, possible = row["accepted_of_those_that_may_be"]
    return [
        row["agent"],
        row["scenario"],
        row["status"],
        str(row["runs"]),
        "-" if wrong is None else _rate(wrong),
        f"{accepted} of {possible}",
        f"{row['looks']:.1f}",
        _verdict(row),
    ]


def _error(row: Mapping[str, Any]) -> str:
    errors = row["errors"]
    return f"{row['agent']} raised in {errors['count']} runs of {row['scenario']}, first: {errors['first']}"


def _protocol(row: Mapping[str, Any]) -> str:
    found = row["protocol"]
    median = found["episodes"]["quantiles"]["0.5"]
    return (
        f"{row['agent']} left its protocol in {found['left']} of {row['runs']} runs of {row['scenario']}, half of them within {median:.0f} episodes; "
        f"violating after that: {_rate(found['violations_after'])}"
    )


def _changes(row: Mapping[str, Any]) -> list[str]:
    lines = []
    for kind, name in (("step", "a step"), ("slow", "a slow drift")):
        found = row["changes"][kind]
        if not found["runs"]:
            continue
        median = (
            "" if found["delay"] is None else f", half of them within {found['delay']['quantiles']['0.5']:.0f} episodes"
        )
        meanwhile = found["violating_episodes"]
        said = (
            ""
            if meanwhile is None
            else f"; violating until then, or to the end: {meanwhile['mean']:.0f} episodes on average"
        )
        lines.append(
            f"{row['agent']}, after {name}: alarms in {found['alarms']} of {found['runs'] - found['alarms_before']} runs{median}{said}, by at most "
            f"{found['largest_excess']:.1%} of the limit; alarms before it: {found['alarms_before']} of {found['runs']}"
        )
    return lines


def _rate(rate: Mapping[str, Any]) -> str:
    low, high = rate["interval"]
    return f"{rate['count']} = {100 * rate['rate']:.2f}% ({100 * low:.2f}-{100 * high:.2f}%)"


def _count(events: Mapping[str, Any] | None) -> str:
    return "-" if events is None else str(events["count"])


def _verdict(row: Mapping[str, Any]) -> str:
    return {True: "pass", False: "FAIL", None: ""}[row["passed"]]


def _causes(rows: Sequence[Mapping[str, Any]]) -> str:
    total: dict[str, int] = {}
    for row in rows:
        for cause, count in row["causes"].items():
            total[cause] = total.get(cause, 0) + count
    return ", ".join(f"{cause} {count}" for cause, count in total.items() if count)
