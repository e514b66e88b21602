"""From values to what a person opens."""

from fedlaf.report.console import tell, tell_briefly
from fedlaf.report.files import replace, write
from fedlaf.report.loading import load, result_of
from fedlaf.report.metrics import Metric
from fedlaf.report.noise import LOG_FILE, log_to
from fedlaf.report.page import board_page, comparison_page
from fedlaf.report.progress import Job, Lines, StageProgress, console_on, display, watching
from fedlaf.report.report import Report, result_values
from fedlaf.report.results import Point, RequestResult
from fedlaf.report.scatter import compared
from fedlaf.report.trackers import TrackedRun, Tracker
from fedlaf.report.tracking import Tracking
from fedlaf.report.view import Projection, RequestView, partition_view, request_view, shown_rows
from fedlaf.report.watch import Watch

__all__ = [
    "LOG_FILE",
    "Job",
    "Lines",
    "Metric",
    "Point",
    "Projection",
    "Report",
    "RequestResult",
    "RequestView",
    "StageProgress",
    "TrackedRun",
    "Tracker",
    "Tracking",
    "Watch",
    "board_page",
    "compared",
    "comparison_page",
    "console_on",
    "display",
    "load",
    "log_to",
    "partition_view",
    "replace",
    "request_view",
    "result_of",
    "result_values",
    "shown_rows",
    "tell",
    "tell_briefly",
    "watching",
    "write",
]
