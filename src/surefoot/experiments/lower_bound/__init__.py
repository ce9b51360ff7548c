"""How many episodes it takes on the hard instance of the lower bound, and how that number grows."""

from surefoot.experiments.lower_bound.run import DEFAULT_AGENTS, FACTORS, Levels, reproduce

__all__ = ["DEFAULT_AGENTS", "FACTORS", "Levels", "reproduce"]
