"""A policy set as plain data: ``PolicySet <-> (manifest, arrays)``, the same table read in both directions.

A codec ``c`` is a pair of maps with ``c.read(c.write(x)) = x`` for every valid ``x``. Scalars, lists and records become
JSON values; an array becomes its *name* in the manifest and goes to the arrays beside it, where its dtype, shape and
SHA-256 are kept. ``SCHEMA`` below is the whole format: adding a field is one line, and what is not in the table cannot
be written or read.

Policies are the one open place. A :class:`PolicyKind` turns policies of one class into plain fields and arrays and
back; a file names a kind and never a class or a module, so reading it can only run decoders registered beforehand.
The kind ``registered`` is for policies that are no data (functions, objects that hold more than numbers): the file
holds a name, which the process that reads it must have given to a policy of its own.
Nothing here knows about files. All complaints are :class:`~surefoot.errors.InvalidInput`, with the path of the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from surefoot.criterion import Criterion, CVaR, Exceeds, Mean
from surefoot.errors import InvalidInput, LedgerError, SurefootError
from surefoot.policy import DeterministicPolicy, FunctionPolicy, Policy, TabularPolicy, as_policy
from surefoot.policyset.belief import Belief
from surefoot.policyset.rehearsed import RehearsalLook, Rehearsed, RungRecord, Slice, SpeedStatement
from surefoot.policyset.schema import (
    EVIDENCE,
    AssumptionReport,
    Cells,
    Certificate,
    ConditionalPredictions,
    EpisodeBounds,
    KernelBoxes,
    Look,
    OutsideTasks,
    PolicySet,
    Predictions,
    SignalPredictions,
    TrainingReport,
)
from surefoot.protocol import Protocol as PlantProtocol
from surefoot.stats.ledger import Entry, Ledger

__all__ = [
    "DTYPES",
    "SCHEMA",
    "PolicyKind",
    "Put",
    "Take",
    "check_keys",
    "described",
    "field_code",
    "is_of_a_kind",
    "is_registered",
    "policy_as_data",
    "register_policy",
    "register_policy_kind",
    "registrations",
]

DTYPES = {"float64": "<f8", "int64": "<i8", "float32": "<f4", "uint8": "|u1"}
"""Array types a file may hold, by the name in the manifest, and their bytes: little-endian, C order."""

MAX_DEPTH = 32
"""Nesting allowed in free-form data, far below every recursion limit."""

MAX_WHOLE = 2**128
"""Whole numbers stay below this in size: room for any seed, and still a finite double."""

LONGEST_NAME = 80
"""Characters of a registered name."""

UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters (a terminal would obey them) and lone surrogates (UTF-8 has none)."""

Put = Callable[[str, NDArray[Any]], str]
"""Store an array under a name; returns the name for the manifest."""

Take = Callable[[str, Any, str], NDArray[Any]]
"""``take(path, name, dtype)``: the array that the manifest names at ``path``; each may be taken once."""


class Codec(Protocol):
    """One kind of value; ``path`` says where it stands, for messages and for names of arrays."""

    def write(self, path: str, value: Any, put: Put) -> Any:
        """Plain value."""

    def read(self, path: str, plain: Any, take: Take) -> Any:
        """Value of a plain one that anybody may have written."""


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def field_code(error: Exception) -> str:
    """The code of an error about a field of a policy set: those of policies and files stay, every other rule is the field's."""
    if isinstance(error, SurefootError) and error.code.startswith("SF-POLICY"):
        return error.code
    return "SF-POLICYSET-FIELD"


def check_keys(path: str, plain: Any, keys: set[str]) -> None:
    """Raise unless ``plain`` is an object with exactly these keys."""
    if not isinstance(plain, Mapping):
        raise InvalidInput(
            f"{path} must be an object, got {type(plain).__name__}; rebuild the policy set", code="SF-ARGUMENT-TYPE"
        )
    for problem, names in (("lacks", keys - set(plain)), ("must not have", set(plain) - keys)):
        if names:
            raise InvalidInput(
                f"{path} {problem} the key {min(names)[:80]!r}; rebuild the policy set", code="SF-ARGUMENT-KEYS"
            )


def _real(path: str, value: Any) -> float:
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return float(_whole(path, value))
    if not isinstance(value, float | np.floating):
        raise InvalidInput(
            f"{path} must be a number, got {type(value).__name__}; convert it with float()", code="SF-ARGUMENT-TYPE"
        )
    if not np.isfinite(float(value)):
        raise InvalidInput(f"{path} must be finite, got {float(value)}; remove or repair it", code="SF-ARGUMENT-FINITE")
    return float(value)


def _whole(path: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InvalidInput(
            f"{path} must be a whole number, got {type(value).__name__}; convert it with int()", code="SF-ARGUMENT-TYPE"
        )
    if abs(int(value)) >= MAX_WHOLE:
        raise InvalidInput(
            f"{path} must be below 2**128 in size, got a larger number; choose a smaller one", code="SF-ARGUMENT-RANGE"
        )
    return int(value)


def _text(path: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInput(
            f"{path} must be a string, got {type(value).__name__}; convert it with str()", code="SF-ARGUMENT-TYPE"
        )
    found = UNPRINTABLE.search(value)
    if found:
        raise InvalidInput(
            f"{path} must be printable text, got {found.group()!r} at {found.start()}; remove it",
            code="SF-ARGUMENT-TEXT",
        )
    return value


def _flag(path: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise InvalidInput(
            f"{path} must be true or false, got {type(value).__name__}; convert it with bool()", code="SF-ARGUMENT-TYPE"
        )
    return bool(value)


def _plain(path: str, value: Any, depth: int = 0) -> Any:
    """Any JSON value, checked to the last leaf; tuples become lists."""
    if depth > MAX_DEPTH:
        raise InvalidInput(
            f"{path[:80]} must nest at most {MAX_DEPTH} deep, got more; flatten it", code="SF-ARGUMENT-RANGE"
        )
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(path, value)
    if isinstance(value, int):
        return _whole(path, value)
    if isinstance(value, list | tuple):
        return [_plain(f"{path}[{i}]", item, depth + 1) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        # Long keys are cut in paths, or a hostile file could make every leaf spell one of megabytes.
        named = ((_text(f"a key of {path}", key), item) for key, item in value.items())
        return {key: _plain(_join(path, key[:40]), item, depth + 1) for key, item in named}
    if isinstance(value, float):
        return _real(path, value)
    raise InvalidInput(
        f"{path} must be plain data (what JSON can hold), got {type(value).__name__}; convert it",
        code="SF-ARGUMENT-TYPE",
    )


def _object(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{path} must be an object, got {type(value).__name__}; use a dict", code="SF-ARGUMENT-TYPE")
    checked: dict[str, Any] = _plain(path, value)
    return checked


@dataclass(frozen=True)
class _Scalar:
    """The same check in both directions."""

    check: Callable[[str, Any], Any]

    def write(self, path: str, value: Any, put: Put) -> Any:
        return self.check(path, value)

    def read(self, path: str, plain: Any, take: Take) -> Any:
        return self.check(path, plain)


@dataclass(frozen=True)
class _Array:
    """An array of one dtype; its name is the path."""

    dtype: str

    def write(self, path: str, value: Any, put: Put) -> str:
        return put(path, np.asarray(value, dtype=self.dtype))

    def read(self, path: str, plain: Any, take: Take) -> NDArray[Any]:
        return take(path, plain, self.dtype)


@dataclass(frozen=True)
class _Optional:
    item: Codec

    def write(self, path: str, value: Any, put: Put) -> Any:
        return None if value is None else self.item.write(path, value, put)

    def read(self, path: str, plain: Any, take: Take) -> Any:
        return None if plain is None else self.item.read(path, plain, take)


@dataclass(frozen=True)
class _List:
    """Tuple, list or vector; ``length`` where it is fixed."""

    item: Codec
    length: int | None = None

    def _check(self, path: str, values: Any) -> None:
        if not isinstance(values, list | tuple | np.ndarray):
            raise InvalidInput(
                f"{path} must be a list, got {type(values).__name__}; rebuild the policy set", code="SF-ARGUMENT-TYPE"
            )
        if self.length is not None and len(values) != self.length:
            raise InvalidInput(
                f"{path} must hold {self.length} entries, got {len(values)}; rebuild the policy set",
                code="SF-ARGUMENT-LENGTH",
            )

    def write(self, path: str, value: Any, put: Put) -> list[Any]:
        self._check(path, value)
        return [self.item.write(f"{path}.{i}", item, put) for i, item in enumerate(value)]

    def read(self, path: str, plain: Any, take: Take) -> tuple[Any, ...]:
        self._check(path, plain)
        return tuple(self.item.read(f"{path}.{i}", item, take) for i, item in enumerate(plain))


@dataclass(frozen=True)
class _Record:
    """A dataclass: the named fields, neither more nor fewer, checked once more by its constructor."""

    cls: Callable[..., Any]
    fields: Mapping[str, Codec]

    def write(self, path: str, value: Any, put: Put) -> dict[str, Any]:
        return {name: codec.write(_join(path, name), getattr(value, name), put) for name, codec in self.fields.items()}

    def read(self, path: str, plain: Any, take: Take) -> Any:
        check_keys(path or "manifest", plain, set(self.fields))
        values = {name: codec.read(_join(path, name), plain[name], take) for name, codec in self.fields.items()}
        try:
            return self.cls(**values)
        except (InvalidInput, LedgerError) as error:
            raise InvalidInput(f"{path or 'policy set'}: {error}", code=field_code(error)) from error


@dataclass(frozen=True)
class _Named:
    """A dictionary with some of the given keys."""

    item: Codec
    names: tuple[str, ...]

    def write(self, path: str, value: Any, put: Put) -> dict[str, Any]:
        return {name: self.item.write(_join(path, name), value[name], put) for name in sorted(value)}

    def read(self, path: str, plain: Any, take: Take) -> dict[str, Any]:
        if not isinstance(plain, dict) or not set(plain) <= set(self.names):
            raise InvalidInput(
                f"{path} must be an object with keys among {', '.join(self.names)}, got {ascii(plain)[:80]}; rebuild the policy set",
                code="SF-POLICYSET-FIELD",
            )
        return {name: self.item.read(_join(path, name), plain[name], take) for name in sorted(plain)}


@dataclass(frozen=True)
class PolicyKind:
    """How the policies of one class are kept as data.

    Attributes:
        name: what files call the kind.
        cls: the class, matched exactly.
        encode: ``encode(policy, put)`` -> plain fields, among them the names that ``put(label, array)`` returned.
        decode: ``decode(fields, take)`` -> policy; ``take(name, dtype)`` fetches an array. It must treat the fields as
            hostile, and it must build the policy from data alone.
    """

    name: str
    cls: type
    encode: Callable[[Any, Put], dict[str, Any]]
    decode: Callable[[Mapping[str, Any], Callable[[Any, str], NDArray[Any]]], Policy]


_KINDS: dict[str, PolicyKind] = {}
_NAMED: dict[str, Any] = {}
"""What was registered by name in this process: functions, objects, classes."""


def register_policy_kind(kind: PolicyKind) -> None:
    """Let files hold policies of another kind; to be called when the module that defines the class is imported.

    Raises:
        InvalidInput: the name or the class is taken.
    """
    for known in _KINDS.values():
        if known != kind and (known.name == kind.name or known.cls is kind.cls):
            raise InvalidInput(
                f"kind must have a name and a class of its own, got {kind.name!r} for {kind.cls.__name__} beside "
                f"{known.name!r} for {known.cls.__name__}; choose others",
                code="SF-POLICY-REGISTRATION",
            )
    _KINDS[_text("kind", kind.name)] = kind


def registrations() -> str:
    """Differs whenever another kind of policy, or another policy by name, has been registered since."""
    return f"{len(_KINDS)} {len(_NAMED)}"


def is_of_a_kind(policy: Any) -> bool:
    """Whether files can hold policies of this class as data."""
    return any(type(policy) is kind.cls for kind in _KINDS.values())


def is_registered(policy: Any) -> bool:
    """Whether files can hold this policy, as data or by a name."""
    return _kind_of(policy) is not None


def policy_as_data(policy: Any, put: Put) -> dict[str, Any]:
    """The plain fields that a file holds of a policy; its arrays go to ``put``.

    Raises:
        InvalidInput: it is of no registered kind.
    """
    return _PolicyCodec().write("policy", policy, put)


def rebuilt(policy: Any) -> Any:
    """What a file would make of a policy of a registered kind."""
    arrays: dict[str, NDArray[Any]] = {}

    def put(label: str, array: NDArray[Any]) -> str:
        arrays[label] = np.array(array)
        return label

    plain = policy_as_data(policy, put)
    return _PolicyCodec().read("policy", plain, lambda _, name, dtype: arrays[name].astype(DTYPES[dtype]))


def register_policy(name: str, policy: Any = None) -> Any:
    """Let policy-set files name a policy that lives in this process: a function, an object, or a class that is made without arguments.

    A file then says ``{"kind": "registered", "name": name}`` and nothing else: no code, no module. Whoever reads it must have registered something
    under that name before; that it is the same thing as in training is up to you. Controllers that consist of numbers are better registered by
    :func:`~surefoot.policyset.register_controller`, which keeps the numbers in the file. Also a decorator: ``@register_policy("night setback")``.

    Returns:
        ``policy``.

    Raises:
        InvalidInput: the name or the policy is taken, or it does not act.
    """
    if policy is None:
        return partial(register_policy, name)
    known, other = _NAMED.get(_text("name", name)), name_of(policy)
    if not name or len(name) > LONGEST_NAME:
        raise InvalidInput(
            f"name must have 1 to {LONGEST_NAME} characters, got {len(name)}; choose another",
            code="SF-POLICY-REGISTRATION",
        )
    if (known is not None and known is not policy) or (other is not None and other != name):
        taken = f"{other!r} for the same policy" if known is None else f"{name!r} registered for {known!r}"
        raise InvalidInput(
            f"name must stand for one policy, and a policy have one name, got {taken[:200]}; choose another",
            code="SF-POLICY-REGISTRATION",
        )
    called = any("__call__" in vars(c) for c in policy.__mro__) if isinstance(policy, type) else callable(policy)
    if not called and not callable(getattr(policy, "predict", None)):
        raise InvalidInput(
            f"policy must be a function or have predict(observation), got {type(policy).__name__}; register the controller itself",
            code="SF-POLICY-REGISTRATION",
        )
    _NAMED[name] = policy
    return policy


def name_of(policy: Any) -> str | None:
    """The name under which a policy, or what it wraps, is registered."""
    while isinstance(policy, FunctionPolicy | DeterministicPolicy):
        policy = policy.function if isinstance(policy, FunctionPolicy) else policy.policy
    fits = (
        name for name, known in _NAMED.items() if known is policy or (isinstance(known, type) and type(policy) is known)
    )
    return next(fits, None)


def _kind_of(policy: Any) -> PolicyKind | None:
    if name_of(policy) is not None:
        return _KINDS["registered"]
    return next((kind for kind in _KINDS.values() if type(policy) is kind.cls), None)


class _ByName:
    """Stands for policies that files name."""


def _decode_name(fields: Mapping[str, Any], take: Callable[[Any, str], NDArray[Any]]) -> Policy:
    check_keys("registered policy", fields, {"name"})
    name = _text("name", fields["name"])
    if name not in _NAMED:
        known = ", ".join(sorted(_NAMED)) or "nothing"
        raise InvalidInput(
            f"name must be registered in this process, got {name[:80]!r} where {known[:200]} is; call surefoot.policyset.register_policy first, or "
            "import the module that does (on the command line: surefoot --import MODULE ...)",
            code="SF-POLICY-UNREGISTERED",
        )
    known = _NAMED[name]
    made: Policy = as_policy(known() if isinstance(known, type) else known)
    return made


_KINDS["registered"] = PolicyKind("registered", _ByName, lambda policy, put: {"name": name_of(policy)}, _decode_name)


class _Name(str):
    """Stands for an array among the fields of a policy."""


def described(policy: Any) -> tuple[str, dict[str, Any]]:
    """The kind of a policy and the numbers it consists of, as JSON can hold them: arrays as lists, ``None`` for infinity (no bound).

    Raises:
        InvalidInput: it is of no registered kind, and no numbers.
    """
    kind = _kind_of(policy)
    if kind is None:
        raise InvalidInput(
            f"policy must be of a registered kind ({', '.join(sorted(_KINDS))}) to be sent as data, got {type(policy).__name__}; register the class "
            "with surefoot.policyset.register_controller",
            code="SF-POLICY-UNREGISTERED",
        )
    arrays: dict[str, NDArray[Any]] = {}

    def put(label: str, array: NDArray[Any]) -> str:
        arrays[label] = np.asarray(array)
        return _Name(label)

    fields = kind.encode(policy, put)
    if kind.cls is TabularPolicy:
        fields = {"table": fields["array"]}
    return kind.name, {name: _spelt_out(value, arrays) for name, value in fields.items()}


def _spelt_out(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    """A field with its arrays in their places."""
    if isinstance(value, _Name):
        array: NDArray[Any] = arrays[value].astype(object)
        array[~np.isfinite(arrays[value])] = None
        return array.tolist()
    if isinstance(value, list | tuple):
        return [_spelt_out(item, arrays) for item in value]
    if isinstance(value, Mapping):
        return {name: _spelt_out(item, arrays) for name, item in value.items()}
    return value


def _encode_table(policy: TabularPolicy, put: Put) -> dict[str, Any]:
    return {"array": put("table", policy.table)}


def _decode_table(fields: Mapping[str, Any], take: Callable[[Any, str], NDArray[Any]]) -> Policy:
    check_keys("table policy", fields, {"array"})
    return TabularPolicy(take(fields["array"], "float64"))


register_policy_kind(PolicyKind("table", TabularPolicy, _encode_table, _decode_table))


@dataclass(frozen=True)
class _PolicyCodec:
    """``{"kind": name, ...}`` with the fields that the kind chose."""

    def write(self, path: str, value: Any, put: Put) -> dict[str, Any]:
        kind = _kind_of(value)
        if kind is None:
            shown = value.function if isinstance(value, FunctionPolicy) else type(value)
            raise InvalidInput(
                f"{path} must be of a registered kind ({', '.join(sorted(_KINDS))}), got {getattr(shown, '__qualname__', type(shown).__name__)}; "
                "call surefoot.policyset.register_controller for a class that consists of numbers, or register_policy for what stays in this process",
                code="SF-POLICY-UNREGISTERED",
            )
        fields = _object(path, kind.encode(value, lambda label, array: put(f"{path}.{label}", array)))
        return {**fields, "kind": kind.name}

    def read(self, path: str, plain: Any, take: Take) -> Policy:
        fields = _object(path, plain)
        name = _text(f"{path}.kind", fields.pop("kind", None))
        if name not in _KINDS:
            raise InvalidInput(
                f"{path}.kind must be one of {', '.join(sorted(_KINDS))}, got {name[:80]!r}; upgrade surefoot or "
                "import the module that registers this kind of controller (on the command line: surefoot --import MODULE ...)",
                code="SF-POLICY-UNREGISTERED",
            )
        try:
            return _KINDS[name].decode(fields, lambda array, dtype: take(path, array, dtype))
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
            # Decoders of other packages may stumble over hostile fields in ways that nobody foresaw.
            raise InvalidInput(f"{path}: {error}", code=field_code(error)) from error


_REAL, _WHOLE, _TEXT, _FLAG, _OBJECT = (_Scalar(check) for check in (_real, _whole, _text, _flag, _object))
_FLOATS, _INDICES = _Array("float64"), _Array("int64")
_VECTOR, _NAMES = _List(_REAL), _List(_TEXT)


def _arrays(*names: str) -> dict[str, Codec]:
    return dict.fromkeys(names, _FLOATS)


_FUNCTIONALS: dict[str, _Record] = {
    "mean": _Record(Mean, {"limit": _REAL, "signal": _WHOLE}),
    "exceeds": _Record(Exceeds, {"threshold": _REAL, "at_most": _REAL, "signal": _WHOLE}),
    "cvar": _Record(CVaR, {"level": _REAL, "at_most": _REAL, "threshold": _REAL, "signal": _WHOLE}),
}


@dataclass(frozen=True)
class _FunctionalCodec:
    """A limit on a functional of an episode's cost."""

    def write(self, path: str, value: Any, put: Put) -> Any:
        for kind, record in _FUNCTIONALS.items():
            if type(value) is record.cls:
                return {**record.write(path, value, put), "kind": kind}
        raise InvalidInput(
            f"{path} must be Mean, Exceeds or CVaR to be kept in a file, got {type(value).__name__}; use one of them",
            code="SF-ARGUMENT-TYPE",
        )

    def read(self, path: str, plain: Any, take: Take) -> Any:
        fields = _object(path, plain)
        kind = _text(f"{path}.kind", fields.pop("kind", None))
        if kind not in _FUNCTIONALS:
            raise InvalidInput(
                f"{path}.kind must be one of {', '.join(_FUNCTIONALS)}, got {kind[:80]!r}; upgrade surefoot",
                code="SF-ARGUMENT-CHOICE",
            )
        return _FUNCTIONALS[kind].read(path, fields, take)


@dataclass(frozen=True)
class _CriterionCodec:
    """A criterion; limits on more than means stand in further fields, which files without them lack."""

    plain: _Record
    whole: _Record

    def write(self, path: str, value: Any, put: Put) -> Any:
        return (self.whole if value.functionals else self.plain).write(path, value, put)

    def read(self, path: str, plain: Any, take: Take) -> Any:
        more = isinstance(plain, Mapping) and "functionals" in plain
        found = (self.whole if more else self.plain).read(path, plain, take)
        if more and not found.functionals:
            raise InvalidInput(
                f"{path}.functionals must hold a limit where there is the key, got none; rebuild the policy set",
                code="SF-ARGUMENT-EMPTY",
            )
        return found


_CRITERION_FIELDS: dict[str, Codec] = {
    "discount": _REAL,
    "cost_limits": _VECTOR,
    "reward_bounds": _List(_REAL, 2),
    "cost_bounds": _VECTOR,
    "horizon": _Optional(_WHOLE),
    "cost_names": _NAMES,
}
_CRITERION = _CriterionCodec(
    _Record(Criterion, _CRITERION_FIELDS),
    _Record(Criterion, {**_CRITERION_FIELDS, "functionals": _List(_FunctionalCodec()), "signal_names": _NAMES}),
)
_INTERVALS = _arrays("reward_lower", "reward_upper", "cost_lower", "cost_upper")
_CELLS = _Record(
    Cells,
    {
        "policy_index": _INDICES,
        **_arrays("optimal_center", "optimal_upper", "parameters"),
        "predictions": _Record(Predictions, {**_INTERVALS, **_arrays("reward_center", "cost_center")}),
        "conditional": _Optional(_Record(ConditionalPredictions, {"initial_states": _INDICES, **_INTERVALS})),
        "signals": _Optional(_Record(SignalPredictions, {"names": _NAMES, **_arrays("bounds", "lower", "upper")})),
        "kernel": _Optional(_Record(KernelBoxes, {"support": _INDICES, **_arrays("lower", "upper", "center")})),
        "outside": _Optional(
            _Record(
                OutsideTasks,
                _arrays("parameters", "reward", "cost", "reward_by_state", "cost_by_state", "kernel"),
            )
        ),
    },
)
_CERTIFICATE = _Record(
    Certificate,
    {
        "holdout": _WHOLE,
        "uncovered": _WHOLE,
        "uncovered_upper": _REAL,
        "margin_failures": _WHOLE,
        "margin_failure_upper": _REAL,
        "delta_coverage": _REAL,
        "simulation_error": _REAL,
    },
)
_LOOK = _Record(
    Look,
    {
        "judged": _TEXT,
        "cells": _WHOLE,
        "holdout": _WHOLE,
        "uncovered": _WHOLE,
        "margin_failures": _WHOLE,
        "delta_coverage": _REAL,
    },
)
_TRAINING = _Record(
    TrainingReport,
    {
        "family": _TEXT,
        "parameter_names": _NAMES,
        "oracle": _TEXT,
        "radius": _REAL,
        "tasks_sampled": _WHOLE,
        "rounds": _WHOLE,
        "uncovered_fraction": _REAL,
        "level": _REAL,
    },
)
_ASSUMPTION = _Record(
    AssumptionReport,
    {
        "holds": _FLAG,
        "safe_margin": _REAL,
        "offenders": _List(_VECTOR),
        "minimum_costs": _List(_VECTOR),
        "statement": _TEXT,
    },
)
_LEDGER = _Record(
    Ledger,
    {"total": _REAL, "entries": _List(_Record(Entry, {"name": _TEXT, "delta": _REAL, "purpose": _TEXT}))},
)

_BELIEF = _Record(
    Belief,
    {
        **dict.fromkeys(("support", "initial_states"), _INDICES),
        **_arrays("kernel_center", "kernel_slope"),
        **_arrays("outcome_center", "outcome_slope", "outcome_curve", "outcome_residual", "outcome_noise"),
        **_arrays("value_center", "value_slope", "value_curve", "value_residual"),
        "informative": _FLAG,
        "tasks": _WHOLE,
    },
)


def _extended(path: str, value: Any) -> float:
    """A number, or infinity, which JSON has no number for: null."""
    return math.inf if value is None else _real(path, value)


@dataclass(frozen=True)
class _Extended:
    """A number that may be infinite; ``null`` in the file."""

    def write(self, path: str, value: Any, put: Put) -> Any:
        return None if value == math.inf else _real(path, value)

    def read(self, path: str, plain: Any, take: Take) -> Any:
        return _extended(path, plain)


@dataclass(frozen=True)
class _ProtocolCodec:
    def write(self, path: str, value: PlantProtocol, put: Put) -> Any:
        return _plain(path, value.data())

    def read(self, path: str, plain: Any, take: Take) -> Any:
        try:
            return PlantProtocol.of(_object(path, plain))
        except InvalidInput as error:
            raise InvalidInput(f"{path}: {error}", code=field_code(error)) from error


_RUNG = _Record(
    RungRecord,
    {
        "name": _TEXT,
        **dict.fromkeys(("boldness", "upper", "regret", "gain", "excess"), _REAL),
        **dict.fromkeys(("plants", "violating"), _WHOLE),
        **dict.fromkeys(("accepted", "complete"), _FLAG),
        "regret_quantiles": _VECTOR,
    },
)
_REHEARSED = _Record(
    Rehearsed,
    {
        **dict.fromkeys(("family", "judged", "library", "evidence"), _TEXT),
        **dict.fromkeys(("seed", "attempt", "plants", "episodes", "chosen"), _WHOLE),
        **dict.fromkeys(("alpha", "delta_coverage", "share", "upper", "judging_error", "surprise_alarm"), _REAL),
        "protocol": _ProtocolCodec(),
        "rungs": _List(_RUNG),
        "surprise": _Extended(),
        "slices": _List(
            _Record(
                Slice,
                {
                    "parameter": _TEXT,
                    **dict.fromkeys(("low", "high", "upper"), _REAL),
                    **dict.fromkeys(("plants", "violating"), _WHOLE),
                },
            )
        ),
        "speed": _List(
            _Record(
                SpeedStatement,
                {
                    **dict.fromkeys(("quantity", "kind"), _TEXT),
                    **dict.fromkeys(("q", "error"), _REAL),
                    "bound": _Extended(),
                },
            )
        ),
    },
)
_REHEARSAL_LOOK = _Record(
    RehearsalLook, {"judged": _TEXT, "plants": _WHOLE, "violating": _List(_WHOLE), "delta": _REAL}
)

SCHEMA: Codec = _Record(
    PolicySet,
    {
        "criterion": _CRITERION,
        "policies": _List(_PolicyCodec()),
        "cells": _CELLS,
        "bounds": _Record(EpisodeBounds, {"return_lower": _REAL, "return_upper": _REAL, "cost_ceilings": _VECTOR}),
        "certificate": _Optional(_CERTIFICATE),
        "training": _TRAINING,
        "assumption": _ASSUMPTION,
        "ledger": _LEDGER,
        "seed": _WHOLE,
        "version": _TEXT,
        "extra": _Scalar(_object),
        "looks": _List(_LOOK),
        "lineage_known": _FLAG,
        "beliefs": _Named(_BELIEF, EVIDENCE),
        "rehearsed": _Optional(_REHEARSED),
        "rehearsal_looks": _List(_REHEARSAL_LOOK),
    },
)
"""Schema version 3; version 2 lacks ``beliefs`` and what was rehearsed, version 1 ``looks`` and ``lineage_known`` as well."""
