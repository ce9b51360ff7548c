"""Small models in ONNX's format, written by hand: protocol-buffer messages as the specification numbers their fields."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FLOAT, DOUBLE = 1, 11


def varint(n: int) -> bytes:
    out = b""
    while True:
        n, low = n >> 7, n & 127
        out += bytes([low | (128 if n else 0)])
        if not n:
            return out


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(name: str, values: NDArray[np.floating], kind: int) -> bytes:
    raw = values.astype("<f4" if kind == FLOAT else "<f8")
    return b"".join(number(1, n) for n in raw.shape) + number(2, kind) + text(8, name) + text(9, raw.tobytes())


def port(name: str, kind: int, shape: tuple[int | str, ...]) -> bytes:
    dims = b"".join(text(1, number(1, n) if isinstance(n, int) else text(2, n)) for n in shape)
    return text(1, name) + text(2, text(1, number(1, kind) + text(2, dims)))


def node(operator: str, inputs: list[str], output: str, domain: str = "") -> bytes:
    return b"".join(text(1, one) for one in inputs) + text(2, output) + text(4, operator) + text(7, domain)


def network(
    layers: list[tuple[NDArray[np.floating], NDArray[np.floating]]],
    *,
    kind: int = FLOAT,
    last: str = "Identity",
    batch: int | str = "n",
    inputs: int = 1,
    outside: bool = False,
    domain: str = "",
) -> bytes:
    """``x W_1 + b_1``, tanh, ``W_2 + b_2``, and so on; weights (in, out)."""
    nodes, numbers, at = b"", b"", "x0"
    for k, (weight, bias) in enumerate(layers):
        stored = tensor(f"w{k}", weight, kind)
        if outside and not k:
            place = text(1, "location") + text(2, "/etc/passwd")
            stored = (
                b"".join(number(1, n) for n in weight.shape)
                + number(2, kind)
                + text(8, "w0")
                + text(13, place)
                + number(14, 1)
            )
        numbers += text(5, stored) + text(5, tensor(f"b{k}", bias, kind))
        nodes += text(1, node("MatMul", [at, f"w{k}"], f"m{k}")) + text(1, node("Add", [f"m{k}", f"b{k}"], f"a{k}"))
        nodes += text(1, node("Tanh" if k < len(layers) - 1 else last, [f"a{k}"], f"h{k}", domain))
        at = f"h{k}"
    size = (layers[0][0].shape[0], layers[-1][0].shape[1])
    ports = b"".join(text(11, port(f"x{k}", kind, (batch, size[0]))) for k in range(inputs))
    graph = nodes + text(2, "policy") + numbers + ports + text(12, port(at, kind, (batch, size[1])))
    return number(1, 8) + text(7, graph) + text(8, text(1, "") + number(2, 17))
