"""Task families: distributions over CMDPs that share states, actions and the criterion."""

from surefoot.tasks.admission import QueueAdmission
from surefoot.tasks.catalogue import FAMILIES, check_families, make_family
from surefoot.tasks.cliff import WindyCliff
from surefoot.tasks.family import TabularFamily, TaskFamily
from surefoot.tasks.gridworld import NoisyGridworld
from surefoot.tasks.hard_instance import HardInstance
from surefoot.tasks.inventory import StorageInventory
from surefoot.tasks.lake import SlipperyLake
from surefoot.tasks.limits import LimitedFamily, with_limits
from surefoot.tasks.reweighted import ReweightedFamily, reweighted
from surefoot.tasks.streaming import StreamingBuffer
from surefoot.tasks.zoned_gridworld import ZonedGridworld

__all__ = [
    "FAMILIES",
    "HardInstance",
    "LimitedFamily",
    "NoisyGridworld",
    "QueueAdmission",
    "ReweightedFamily",
    "SlipperyLake",
    "StorageInventory",
    "StreamingBuffer",
    "TabularFamily",
    "TaskFamily",
    "WindyCliff",
    "ZonedGridworld",
    "check_families",
    "make_family",
    "reweighted",
    "with_limits",
]
