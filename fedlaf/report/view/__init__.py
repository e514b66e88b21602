"""What a page shows beyond the report's figures, gathered from predictions and rows as plain values."""

from fedlaf.report.view.partition import partition_view
from fedlaf.report.view.request import Projection, RequestView, request_view, shown_rows

__all__ = ["Projection", "RequestView", "partition_view", "request_view", "shown_rows"]
