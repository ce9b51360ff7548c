"""Evidence about cells: one file per kind, one that mixes them, one that says what a kind is."""

from surefoot.deploy.evidence.base import EvidenceKind, EvidenceSetting, evidence_names, register_evidence
from surefoot.deploy.evidence.mixture import FINAL, RETURN, Evidence
from surefoot.deploy.evidence.predictions import PredictionTable

__all__ = [
    "FINAL",
    "RETURN",
    "Evidence",
    "EvidenceKind",
    "EvidenceSetting",
    "PredictionTable",
    "evidence_names",
    "register_evidence",
]
