"""Lower bounds, the lowest versions that are tried, and the versions that are tested belong together."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
UNTESTED = {"stable-baselines3"}
"""Too large for the tests' installation."""


def bounds() -> dict[str, Version]:
    """Lower bound of everything that pyproject.toml names, the package's own extras left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    found: dict[str, Version] = {}
    for requirement in map(Requirement, named):
        name = canonicalize_name(requirement.name)
        if name == "surefoot":
            continue
        (bound,) = requirement.specifier
        assert bound.operator == ">=", f"{requirement} must have a lower bound and no other"
        assert found.setdefault(name, Version(bound.version)) == Version(bound.version), f"{name} has two lower bounds"
    return found


def pins(file: str) -> dict[str, Version]:
    """Versions that a constraints file pins."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    found = {canonicalize_name(name): Version(version) for name, version in pairs}
    assert len(found) == len(pairs), f"{file} pins something twice"
    return found


@pytest.mark.parametrize("name", sorted(set(bounds()) - UNTESTED))
def test_the_lowest_versions_are_the_lower_bounds(name: str) -> None:
    lowest = pins("constraints-lowest.txt")
    assert name in lowest, f"pin {name} in constraints-lowest.txt at its bound in pyproject.toml, and run make lowest"
    assert lowest[name] == bounds()[name], f"{name} differs between constraints-lowest.txt and pyproject.toml"


@pytest.mark.parametrize("name", sorted(bounds()))
def test_the_tested_versions_keep_the_lower_bounds(name: str) -> None:
    assert pins("constraints.txt")[name] >= bounds()[name]


def test_every_pin_is_exact() -> None:
    for file in ("constraints.txt", "constraints-lowest.txt"):
        text = (ROOT / file).read_text(encoding="utf-8")
        wrong = [line for line in text.splitlines() if line and not re.fullmatch(r"#.*|[a-z0-9-]+==[\w.]+", line)]
        assert wrong == [], file
