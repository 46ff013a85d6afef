"""The small form of the timing of predictions: it runs, and writes what the page reads."""

import json

from difformer.experiments.bench.page import generated
from difformer.experiments.scoring import Scoring, main


def test_a_run_writes_all_cases_and_the_page_shows_them(tmp_path, capsys):
    sizes = ["--rows", "50", "--local-rows", "40", "--context", "120", "--rounds", "2"]
    assert main([*sizes, "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("scoring-*.json")
    found = Scoring.model_validate(json.loads(path.read_text()))
    assert [(t.case, t.rows) for t in found.timings] == [
        ("simple", 50),
        ("local", 40),
        ("simple", 1),
    ]
    assert [len(t.ours) for t in found.timings] == [2, 2, 50]
    assert found.timings[0].ratio > 0
    assert found.timings[2].ratio is None
    printed = capsys.readouterr().out
    assert "MLPClassifier" in printed
    assert str(path) in printed
    part = generated([], [found])
    assert "KNeighborsClassifier" in part
    assert found.command in part
