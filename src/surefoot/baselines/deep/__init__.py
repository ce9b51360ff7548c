"""Deep baselines of the locomotion experiment: policy networks in numpy, trained by trust-region methods with a limit on cost.

    networks.py            tanh networks, Gaussian and softmax policies: gradients, Jacobian products, Fisher products
    batch.py               episodes of a policy in tasks, critics by least squares, advantages (GAE)
    trust_region.py        conjugate gradients, natural-gradient step with a line search (Schulman et al. 2015)
    trpo_lagrangian.py     TRPO with a cost critic and a Lagrange multiplier (Ray, Achiam & Amodei 2019)
    cpo.py                 constrained policy optimisation (Achiam et al. 2017)
    maml.py                MAML with a constraint penalty, first-order and full (Finn, Abbeel & Levine 2017)
    meta_cpo.py            CPO inside and outside (Cho & Sun, AAAI 2024)
    safe_meta_rl.py        closed-form safe adaptation on a network (Xu & Zhu, NeurIPS 2025)
    agent.py               any of them behind ``ask`` and ``tell``, with updates at test time

Why not sb3-contrib's TRPO: it needs torch, whose packages are several gigabytes, and it has no limits and no meta-gradients. The library deploys
networks as plain arrays anyway (:class:`~surefoot.controllers.MLPPolicy`), and networks of this size need no more than numpy. Nothing here imports
torch, and no result depends on its installation. Needs the extra ``[gym]``; the bodies of the experiment need ``[mujoco]``.

None of these methods promises anything about a test task: limits enter through estimates. Their violations are counted, not bounded.
"""

from typing import Any

from surefoot.baselines.deep import cpo, maml, meta_cpo, safe_meta_rl, trpo_lagrangian
from surefoot.baselines.deep.agent import DeepAgent
from surefoot.baselines.deep.batch import Batch, Trajectories, World
from surefoot.baselines.deep.learner import Learner, State
from surefoot.baselines.deep.networks import GaussianPolicy, Network, NetworkPolicy, SoftmaxPolicy
from surefoot.errors import InvalidInput

__all__ = [
    "LEARNERS",
    "Batch",
    "DeepAgent",
    "GaussianPolicy",
    "Learner",
    "Network",
    "NetworkPolicy",
    "SoftmaxPolicy",
    "State",
    "Trajectories",
    "World",
    "make_learner",
]

LEARNERS: dict[str, Any] = {
    "trpo-lagrangian": trpo_lagrangian.TRPOLagrangian,
    "cpo": cpo.CPO,
    "maml": maml.MAML,
    "maml-first-order": maml.FirstOrderMAML,
    "meta-cpo": meta_cpo.MetaCPO,
    "safe-meta-rl": safe_meta_rl.SafeMetaRL,
}
"""By name."""


def make_learner(name: str, policy: GaussianPolicy | SoftmaxPolicy, **settings: Any) -> Learner:
    """A learner by name.

    Raises:
        InvalidInput: there is none of that name.
    """
    if name not in LEARNERS:
        raise InvalidInput(
            f"method must be one of {', '.join(LEARNERS)}, got {name!r}; choose one of these", code="SF-ARGUMENT-CHOICE"
        )
    made: Learner = LEARNERS[name](policy, **settings)
    return made
