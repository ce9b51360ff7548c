"""From a trained Stable-Baselines3 model to arrays: the deterministic policy as an :class:`~surefoot.controllers.MLPPolicy`.

    on-policy (PPO, A2C, TRPO)      latent policy network, action layer, clipped to the action space (or the largest logit)
    SAC, CrossQ-like                latent policy network, layer ``mu``, squashed
    TD3, DDPG                       network ``mu``, whose last tanh becomes the squashing

The running statistics of ``VecNormalize`` become ``shift`` and ``scale``. The model is only looked at, by attribute: no torch is imported here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from surefoot.arrays import FloatArray
from surefoot.controllers import MLPPolicy
from surefoot.errors import InvalidInput

__all__ = ["from_sb3"]

ACTIVATION_OF = {"Tanh": "tanh", "ReLU": "relu"}


def from_sb3(model: Any) -> MLPPolicy:
    """What ``model.predict(observation, deterministic=True)`` computes, as data.

    Args:
        model: a trained PPO, A2C, TRPO, SAC, TD3 or DDPG model with a multilayer perceptron.

    Raises:
        InvalidInput: another architecture (images, recurrent, dictionaries of observations, state-dependent exploration with its own squashing).
    """
    if not hasattr(model, "policy") or not hasattr(model, "action_space"):
        raise InvalidInput(
            f"model must be a Stable-Baselines3 model, got {type(model).__name__}; pass the model, not its policy",
            code="SF-POLICY-MODEL",
        )
    _check_flat(model)
    modules, squash = _actor(model.policy)
    layers, activations = _unrolled(modules)
    low, high = _range(model.action_space)
    shift, scale, clip = _normalisation(model)
    return MLPPolicy(
        weights=tuple(_numbers(layer.weight) for layer in layers),
        biases=tuple(_numbers(layer.bias) for layer in layers),
        low=low,
        high=high,
        activation=_one(activations),
        squash=squash,
        shift=shift,
        scale=scale,
        clip=clip,
    )


def _check_flat(model: Any) -> None:
    """Raise unless observations are vectors that the network reads as they are."""
    policy, space = model.policy, type(model.observation_space).__name__
    if hasattr(policy, "lstm_actor"):
        raise InvalidInput(
            "model must have no memory, got a recurrent policy; train it with MlpPolicy", code="SF-POLICY-RECURRENT"
        )
    source = policy if getattr(policy, "features_extractor", None) is not None else getattr(policy, "actor", None)
    extractor = type(getattr(source, "features_extractor", None)).__name__
    if space != "Box" or extractor != "FlattenExtractor":
        raise InvalidInput(
            f"model must read vectors with a multilayer perceptron, got observations {space} through {extractor}; train it with MlpPolicy on a Box",
            code="SF-POLICY-NETWORK",
        )


def _actor(policy: Any) -> tuple[list[Any], bool]:
    """Modules from observation to action, and whether a scaled tanh follows."""
    if hasattr(policy, "action_net"):
        return [policy.mlp_extractor.policy_net, policy.action_net], bool(getattr(policy, "squash_output", False))
    if not hasattr(policy, "actor"):
        raise InvalidInput(
            f"model must have an actor, got {type(policy).__name__}; export PPO, A2C, TRPO, SAC, TD3 or DDPG",
            code="SF-POLICY-ACTOR",
        )
    if hasattr(policy.actor, "latent_pi"):
        return [policy.actor.latent_pi, policy.actor.mu], True
    # The last activation of these is the squashing itself.
    return [list(policy.actor.mu)[:-1]], True


def _unrolled(modules: list[Any]) -> tuple[list[Any], list[str]]:
    """Linear layers in order and the names of the activations between them."""
    layers: list[Any] = []
    activations: list[str] = []
    for module in modules:
        for part in module if hasattr(module, "__iter__") else [module]:
            name = type(part).__name__
            if name == "Linear":
                layers.append(part)
            elif name in ACTIVATION_OF:
                activations.append(ACTIVATION_OF[name])
            elif name != "Flatten":
                raise InvalidInput(
                    f"model must consist of linear layers with tanh or ReLU, got {name}; retrain it with such a network",
                    code="SF-POLICY-NETWORK",
                )
    return layers, activations


def _one(activations: list[str]) -> str:
    kinds = set(activations)
    if len(kinds) > 1:
        raise InvalidInput(
            f"model must use one activation throughout, got {', '.join(sorted(kinds))}; retrain it with one",
            code="SF-POLICY-NETWORK",
        )
    return kinds.pop() if kinds else "tanh"


def _numbers(tensor: Any) -> FloatArray:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)


def _range(space: Any) -> tuple[FloatArray | None, FloatArray | None]:
    """Bounds of a Box, nothing for discrete actions."""
    name = type(space).__name__
    if name == "Discrete":
        if int(getattr(space, "start", 0)) != 0:
            raise InvalidInput(
                f"action_space must count from 0, got start {space.start}; shift the actions in a wrapper",
                code="SF-POLICY-ACTIONS",
            )
        return None, None
    if name != "Box" or len(space.shape) != 1:
        raise InvalidInput(
            f"action_space must be a one-dimensional Box or Discrete, got {space}; flatten it in a wrapper",
            code="SF-POLICY-ACTIONS",
        )
    return np.asarray(space.low, dtype=np.float64), np.asarray(space.high, dtype=np.float64)


def _normalisation(model: Any) -> tuple[Any, Any, float]:
    """``(shift, scale, clip)`` of the ``VecNormalize`` around the model's environment, if there is one."""
    wrapper = model.get_vec_normalize_env() if hasattr(model, "get_vec_normalize_env") else None
    if wrapper is None or not wrapper.norm_obs:
        return 0.0, 1.0, float("inf")
    statistics = wrapper.obs_rms
    return statistics.mean.ravel(), np.sqrt(statistics.var + wrapper.epsilon).ravel(), float(wrapper.clip_obs)
