"""Imports run one way.

    task family -> training -> policy set -> deployment agent -> journal -> report

Each module of the package has a rank; it may import modules of strictly lower rank and its own package. The wall that
matters most is stated a second time, without ranks: deployment knows nothing of models, solvers, tasks or training.
"""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TIERS = [
    ["errors", "version"],  # anything may raise, and say which version it is
    ["arrays", "deprecation", "error_codes", "json_reading", "kernels", "progress", "text_table"],
    ["blas", "highs", "parallel", "policy", "controllers", "criterion", "stats"],
    ["cmdp"],
    ["solvers"],
    ["tasks", "policyset"],  # a family may solve one of its tasks: that is how the gridworld finds its safe policy
    ["training", "deploy"],
    ["audit"],  # of its own kind: from the agent it imports choices, and nothing that follows from them
    ["baselines", "gym", "journal", "planning"],
    ["experiments", "report", "testing"],
    ["service"],
    ["cli"],
    ["__main__"],
]
RANKS = {package: rank for rank, tier in enumerate(TIERS) for package in tier}

WALLS = {
    "deploy": {"cmdp", "solvers", "tasks", "training"},  # the real world has no transition matrix
    "audit": {"cmdp", "solvers", "tasks", "training"},
    "report": {"cmdp", "solvers", "tasks", "training", "deploy"},  # a report is drawn from logs alone
}

HEAVY = ["numpy", "scipy", "numba", "matplotlib", "highspy", "jinja2"]


def package_root() -> Path:
    """Where the installed package lies (source tree or wheel), found without importing it."""
    spec = importlib.util.find_spec("surefoot")
    if spec is None or spec.origin is None:
        pytest.fail("surefoot is not installed")
    return Path(spec.origin).parent


ROOT = package_root()
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def imported_modules(source: str, module: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything that ``source``, the file ``module`` of the package, imports."""
    package = ["surefoot", *Path(module).parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            # "from surefoot import cmdp" names a package by its alias; below that level the prefix says it all.
            names = [f"{prefix}.{alias.name}" for alias in node.names] if prefix == "surefoot" else [prefix]
            yield from ((node.lineno, name) for name in names)


def top_package(module: str) -> str:
    """``cmdp`` for ``cmdp/model.py``, ``policy`` for ``policy.py``."""
    return Path(module).parts[0].removesuffix(".py")


def broken_rules(source: str, module: str) -> list[str]:
    """Every import of ``source`` that the tree forbids, as sentences."""
    own = top_package(module)
    if own == "__init__":
        return []
    if own not in RANKS:
        return [f"{module}: package {own!r} has no rank; give it one in {Path(__file__).name}"]
    return [
        f"{module}:{line} imports {name}: {fault}"
        for line, name in imported_modules(source, module)
        if (fault := fault_of(own, name.split(".")))
    ]


def fault_of(own: str, name: list[str]) -> str | None:
    """Why package ``own`` must not import the dotted ``name``, or ``None`` where it may."""
    if name[0] != "surefoot":
        return None
    if len(name) == 1 or name[1] == "__init__":
        return "nothing inside imports the public front"
    other = name[1]
    if other == own:
        return None
    if other not in RANKS:
        return f"{other!r} is no package with a rank; import names from the module that defines them"
    if other in WALLS.get(own, set()):
        return f"{own} never imports {other}"
    if RANKS[other] >= RANKS[own]:
        return f"{own} (rank {RANKS[own]}) imports only lower ranks, and {other} has rank {RANKS[other]}"
    return None


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    assert broken_rules((ROOT / module).read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        ("cmdp/model.py", "import surefoot.tasks.gridworld", "cmdp (rank 3) imports only lower ranks"),
        ("cmdp/model.py", "from surefoot.solvers import solve", "cmdp (rank 3) imports only lower ranks"),
        (
            "solvers/linear_program.py",
            "from surefoot.tasks.family import TaskFamily",
            "solvers (rank 4) imports only lower",
        ),
        ("deploy/agent.py", "from surefoot.cmdp.model import TabularCMDP", "deploy never imports cmdp"),
        ("deploy/agent.py", "def f():\n    from surefoot import tasks", "deploy never imports tasks"),
        ("deploy/agent.py", "from ..solvers import solve", "deploy never imports solvers"),
        ("deploy/agent.py", "from .. import training", "deploy never imports training"),
        ("report/table.py", "from surefoot.deploy.agent import Agent", "report never imports deploy"),
        ("training/cover.py", "import surefoot", "nothing inside imports the public front"),
        ("training/cover.py", "from surefoot import solve", "'solve' is no package with a rank"),
        ("telemetry/send.py", "import os", "package 'telemetry' has no rank"),
    ],
)
def test_a_forbidden_import_is_noticed(module: str, line: str, complaint: str) -> None:
    (message,) = broken_rules(line, module)
    assert complaint in message


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("cmdp/model.py", "from surefoot.arrays import freeze\nfrom surefoot.cmdp.evaluate import evaluate"),
        ("deploy/agent.py", "from ..policyset import PolicySet\nfrom .events import Event\nimport numpy"),
        ("cli/reproduce.py", "from surefoot.experiments import gridworld"),
        ("__init__.py", "from surefoot.training import train"),
    ],
)
def test_an_allowed_import_is_left_alone(module: str, line: str) -> None:
    assert broken_rules(line, module) == []


def test_walls_and_ranks_name_the_same_packages() -> None:
    assert set(WALLS) | set().union(*WALLS.values()) <= set(RANKS)


def test_the_command_line_starts_without_heavy_imports() -> None:
    code = f"import sys, surefoot.cli; print(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.split(), result.stderr) == (0, [], "")
