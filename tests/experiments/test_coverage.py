"""The record of how often intervals hold the truth."""

import json

import numpy as np
import pytest

from difformer.data import datasets
from difformer.data.series import SERIES
from difformer.experiments import coverage
from difformer.experiments.record import read_record


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A series of noise whose test part may be noisier."""

    def make(factor):
        values = np.random.default_rng(0).normal(size=(400, 6))
        values[200:] *= factor
        path = tmp_path / "data" / SERIES["pedalme"][0]
        path.parent.mkdir(parents=True, exist_ok=True)
        pairs = [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]]
        content = {"edges": pairs, "weights": [1.0] * 5, "X": values.tolist()}
        path.write_text(json.dumps(content))
        monkeypatch.setenv(datasets.VARIABLE, str(tmp_path / "data"))
        case = coverage.Case("pedalme", "temporal-25-25-50", 3, 2, encoder="decoupled")
        monkeypatch.setattr(coverage, "CASES", (case,))
        return case

    return make


def test_a_record_with_every_level_and_step(made, tmp_path):
    made(1.0)
    assert coverage.main(["--records", str(tmp_path)]) == 0
    record = read_record(tmp_path / "forecast-intervals.json")
    assert [f.label for f in record.figures] == [
        f"pedalme, {level} intervals, {step} ahead" for level in ("80%", "95%") for step in (1, 2)
    ]
    for figure in record.figures:
        assert figure.note is None
        assert abs(figure.value - float(figure.label.split()[1][:2])) < 3


def test_it_says_why_where_intervals_are_off(made, monkeypatch):
    case = made(3.0)
    monkeypatch.setattr("difformer.estimators.forecasting.intervals.SLOW", 1e9)  # never follow
    found, ratio = coverage.measure(case)
    assert ratio == pytest.approx(3, rel=0.1)
    notes = [figure.note for figure in coverage.figures_of_case(case, found, ratio)]
    assert all(f"errors are {ratio:.2f} times" in note for note in notes)


def test_without_data_it_is_one_sentence(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv(datasets.VARIABLE, raising=False)
    assert coverage.main(["--records", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("difformer: ")
    assert not list(tmp_path.iterdir())
