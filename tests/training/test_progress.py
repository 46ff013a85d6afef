"""The bar is silent without a terminal and moves with one."""

import io
import sys

import pytest

from difformer.training.progress import progress_bar

RECORD = {"epoch": 2, "train_loss": 0.25, "val_accuracy": 0.5}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_no_terminal_no_output(capsys):
    with progress_bar(3) as report:
        report(RECORD)
    assert capsys.readouterr() == ("", "")


def test_a_bar_that_is_not_wanted_is_not_shown(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar(3, shown=False) as report:
        report(RECORD)
    assert terminal.getvalue() == ""


def test_a_terminal_sees_figures(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(3, "Learning") as report:
        report(RECORD)
    assert "Learning" in terminal.getvalue()
    assert "2/3" in terminal.getvalue()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("record", [{"epoch": 1}, {"epoch": 1, "val_loss": 0.5}])
def test_figures_may_be_missing(record, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar(3) as report:
        report(record)
