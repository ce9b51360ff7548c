"""Documentation that runs: snippets, docstring examples, links, names of code, constants, options of commands."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import pkgutil
import re
import shlex
import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import surefoot
from surefoot.cli import cli, main

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(surefoot.__file__).parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
# The tests also run against the wheel, from a copy that holds these and nothing else of the repository.
COPIED = [(), ("..",), ("README.md",), ("CHANGELOG.md",), ("docs",)]
WHOLE = (ROOT / "Makefile").exists()


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def slug(heading: str) -> str:
    """The anchor that a heading gets: lower case, punctuation dropped, spaces to hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


IN_PROCESSES = {"docs/building.md"}
"""Pages whose scripts have a test of their own, in the processes that they speak of."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name, page in zip(NAMES, PAGES) if blocks(page, "python") and name not in IN_PROCESSES]
)
def test_snippets_run_in_order(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["snippet", str(ROOT / "tests" / "golden" / "policyset-v1.sf")])
    registry = importlib.import_module("surefoot.experiments.registry")
    monkeypatch.setattr(registry, "AGENTS", registry.AGENTS.copy())
    namespace: dict[str, Any] = {"__name__": "snippet"}
    for number, source in enumerate(blocks(ROOT / name, "python")):
        exec(compile(source, f"{name}, snippet {number}", "exec"), namespace)  # noqa: S102


def test_the_readme_has_an_example_and_the_commands_first() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(blocks(ROOT / "README.md", "python")) >= 2
    assert text.index("make run") < text.index("make test") < text.index("```python")


def test_the_example_file_is_the_readme() -> None:
    joined = "\n".join(blocks(ROOT / "README.md", "python"))
    code = (ROOT / "examples" / "own_family.py").read_text(encoding="utf-8").split('"""\n\n', 1)[1]
    assert re.sub(r"\n\n+", "\n", code).strip() == re.sub(r"\n\n+", "\n", joined).strip()


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", prose(page)):
        if "://" in target or not (WHOLE or Path(target).parts[:1] in COPIED):
            continue
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(h) for h in headings}, f"{name} links to {target}#{anchor}"


@pytest.mark.parametrize("name", NAMES)
def test_no_machine_is_mentioned(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt)/\S*|[A-Z]:\\\S*", text) == []


def commands(page: Path) -> Iterator[list[str]]:
    """Command lines of a page's console blocks, split into words."""
    for block in blocks(page, "console"):
        for line in block.splitlines():
            if line.startswith("$ surefoot "):
                yield shlex.split(line.removeprefix("$ surefoot "), comments=True)


COMMAND_LINES = [words for page in PAGES for words in commands(page)]


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_commands_on_the_pages_parse(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command: click.Command = cli
    context = click.Context(cli)
    if words[0] == "--import":
        words = words[2:]
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, f"no command {words[0]}"
        command, words = found, words[1:]
    command.make_context("surefoot", list(words))


@pytest.mark.slow
def test_the_file_of_getting_started_can_be_shown(
    gridworld_set: surefoot.PolicySet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ["show", "heater.sf"] in COMMAND_LINES
    gridworld_set.save(tmp_path / "heater.sf")
    main(["show", str(tmp_path / "heater.sf")])
    shown = capsys.readouterr().out
    for line in blocks(ROOT / "docs" / "getting-started.md", "text")[0].splitlines():
        pieces = [re.escape(piece) for piece in re.split(r"\.\.\.", line.replace("heater", "gridworld (truncated)"))]
        wanted = r".*".join(pieces).replace("300", "60")
        assert re.search(wanted, shown), line


def members(path: Path) -> set[str]:
    """Functions, classes, methods, fields and constants that a module defines."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
            fields = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
            found |= {f"{node.name}.{target.id}" for target in fields if isinstance(target, ast.Name)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                found |= {name.id for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


REFERENCES = sorted(
    {m for page in PAGES for m in re.findall(r"`(\w+(?:/\w+)*\.py)::([\w.]+)`", page.read_text("utf-8"))}
    - {("file.py", "name")}
)


@pytest.mark.parametrize(("file", "name"), REFERENCES, ids="::".join)
def test_code_that_the_pages_name_exists(file: str, name: str) -> None:
    # A field of a constant, as in TUNING.warm_up, is compared with its value below.
    owner, _, rest = name.partition(".")
    assert (name if rest and not owner.isupper() else owner) in members(PACKAGE / file)


def test_every_step_of_the_proofs_names_code() -> None:
    assert len([r for r in REFERENCES if r[0].startswith(("deploy/", "stats/", "training/"))]) >= 40


ROWS = re.findall(
    r"^\| `([\w/]+)\.py::([\w.]+)` \| ([^|]+) \|", (ROOT / "docs" / "guarantees.md").read_text("utf-8"), re.MULTILINE
)


@pytest.mark.parametrize(("file", "name", "value"), ROWS, ids=[row[1] for row in ROWS])
def test_constants_on_the_pages_are_those_in_the_code(file: str, name: str, value: str) -> None:
    module = importlib.import_module("surefoot." + file.replace("/", "."))
    assert ast.literal_eval(value.strip()) == attrgetter(name)(module)


def test_some_constants_are_listed() -> None:
    assert len(ROWS) >= 5


def with_examples() -> list[str]:
    """Modules whose source holds docstring examples."""
    found = []
    for info in pkgutil.walk_packages([str(PACKAGE)], "surefoot."):
        spec = importlib.util.find_spec(info.name)
        if spec is not None and spec.origin is not None and ">>> " in Path(spec.origin).read_text(encoding="utf-8"):
            found.append(info.name)
    return found


EXAMPLES = with_examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstring_examples(name: str) -> None:
    module: ModuleType = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_there_are_docstring_examples() -> None:
    assert "surefoot.stats.binomial" in EXAMPLES


def test_the_reference_lists_every_public_name() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\.\. auto\w+:: ([\w.]+)$", page, re.MULTILINE))
    wanted = {
        f"surefoot.{name}" for name in surefoot.__all__ if name != "__version__" and callable(getattr(surefoot, name))
    }
    for module in ("tasks", "gym", "report"):
        part = importlib.import_module(f"surefoot.{module}")
        wanted |= {f"surefoot.{module}.{name}" for name in part.__all__ if callable(getattr(part, name))}
    assert wanted - listed == set() and listed - wanted == set()


def test_every_page_is_in_a_table_of_contents() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"}
    listed = {
        line for block in blocks(ROOT / "docs" / "index.md", "{toctree}") for line in block.split("\n\n")[-1].split()
    }
    assert pages == listed, index
