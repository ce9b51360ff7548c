"""Run the command line inside the test's process."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from surefoot.cli import main


class Run(NamedTuple):
    """What a shell would see."""

    status: int
    out: str
    err: str


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Run:
    """Status, standard output and standard error of one command line."""
    status = 0
    try:
        main(arguments)
    except SystemExit as exit_:
        status = exit_.code if isinstance(exit_.code, int) else 1
    said = capsys.readouterr()
    return Run(status, said.out, said.err)
