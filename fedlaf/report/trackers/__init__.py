"""Where researchers follow their runs: one small interface, a file for each library."""

from fedlaf.report.trackers.mlflow import MLflow
from fedlaf.report.trackers.tensorboard import TensorBoard
from fedlaf.report.trackers.tracker import TrackedRun, Tracker
from fedlaf.report.trackers.wandb import WeightsAndBiases

__all__ = ["MLflow", "TensorBoard", "TrackedRun", "Tracker", "WeightsAndBiases"]
