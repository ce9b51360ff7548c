"""Reading JSON: every way to fail is named with its file and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from surefoot.json_reading import parse_strictly, read_object, required
from tests.refusals import refused


def test_an_object_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text('{"é": [1, 2.5, null]}', encoding="utf-8")
    assert read_object(path, remedy="run it again") == {"é": [1, 2.5, None]}


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (None, ("SF-RECORD-MISSING", "log.json", "run it again")),
        (b"{", ("SF-RECORD-UNREADABLE", "log.json", "run it again")),
        (b"\xff{}", ("SF-RECORD-UNREADABLE", "log.json", "utf-8", "run it again")),
        (b"[" * 200_000, ("SF-RECORD-UNREADABLE", "log.json", "run it again")),
        (b"[1]", ("SF-RECORD-FIELD", "log.json", "list", "run it again")),
        (b"null", ("SF-RECORD-FIELD", "log.json", "NoneType", "run it again")),
    ],
)
def test_what_is_no_object_is_refused(tmp_path: Path, content: bytes | None, refusal: tuple[str, ...]) -> None:
    path = tmp_path / "log.json"
    if content is not None:
        path.write_bytes(content)
    with refused(*refusal):
        read_object(path, remedy="run it again")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with refused("SF-RECORD-UNREADABLE", str(tmp_path)):
        read_object(tmp_path, remedy="run it again")


def test_a_missing_key_is_named() -> None:
    assert required({"a": None}, "a", where="summary", remedy="run it again") is None
    with refused("SF-RECORD-FIELD", "summary", "'b'", "['a']", "run it again"):
        required({"a": 1}, "b", where="summary", remedy="run it again")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' twice in one object"),
        ('[{"b": {"a": 1, "a": 1}}]', "the key 'a' twice in one object"),
        ("[NaN]", "NaN, which is no JSON number"),
        ("-Infinity", "-Infinity, which is no JSON number"),
        ("[" * 200_000, "values nested too deeply"),
        ("{", "Expecting"),
    ],
)
def test_what_two_readers_may_understand_differently_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_strictly(text)


def test_what_is_clear_is_read() -> None:
    assert parse_strictly('{"a": {"a": 1}, "b": [0.1, -2, "x"]}') == {"a": {"a": 1}, "b": [0.1, -2, "x"]}
