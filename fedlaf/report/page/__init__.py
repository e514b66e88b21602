"""Pages that people open in a browser: one file each, drawn from plain values."""

from fedlaf.report.page.board import board_page
from fedlaf.report.page.comparison import comparison_page
from fedlaf.report.page.html import has_assets
from fedlaf.report.page.run import page_data, run_page

__all__ = ["board_page", "comparison_page", "has_assets", "page_data", "run_page"]
