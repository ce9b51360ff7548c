"""Kinds of policies that a policy-set file may hold beside tables: linear maps, multilayer perceptrons, a user's own controllers.

    kind "linear-map"   arrays weight, bias, low, high
    kind "onnx"         array model (its bytes) and, unless actions are discrete, low and high
    kind "mlp"          arrays weights.k, biases.k, shift, scale and, unless actions are discrete, low and high
    a user's kind       one number or array per named parameter; the constructor takes them by these names

Layers whose entries are single-precision numbers, as trainers on torch leave them, are stored as such: the same numbers, half the bytes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surefoot.controllers import LinearPolicy, MLPPolicy
from surefoot.errors import InvalidInput
from surefoot.onnx_policy import OnnxPolicy
from surefoot.policy import Policy
from surefoot.policyset.codec import PolicyKind, Put, check_keys, register_policy_kind

__all__ = ["register_controller"]

Fetch = Callable[[Any, str], NDArray[Any]]
"""``fetch(name, dtype)``: an array of the file."""

MAX_LAYERS = 64
NARROW = "float32"


def _encode_linear(policy: LinearPolicy, put: Put) -> dict[str, Any]:
    return {name: put(name, getattr(policy, name)) for name in ("weight", "bias", "low", "high")}


def _decode_linear(fields: Mapping[str, Any], take: Fetch) -> Policy:
    names = ("weight", "bias", "low", "high")
    check_keys("linear policy", fields, set(names))
    return LinearPolicy(**{name: take(fields[name], "float64") for name in names})


def _encode_mlp(policy: MLPPolicy, put: Put) -> dict[str, Any]:
    layers = [*policy.weights, *policy.biases]
    narrow = all(np.array_equal(layer, layer.astype(np.float32)) for layer in policy.weights)
    dtype = NARROW if narrow else "float64"
    fields: dict[str, Any] = {
        "weights": [put(f"weights.{k}", weight.astype(dtype)) for k, weight in enumerate(policy.weights)],
        "biases": [put(f"biases.{k}", bias) for k, bias in enumerate(layers[len(policy.weights) :])],
        "precision": dtype,
        "activation": policy.activation,
        "squash": policy.squash,
        # JSON has no infinity: nothing stands for no clipping.
        "clip": policy.clip if np.isfinite(policy.clip) else None,
        "shift": put("shift", np.asarray(policy.shift)),
        "scale": put("scale", np.asarray(policy.scale)),
        "low": None,
        "high": None,
    }
    if policy.low is not None and policy.high is not None:
        fields.update(low=put("low", policy.low), high=put("high", policy.high))
    return fields


MLP_KEYS = {"weights", "biases", "precision", "activation", "squash", "clip", "shift", "scale", "low", "high"}


def _decode_mlp(fields: Mapping[str, Any], take: Fetch) -> Policy:
    check_keys("mlp policy", fields, MLP_KEYS)
    if fields["precision"] not in (NARROW, "float64"):
        raise InvalidInput(
            f"precision must be {NARROW} or float64, got {str(fields['precision'])[:40]!r}; rebuild the policy set",
            code="SF-ARGUMENT-CHOICE",
        )
    if not isinstance(fields["squash"], bool) or not isinstance(fields["activation"], str):
        raise InvalidInput(
            "squash must be true or false and activation a string, got something else; rebuild the policy set",
            code="SF-ARGUMENT-TYPE",
        )
    clip = np.inf if fields["clip"] is None else _number("clip", fields["clip"])
    box = {name: None if fields[name] is None else take(fields[name], "float64") for name in ("low", "high")}
    return MLPPolicy(
        weights=tuple(
            take(name, fields["precision"]).astype(np.float64) for name in _names("weights", fields["weights"])
        ),
        biases=tuple(take(name, "float64") for name in _names("biases", fields["biases"])),
        activation=fields["activation"],
        squash=fields["squash"],
        clip=clip,
        shift=take(fields["shift"], "float64"),
        scale=take(fields["scale"], "float64"),
        **box,
    )


def _names(field: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_LAYERS:
        raise InvalidInput(
            f"{field} must be a list of at most {MAX_LAYERS} names, got something else; rebuild the policy set",
            code="SF-ARGUMENT-TYPE",
        )
    return value


def _number(field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(
            f"{field} must be a number, got {type(value).__name__}; rebuild the policy set", code="SF-ARGUMENT-TYPE"
        )
    return float(value)


def _encode_onnx(policy: OnnxPolicy, put: Put) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": put("model", policy.model), "low": None, "high": None}
    if policy.low is not None and policy.high is not None:
        fields.update(low=put("low", policy.low), high=put("high", policy.high))
    return fields


def _decode_onnx(fields: Mapping[str, Any], take: Fetch) -> Policy:
    check_keys("onnx policy", fields, {"model", "low", "high"})
    box = {name: None if fields[name] is None else take(fields[name], "float64") for name in ("low", "high")}
    return OnnxPolicy(take(fields["model"], "uint8"), **box)


register_policy_kind(PolicyKind("onnx", OnnxPolicy, _encode_onnx, _decode_onnx))
register_policy_kind(PolicyKind("linear-map", LinearPolicy, _encode_linear, _decode_linear))
register_policy_kind(PolicyKind("mlp", MLPPolicy, _encode_mlp, _decode_mlp))


def register_controller(kind: str, cls: type, parameters: Sequence[str]) -> None:
    """Let policy-set files hold controllers of your own class, as the numbers they consist of.

    A file then says ``{"kind": kind, parameter: number, ...}``; reading it calls ``cls(**parameters)``. Call this where the class is defined, so that
    whoever imports the class can read the file.

    Args:
        kind: what files call the class.
        cls: has ``predict(observation, *, deterministic=False)``, takes these parameters by name, and keeps each as an attribute.
        parameters: names of attributes that are numbers or arrays of numbers.

    Raises:
        InvalidInput: the class has no ``predict`` or does not take these parameters, or kind or class are taken.
    """
    names = tuple(parameters)
    if isinstance(parameters, str) or not names or len(set(names)) < len(names) or "kind" in names:
        raise InvalidInput(
            f"parameters must be distinct names, at least one and none of them 'kind', got {parameters!r}; list the attributes",
            code="SF-ARGUMENT-DISTINCT",
        )
    if not callable(getattr(cls, "predict", None)):
        raise InvalidInput(
            f"cls must have a method predict(observation, *, deterministic=False), got {cls.__name__} without; add it",
            code="SF-POLICY-REGISTRATION",
        )
    try:
        inspect.signature(cls).bind(**dict.fromkeys(names, 0.0))
    except TypeError as error:
        raise InvalidInput(
            f"cls must be made by {cls.__name__}({', '.join(n + '=...' for n in names)}), got: {error}; match the constructor",
            code="SF-POLICY-REGISTRATION",
        ) from error

    def encode(policy: Any, put: Put) -> dict[str, Any]:
        return {name: _plain(name, getattr(policy, name), put) for name in names}

    def decode(fields: Mapping[str, Any], take: Fetch) -> Policy:
        check_keys(f"{kind} policy", fields, set(names))
        values = {n: take(fields[n], "float64") if isinstance(fields[n], str) else _number(n, fields[n]) for n in names}
        made: Policy = cls(**values)
        return made

    register_policy_kind(PolicyKind(kind, cls, encode, decode))


def _plain(name: str, value: Any, put: Put) -> Any:
    """A number as itself, an array by its name."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InvalidInput(
            f"{name} must be a finite number or an array of them, got {value!r}; keep parameters numeric",
            code="SF-ARGUMENT-TYPE",
        )
    return float(array) if array.ndim == 0 else put(name, array.astype(np.float64))
