"""From values to what a person opens."""

from fedlaf.report.console import Watch, tell, watching
from fedlaf.report.files import write
from fedlaf.report.report import Point, Report, Served
from fedlaf.report.scatter import compared

__all__ = ["Point", "Report", "Served", "Watch", "compared", "tell", "watching", "write"]
