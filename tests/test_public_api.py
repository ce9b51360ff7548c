"""What ``import surefoot as sf`` promises: the names, and that each of them is there."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import surefoot as sf

PROMISED = ["PolicySet", "SafePCE", "TabularCMDP", "evaluate", "solve", "tasks", "train"]


def test_every_public_name_is_listed_once() -> None:
    assert len(sf.__all__) == len(set(sf.__all__))


@pytest.mark.parametrize("name", PROMISED)
def test_promised_name_is_public(name: str) -> None:
    assert name in sf.__all__


def test_every_public_name_resolves_and_is_listed() -> None:
    assert [name for name in sf.__all__ if getattr(sf, name, None) is None] == []
    assert set(sf.__all__) <= set(dir(sf))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(sf, "no_such_name")  # noqa: B009


def test_the_version_is_one_that_packaging_tools_accept() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", sf.__version__)


def test_importing_the_package_draws_nothing() -> None:
    code = "import sys, surefoot; print('matplotlib' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
