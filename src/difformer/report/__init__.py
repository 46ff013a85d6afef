"""From a saved run to one page: charts, tables and plain words, in a file that needs no network."""

from difformer.report.page import write_report

__all__ = ["write_report"]
