"""From a configuration to a report: plans, stages, checkpoints, comparisons, Flower's apps."""
