"""``surefoot reproduce sepsis``: what the command hands to the runner, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from surefoot.experiments import worlds
from tests.cli.running import run
from tests.report.test_worlds import SUMMARY


def test_the_command_hands_its_sizes_to_the_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Any] = []

    def runner(world: Any, out: Path, sizes: worlds.Sizes) -> dict[str, Any]:
        seen.append((world, out, sizes))
        return SUMMARY

    monkeypatch.setattr(worlds, "reproduce_world", runner)
    out = tmp_path / "run"
    told = run(
        [
            "reproduce",
            "sepsis",
            "--plants",
            "80",
            "--runs",
            "7",
            "--episodes",
            "90",
            "--seed",
            "5",
            "--workers",
            "2",
            "--out",
            str(out),
        ],
        capsys,
    )
    assert told.status == 0 and "a small world: 100 fresh plants" in told.out
    ((world, where, sizes),) = seen
    assert (world.name, where) == ("sepsis", out)
    assert (sizes.plants, sizes.runs, sizes.episodes, sizes.seed, sizes.workers) == (80, 7, 90, 5, 2)
    again = run(["reproduce", "sepsis", "--plants", "80", "--json", "--out", str(out)], capsys)
    assert again.status == 0 and json.loads(again.out) == SUMMARY
    few = run(["reproduce", "sepsis", "--plants", "20", "--out", str(out)], capsys)
    assert few.status == 2 and "SF-ARGUMENT-RANGE: plants" in few.err
