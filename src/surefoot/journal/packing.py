"""Bodies of events in few bytes. Unpacking gives back the same canonical text, byte for byte, which is what digests cover.

    text = canonical(body)        pack(kind, body, text)  ->  bytes        unpack(bytes)  ->  body, text

Nearly all of a journal is two events per episode, so ``asked`` and ``told`` have binary layouts: numbers of fixed width instead of digits, and
nothing that the columns beside the body (number of the event, first episode, request) say already. Every other body is JSON, deflated against a
fixed dictionary where that is shorter. :func:`pack` unpacks what it made; a body whose text does not come back is stored as JSON. So packing loses
nothing.

The first byte names the layout. Layouts and the dictionary are part of the format: a new layout gets a new first byte.

    0x01 JSON     the text
    0x02 deflated the text, raw deflate with DICTIONARY
    0x10 asked    flags, [by], first - settled, plan, draws
    0x11 told     flags, [by], n, [ids - first], reward (n float64), costs (n I float64), [initial_state], [signals], [transitions]

A list of whole numbers has one width: a byte (width | 16 k for k < 15 numbers, else 240 | width and eight bytes of k), then k numbers of 1, 2, 4 or
8 bytes. Everything is little-endian.

An episode that was asked or told alone is the most common body. :func:`_single_asked` and :func:`_single_told` read it with one ``struct`` call; the
general reader gives the same for the same bytes (tested), and reads everything else.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from functools import lru_cache
from math import isfinite
from struct import Struct
from typing import Any

from surefoot.journal.events import canonical, parse_text

__all__ = ["Found", "pack", "unpack", "unpack_body"]

JSON, DEFLATED, ASKED, TOLD = 0x01, 0x02, 0x10, 0x11
BY, REQUEST, STATES, SIGNALS, MOVES, IN_ORDER = 1, 2, 4, 8, 16, 32
LARGEST = 2**30
"""No body unpacks to more bytes."""
WIDTHS = ((1, "B", 2**8), (2, "H", 2**16), (4, "I", 2**32), (8, "Q", 2**64))
CODES = {width: code for width, code, _ in WIDTHS}
MANY = 15

DICTIONARY = (
    b'{"text":"{"reason":"{"ids":[{"by":"operator","ids":[{"plan":{"cells":[],"cells_left":,"log_wealth":[null,null],"policy":'
    b"an episode was lost: evidence from transitions is forfeited, returns carry on"
    b"the safe policy; a plan waits for its first approval approved earlier; a new plan waits; capped at 0."
    b'"waiting":null,"weights":{"0":1.0}}{"bounds":[0.9999999999],"cells_left":1,"certified":true,"reasons":{"0":"the safe policy makes room; '
    b'limited by cell 1","2":"the candidate\'s own policy, kept under test; limited by cell "},'
    b'"value":4.2222222,"waiting":null,"weights":{"0":0.5555555,"'
)

Found = tuple[dict[str, Any], str]
"""A body and its canonical text."""


def pack(kind: str, body: dict[str, Any], text: str) -> bytes:
    """The bytes of a body.

    Args:
        kind: of its event.
        body: plain values.
        text: its canonical text.
    """
    try:
        found = _asked(body) if kind == "asked" else _told(body) if kind == "told" else None
        if found is not None:
            first = body["first"] if kind == "asked" else min(body["ids"])
            if unpack(found, first, body.get("request"))[1] == text:
                return found
    except (TypeError, ValueError, LookupError, OverflowError, AttributeError):
        pass  # this library makes no such body; it is stored as JSON
    plain = text.encode("ascii")
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=DICTIONARY)
    small = squeezer.compress(plain) + squeezer.flush()
    return bytes([DEFLATED]) + small if len(small) < len(plain) else bytes([JSON]) + plain


def unpack(data: bytes, first: int | None, request: str | None) -> Found:
    """The body and its text.

    Args:
        data: of :func:`pack`.
        first, request: the columns beside it.

    Raises:
        ValueError: :func:`pack` makes no such bytes.
    """
    if data and data[0] in (ASKED, TOLD):
        body = _single(data, first)
        if body is not None:
            return body, _text_of_single(body)
        body = _layout(data, first, request)
        return body, canonical(body)
    text = _json(data)
    return parse_text(text), text


def unpack_body(data: bytes, first: int | None, request: str | None) -> dict[str, Any]:
    """The body alone, for a reader that computes its text and its digest itself.

    Args:
        data, first, request: as in :func:`unpack`.

    Raises:
        ValueError: :func:`pack` makes no such bytes; or they hold a text that is not canonical, which the reader's own text would hide.
    """
    if data and data[0] in (ASKED, TOLD):
        body = _single(data, first)
        return _layout(data, first, request) if body is None else body
    text = _json(data)
    body = parse_text(text)
    if canonical(body) != text:
        raise ValueError("a text that is not canonical")
    return body


def _json(data: bytes) -> str:
    layout = data[0] if data else 0
    if layout == JSON:
        return data[1:].decode("ascii")
    if layout == DEFLATED:
        return _inflated(data[1:]).decode("ascii")
    raise ValueError(f"an unknown layout {layout:#x}")


def _inflated(data: bytes) -> bytes:
    opener = zlib.decompressobj(-15, zdict=DICTIONARY)
    try:
        found = opener.decompress(data, LARGEST)
    except zlib.error as error:
        raise ValueError(f"deflated bytes that are damaged ({error})") from error
    if not opener.eof or opener.unused_data:
        raise ValueError("deflated bytes that do not end where they should")
    return found


def _layout(data: bytes, first: int | None, request: str | None) -> dict[str, Any]:
    """The body of a binary layout."""
    if first is None:
        raise ValueError("a body whose first episode is not indexed")
    try:
        reader = _Reader(data)
        body = _read_asked(reader, first, request) if data[0] == ASKED else _read_told(reader, first)
        reader.end()
    except (LookupError, TypeError, OverflowError) as error:
        raise ValueError(f"a body that ends early or says what cannot be ({error})") from error
    return body


# ------------------------------------------------------------------------------------------------------------- layouts


def _asked(body: dict[str, Any]) -> bytes:
    flags = BY * ("by" in body) | REQUEST * ("request" in body)
    head = [bytes([ASKED, flags]), *([_text(body["by"])] if flags & BY else [])]
    return b"".join([*head, _whole([body["first"] - body["settled"], body["plan"]]), _whole(body["draws"])])


def _read_asked(reader: _Reader, first: int, request: str | None) -> dict[str, Any]:
    flags = reader.byte()
    body: dict[str, Any] = {"first": first}
    if flags & BY:
        body["by"] = reader.text()
    if flags & REQUEST:
        body["request"] = request
    ahead, body["plan"] = reader.whole(2)
    body["settled"], body["draws"] = first - ahead, reader.whole()
    return body


def _told(body: dict[str, Any]) -> bytes:
    ids, costs = body["ids"], body["costs"]
    first, n, i = min(ids), len(ids), len(costs[0])
    in_order = ids == list(range(first, first + n))
    parts = {STATES: "initial_state", SIGNALS: "signals", MOVES: "transitions", BY: "by"}
    flags = sum(flag for flag, name in parts.items() if name in body) | IN_ORDER * in_order
    found = [bytes([TOLD, flags]), *([_text(body["by"])] if flags & BY else []), _whole([n, i])]
    if not in_order:
        found.append(_whole([k - first for k in ids]))
    found += [_reals(body["reward"]), _reals([x for row in costs for x in row])]
    if flags & STATES:
        found.append(_whole(body["initial_state"]))
    if flags & SIGNALS:
        rows = body["signals"]
        found += [_whole([len(rows[0])]), _reals([x for row in rows for x in row])]
    if flags & MOVES:
        found.append(_whole([x for row in body["transitions"] for x in row]))
    return b"".join(found)


def _read_told(reader: _Reader, first: int) -> dict[str, Any]:
    flags = reader.byte()
    body: dict[str, Any] = {}
    if flags & BY:
        body["by"] = reader.text()
    n, i = reader.whole(2)
    body["ids"] = (
        list(range(first, first + reader.most(n))) if flags & IN_ORDER else [first + k for k in reader.whole(n)]
    )
    body["reward"], body["costs"] = reader.reals(n), _rows(reader.reals(n * i), n, i)
    if flags & STATES:
        body["initial_state"] = reader.whole(n)
    if flags & SIGNALS:
        (x,) = reader.whole(1)
        body["signals"] = _rows(reader.reals(n * x), n, x)
    if flags & MOVES:
        counts = reader.whole()
        body["transitions"] = _rows(counts, len(counts) // 4, 4)
    return body


def _rows(values: list[Any], n: int, width: int) -> list[list[Any]]:
    return [values[k * width : (k + 1) * width] for k in range(n)]


# ------------------------------------------------------------------------------------------------------ single episodes


def _single(data: bytes, first: int | None) -> dict[str, Any] | None:
    """The body of an episode that was asked or told alone; ``None`` where the general reader must look."""
    if type(first) is not int:
        return None
    return _single_asked(data, first) if data[0] == ASKED else _single_told(data, first)


def _single_asked(data: bytes, first: int) -> dict[str, Any] | None:
    """One draw, by nobody in particular and without a request key."""
    layout = _ASKED_LAYOUTS.get((data[:3], len(data)))
    if layout is None:
        return None
    ahead, plan, head, draw = layout[0].unpack(data)
    return {"first": first, "plan": plan, "settled": first - ahead, "draws": [draw]} if head == layout[1] else None


_ASKED_LAYOUTS = {
    (bytes([ASKED, 0, pair | 2 << 4]), 4 + 2 * pair + draw): (Struct(f"<3x2{CODES[pair]}B{CODES[draw]}"), draw | 1 << 4)
    for pair in CODES
    for draw in CODES
}
"""By the first three bytes and the length: the fields, and what the byte before the draw must be. Keys differ by the width of the pair (first -
settled, plan) and of the draw."""


def _single_told(data: bytes, first: int) -> dict[str, Any] | None:
    """One report with nothing but reward, costs and, perhaps, an initial state."""
    layout = _told_layout(data[:5], len(data))
    if layout is None:
        return None
    values, head = layout
    if head is None:
        reward, *costs = values.unpack(data)
        body = {"ids": [first], "reward": [reward], "costs": [costs]}
    else:
        reward, *costs, found, state = values.unpack(data)
        if found != head:
            return None
        body = {"ids": [first], "reward": [reward], "costs": [costs], "initial_state": [state]}
    return body if isfinite(reward) and all(map(isfinite, costs)) else None


@lru_cache(256)
def _told_layout(head: bytes, size: int) -> tuple[Struct, int | None] | None:
    """The fields of a report of one episode, and what the byte before its initial state must be.

    Args:
        head: the first five bytes.
        size: of the whole.
    """
    if len(head) < 5 or head[2:4] != bytes([1 | 2 << 4, 1]) or head[1] not in (IN_ORDER, IN_ORDER | STATES):
        return None
    reals = 1 + head[4]
    left = size - 5 - 8 * reals
    if head[1] == IN_ORDER:
        return (Struct(f"<5x{reals}d"), None) if left == 0 else None
    width = left - 1
    return (Struct(f"<5x{reals}dB{CODES[width]}"), width | 1 << 4) if width in CODES else None


def _text_of_single(body: dict[str, Any]) -> str:
    """The canonical text of a body that :func:`_single` made."""
    first = body.get("first")
    if first is not None:
        return f'{{"draws":[{body["draws"][0]}],"first":{first},"plan":{body["plan"]},"settled":{body["settled"]}}}'
    costs, state = ",".join(map(repr, body["costs"][0])), body.get("initial_state")
    middle = "" if state is None else f'"initial_state":[{state[0]}],'
    return f'{{"costs":[[{costs}]],"ids":[{body["ids"][0]}],{middle}"reward":[{body["reward"][0]!r}]}}'


# --------------------------------------------------------------------------------------------------------------- parts


def _whole(values: list[int]) -> bytes:
    most = max(values, default=0)
    width, code, _ = next((entry for entry in WIDTHS if most < entry[2]), WIDTHS[-1])  # too large a number overflows
    k = len(values)
    head = bytes([width | k << 4]) if k < MANY else bytes([width | MANY << 4]) + k.to_bytes(8, "little")
    return head + _bytes(array(code, values))


def _reals(values: list[float]) -> bytes:
    return _bytes(array("d", values))


def _bytes(values: array[Any]) -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def _text(value: str) -> bytes:
    found = value.encode("utf-8")
    return _whole([len(found)]) + found


class _Reader:
    """Reads bytes from front to back, never beyond their end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 1

    def byte(self) -> int:
        """The next byte."""
        found = self._data[self._at]
        self._at += 1
        return found

    def most(self, n: int) -> int:
        """``n``, of which each takes at least a byte."""
        if n > len(self._data):
            raise ValueError("a body that ends early")
        return n

    def whole(self, n: int | None = None) -> list[int]:
        """The next list of whole numbers, which must be ``n`` where that is given."""
        head = self.byte()
        k = head >> 4
        if k == MANY:
            k = int.from_bytes(self._take(8), "little")
        width = head & 15
        if n is not None and k != n:
            raise ValueError(f"{k} numbers where {n} must be")
        return self._array(CODES[width], k, width)

    def reals(self, n: int) -> list[float]:
        """The next ``n`` real numbers."""
        found = self._array("d", n, 8)
        if not all(map(isfinite, found)):
            raise ValueError("numbers that are not finite")
        return found

    def text(self) -> str:
        """The next text."""
        (size,) = self.whole(1)
        return self._take(size).decode("utf-8")

    def end(self) -> None:
        """Check that nothing is left."""
        if self._at != len(self._data):
            raise ValueError("bytes behind the end of a body")

    def _array(self, code: str, n: int, width: int) -> list[Any]:
        found = array(code)
        found.frombytes(self._take(n * width))
        if sys.byteorder == "big":
            found.byteswap()
        return found.tolist()

    def _take(self, n: int) -> bytes:
        end = self._at + n
        if end > len(self._data):
            raise ValueError("a body that ends early")
        found, self._at = self._data[self._at : end], end
        return found
