"""A network in ONNX's format as a policy: a model that another framework trained, run by ONNX Runtime on one thread.

    u = model(observation),    a = clip(u, low, high),   or  argmax u  for A discrete actions

The contract is checked when a policy is made, and therefore whenever one is read from a file: one input of shape (batch, O) of single- or
double-precision numbers, a first output of shape (batch, A) that is finite, no data outside the model, and no operators but those that ONNX Runtime
comes with: none is registered here, and a model that names another is refused.

Observations are run one by one, so that an action depends on its own observation only, to the last bit. Another version of the runtime, or another
processor, may round differently; the values that training measured are then those of another policy by as much. Multilayer perceptrons are better
kept as :class:`~surefoot.controllers.MLPPolicy`, which needs numpy alone and is faster.

Letters: O entries of an observation, A of an action, m observations at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from surefoot.arrays import FloatArray, ReadOnly, freeze
from surefoot.controllers import OneByOne, check_action_range, flat_rows
from surefoot.errors import InvalidInput, MissingExtra

__all__ = ["OnnxPolicy"]

LARGEST = 2**26
"""Bytes of a model."""
NUMBERS = {"tensor(float)": np.float32, "tensor(double)": np.float64}
OUTSIDE = b"\x0a\x08location"
"""How a model begins the entry that names a file beside it."""
_SESSIONS: WeakKeyDictionary[OnnxPolicy, tuple[Any, str, Any, int]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class OnnxPolicy(OneByOne, ReadOnly):
    """A model in ONNX's format.

    Args:
        model: the bytes of the model, a path of one, or (n,) bytes as integers.
        low, high: (A,) range of the action, or scalars; ``None`` for discrete actions.

    Attributes:
        model: (n,) bytes; read-only.

    Raises:
        InvalidInput: what is no such model, breaks the contract above, or is too large.
        MissingExtra: ONNX Runtime is not installed.
    """

    model: NDArray[np.uint8]
    low: FloatArray | None = None
    high: FloatArray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", freeze(_bytes_of(self.model)))
        if (self.low is None) != (self.high is None):
            raise InvalidInput(
                "low and high must be given together, got one of them; give both, or neither for discrete actions",
                code="SF-ARGUMENT-COMBINATION",
            )
        size = self._run(np.zeros((1, self.n_inputs))).shape[1]
        if self.low is not None:
            low, high = check_action_range(self.low, self.high, size)
            object.__setattr__(self, "low", low)
            object.__setattr__(self, "high", high)

    def __repr__(self) -> str:
        kind = "discrete actions" if self.discrete else "actions in a range"
        return f"OnnxPolicy({self.model.size} bytes, {self.n_inputs} inputs, {kind})"

    @property
    def n_inputs(self) -> int:
        """O."""
        return _session(self)[3]

    @property
    def discrete(self) -> bool:
        """Whether an action is the index of the largest output."""
        return self.low is None

    def act_batch(self, observations: Any) -> Any:
        """(m, A) actions for (m, O) observations, or (m,) indices of discrete ones."""
        rows = flat_rows(observations, self.n_inputs)
        outputs = np.concatenate([self._run(row[None]) for row in rows]) if len(rows) else np.zeros((0, 1))
        if self.low is None or self.high is None:
            return np.argmax(outputs, axis=1)
        return np.clip(outputs, self.low, self.high)

    def _run(self, row: FloatArray) -> FloatArray:
        """(1, A) outputs for (1, O).

        Raises:
            InvalidInput: the model fails, or gives something else.
        """
        session, name, kind, _ = _session(self)
        try:
            found = np.asarray(session.run(None, {name: row.astype(kind)})[0], dtype=np.float64)
        except Exception as error:  # the runtime's errors share no class of their own
            raise _wrong(f"a model that fails: {str(error)[:200]}") from error
        if found.ndim != 2 or len(found) != 1 or not found.size:
            raise _wrong(f"a first output of shape {found.shape} for one observation")
        if not np.isfinite(found).all():
            raise InvalidInput(
                f"output of the model must be finite, got {found[~np.isfinite(found)][0]} for observation {row[0].tolist()[:8]}; train it anew",
                code="SF-POLICY-NETWORK",
            )
        return found


def _bytes_of(model: Any) -> NDArray[np.uint8]:
    if isinstance(model, str | Path):
        try:
            model = Path(model).read_bytes()
        except OSError as error:
            raise InvalidInput(
                f"model must be the path of a file that can be read, got {str(model)!r}: {error}; check the path",
                code="SF-POLICY-MODEL",
            ) from error
    found = np.frombuffer(model, dtype=np.uint8) if isinstance(model, bytes | bytearray) else np.asarray(model)
    if found.ndim != 1 or found.dtype != np.uint8 or not 0 < found.size <= LARGEST:
        raise _wrong(f"{found.dtype} of shape {found.shape}, where 1 to {LARGEST} bytes are taken")
    if OUTSIDE in found.tobytes():
        raise _wrong("a model whose numbers lie in another file")
    return np.array(found)


def _session(policy: OnnxPolicy) -> tuple[Any, str, Any, int]:
    """Session, name and type of the input, and O; made once for each policy and process."""
    known = _SESSIONS.get(policy)
    if known is not None:
        return known
    try:
        import onnxruntime as runtime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "onnx") from error
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(policy.model.tobytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors share no class of their own
        raise _wrong(f"something that ONNX Runtime does not read: {str(error)[:200]}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in NUMBERS:
        raise _wrong(f"inputs {[(one.name, one.type) for one in inputs]}")
    shape = inputs[0].shape
    if len(shape) != 2 or not isinstance(shape[1], int) or (shape[0] not in (1, None) and isinstance(shape[0], int)):
        raise _wrong(f"an input of shape {shape}")
    _SESSIONS[policy] = found = session, inputs[0].name, NUMBERS[inputs[0].type], int(shape[1])
    return found


def _wrong(got: str) -> InvalidInput:
    return InvalidInput(
        f"model must be a model in ONNX's format with one input (batch, O) of numbers and a first output (batch, A), got {got}; export it so",
        code="SF-POLICY-NETWORK",
    )
