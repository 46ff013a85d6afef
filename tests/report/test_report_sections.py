"""What each section says about the files it is made from."""

from pathlib import Path
from typing import Any

import pytest
from reading_html import Page, read_page
from report_cases import FLOWERS, comparison, evaluation, make_run, metrics, predictions, trace

from difformer.report import write_report
from difformer.report.predictions import Tally


def written(folder: Path, classes: Any = FLOWERS, **files: Any) -> Page:
    return read_page(write_report(make_run(folder / "run", classes, **files)))


def lines(page: Page, key: str) -> list[Any]:
    return page.charts[f"chart-{key}"]["data"]


def test_the_heat_map_counts_and_shades(tmp_path: Path) -> None:
    judged = {**evaluation(), "confusion": [[8, 2, 0], [0, 0, 0], [0, 5, 5]], "count": 20}
    page = written(tmp_path, evaluation=judged)
    shares = [cell.get("style") for cell in page.all("td") if "predicted as" in str(cell)]
    assert shares == [
        "--share: 0.8",
        "--share: 0.2",
        "--share: 0.0",
        *[None] * 3,
        "--share: 0.0",
        "--share: 0.5",
        "--share: 0.5",
    ]
    assert "setosa 10 100.0 80.0 versicolor 0 0.0 – virginica 10 100.0 50.0" in page.text


def test_up_to_thirty_classes_have_a_matrix(tmp_path: Path) -> None:
    page = written(tmp_path, [f"kind {index}" for index in range(30)])
    assert [a for a in page.all("table") if a.get("class") == "heat crowded"]
    assert len([cell for cell in page.all("td") if "predicted as" in cell.get("title", "")]) == 900


def test_many_classes_have_their_largest_confusions(tmp_path: Path) -> None:
    classes = [f"kind {index}" for index in range(31)]
    confusion = [[100 * (i == j) for j in range(31)] for i in range(31)]
    confusion[4][7], confusion[9][2] = 25, 50
    page = written(tmp_path, classes, evaluation={**evaluation(classes), "confusion": confusion})
    assert not [a for a in page.all("table") if a.get("class", "").startswith("heat")]
    assert "kind 9 kind 2 50 33.3 kind 4 kind 7 25 20.0" in page.text
    assert (
        "Shown are the 30 classes with the lowest recall. class rows precision recall kind 9 "
        in (page.text)
    )


def test_metrics_that_could_not_be_measured_are_no_tile(tmp_path: Path) -> None:
    assert "ROC AUC" not in written(tmp_path).text


def test_the_comparison_draws_paired_intervals_around_the_means(tmp_path: Path) -> None:
    (dots,) = lines(written(tmp_path), "comparison")
    assert dots["x"] == pytest.approx([94.2, 92.1, 87.4, 93.8])
    assert dots["error_x"]["array"] == pytest.approx([0, 0.9, 1.4, 1.1])
    assert dots["error_x"]["arrayminus"] == pytest.approx([0, 0.9, 1.4, 1.1])


def test_an_interval_may_be_lopsided(tmp_path: Path) -> None:
    row = {"method": "b", "mean": 0.5, "difference": -0.4, "low": -0.45, "high": -0.1}
    found = {"rows": [{"method": "a", "mean": 0.9}, row], "reference": "a", "splits": ["1", "2"]}
    (dots,) = lines(written(tmp_path, comparison=found), "comparison")
    assert dots["error_x"]["array"] == pytest.approx([0, 30])
    assert dots["error_x"]["arrayminus"] == pytest.approx([0, 5])


def test_one_split_has_no_interval(tmp_path: Path) -> None:
    rows = [{"method": "a", "mean": 0.9}, {"method": "b", "mean": 0.8, "difference": -0.1}]
    found = {"rows": rows, "reference": "a", "splits": ["only"]}
    page = written(tmp_path, comparison=found)
    assert "no spread and no interval can be given" in page.text
    assert lines(page, "comparison")[0]["error_x"]["array"] == [0, 0]


def test_methods_that_did_not_run_keep_their_reason(tmp_path: Path) -> None:
    found = comparison()
    page = written(tmp_path, comparison={**found, "rows": found["rows"][-1:]})
    assert "chart-comparison" not in page.charts
    assert "needs the extra 'classics'" in page.text


def test_curves_leave_out_what_was_not_measured(tmp_path: Path) -> None:
    page = written(tmp_path, metrics=metrics(20))
    loss, val_loss, accuracy, val_accuracy = lines(page, "learning")
    assert loss["x"] == list(range(1, 21))
    assert val_loss["x"] == val_accuracy["x"] == [5, 10, 15, 20]
    assert accuracy["yaxis"] == "y2"
    assert [line["showlegend"] for line in (loss, val_loss, accuracy, val_accuracy)] == [
        True,
        True,
        False,
        False,
    ]
    assert "at epoch 20." in page.text


def test_without_accuracy_there_is_one_panel(tmp_path: Path) -> None:
    page = written(tmp_path, metrics=[{"epoch": 1, "train_loss": 0.5, "val_accuracy": None}])
    assert [line["name"] for line in lines(page, "learning")] == ["training"]
    assert page.charts["chart-learning"]["layout"]["meta"]["panels"] == 1


def test_a_line_cut_by_a_crash_is_no_damage(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with run.metrics.open("a") as stream:
        stream.write('{"epoch": 121, "tr')
    assert "120 epochs" in read_page(write_report(run)).text


def test_energy_starts_before_the_first_step(tmp_path: Path) -> None:
    simple, neighbours, move = lines(written(tmp_path), "energy")
    assert simple["x"] == [0, 1, 2, 3, 4]
    assert simple["y"] == pytest.approx([900 * 0.7**k for k in range(5)], rel=1e-5)
    assert neighbours["y"][0] == 210
    assert (move["x"], move["yaxis"]) == ([1, 2, 3, 4], "y2")


def test_one_term_twice_is_told_apart(tmp_path: Path) -> None:
    page = written(tmp_path, trace=trace(names=["simple", "simple"]))
    assert [line["name"] for line in lines(page, "energy")[:2]] == ["simple (1)", "simple (2)"]


def test_a_wide_range_is_logarithmic(tmp_path: Path) -> None:
    layout = written(tmp_path, trace=trace(12)).charts["chart-energy"]["layout"]
    assert (layout["yaxis"]["type"], layout["yaxis2"]["type"]) == ("log", "log")
    assert "log scale" in layout["yaxis"]["title"]["text"]


def test_an_infinite_certificate_is_shown_as_such(tmp_path: Path) -> None:
    text = written(tmp_path).text
    assert "1 simple 50.0 % 0.5 ∞ 1.6" in text
    assert "4 simple 50.0 % 0.5 0.0176 2.8" in text


def test_broken_conditions_are_what_is_not_proved(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert "What this does not prove" in page.text
    assert "LayerNorm rescales the states after each step (norm='layer')." in page.text


def test_a_model_within_the_theorem_says_what_holds(tmp_path: Path) -> None:
    page = written(tmp_path, trace={**trace(), "broken_conditions": []})
    assert "What this does not prove" not in page.text
    assert "Every condition of the descent theorem that is checked holds" in page.text


@pytest.mark.parametrize("steps", [[], [{"step": 1, "move": 0.0, "step_size": 1.0, "terms": []}]])
def test_a_trace_may_be_short(tmp_path: Path, steps: list[Any]) -> None:
    page = written(tmp_path, trace={"broken_conditions": [], "steps": steps})
    assert ("the model has no diffusion step" in page.text) == (not steps)


def test_the_histogram_holds_every_unlabelled_row(tmp_path: Path) -> None:
    (bars,) = lines(written(tmp_path), "certainty")
    assert sum(bars["y"]) == 1140
    assert bars["x"][0] == 32.5  # of three classes the first has at least a third
    assert bars["x"][-1] == 97.5


def test_the_least_certain_rows_come_first_with_their_second_choice(tmp_path: Path) -> None:
    table = predictions(rows=0)
    table += [["sure", "", "setosa", "0.9", "0.9", "0.06", "0.04"]] * 20
    table += [["torn", "", "virginica", "0.4", "0.25", "0.35", "0.4"]]
    table += [["known", "setosa", "setosa", "0.35", "0.35", "0.33", "0.32"]]
    text = written(tmp_path, predictions=table).text
    assert "confidence, % second, % torn virginica versicolor 40.0 35.0 sure setosa" in text
    assert "known" not in text


def test_where_all_rows_have_labels_all_are_shown(tmp_path: Path) -> None:
    table = predictions(rows=60)
    page = written(tmp_path, predictions=table)
    assert "The class of 60 rows was predicted, one of 3 classes; all have a label." in page.text
    assert sum(lines(page, "certainty")[0]["y"]) == 60


def test_a_tally_keeps_the_first_of_equals_and_the_ends_of_the_range() -> None:
    tally = Tally()
    for index in range(100):
        tally.add(0.5, [str(index)])
    tally.add(1.0, ["top"])
    tally.add(0.0, ["bottom"])
    assert (tally.bins[0], tally.bins[10], tally.bins[19]) == (1, 100, 1)
    kept = sorted(row[0] for _, _, row in tally.least)
    assert kept == sorted(["bottom", *map(str, range(9))])
