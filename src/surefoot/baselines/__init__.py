"""Published algorithms behind the agent protocol, one file per paper.

Every file ends with ``make(context, argument)``, which turns what an experiment knows into an agent; one line in the registry names it.
"""

from surefoot.baselines.presets import BaselineContext, Choice, Preset, choose, multiplier, parse

__all__ = ["BaselineContext", "Choice", "Preset", "choose", "multiplier", "parse"]
