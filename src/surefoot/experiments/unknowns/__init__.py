"""What every trust level gives up as more parameters of the task are unknown."""

from surefoot.experiments.unknowns.run import CELLS, LADDER, LEVELS, UNKNOWNS, reproduce

__all__ = ["CELLS", "LADDER", "LEVELS", "UNKNOWNS", "reproduce"]
