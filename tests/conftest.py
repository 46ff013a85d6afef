"""What all tests share: the option that turns missing benchmark data into failures."""

from collections.abc import Generator
from typing import Any

import pytest

VARIABLE = "DIFFORMER_DATA"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-data",
        action="store_true",
        help=f"a test that skips with a reason that names {VARIABLE} fails instead",
    )


def _fail_if_required(config: pytest.Config, report: Any) -> None:
    if not (report.skipped and config.getoption("--require-data")):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if VARIABLE in reason:
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} must run under --require-data. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    _fail_if_required(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    report = yield
    _fail_if_required(collector.config, report)
    return report
