"""The guarantee as a product: thousands of seeded runs of any agent, judged by what is exactly true.

worlds (family + policy set) -> jobs by scenario -> runs, watched -> rows, calibration, procedures -> validation.json
"""

from surefoot.experiments.validation.run import Training, validate
from surefoot.experiments.validation.scenarios import SCENARIOS

__all__ = ["SCENARIOS", "Training", "validate"]
