"""Bodies as few bytes, and back to the same text: what a database keeps, while digests are over the canonical text.

    text = canonical(body)        what the chain of digests covers        pack(kind, body)  ->  bytes        unpack(bytes)  ->  body, text again

Two events per episode are nearly all of a journal, so ``asked`` and ``told`` have layouts of their own: numbers of fixed width instead of digits,
nothing that the columns beside the body (number of the event, first episode, request) say already. Everything else is JSON, deflated against a fixed
dictionary where that is shorter. What does not come back as the same text, byte for byte, is stored as JSON: packing can lose nothing.

The first byte says which layout. Layouts and the dictionary are part of the format: whoever changes one adds a new first byte.

    0x01 JSON     the text
    0x02 deflated the text, raw deflate with DICTIONARY
    0x10 asked    flags, [by], first - settled, plan, draws
    0x11 told     flags, [by], n, [ids - first], reward (n float64), costs (n I float64), [initial_state], [signals], [transitions]

Whole numbers are lists of one width: a byte (width | 16 k for k < 15 numbers, else 240 | width, and eight bytes of k), then k numbers of 1, 2, 4 or
8 bytes. All is little-endian.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from typing import Any

from surefoot.journal.events import canonical, parse_text

__all__ = ["Found", "pack", "unpack"]

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
        if found is not None and _again(found, body) == text:
            return found
    except (TypeError, ValueError, LookupError, OverflowError, AttributeError):
        pass  # no body that this library makes; it is kept as it is
    plain = text.encode("ascii")
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=DICTIONARY)
    small = squeezer.compress(plain) + squeezer.flush()
    return bytes([DEFLATED]) + small if len(small) < len(plain) else bytes([JSON]) + plain


def unpack(data: bytes, first: int | None, request: str | None) -> Found:
    """The body and its text; ``first`` and ``request`` are the columns beside it.

    Raises:
        ValueError: no bytes that :func:`pack` makes.
    """
    layout = data[0] if data else 0
    if layout in (ASKED, TOLD):
        try:
            body = _layout(data, first, request)
        except (LookupError, TypeError, OverflowError) as error:
            raise ValueError(f"a body that ends early or says what cannot be ({error})") from error
        return body, canonical(body)
    if layout == JSON:
        text = data[1:].decode("ascii")
    elif layout == DEFLATED:
        text = _inflated(data[1:]).decode("ascii")
    else:
        raise ValueError(f"an unknown layout {layout:#x}")
    return parse_text(text), text


def _inflated(data: bytes) -> bytes:
    opener = zlib.decompressobj(-15, zdict=DICTIONARY)
    try:
        found = opener.decompress(data, LARGEST)
    except zlib.error as error:
        raise ValueError(f"deflated bytes that are damaged ({error})") from error
    if not opener.eof or opener.unused_data:
        raise ValueError("deflated bytes that do not end where they should")
    return found


def _again(data: bytes, body: dict[str, Any]) -> str:
    """The text that reading gives."""
    first = body["first"] if data[0] == ASKED else min(body["ids"])
    return canonical(_layout(data, first, body.get("request")))


def _layout(data: bytes, first: int | None, request: str | None) -> dict[str, Any]:
    if first is None:
        raise ValueError("a body whose first episode is not indexed")
    reader = _Reader(data)
    body = _read_asked(reader, first, request) if data[0] == ASKED else _read_told(reader, first)
    reader.end()
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
    """Walks through bytes; never past their end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 1

    def byte(self) -> int:
        """One."""
        return self._take(1)[0]

    def most(self, n: int) -> int:
        """A number of things that take a byte each at least."""
        if n > len(self._data):
            raise ValueError("a body that ends early")
        return n

    def whole(self, n: int | None = None) -> list[int]:
        """Whole numbers, n of them."""
        head = self.byte()
        k = head >> 4
        if k == MANY:
            k = int.from_bytes(self._take(8), "little")
        width = head & 15
        if n is not None and k != n:
            raise ValueError(f"{k} numbers where {n} must be")
        return self._array(CODES[width], k, width)

    def reals(self, n: int) -> list[float]:
        """n of them."""
        return self._array("d", n, 8)

    def text(self) -> str:
        """A text."""
        (size,) = self.whole(1)
        return self._take(size).decode("utf-8")

    def end(self) -> None:
        """Nothing may be left."""
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
