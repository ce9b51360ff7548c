"""Policy networks on one vector of parameters, with the derivatives that trust regions and meta-gradients need.

    h_0 = clip((o - shift) / scale, -c, c),   h_{k+1} = tanh(W_k h_k + b_k),   y = W_K h_K + b_K

    Gaussian    a ~ N(y, diag(sigma^2)),  sigma = exp(last A parameters)      the environment clips a to its range
    softmax     a ~ softmax(y)

With the Jacobian ``J`` of y in the parameters and the Fisher matrix ``M`` of the distribution in y,

    score     grad sum_n w_n log pi(a_n|o_n) = J^T (w dlog pi / dy)            one backward pass
    Fisher    F v = sum_n w_n J_n^T M_n J_n v / sum_n w_n                      one forward pass along v, one backward pass
    Gaussian: M = diag(1 / sigma^2) for y, 2 for every log sigma               softmax: M = diag(p) - p p^T

Everything is exact. Every function is analytic in the parameters and takes complex ones too: :func:`along` takes the derivative of a gradient
along a direction by a complex step (Martins, Sturdza & Alonso 2003), ``Im g(theta + i h v) / h`` with h = 1e-30. There is no subtraction in it, so
Hessian-vector products are as exact as the gradient.

Letters: n observations, O entries of one, A actions (entries of one, or choices), P parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from surefoot.arrays import FloatArray, IntArray
from surefoot.controllers import MLPPolicy
from surefoot.errors import InvalidInput

__all__ = ["GaussianPolicy", "Network", "NetworkPolicy", "SoftmaxPolicy", "StochasticPolicy", "along"]

CLIP = 10.0
"""Normalised observations are cut off here."""
COMPLEX_STEP = 1e-30
LOG_2PI = float(np.log(2.0 * np.pi))
Arrays = Any
"""Real or complex arrays."""


def along(gradient: Callable[[Any], Any], theta: FloatArray, direction: FloatArray) -> FloatArray:
    """(P,) derivative of an analytic ``gradient`` at ``theta`` along ``direction`` (P,): the Hessian times it."""
    return np.asarray(np.imag(gradient(theta + 1j * COMPLEX_STEP * direction)) / COMPLEX_STEP)


@dataclass(frozen=True)
class Network:
    """Shapes of a tanh network whose parameters lie in one vector: ``W_0, b_0, W_1, b_1, ..`` with ``W_k`` (out, in).

    Attributes:
        sizes: O, widths of the hidden layers, number of outputs.
    """

    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """P."""
        return sum(a * b + b for a, b in zip(self.sizes[:-1], self.sizes[1:]))

    def initial(self, rng: np.random.Generator, last: float = 0.01) -> FloatArray:
        """(P,) orthogonal layers with gain sqrt(2), the last one with gain ``last``; biases 0."""
        parts, depth = [], len(self.sizes) - 1
        for k, (a, b) in enumerate(zip(self.sizes[:-1], self.sizes[1:])):
            q, r = np.linalg.qr(rng.standard_normal((max(a, b), min(a, b))))
            q = q * np.sign(np.diag(r))
            weight = (q if b >= a else q.T) * (last if k == depth - 1 else np.sqrt(2.0))
            parts += [weight.ravel(), np.zeros(b)]
        return np.concatenate(parts)

    def layers(self, theta: Arrays) -> Iterator[tuple[Arrays, Arrays]]:
        """``(W_k, b_k)``, views of ``theta``."""
        at = 0
        for a, b in zip(self.sizes[:-1], self.sizes[1:]):
            yield theta[at : at + a * b].reshape(b, a), theta[at + a * b : at + a * b + b]
            at += a * b + b

    def hidden(self, theta: Arrays, inputs: Arrays) -> list[Arrays]:
        """``h_0 .. h_K`` and y, last."""
        found, depth = [inputs], len(self.sizes) - 1
        for k, (weight, bias) in enumerate(self.layers(theta)):
            y = found[-1] @ weight.T + bias
            found.append(y if k == depth - 1 else np.tanh(y))
        return found

    def outputs(self, theta: Arrays, inputs: Arrays) -> Arrays:
        """(n, outputs) y."""
        return self.hidden(theta, inputs)[-1]

    def forward(self, theta: Arrays, hidden: list[Arrays], direction: Arrays) -> Arrays:
        """(n, outputs) ``J v``: how y moves when the parameters move along ``direction``."""
        moved: Arrays = 0.0
        pairs = list(zip(self.layers(theta), self.layers(direction)))
        for k, ((weight, _), (d_weight, d_bias)) in enumerate(pairs):
            moved = hidden[k] @ d_weight.T + d_bias + (moved @ weight.T if k else 0.0)
            if k < len(pairs) - 1:
                moved = moved * (1.0 - hidden[k + 1] ** 2)
        return moved

    def backward(self, theta: Arrays, hidden: list[Arrays], slope: Arrays) -> Arrays:
        """(P,) ``J^T u`` for ``slope`` u (n, outputs)."""
        parts: list[Arrays] = []
        layers = list(self.layers(theta))
        for k in range(len(layers) - 1, -1, -1):
            parts += [slope.sum(axis=0), (slope.T @ hidden[k]).ravel()]
            if k:
                slope = (slope @ layers[k][0]) * (1.0 - hidden[k] ** 2)
        return np.concatenate(parts[::-1])


@dataclass(frozen=True, eq=False)
class StochasticPolicy(ABC):
    """What Gaussian and softmax policies share.

    Attributes:
        network: its outputs are what the distribution is made of.
        shift, scale: (O,) normalisation of observations.
    """

    network: Network
    shift: FloatArray
    scale: FloatArray

    @property
    def size(self) -> int:
        """P."""
        return self.network.size

    def inputs(self, observations: Any) -> FloatArray:
        """(n, O) normalised observations."""
        rows = np.asarray(observations, dtype=np.float64).reshape(len(observations), -1)
        if rows.shape[1] != self.network.sizes[0]:
            raise InvalidInput(
                f"observation must have {self.network.sizes[0]} entries, got {rows.shape[1]}; this network was made for another environment",
                code="SF-ARGUMENT-MISMATCH",
            )
        return np.clip((rows - self.shift) / self.scale, -CLIP, CLIP)

    def normalised(self, observations: FloatArray) -> Self:
        """The same with shift and scale of these (n, O) observations."""
        deviation = observations.std(axis=0)
        return replace(self, shift=observations.mean(axis=0), scale=np.where(deviation > 1e-3, deviation, 1.0))

    def initial(self, rng: np.random.Generator) -> FloatArray:
        """(P,) parameters to begin with."""
        return self.network.initial(rng)

    @abstractmethod
    def draw(self, theta: FloatArray, inputs: FloatArray, rng: np.random.Generator) -> tuple[Any, FloatArray]:
        """Actions for (n, O) inputs, and (n,) logarithms of their probabilities."""

    @abstractmethod
    def best(self, theta: FloatArray, inputs: FloatArray) -> Any:
        """The most likely actions."""

    @abstractmethod
    def log_prob(self, theta: Arrays, inputs: FloatArray, actions: Any) -> Arrays:
        """(n,) ``log pi(a|o)``."""

    @abstractmethod
    def score(self, theta: Arrays, inputs: FloatArray, actions: Any, weights: Arrays) -> Arrays:
        """(P,) gradient of ``sum_n w_n log pi(a_n|o_n)``."""

    @abstractmethod
    def divergence(self, old: FloatArray, new: FloatArray, inputs: FloatArray) -> FloatArray:
        """(n,) ``KL(pi_old || pi_new)`` at every observation."""

    @abstractmethod
    def fisher(self, theta: FloatArray, inputs: FloatArray, weights: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """``v -> F v``, mean over observations with these (n,) weights."""


class GaussianPolicy(StochasticPolicy):
    """Normal actions whose mean a network gives; the last A parameters are the logarithms of the deviations, the same for all observations."""

    @staticmethod
    def build(observation_size: int, action_size: int, hidden: tuple[int, ...] = (64, 64)) -> GaussianPolicy:
        """Without normalisation yet."""
        network = Network((observation_size, *hidden, action_size))
        return GaussianPolicy(network, np.zeros(observation_size), np.ones(observation_size))

    first_deviation = 0.6
    """Of the first policy, in units of the action."""

    @property
    def size(self) -> int:
        """P, deviations included."""
        return self.network.size + self.network.sizes[-1]

    def initial(self, rng: np.random.Generator) -> FloatArray:
        """(P,) means near 0."""
        return np.concatenate(
            [self.network.initial(rng), np.full(self.network.sizes[-1], np.log(self.first_deviation))]
        )

    def _split(self, theta: Arrays) -> tuple[Arrays, Arrays]:
        return theta[: self.network.size], theta[self.network.size :]

    def draw(self, theta: FloatArray, inputs: FloatArray, rng: np.random.Generator) -> tuple[Any, FloatArray]:
        """(n, A) actions and (n,) logarithms of their densities."""
        net, log_std = self._split(theta)
        noise = rng.standard_normal((len(inputs), len(log_std)))
        actions = self.network.outputs(net, inputs) + np.exp(log_std) * noise
        return actions, -0.5 * (noise**2).sum(axis=1) - log_std.sum() - 0.5 * len(log_std) * LOG_2PI

    def best(self, theta: FloatArray, inputs: FloatArray) -> Any:
        """(n, A) means."""
        return self.network.outputs(self._split(theta)[0], inputs)

    def log_prob(self, theta: Arrays, inputs: FloatArray, actions: Any) -> Arrays:
        """(n,) logarithms of densities."""
        net, log_std = self._split(theta)
        z = (actions - self.network.outputs(net, inputs)) * np.exp(-log_std)
        return -0.5 * (z**2).sum(axis=1) - log_std.sum() - 0.5 * len(log_std) * LOG_2PI

    def score(self, theta: Arrays, inputs: FloatArray, actions: Any, weights: Arrays) -> Arrays:
        """(P,) gradient of ``sum_n w_n log pi(a_n|o_n)``."""
        net, log_std = self._split(theta)
        hidden = self.network.hidden(net, inputs)
        z = (actions - hidden[-1]) * np.exp(-log_std)
        backward = self.network.backward(net, hidden, weights[:, None] * z * np.exp(-log_std))
        return np.concatenate([backward, (weights[:, None] * (z**2 - 1.0)).sum(axis=0)])

    def divergence(self, old: FloatArray, new: FloatArray, inputs: FloatArray) -> FloatArray:
        """(n,) ``KL(pi_old || pi_new)``."""
        (net0, s0), (net1, s1) = self._split(old), self._split(new)
        gap = self.network.outputs(net0, inputs) - self.network.outputs(net1, inputs)
        terms = s1 - s0 + 0.5 * (np.exp(2.0 * s0) + gap**2) * np.exp(-2.0 * s1) - 0.5
        return np.asarray(terms.sum(axis=1))

    def fisher(self, theta: FloatArray, inputs: FloatArray, weights: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """``v -> F v``."""
        net, log_std = self._split(theta)
        hidden = self.network.hidden(net, inputs)
        metric = (weights / weights.sum())[:, None] * np.exp(-2.0 * log_std)

        def product(v: FloatArray) -> FloatArray:
            direction, rest = self._split(v)
            moved = self.network.forward(net, hidden, direction)
            return np.concatenate([self.network.backward(net, hidden, metric * moved), 2.0 * rest])

        return product

    def mean_policy(self, theta: FloatArray, low: Any, high: Any) -> MLPPolicy:
        """The deterministic policy of the means, as the library deploys and stores it."""
        layers = list(self.network.layers(self._split(theta)[0]))
        return MLPPolicy(
            tuple(w for w, _ in layers), tuple(b for _, b in layers), low, high, shift=self.shift, scale=self.scale, clip=CLIP
        )  # fmt: skip


class SoftmaxPolicy(StochasticPolicy):
    """One of A actions, drawn with the softmax of the network's outputs. Without hidden layers and with one-hot observations: a table of logits."""

    @staticmethod
    def build(observation_size: int, n_actions: int, hidden: tuple[int, ...] = ()) -> SoftmaxPolicy:
        """Without normalisation."""
        return SoftmaxPolicy(
            Network((observation_size, *hidden, n_actions)), np.zeros(observation_size), np.ones(observation_size)
        )

    def normalised(self, observations: FloatArray) -> Self:
        """Itself: one-hot observations stay what they are."""
        return self

    def _logs(self, theta: Arrays, inputs: FloatArray) -> tuple[list[Arrays], Arrays]:
        hidden = self.network.hidden(theta, inputs)
        shifted = hidden[-1] - np.real(hidden[-1]).max(axis=1, keepdims=True)
        return hidden, shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    def probabilities(self, theta: FloatArray, inputs: FloatArray) -> FloatArray:
        """(n, A)."""
        return np.asarray(np.exp(self._logs(theta, inputs)[1]))

    def draw(self, theta: FloatArray, inputs: FloatArray, rng: np.random.Generator) -> tuple[Any, FloatArray]:
        """(n,) actions and the logarithms of their probabilities."""
        _, logs = self._logs(theta, inputs)
        edges = np.cumsum(np.exp(logs), axis=1)
        places: IntArray = (rng.random((len(inputs), 1)) * edges[:, -1:] >= edges).sum(axis=1)
        return places, logs[np.arange(len(inputs)), places]

    def best(self, theta: FloatArray, inputs: FloatArray) -> Any:
        """(n,) most likely actions."""
        return self._logs(theta, inputs)[1].argmax(axis=1)

    def log_prob(self, theta: Arrays, inputs: FloatArray, actions: Any) -> Arrays:
        """(n,)."""
        return self._logs(theta, inputs)[1][np.arange(len(inputs)), actions]

    def score(self, theta: Arrays, inputs: FloatArray, actions: Any, weights: Arrays) -> Arrays:
        """(P,) gradient of ``sum_n w_n log pi(a_n|o_n)``."""
        hidden, logs = self._logs(theta, inputs)
        slope = -np.exp(logs) * weights[:, None]
        slope[np.arange(len(inputs)), actions] += weights
        return self.network.backward(theta, hidden, slope)

    def divergence(self, old: FloatArray, new: FloatArray, inputs: FloatArray) -> FloatArray:
        """(n,) ``KL(pi_old || pi_new)``."""
        before, after = self._logs(old, inputs)[1], self._logs(new, inputs)[1]
        return np.asarray((np.exp(before) * (before - after)).sum(axis=1))

    def fisher(self, theta: FloatArray, inputs: FloatArray, weights: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """``v -> F v``."""
        hidden, logs = self._logs(theta, inputs)
        p, share = np.exp(logs), (weights / weights.sum())[:, None]

        def product(v: FloatArray) -> FloatArray:
            moved = self.network.forward(theta, hidden, v)
            metric = p * (moved - (p * moved).sum(axis=1, keepdims=True))
            return np.asarray(self.network.backward(theta, hidden, share * metric))

        return product


@dataclass(frozen=True, eq=False)
class NetworkPolicy:
    """A policy network with its parameters, as something that acts: what is deployed, exploration included.

    Attributes:
        policy: the distribution.
        theta: (P,).
    """

    policy: StochasticPolicy
    theta: FloatArray

    def predict(
        self, observation: Any, *, deterministic: bool = False, rng: np.random.Generator | None = None
    ) -> tuple[Any, None]:
        """An action for one observation; without ``rng`` it is drawn from operating-system entropy."""
        row = self.policy.inputs(np.asarray(observation, dtype=np.float64)[None])
        if deterministic:
            return self.policy.best(self.theta, row)[0], None
        source = np.random.default_rng() if rng is None else rng
        return self.policy.draw(self.theta, row, source)[0][0], None

    def for_episode(self) -> Self:
        """Itself: it keeps no memory."""
        return self
