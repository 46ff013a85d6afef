"""Mean ranks and corrected tests against the textbook."""

from datetime import UTC, datetime

import pytest

from difformer.experiments.ranks import compared, holm, standings
from difformer.experiments.record import Figure, write_record


def record(folder, name, lower=False, **values):
    figures = [
        Figure(
            label=label,
            metric="accuracy %",
            value=sum(found) / len(found) if found else None,
            values=found,
            lower_is_better=lower,
        )
        for label, found in values.items()
    ]
    return write_record(
        folder / f"{name}.json",
        protocol="p",
        command="c",
        seeds=[0],
        splits=["s"],
        figures=figures,
        started=datetime(2026, 1, 2, tzinfo=UTC),
    )


def test_holm_steps_down():
    """Four hypotheses at 5 %: bounds 0.0125, 0.0167, 0.025, 0.05 in the order of the p values."""
    assert holm({"a": 0.01, "b": 0.013, "c": 0.06, "d": 0.005}) == {
        "a": True,
        "b": True,
        "c": False,
        "d": True,
    }
    assert holm({"a": 0.04, "b": 0.001}) == {"a": True, "b": True}
    assert holm({"a": 0.03, "b": 0.04}) == {"a": False, "b": False}  # the first stops the second
    assert holm({}) == {}


def test_mean_ranks_share_ties_and_count_the_cells_of_a_method(tmp_path):
    first = record(tmp_path, "one", base=(80.0, 81.0), a=(90.0, 92.0), b=(80.0, 81.0))
    second = record(tmp_path, "two", base=(80.0, 81.0), a=(70.0, 71.0))
    found = {s.label: s for s in standings([first, second])}
    assert found["a"].mean_rank == pytest.approx((1 + 2) / 2)
    assert found["base"].mean_rank == pytest.approx((2.5 + 1) / 2)
    assert (found["b"].mean_rank, found["b"].cells) == (2.5, 1)
    assert [s.label for s in standings([first, second])] == ["a", "base", "b"]


def test_verdicts_are_corrected_for_their_number(tmp_path):
    base = (80.0, 81.0, 79.0, 80.0, 80.5)
    clear = tuple(v + d for v, d in zip(base, (5.0, 5.1, 4.9, 5.0, 5.2), strict=True))
    weak = tuple(v - d for v, d in zip(base, (0.2, 1.8, 0.5, 0.1, 1.2), strict=True))  # p = 0.08
    cell = record(tmp_path, "one", base=base, clear=clear, weak=weak, same=base, none=())
    assert compared(cell) == {"clear": 1, "weak": 0, "same": 0}
    worse = record(tmp_path, "two", base=clear, other=base)
    assert compared(worse) == {"other": -1}
    assert standings([cell, worse])[0].label == "clear"


def test_a_constant_difference_is_told_apart_and_one_run_never_is(tmp_path):
    assert compared(record(tmp_path, "one", base=(1.0, 2.0), other=(2.0, 3.0))) == {"other": 1}
    assert compared(record(tmp_path, "two", base=(1.0,), other=(2.0,))) == {}


def test_errors_are_better_when_they_are_lower(tmp_path):
    cell = record(tmp_path, "one", lower=True, base=(1.0, 1.1), a=(0.5, 0.6), b=(2.0, 2.1))
    assert [s.label for s in standings([cell])] == ["a", "base", "b"]
    assert compared(cell) == {"a": 1, "b": -1}
