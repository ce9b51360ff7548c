"""Compiled kernels need no folder that can be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import surefoot
from surefoot import kernels

SCRIPT = """
import numpy as np
from surefoot import TabularCMDP, simulate
cmdp = TabularCMDP(np.ones((1, 2, 1)), [[0.0, 1.0]], [[[0.0, 1.0]]], [2.0], [1.0], 0.5)
print(simulate(cmdp, np.array([[0.0, 1.0]]), episodes=3, seed=0).returns)
"""


@pytest.mark.process
@pytest.mark.slow
def test_a_read_only_package_and_home_compile_without_a_cache(tmp_path: Path) -> None:
    """A plain file where a folder is wanted can be written by nobody, the superuser included."""
    package = tmp_path / "lib" / "surefoot"
    shutil.copytree(Path(surefoot.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [package, *package.rglob("*")]:
        if folder.is_dir():
            (folder / "__pycache__").write_text("no folder")
    home = tmp_path / "home"
    home.write_text("no folder")
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(tmp_path / "lib")}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert [float(value) for value in ran.stdout.strip(" []\n").split()] == pytest.approx([2.0] * 3, abs=1e-3)
    assert len(ran.stderr.splitlines()) == 1
    assert "NUMBA_CACHE_DIR" in ran.stderr


COUNTING = """
from numba.core import event
class Listener(event.Listener):
    def on_start(self, found): compiled.append(found.data["dispatcher"].py_func.__module__)
    def on_end(self, found): pass
compiled = []
event.register("numba:compile", Listener())
"""


@pytest.mark.process
@pytest.mark.slow
def test_a_read_only_package_is_cached_for_its_user(tmp_path: Path) -> None:
    """And what is compiled for a rollout is no more than it must be: text, above all, takes Numba seconds."""
    package = tmp_path / "lib" / "surefoot"
    shutil.copytree(Path(surefoot.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [package, *package.rglob("*")]:
        if folder.is_dir():
            (folder / "__pycache__").write_text("no folder")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path / "lib")}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    script = COUNTING + SCRIPT + "print(*compiled, sep='\\n')"
    runs = []
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        assert ran.stderr == ""
        runs.append(ran.stdout.splitlines()[1:])
    first, second = runs
    assert "surefoot.cmdp.simulate" in first and "surefoot.cmdp.simulate" not in second
    assert "numba.cpython.unicode" not in first, "some row is assigned as a whole: write out the loop over its entries"
    assert list((tmp_path / ".cache").rglob("*.nbi"))


def test_the_reason_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    real = kernels.numba.njit

    def refusing(*function: object, nogil: bool, cache: bool = False) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(*function, nogil=nogil)

    monkeypatch.setattr(kernels, "numba", SimpleNamespace(njit=refusing))
    monkeypatch.setattr(kernels, "_said", set())

    def double(x: float) -> float:
        return 2.0 * x

    assert [kernels.compiled(double)(1.5), kernels.compiled(double)(2.0)] == [3.0, 4.0]
    assert len(caplog.records) == 1


def test_another_failure_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(function: object, **options: object) -> object:
        raise RuntimeError("something else")

    monkeypatch.setattr(kernels, "numba", SimpleNamespace(njit=failing))
    with pytest.raises(RuntimeError, match="something else"):
        kernels.compiled(len)
