"""From the logs of an experiment to figures, a table and a page; nothing is computed here that a log does not hold."""

from surefoot.report.figures import figure2
from surefoot.report.gridworld_figure import figure1
from surefoot.report.html import write_report
from surefoot.report.records import AgentRecord, Curves, Landscape, Summary
from surefoot.report.results import load
from surefoot.report.table import render_table

__all__ = [
    "AgentRecord",
    "Curves",
    "Landscape",
    "Summary",
    "figure1",
    "figure2",
    "load",
    "render_table",
    "write_report",
]
