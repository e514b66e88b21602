"""From values to what a person opens."""

from fedlaf.report.console import Watch, tell, watching
from fedlaf.report.files import write
from fedlaf.report.report import Point, Report, Served

__all__ = ["Point", "Report", "Served", "Watch", "tell", "watching", "write"]
