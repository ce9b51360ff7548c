"""Worlds that others wrote (:mod:`surefoot.worlds`), each trained, certified and deployed at every trust level by one runner.

:mod:`.world` says what a world is and how a plant is judged, :mod:`.run` is the runner, and one file per world says how it is trained.
"""

from surefoot.experiments.worlds.run import Sizes, reproduce_world
from surefoot.experiments.worlds.world import Outside, Plant, SimulatedPlant, TabularPlant, World

__all__ = ["Outside", "Plant", "SimulatedPlant", "Sizes", "TabularPlant", "World", "reproduce_world"]
