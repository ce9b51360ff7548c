"""Compiling loops with Numba, whose cache on disk is an aid and never a condition.

Numba keeps compiled code beside the source file, else in the user's cache folder or in ``NUMBA_CACHE_DIR``. Where none of them can be
written (a read-only file system, no home) it refuses to compile with a cache at all. Then kernels are compiled anew by every process:
the results are the same, the first call takes longer, and one line of the log says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba.extending import intrinsic

__all__ = ["compiled", "kernel", "prefetch"]

F = TypeVar("F", bound=Callable[..., Any])

_log = logging.getLogger("surefoot")
_said: set[str] = set()


def compiled(function: F) -> F:
    """``numba.njit`` without the interpreter lock, cached on disk where a folder can be written; the type survives."""
    try:
        return cast(F, numba.njit(function, nogil=True, cache=True))
    except RuntimeError as error:
        if "cache" not in str(error):
            raise
        _say(
            "no folder for compiled code can be written; kernels are compiled anew by every process, set NUMBA_CACHE_DIR to a writeable folder"
        )
        return cast(F, numba.njit(function, nogil=True))


kernel: Any = compiled
"""The same for functions without annotations."""


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """``prefetch(array, index)`` in a kernel: ask for that entry's line of the cache, without waiting and without effect on any result."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        memory = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(memory, [arguments[1]]), ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, flag, flag, flag])
        ask = builder.module.declare_intrinsic("llvm.prefetch", (place.type,), kind)
        # To be read; keep it in every level of the cache; data, not instructions.
        builder.call(ask, [place, flag(0), flag(3), flag(1)])
        return context.get_dummy_value()

    return numba.types.void(array, numba.types.uint64), generate


def _say(text: str) -> None:
    """Log a warning once per process."""
    if text not in _said:
        _said.add(text)
        _log.warning("surefoot: %s", text)
