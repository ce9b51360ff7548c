"""Controllers as data: arrays that map an observation to an action, run by numpy alone.

    linear               a = clip(W o + b, low, high)
    multilayer           h_0 = clip((o - shift) / scale, -c, c),   h_{k+1} = f(W_k h_k + b_k),   u = W_K h_K + b_K
    perceptron           a = clip(u, low, high),   or  low + (high - low) (tanh(u) + 1) / 2,   or  argmax u for A discrete actions

Both are *deterministic*: what is asked for through ``predict`` and what is computed for many observations at once by ``act_batch`` is the same
function, so the values that training measured are those of what is deployed. Whoever wants to randomise deploys a mixture of policies.

Rows are multiplied in blocks of a fixed height. A matrix product may round differently when it has more rows, and a simulator turns the last
bit of an action into another episode; in blocks of one height, an action depends on its own observation only.

Letters: O entries of an observation, A of an action, m observations at once, K hidden layers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from surefoot.arrays import FloatArray, ReadOnly, as_floats, entry, first_where
from surefoot.errors import InvalidInput

__all__ = ["ACTIVATIONS", "LinearPolicy", "MLPPolicy", "OneByOne", "check_action_range", "flat_rows"]

BLOCK = 16

ACTIVATIONS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
}
"""``f`` by name."""


def flat_rows(observations: Any, size: int) -> FloatArray:
    """(m, O) observations, each flattened."""
    array = np.asarray(observations, dtype=np.float64)
    # Contiguous: a product of rows that lie otherwise in memory (reversed, transposed) may be computed, and rounded, another way.
    rows = np.ascontiguousarray(array.reshape(len(array), -1))
    if rows.shape[1] != size:
        raise InvalidInput(
            f"observation must have {size} entries, got {rows.shape[1]}; this policy was made for another environment",
            code="SF-ARGUMENT-MISMATCH",
        )
    return rows


def _affine(weight: FloatArray, bias: FloatArray, rows: FloatArray) -> FloatArray:
    """``rows @ weight.T + bias`` for a whole number of blocks."""
    blocks = rows.reshape(-1, BLOCK, rows.shape[1])
    return np.concatenate([block @ weight.T for block in blocks]) + bias


def _padded(rows: FloatArray) -> FloatArray:
    missing = -len(rows) % BLOCK
    return np.concatenate([rows, np.zeros((missing, rows.shape[1]))]) if missing else rows


def check_action_range(low: Any, high: Any, size: int) -> tuple[FloatArray, FloatArray]:
    """Bounds of the action; scalars are spread over all of its entries."""
    bounds = [
        as_floats(name, np.broadcast_to(value, (size,)), (size,)) for name, value in (("low", low), ("high", high))
    ]
    crossed = bounds[0] >= bounds[1]
    if crossed.any():
        index = first_where(crossed)
        raise InvalidInput(
            f"{entry('low', index)} must be below high, got {bounds[0][index]:g} >= {bounds[1][index]:g}; swap them",
            code="SF-ARGUMENT-ORDER",
        )
    return bounds[0], bounds[1]


class OneByOne(ABC):
    """What policies share that compute many actions at once: a single one, and no memory."""

    @property
    def discrete(self) -> bool:
        """Whether an action is the index of the largest output."""
        return False

    @abstractmethod
    def act_batch(self, observations: Any) -> Any:
        """(m, A) actions for (m, O) observations, or (m,) indices of discrete ones."""

    def predict(
        self, observation: Any, *, deterministic: bool = True, rng: np.random.Generator | None = None
    ) -> tuple[Any, None]:
        """Action for one observation; deterministic either way."""
        action = self.act_batch(np.asarray(observation, dtype=np.float64)[None])[0]
        return (int(action) if self.discrete else action), None

    def for_episode(self) -> Self:
        """Itself: it keeps no memory."""
        return self


@dataclass(frozen=True, eq=False)
class LinearPolicy(OneByOne, ReadOnly):
    """``a = clip(W o + b, low, high)``.

    Attributes:
        weight: (A, O).
        bias: (A,).
        low, high: (A,) range of the action, or scalars.

    Raises:
        InvalidInput: wrong shapes, entries that are not finite, an empty range.
    """

    weight: FloatArray
    bias: FloatArray
    low: FloatArray
    high: FloatArray

    def __post_init__(self) -> None:
        weight = as_floats("weight", self.weight, (None, None))
        bias = as_floats("bias", self.bias, (len(weight),))
        low, high = check_action_range(self.low, self.high, len(weight))
        for name, value in (("weight", weight), ("bias", bias), ("low", low), ("high", high)):
            object.__setattr__(self, name, value)

    def act_batch(self, observations: Any) -> FloatArray:
        """(m, A) actions for (m, O) observations."""
        rows = flat_rows(observations, self.weight.shape[1])
        return np.clip(_affine(self.weight, self.bias, _padded(rows))[: len(rows)], self.low, self.high)


@dataclass(frozen=True, eq=False)
class MLPPolicy(OneByOne, ReadOnly):
    """A multilayer perceptron.

    Attributes:
        weights: K + 1 matrices, (out, in) each.
        biases: K + 1 vectors, (out,) each.
        low, high: (A,) range of the action, or scalars; ``None`` for discrete actions.
        activation: ``"tanh"`` or ``"relu"``, after every layer but the last.
        squash: the last layer goes through a scaled ``tanh`` instead of being clipped.
        shift, scale: (O,) normalisation of the observation, or scalars; ``scale`` > 0.
        clip: where the normalised observation is cut off, infinite for nowhere.

    Raises:
        InvalidInput: wrong shapes, entries that are not finite, an empty range, an unknown activation.
    """

    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    low: FloatArray | None = None
    high: FloatArray | None = None
    activation: str = "tanh"
    squash: bool = False
    shift: FloatArray | float = 0.0
    scale: FloatArray | float = 1.0
    clip: float = np.inf

    def __post_init__(self) -> None:
        weights, biases = _check_layers(self.weights, self.biases)
        if self.activation not in ACTIVATIONS:
            raise InvalidInput(
                f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}; choose one of these",
                code="SF-ARGUMENT-CHOICE",
            )
        if (self.low is None) != (self.high is None):
            raise InvalidInput(
                "low and high must be given together, got one of them; give both, or neither for discrete actions",
                code="SF-ARGUMENT-COMBINATION",
            )
        if self.squash and self.low is None:
            raise InvalidInput(
                "squash must come with low and high, got discrete actions; drop it", code="SF-ARGUMENT-COMBINATION"
            )
        if not self.clip > 0.0:
            raise InvalidInput(
                f"clip must be > 0, got {self.clip}; use infinity for no clipping", code="SF-ARGUMENT-RANGE"
            )
        size = weights[0].shape[1]
        shift, scale = (
            as_floats(name, np.broadcast_to(getattr(self, name), (size,)), (size,)) for name in ("shift", "scale")
        )
        if (scale <= 0.0).any():
            raise InvalidInput(
                f"scale must be > 0, got {scale.min():g}; it divides the observation", code="SF-ARGUMENT-RANGE"
            )
        values: dict[str, Any] = {
            "weights": weights,
            "biases": biases,
            "shift": shift,
            "scale": scale,
            "clip": float(self.clip),
        }
        if self.low is not None:
            values["low"], values["high"] = check_action_range(self.low, self.high, len(weights[-1]))
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def n_inputs(self) -> int:
        """O."""
        return int(self.weights[0].shape[1])

    @property
    def discrete(self) -> bool:
        """Whether an action is the index of the largest output."""
        return self.low is None

    def outputs(self, observations: Any) -> FloatArray:
        """(m, A) values of the last layer."""
        rows = flat_rows(observations, self.n_inputs)
        hidden = _padded((rows - self.shift) / self.scale)
        if np.isfinite(self.clip):
            hidden = np.clip(hidden, -self.clip, self.clip)
        function = ACTIVATIONS[self.activation]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1]):
            hidden = function(_affine(weight, bias, hidden))
        return _affine(self.weights[-1], self.biases[-1], hidden)[: len(rows)]

    def act_batch(self, observations: Any) -> Any:
        """(m, A) actions for (m, O) observations, or (m,) indices of discrete ones."""
        outputs = self.outputs(observations)
        if self.low is None or self.high is None:
            return np.argmax(outputs, axis=1)
        if self.squash:
            return self.low + 0.5 * (self.high - self.low) * (np.tanh(outputs) + 1.0)
        return np.clip(outputs, self.low, self.high)

    def fix(self, values: Any) -> MLPPolicy:
        """The policy of the other inputs when the last ones are held at these values.

        A policy conditioned on the task thus becomes one for that task: the fixed inputs are only another bias.

        Raises:
            InvalidInput: as many values as inputs, or more.
        """
        fixed = as_floats("values", np.atleast_1d(values), (None,))
        free = self.n_inputs - len(fixed)
        if free < 1:
            raise InvalidInput(
                f"values must be fewer than the {self.n_inputs} inputs, got {len(fixed)}; fix the last ones only",
                code="SF-ARGUMENT-LENGTH",
            )
        shift, scale = np.asarray(self.shift), np.asarray(self.scale)
        normalised = np.clip((fixed - shift[free:]) / scale[free:], -self.clip, self.clip)
        first = self.weights[0]
        return replace(
            self,
            weights=(first[:, :free], *self.weights[1:]),
            biases=(self.biases[0] + first[:, free:] @ normalised, *self.biases[1:]),
            shift=shift[:free],
            scale=scale[:free],
        )


def _check_layers(weights: Any, biases: Any) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
    """Layers whose shapes fit one another."""
    if len(weights) != len(biases) or not weights:
        raise InvalidInput(
            f"weights and biases must be as many, and at least one, got {len(weights)} and {len(biases)}; pair them up",
            code="SF-ARGUMENT-LENGTH",
        )
    checked_weights: list[FloatArray] = []
    checked_biases: list[FloatArray] = []
    for k, (weight, bias) in enumerate(zip(weights, biases)):
        width = None if k == 0 else len(checked_weights[-1])
        checked_weights.append(as_floats(f"weights[{k}]", weight, (None, width)))
        checked_biases.append(as_floats(f"biases[{k}]", bias, (len(checked_weights[-1]),)))
    if 0 in checked_weights[0].shape:
        raise InvalidInput(
            f"weights[0] must have rows and columns, got shape {checked_weights[0].shape}; check the layers",
            code="SF-ARGUMENT-EMPTY",
        )
    return tuple(checked_weights), tuple(checked_biases)
