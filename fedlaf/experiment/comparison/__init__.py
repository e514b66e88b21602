"""Many methods against one retrained model: one training a seed, one table, one plot, one JSON."""

from fedlaf.experiment.comparison.compare import compare, overrides_of, shown, usage
from fedlaf.experiment.comparison.multirun import multirun

__all__ = ["compare", "multirun", "overrides_of", "shown", "usage"]
