"""The tutorial docs/building.md as a reader follows it: its files in a folder, its scripts in processes of their own, its commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[1] / "docs" / "building.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's files, with the policy set trained."""
    where = tmp_path_factory.mktemp("building")
    simulator, *steps = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (plant,) = (text for text in steps if text.startswith("# plant.py\n"))
    steps.remove(plant)
    for text, name in ((simulator, "building.py"), (plant, "plant.py")):
        assert text.startswith(f"# {name}\n")
        (where / name).write_text(text, "utf-8")
    (where / "train.py").write_text("from building import *\n" + "\n".join(steps), "utf-8")
    run(where, sys.executable, "train.py")
    return where


def run(folder: Path, *command: str) -> str:
    """What a command says; it must succeed."""
    done = subprocess.run(command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def surefoot(folder: Path, *words: str) -> str:
    return run(folder, sys.executable, "-m", "surefoot", "--import", "building", *words)


def test_the_real_building_learns_in_another_process(folder: Path) -> None:
    run(folder, sys.executable, "plant.py")
    run(folder, sys.executable, "plant.py")
    status = json.loads(surefoot(folder, "deploy", "status", "building.db", "--json"))
    assert (status["episodes"], status["pending"], status["state"]) == (400, 0, "running")
    assert 1.0 - status["weights"].get("0", 0.0) > 0.5
    assert status["certified_costs"]["discomfort"] <= 2.0 + 1e-9
    assert "every decision follows" in surefoot(folder, "deploy", "verify", "building.db")
    surefoot(folder, "deploy", "report", "building.db", "--out", "report.html")
    assert "discomfort" in (folder / "report.html").read_text("utf-8")


def test_ninety_logged_days_count(folder: Path) -> None:
    """The page's Python opened it; its command finds the same log there, and the deployment goes on from it."""
    (command,) = re.findall(r"`surefoot --import building (deploy open logged.db[^`]*)`", PAGE.read_text("utf-8"))
    assert "90 logged episodes" in surefoot(folder, *shlex.split(command))
    status = json.loads(surefoot(folder, "deploy", "status", "logged.db", "--json"))
    assert (status["logged"], status["episodes"]) == (90, 0) and status["stage"] != "comparing"
    assert len(json.loads(surefoot(folder, "deploy", "ask", "logged.db", "-n", "2", "--json"))["episodes"]) == 2
    assert "every decision follows" in surefoot(folder, "deploy", "verify", "logged.db")


def test_the_forecast_and_the_description_need_the_module(folder: Path) -> None:
    found = json.loads(
        surefoot(folder, "plan", "building.sf", "--runs", "2", "--episodes", "300", "--p-max", "0.15", "--json")
    )
    assert found["trust"]["cells"]["refused"] is None
    assert "building" in surefoot(folder, "show", "building.sf")
    done = subprocess.run(
        [sys.executable, "-m", "surefoot", "show", "building.sf"], cwd=folder, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 2
    assert "thermostat" in done.stderr and "--import" in done.stderr


def test_a_module_that_is_not_there_is_named(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "surefoot", "--import", "building.py", "show", "building.sf"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "building.py" in done.stderr and "leave out .py" in done.stderr
