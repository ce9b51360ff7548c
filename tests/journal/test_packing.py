"""Packed bodies: whatever is packed comes back as the same text, and nothing that is damaged is read as something else."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surefoot.journal.events import canonical, microseconds, stamp
from surefoot.journal.packing import ASKED, DEFLATED, JSON, TOLD, _layout, _single, pack, unpack, unpack_body

small, number = st.integers(0, 300), st.floats(allow_nan=False, allow_infinity=False)
who = st.just({}) | st.fixed_dictionaries({"by": st.text(max_size=9)})


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    first = draw(st.integers(0, 2**41))
    found = {
        "first": first,
        "settled": draw(st.integers(0, first)),
        "plan": draw(st.integers(0, 2**33)),
        "draws": draw(st.lists(small, min_size=1, max_size=20)),
    }
    return found | draw(who) | draw(st.just({}) | st.fixed_dictionaries({"request": st.text(max_size=9)}))


@st.composite
def told(draw: st.DrawFn) -> dict[str, Any]:
    n, i, x = draw(st.integers(1, 17)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    first = draw(st.integers(0, 2**40))
    ids = draw(st.just(list(range(first, first + n))) | st.permutations([first + 2 * k for k in range(n)]))

    def rows(width: int) -> st.SearchStrategy[list[list[float]]]:
        return st.lists(st.lists(number, min_size=width, max_size=width), min_size=n, max_size=n)

    found = {"ids": ids, "reward": draw(st.lists(number, min_size=n, max_size=n)), "costs": draw(rows(i))}
    if draw(st.booleans()):
        found["initial_state"] = draw(st.lists(small, min_size=n, max_size=n))
    if draw(st.booleans()):
        found["signals"] = draw(rows(x))
    if draw(st.booleans()):
        found["transitions"] = draw(st.lists(st.lists(st.integers(0, 2**53), min_size=4, max_size=4), max_size=6))
    return found | draw(who)


def again(kind: str, body: dict[str, Any]) -> tuple[bytes, dict[str, Any], str]:
    data = pack(kind, body, canonical(body))
    first = body["first"] if kind == "asked" else min(body.get("ids", [0]))
    return data, *unpack(data, first, body.get("request"))


@given(asked())
def test_draws_come_back(body: dict[str, Any]) -> None:
    data, found, text = again("asked", body)
    assert data[0] == ASKED and found == body and text == canonical(body)


@given(told())
def test_reports_come_back(body: dict[str, Any]) -> None:
    data, found, text = again("told", body)
    assert data[0] == TOLD and found == body and text == canonical(body)


@pytest.mark.parametrize(
    "body",
    [
        {"ids": [3], "reward": [1], "costs": [[0.5]]},  # a whole number is another text
        {"ids": [3], "reward": [True], "costs": [[0.5]]},
        {"ids": [3], "reward": [1.0], "costs": [[0.5], [0.5]]},
        {"ids": [3, 4], "reward": [1.0, 2.0], "costs": [[0.5], [0.5, 0.5]]},
        {"ids": [3], "reward": [1.0], "costs": [[0.5]], "initial_state": [-1]},
        {"ids": [3], "reward": [1.0], "costs": [[0.5]], "initial_state": [2**64]},
        {"ids": [3], "reward": [1.0], "costs": [[0.5]], "more": 1},
        {"ids": [3], "reward": [1.0], "costs": [[0.5]], "transitions": [[0, 0, 1]]},
        {"ids": [3], "reward": [1.0], "costs": [[0.5]], "by": None},
        {"ids": [3], "reward": 1.0, "costs": [[0.5]]},
        {"ids": [3], "reward": [], "costs": []},
    ],
)
def test_what_has_no_layout_is_kept_as_json(body: dict[str, Any]) -> None:
    data, found, text = again("told", body)
    assert data[0] in (JSON, DEFLATED) and text == canonical(body) and canonical(found) == text


@given(told(), st.data())
def test_what_is_cut_off_or_changed_is_refused_or_another_text(body: dict[str, Any], data: st.DataObject) -> None:
    packed, first = pack("told", body, canonical(body)), min(body["ids"])
    for cut in range(len(packed)):
        with pytest.raises(ValueError):
            unpack(packed[:cut], first, None)
    at, value = data.draw(st.integers(0, len(packed) - 1)), data.draw(st.integers(0, 255))
    changed = packed[:at] + bytes([value]) + packed[at + 1 :]
    try:
        _, text = unpack(changed, first, None)
    except ValueError:
        return
    assert changed == packed or text != canonical(body) or packed[at] & 240 == 240


finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def alone(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """One episode, asked or told, with nothing that is rare."""
    first = draw(st.integers(0, 2**40))
    if draw(st.booleans()):
        settled = draw(st.integers(0, first))
        return "asked", {
            "first": first,
            "settled": settled,
            "plan": draw(st.integers(0, 2**40)),
            "draws": [draw(small)],
        }
    body = {"ids": [first], "reward": [draw(finite)], "costs": [draw(st.lists(finite, max_size=4))]}
    return "told", body | draw(
        st.just({}) | st.fixed_dictionaries({"initial_state": st.lists(st.integers(0, 2**40), min_size=1, max_size=1)})
    )


@given(alone())
def test_an_episode_alone_is_read_at_once_and_as_the_general_reader_reads_it(entry: tuple[str, dict[str, Any]]) -> None:
    kind, body = entry
    text = canonical(body)
    data = pack(kind, body, text)
    first = body["first"] if kind == "asked" else body["ids"][0]
    assert _single(data, first) == body == _layout(data, first, None)
    assert unpack(data, first, None) == (body, text)
    assert unpack_body(data, first, None) == body


@given(alone(), st.data())
def test_damaged_bytes_are_read_at_once_only_as_the_general_reader_reads_them(
    entry: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    kind, body = entry
    packed = pack(kind, body, canonical(body))
    changed = bytearray(packed)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, min(7, len(packed) - 1)) | st.integers(0, len(packed) - 1))] = data.draw(
            st.sampled_from([0, 1, 2, 4, 8, 17, 18, 20, 32, 33, 34, 36, 48, 127, 240, 255])
        )
    first = data.draw(st.sampled_from([0, 3, None]))
    cut = bytes(changed[: data.draw(st.sampled_from([len(packed), len(packed) - 1]))]) + data.draw(
        st.sampled_from([b"", b"\0"])
    )
    if not cut or cut[0] not in (ASKED, TOLD):
        return
    found = _single(cut, first)
    if found is None:
        return
    assert found == _layout(cut, first, None)
    assert unpack(cut, first, None) == (found, canonical(found))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["reward", "costs"])
def test_numbers_that_are_not_finite_are_refused(name: str, number: float) -> None:
    """In a report of one episode, and in one of two."""
    for n in (1, 2):
        body: dict[str, Any] = {"ids": list(range(3, 3 + n)), "reward": [1.0] * n, "costs": [[2.0]] * n}
        mark = {"reward": 1.0, "costs": 2.0}[name]
        data = pack("told", body, canonical(body))
        at = data.index(struct.pack("<d", mark))
        damaged = data[:at] + struct.pack("<d", number) + data[at + 8 :]
        for read in (unpack, unpack_body):
            with pytest.raises(ValueError, match="finite"):
                read(damaged, 3, None)


@pytest.mark.parametrize("text", ['{"a": 1}', '{"b":1,"a":2}', '{"a":1,"a":2}', '{"a":1.50}'])
def test_a_text_that_is_not_canonical_is_refused_where_only_the_body_is_read(text: str) -> None:
    data = bytes([JSON]) + text.encode()
    assert unpack(data, None, None)[1] == text
    with pytest.raises(ValueError, match="canonical"):
        unpack_body(data, None, None)


@pytest.mark.parametrize(
    "junk", [b"", b"\0", b"\xff", bytes([DEFLATED]), bytes([DEFLATED]) + b"\x03\x00\x00", bytes([JSON]) + b"[" * 10**5]
)
def test_what_is_no_body_is_refused(junk: bytes) -> None:
    with pytest.raises(ValueError):
        unpack(junk, 1, None)


def test_a_single_episode_takes_few_bytes() -> None:
    asked = {"draws": [3], "first": 123456, "plan": 4, "settled": 123456}
    told = {"ids": [123456], "reward": [7.44249123473391], "costs": [[0.22343748842904274]], "initial_state": [1]}
    assert len(again("asked", asked)[0]) <= 10 and len(again("told", told)[0]) <= 23


@given(st.integers(-(2**40), 2**52))
def test_times_come_back(moment: int) -> None:
    assert microseconds(stamp(moment)) == moment


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00.000001+01:00", "2026-01-01T00:00:00.000001"],
)
def test_other_times_are_kept_as_text(text: str) -> None:
    assert microseconds(text) is None
