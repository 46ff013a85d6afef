"""What all tests share: one thread, and the option that makes missing benchmark data fail."""

from collections.abc import Generator, Iterator
from typing import Any

import pytest

VARIABLE = "DIFFORMER_DATA"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """The tensors of the tests are small: a second thread would only be waited for."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
