"""Rehearsal: the whole deployment on fresh simulated plants, before the real one.

``core`` freezes, draws plants, walks the ladder and certifies; ``plants`` plays and scores the rungs on one plant: ``lockstep`` for the belief's
agent, ``agents`` for any other, ``judging`` where values are simulated; ``runs`` says what is counted, ``result`` what is given back.
"""

from surefoot.rehearsal.core import rehearse
from surefoot.rehearsal.result import Rehearsal

__all__ = ["Rehearsal", "rehearse"]
