"""What each trust level assumes, in one sentence: the same words for agents, status, reports and validation.

Each sentence ends "with probability at least 1 - delta every deployed mixture meets the limits, if ...". The levels themselves are in
:mod:`surefoot.deploy.trust`.
"""

from __future__ import annotations

__all__ = ["ASSUMES"]

ASSUMES = {
    "cells": "the safe policy keeps its margin, no episode costs more than the ceiling, and the real task lies in some cell",
    "data": "the safe policy keeps its margin, and no episode costs more than the declared ceiling; nothing is assumed of the simulator",
    "envelope": (
        "the safe policy keeps its margin, no episode costs more than the ceiling, and no library policy costs more in reality than in the worst cell"
    ),
    "rehearsed": (
        "the real task is a draw from the family and the deployment is used as its protocol says: then the share that was rehearsed holds on average "
        "over tasks; outside the protocol, as for data"
    ),
}
