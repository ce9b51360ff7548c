"""The folder that an experiment writes into, and in which an interrupted one goes on.

    OUT/unfinished/settings.json       what decides the results; there as long as the run is not finished
    OUT/unfinished/<part>/<k>.npz      result k of a part: plain values as JSON and arrays beside them

A finished run leaves neither, and a folder without them is never written into. What is kept is a function of the settings, so a run that goes on
gives the results of one that was never interrupted. A file is written beside its place and moved there at once; one that cannot be read is
computed again. Results are rebuilt by the types that the code names, and by nothing that a file says: no file can run code.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from surefoot.errors import InvalidInput, OutputExists
from surefoot.json_reading import read_object
from surefoot.kept_files import UNREADABLE, read_arrays, write_arrays, write_bytes
from surefoot.parallel import iter_tasks
from surefoot.policyset.file import load
from surefoot.policyset.schema import PolicySet
from surefoot.version import VERSION

__all__ = ["RunDirectory", "as_setting", "packed", "probe", "unpacked"]

Result = TypeVar("Result")
UNFINISHED = "unfinished"
PROBED = 3
"""Tasks by which code is compared, which cannot be read."""


class RunDirectory:
    """A new folder, or one in which the same command was interrupted. Use it as a context: a run that is refused leaves no empty folder.

    Args:
        out: the folder.
        settings: what decides the results, as plain data.

    Attributes:
        path: the folder.
        kept: how many results of an earlier attempt were used.

    Raises:
        OutputExists: it is there and finished, or unfinished with other settings; results are never written over.
    """

    def __init__(self, out: str | Path, settings: dict[str, Any]) -> None:
        self.path, self.kept = Path(out), 0
        self._parts = self.path / UNFINISHED
        index = self._parts / "settings.json"
        wanted = json.loads(json.dumps({"version": VERSION, **settings}))
        if index.exists():
            _agree(self.path, read_object(index, remedy="name another folder"), wanted)
            return
        try:
            self.path.mkdir(parents=True)
        except FileExistsError as error:
            raise OutputExists(
                f"out must be a new directory, got {self.path}, which exists; choose another name"
            ) from error
        self._parts.mkdir()
        write_bytes(index, (json.dumps(wanted) + "\n").encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Finish; after an error keep what was computed, and remove the folder where that is nothing."""
        if kind is None:
            shutil.rmtree(self._parts)
        elif not any(path.is_file() for path in self.path.rglob("*") if path.name != "settings.json"):
            shutil.rmtree(self.path)
        elif kind is KeyboardInterrupt:
            sys.stderr.write(f"what is done is kept in {self.path}; the same command goes on there\n")

    def policy_set(self, name: str, make: Callable[[], PolicySet], *, apart: bool = False) -> PolicySet:
        """A policy set, made unless an earlier attempt left it.

        Args:
            name: of its file.
            make: trains it.
            apart: keep it among the parts, not among the results.
        """
        file = (self._parts if apart else self.path) / name
        if file.exists():
            self.kept += 1
            return load(file)
        made = make()
        made.save(file)
        return made

    def map(
        self,
        part: str,
        work: Callable[..., Result],
        calls: Sequence[tuple[Any, ...]],
        *,
        workers: int,
        label: str,
        progress: bool,
        returns: Any = None,
        batch_size: int | None = None,
    ) -> list[Result]:
        """``[work(*call) for call in calls]``; what an earlier attempt computed is read, the rest is computed and kept as it comes.

        Args:
            part: name of this loop, once per run.
            work, calls, workers, label, progress, batch_size: as for :func:`surefoot.parallel.map_tasks`.
            returns: the type of a result; by default the one that ``work`` is annotated with.
        """
        hint = typing.get_type_hints(work)["return"] if returns is None else returns
        folder = self._parts / re.sub(r"[^A-Za-z0-9._-]", "-", part)
        folder.mkdir(exist_ok=True)
        found: list[Any] = [_read(folder / f"{k}.npz", hint) for k in range(len(calls))]
        missing = [k for k, one in enumerate(found) if one is None]
        self.kept += len(calls) - len(missing)
        some = label if len(missing) == len(calls) else f"{label} (the other {len(calls) - len(missing)} are kept)"
        results = iter_tasks(
            work, [calls[k] for k in missing], workers=workers, label=some, progress=progress, batch_size=batch_size
        )
        for k, (one,) in zip(missing, zip(results)):
            found[k] = (one,)
            text, arrays = packed(one)
            _save(folder / f"{k}.npz", text, arrays)
        return [one for (one,) in found]


def probe(family: Any, seed: int = 0) -> str:
    """A digest of a family's criterion, its safe policy and a few of its tasks: equal for equal families, whatever their code looks like."""
    criterion, parts = family.criterion, []
    bounds = criterion.reward_bounds, criterion.cost_bounds.tolist(), [repr(one) for one in criterion.functionals]
    digest = hashlib.sha256(json.dumps([criterion.discount, criterion.cost_limits.tolist(), bounds]).encode())
    if callable(getattr(family, "safe_policy", None)):
        policy = family.safe_policy()
        parts.append(np.asarray(getattr(policy, "table", policy), dtype=np.float64))
    for point in np.asarray(family.sample(PROBED, np.random.default_rng([seed, PROBED])), dtype=np.float64):
        task = family.cmdp(point)
        parts += [point, task.probabilities, task.successors, task.signals, task.start, task.cost_limits]
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:32]


def as_setting(value: Any) -> Any:
    """An option as plain data that differs where the option does; of an object of one's own, its class alone."""
    if isinstance(value, PolicySet):
        return value.hash
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [as_setting(one) for one in value]
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _agree(path: Path, was: dict[str, Any], wanted: dict[str, Any]) -> None:
    other = [name for name in {**was, **wanted} if was.get(name) != wanted.get(name)]
    if other:
        name = other[0]
        raise OutputExists(
            f"out must be a new directory, or one in which this command was interrupted, got {path}, where {name} was {was.get(name)!r} and is "
            f"now {wanted.get(name)!r}; repeat the command as it was, or choose another name"
        )


# ------------------------------------------------------------------------------------------------------- results as plain data


def packed(value: Any) -> tuple[str, list[np.ndarray[Any, Any]]]:
    """A result as JSON, and the arrays that it refers to by number.

    Raises:
        InvalidInput: it holds something else than dataclasses, lists, tuples, dictionaries by text, arrays of numbers and plain values.
    """
    arrays: list[np.ndarray[Any, Any]] = []
    return json.dumps(_packed(value, arrays)), arrays


def _packed(value: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays.append(value)
        return len(arrays) - 1
    if is_dataclass(value):
        return [_packed(getattr(value, field.name), arrays) for field in fields(value)]
    if isinstance(value, list | tuple):
        return [_packed(one, arrays) for one in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _packed(one, arrays) for key, one in value.items()}
    raise InvalidInput(
        f"a result must hold plain values, arrays of numbers and dataclasses of them, got a {type(value).__name__}; return something else",
        code="SF-ARGUMENT-TYPE",
    )


def unpacked(hint: Any, text: str, arrays: Sequence[np.ndarray[Any, Any]]) -> Any:
    """What :func:`packed` was given, rebuilt as the type ``hint`` says.

    Raises:
        ValueError, TypeError, LookupError: it is something else.
    """
    return _unpacked(hint, json.loads(text), arrays)


def _unpacked(hint: Any, data: Any, arrays: Sequence[np.ndarray[Any, Any]]) -> Any:
    origin, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if data is None and type(None) in inner:
            return None
        (only,) = [one for one in inner if one is not type(None)]
        return _unpacked(only, data, arrays)
    if origin is np.ndarray:
        if not isinstance(data, int):
            raise TypeError("an array is referred to by its number")
        return arrays[data]
    if is_dataclass(origin) and isinstance(origin, type):
        types_ = typing.get_type_hints(origin)
        names = [field.name for field in fields(origin)]
        return origin(**{name: _unpacked(types_[name], one, arrays) for name, one in zip(names, data, strict=True)})
    if origin is tuple:
        each = [inner[0]] * len(data) if inner[1:] == (Ellipsis,) else inner
        return tuple(_unpacked(one, part, arrays) for one, part in zip(each, data, strict=True))
    if origin is list:
        return [_unpacked(inner[0], part, arrays) for part in data]
    if origin is dict:
        return {key: _unpacked(inner[1], part, arrays) for key, part in data.items()}
    if origin is float and type(data) is int:
        return float(data)
    if origin is not Any and (not isinstance(origin, type) or not isinstance(data, origin)):
        raise TypeError(f"{data!r} is no {hint}")
    return data


def _save(path: Path, text: str, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
    named = {f"a{k}": array for k, array in enumerate(arrays)}
    write_arrays(path, {"text": np.frombuffer(text.encode(), dtype=np.uint8), **named})


def _read(path: Path, hint: Any) -> tuple[Any] | None:
    """The result in a tuple, or ``None`` where there is none that can be read."""
    found = read_arrays(path)
    if found is None:
        return None
    try:
        arrays = [found[f"a{k}"] for k in range(len(found) - 1)]
        return (unpacked(hint, found["text"].tobytes().decode(), arrays),)
    except UNREADABLE:
        return None
