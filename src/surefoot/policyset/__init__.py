"""The policy set: what training hands to deployment, and the file it travels in.

``schema`` says what a set is, ``kinds`` which policies it may hold beside tables, ``codec`` turns it into plain data and back,
``file`` puts that into one archive.
"""

from surefoot.policyset.codec import PolicyKind, register_policy, register_policy_kind
from surefoot.policyset.file import content_hash, describe, load, save
from surefoot.policyset.kinds import register_controller
from surefoot.policyset.schema import (
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

__all__ = [
    "AssumptionReport",
    "Cells",
    "Certificate",
    "ConditionalPredictions",
    "EpisodeBounds",
    "KernelBoxes",
    "Look",
    "OutsideTasks",
    "PolicyKind",
    "PolicySet",
    "Predictions",
    "SignalPredictions",
    "TrainingReport",
    "content_hash",
    "describe",
    "load",
    "register_controller",
    "register_policy",
    "register_policy_kind",
    "save",
]
