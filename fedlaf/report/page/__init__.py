"""Pages that people open in a browser: one file each, drawn from plain values."""

from fedlaf.report.page.run import page_data, run_page

__all__ = ["page_data", "run_page"]
