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
    [
        "arguments",
        "arrays",
        "assumptions",
        "deprecation",
        "error_codes",
        "json_reading",
        "kept_files",
        "kernels",
        "progress",
        "stateful",
        "text_table",
    ],
    ["blas", "highs", "parallel", "policy", "controllers", "criterion", "protocol", "stats"],
    ["cmdp", "onnx_policy"],
    ["solvers"],
    ["tasks", "policyset"],  # a family may solve one of its tasks: that is how the gridworld finds its safe policy
    ["training", "deploy"],
    ["audit"],  # of its own kind: from the agent it imports choices, and nothing that follows from them
    ["gym", "journal", "planning"],
    ["baselines"],  # some are networks that are trained on Gymnasium environments
    ["rehearsal", "worlds"],  # whole deployments on simulated plants; families on models that others published
    ["report", "testing"],
    ["experiments"],  # may say in words what it found
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


def is_type_checking(test: ast.expr) -> bool:
    """Whether a condition is ``TYPE_CHECKING``: what it guards is never imported at run time."""
    return getattr(test, "id", getattr(test, "attr", None)) == "TYPE_CHECKING"


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below one that may run, inside functions too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_type_checking(child.test):
            for other in child.orelse:
                yield other
                yield from run_time_nodes(other)
        else:
            yield child
            yield from run_time_nodes(child)


def import_graph(sources: dict[str, str]) -> dict[str, set[str]]:
    """Dotted module to the modules it imports; ``sources`` maps paths inside the package to texts."""
    dotted = {
        path: ".".join(["surefoot", *Path(path).with_suffix("").parts]).removesuffix(".__init__") for path in sources
    }
    known = set(dotted.values())
    edges: dict[str, set[str]] = {name: set() for name in known}
    for path, text in sources.items():
        package = ["surefoot", *Path(path).parts[:-1]]
        for node in run_time_nodes(ast.parse(text)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                prefix = ".".join([*base, *([node.module] if node.module else [])])
                names = [f"{prefix}.{alias.name}" for alias in node.names]
            else:
                continue
            for name in names:
                # "from surefoot.cmdp import model" imports a module, "from surefoot.cmdp.model import TabularCMDP" one that holds a name.
                while name and name not in known:
                    name = name.rpartition(".")[0]
                if name and name != dotted[path]:
                    edges[dotted[path]].add(name)
    return edges


def import_circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module: each reaches all others (Kosaraju)."""

    def visit(start: str, graph: dict[str, set[str]], seen: set[str]) -> list[str]:
        """Modules reached first from here, in the order in which they are finished."""
        seen.add(start)
        finished, stack = [], [(start, iter(sorted(graph[start])))]
        while stack:
            name, others = stack[-1]
            further = next((other for other in others if other not in seen), None)
            if further is None:
                finished.append(name)
                stack.pop()
            else:
                seen.add(further)
                stack.append((further, iter(sorted(graph[further]))))
        return finished

    seen: set[str] = set()
    order = [name for start in sorted(edges) if start not in seen for name in visit(start, edges, seen)]
    backwards: dict[str, set[str]] = {name: set() for name in edges}
    for name, others in edges.items():
        for other in others:
            backwards[other].add(name)
    seen = set()
    found = [sorted(visit(start, backwards, seen)) for start in reversed(order) if start not in seen]
    return sorted(part for part in found if len(part) > 1)


def test_no_module_imports_itself_through_others() -> None:
    sources = {module: (ROOT / module).read_text(encoding="utf-8") for module in MODULES}
    assert import_circles(import_graph(sources)) == []


@pytest.mark.parametrize(
    ("sources", "circles"),
    [
        ({"a.py": "import surefoot.b", "b.py": "def f():\n    from surefoot import a"}, [["surefoot.a", "surefoot.b"]]),
        ({"p/__init__.py": "from surefoot.p.x import y", "p/x.py": "from . import z"}, [["surefoot.p", "surefoot.p.x"]]),
        ({"p/x.py": "from .y import n", "p/y.py": "from ..q import m", "q.py": "import surefoot.p.x"},
         [["surefoot.p.x", "surefoot.p.y", "surefoot.q"]]),
        ({"a.py": "if TYPE_CHECKING:\n    import surefoot.b", "b.py": "import surefoot.a"}, []),
        ({"a.py": "if typing.TYPE_CHECKING:\n    x = 1\nelse:\n    import surefoot.b", "b.py": "import surefoot.a"}, [["surefoot.a", "surefoot.b"]]),
        ({"a.py": "import surefoot.b, surefoot.c", "b.py": "import surefoot.c", "c.py": "import os"}, []),
    ],
)  # fmt: skip
def test_a_circle_of_imports_is_noticed(sources: dict[str, str], circles: list[list[str]]) -> None:
    assert import_circles(import_graph(sources)) == circles


def test_walls_and_ranks_name_the_same_packages() -> None:
    assert set(WALLS) | set().union(*WALLS.values()) <= set(RANKS)


def test_the_command_line_starts_without_heavy_imports() -> None:
    code = f"import sys, surefoot.cli; print(*[name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.split(), result.stderr) == (0, [], "")
