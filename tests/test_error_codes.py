"""Every error carries a code of the catalogue, the page lists them all, and a code survives what exceptions go through."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest

import surefoot as sf
from surefoot import errors
from surefoot.error_codes import AREAS, CATALOGUE, page
from surefoot.service.guard import CODES
from tests.refusals import missing, refused

PACKAGE = Path(sf.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
CLASSES = {name: getattr(errors, name) for name in errors.__all__}
NAMED = r"^SF-[A-Z]+(-[A-Z]+)+$"
"""Codes of rules; the code of an area alone is for what is built on the library."""


def calls(source: str) -> Iterator[tuple[int, str, ast.expr | None]]:
    """Line, class and ``code=`` of every error that ``source`` makes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if name in CLASSES:
                yield node.lineno, name, next((k.value for k in node.keywords if k.arg == "code"), None)


def unnamed(source: str) -> list[str]:
    """Errors in ``source`` whose code is none of the catalogue's, or none that their class may carry."""
    found = []
    for line, name, given in calls(source):
        codes = [CLASSES[name].code] if given is None else literals(given)
        for code in codes:
            if not re.match(NAMED, code) or code not in CATALOGUE or CLASSES[name] not in CATALOGUE[code].errors:
                found.append(f"line {line}: {name} with {code}")
    return found


def literals(given: ast.expr) -> list[str]:
    """Codes that an expression may be; those it hands on (``code``, ``error.code``, ``field_code(error)``) are checked elsewhere."""
    if isinstance(given, ast.IfExp):
        return literals(given.body) + literals(given.orelse)
    if isinstance(given, ast.Name | ast.Attribute) or ast.unparse(given) == "field_code(error)":
        return []
    return [given.value] if isinstance(given, ast.Constant) and isinstance(given.value, str) else [ast.unparse(given)]


MODULES = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("module", [name for name, source in MODULES.items() if any(calls(source))])
def test_every_error_names_its_code(module: str) -> None:
    assert unnamed(MODULES[module]) == []


def test_the_test_can_fail() -> None:
    assert unnamed("raise InvalidInput('x')") == ["line 1: InvalidInput with SF-ARGUMENT"]
    assert unnamed("raise errors.LedgerError('x', code='SF-LEDGER-NONE')") == [
        "line 1: LedgerError with SF-LEDGER-NONE"
    ]
    assert unnamed("raise InvalidReport('x', code='SF-ARGUMENT-RANGE')") == [
        "line 1: InvalidReport with SF-ARGUMENT-RANGE"
    ]
    assert unnamed("raise InvalidInput('x', code='SF-ARGUMENT-RANGE' if x else 'SF-ARGUMENT')") != []
    assert unnamed("raise PausedError('x'); raise InvalidInput('x', code=error.code)") == []


def written() -> dict[str, int]:
    """Codes in the sources, the catalogue left out, and how often."""
    found: dict[str, int] = {}
    for name, source in MODULES.items():
        if name != "error_codes.py":
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.match(NAMED, node.value):
                    found[node.value] = found.get(node.value, 0) + 1
    return found


def test_every_code_is_in_the_catalogue_and_in_use() -> None:
    named = {code for code in CATALOGUE if re.match(NAMED, code)}
    assert set(written()) == named


def test_every_class_has_a_code_that_it_may_carry() -> None:
    for kind in CLASSES.values():
        assert kind in CATALOGUE[kind.code].errors
    assert len({kind.code for kind in CLASSES.values()}) == len(CLASSES)


@pytest.mark.parametrize("code", CATALOGUE)
def test_an_entry_of_the_catalogue_is_complete(code: str) -> None:
    kinds, cause, remedy = CATALOGUE[code]
    assert re.fullmatch(r"SF(-[A-Z]+)+", code)
    assert code.split("-")[1] in AREAS
    assert bool(kinds) != code.startswith("SF-HTTP-")
    for text in (cause, remedy):
        assert text[0] in "`" or text[0].isupper()
        assert text.endswith(".")
        assert not set("|\n") & set(text)


def test_every_kind_of_refusal_of_the_service_has_a_code() -> None:
    from surefoot.service.errors import STATUSES

    for kind in (kind for _, kinds in STATUSES.values() for kind in kinds):
        assert kind in CLASSES or CODES.get(kind, "SF-HTTP-REQUEST") in CATALOGUE
    assert set(CODES) <= {kind for _, kinds in STATUSES.values() for kind in kinds}


def test_the_page_is_in_step() -> None:
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == page(), (
        "run: python -m surefoot.error_codes > docs/errors.md"
    )


def test_the_page_lists_every_code_once() -> None:
    assert sorted(re.findall(r"^\| `([A-Z-]+)` \|", page(), re.MULTILINE)) == sorted(CATALOGUE)


def example(name: str) -> sf.SurefootError:
    """An error of a class, with a code that is not the class's."""
    if name == "MissingExtra":
        return errors.MissingExtra("torch", "sb3", code="SF-OTHER")
    made: sf.SurefootError = CLASSES[name]("x must be 1, got 2; choose 1", code="SF-OTHER")
    return made


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_survives_copies_and_pickling(name: str) -> None:
    error = example(name)
    error.event = 7  # type: ignore[attr-defined]
    for twin in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301
        assert type(twin) is type(error)
        assert (str(twin), twin.code, twin.args, vars(twin)) == (str(error), "SF-OTHER", error.args, vars(error))


@pytest.mark.parametrize("name", CLASSES)
def test_the_message_is_what_it_was_without_codes(name: str) -> None:
    error = example(name)
    assert str(error) == error.args[0]
    if name != "MissingExtra":
        assert str(error) == "x must be 1, got 2; choose 1"
        assert CLASSES[name]("x").code == CLASSES[name].code
    with pytest.raises(CLASSES[name]) as caught:
        raise error
    assert caught.value is error


def test_builtin_parents_see_their_message() -> None:
    assert (
        errors.MissingExtra("torch", "sb3").msg
        == 'torch is not installed; it comes with an extra: pip install "surefoot[sb3]"'
    )
    with pytest.raises(ValueError, match=r"^x$"):
        raise errors.InvalidInput("x", code="SF-ARGUMENT-RANGE")
    with pytest.raises(FileExistsError, match=r"^x$"):
        raise errors.OutputExists("x")


def test_a_class_of_ones_own_may_have_a_code_and_arguments_of_its_own() -> None:
    class Worn(errors.SimulationError):
        code = "MINE-WORN"

        def __init__(self, part: str, hours: int) -> None:
            super().__init__(f"{part} ran {hours} h")
            self.part = part

    twin = copy.copy(Worn("pump", 9))
    assert (type(twin), str(twin), twin.code, twin.part) == (Worn, "pump ran 9 h", "MINE-WORN", "pump")


def refuse(name: str) -> None:
    raise example(name)


@pytest.mark.process
@pytest.mark.parametrize("name", ["InvalidInput", "MissingExtra", "OutputExists"])
def test_a_code_comes_back_from_a_worker_process(name: str) -> None:
    with pytest.raises(CLASSES[name]) as caught:
        joblib.Parallel(n_jobs=2)(joblib.delayed(refuse)(name) for _ in range(2))
    assert (caught.value.code, str(caught.value)) == ("SF-OTHER", str(example(name)))


def test_the_helper_of_these_tests_can_fail() -> None:
    assert missing("x[1] must lie in [0, 10], got 1.5", ("x[1]", "[0, 10]", "1.5")) is None
    assert missing("got 10 or 1.5 or x1 or 2.1", ("1",)) == "1"
    assert missing("a, b", ("b", "a")) == "a"
    with pytest.raises(AssertionError, match="SF-ARGUMENT-TYPE"), refused("SF-ARGUMENT-RANGE"):
        raise errors.InvalidInput("x", code="SF-ARGUMENT-TYPE")
    with pytest.raises(AssertionError, match="is not"), refused("SF-ARGUMENT-RANGE", "y"):
        raise errors.InvalidInput("x", code="SF-ARGUMENT-RANGE")
    with pytest.raises(AssertionError, match="SimulationError"), refused("SF-ARGUMENT-RANGE"):
        raise errors.SimulationError("x", code="SF-ARGUMENT-RANGE")
