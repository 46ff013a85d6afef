"""Forecasts through the real command: a table of series, its report, new values, bad input."""

import json

import cli_files as files
import numpy as np
import pytest

from difformer import DIFFormerForecaster

STEPS, NODES = 90, ("north", "south", "east")


def waves():
    t = np.arange(STEPS)[:, None] - 2 * np.arange(3)
    noise = np.random.default_rng(0).normal(size=(STEPS, 3))
    return (10 + 3 * np.sin(2 * np.pi * t / 7) + 0.3 * noise).round(4)


def write(folder):
    values = waves()
    days = np.datetime64("2024-01-01") + np.arange(STEPS)
    wide = [["day", *NODES], *([d, *row] for d, row in zip(days, values, strict=True))]
    long = [["day", "place", "count"]]
    long += [
        [d, n, v]
        for d, row in zip(days, values, strict=True)
        for n, v in zip(NODES, row, strict=True)
    ]
    files.write(folder / "wide.csv", wide)
    files.write(folder / "first.csv", wide[:80])
    files.write(folder / "last.csv", [wide[0], *wide[-20:]])
    files.write(folder / "long.csv", long)
    files.write(folder / "roads.csv", [["source", "target"], ["north", "south"], ["south", "east"]])
    return values


FIT = (
    "--task",
    "forecast",
    "--lags",
    "8",
    "--horizon",
    "3",
    "--season",
    "7",
    "--encoder",
    "decoupled",
)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    values = write(folder)
    done = files.run("fit", "first.csv", *FIT, "--edges", "roads.csv", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, values, done


def test_what_comes_next_is_written(fitted):
    folder, values, done = fitted
    rows = files.read(folder / "run/predictions.csv")
    assert [(row["time"], row["node"]) for row in rows[:4]] == [
        ("2024-03-20", "north"),
        ("2024-03-20", "south"),
        ("2024-03-20", "east"),
        ("2024-03-21", "north"),
    ]
    assert len(rows) == 9
    model = DIFFormerForecaster.load(folder / "run")
    found = np.array([float(row["forecast"]) for row in rows]).reshape(3, 3)
    np.testing.assert_allclose(found, model.predict(), rtol=1e-6)
    assert np.abs(found - values[79:82]).max() < 2
    for row in rows:
        bounds = [float(row[name]) for name in ("lower_95", "lower_80", "forecast")]
        bounds += [float(row[name]) for name in ("upper_80", "upper_95")]
        assert bounds == sorted(bounds)
    assert "2 directed edges" not in done.stdout, "an undirected edge counts in both directions"
    assert "4 directed edges" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_report_shows_what_was_measured(fitted):
    folder, _, done = fitted
    told = json.loads((folder / "run/forecast_evaluation.json").read_text())
    page = (folder / "run/report.html").read_text()
    ours = told["methods"][0]
    assert ours["method"] == "DIFFormerForecaster"
    names = {row["method"] for row in told["methods"]}
    assert {"last value", "value a season before", "linear AR, pooled", "MLP on lags"} <= names
    for row in told["methods"]:
        assert f"{row['mae'][0]:.4g}" in page
        assert f"{row['rmse'][2]:.4g}" in done.stdout
    model = DIFFormerForecaster(8, 3, season=7, encoder="decoupled")
    values, first = waves()[:79], 79 - 16
    graph = np.array([[0, 1, 1, 2], [1, 0, 2, 1]])
    expected = model.fit(values[:first], graph).backtest(values).errors()
    assert ours["rmse"] == pytest.approx([row["rmse"] for row in expected])
    assert "north" in page
    assert "Forecast and truth" in page
    assert "What comes next" in page
    coming = json.loads((folder / "run/forecast_coming.json").read_text())["curves"]
    rows = files.read(folder / "run/predictions.csv")
    for at, curve in enumerate(coming):
        assert curve["forecast"] == pytest.approx(
            [float(r["forecast"]) for r in rows[at::3]], rel=1e-5
        )
        assert curve["values"][-1] == pytest.approx(waves()[78, at], rel=1e-5)
        assert f"{curve['forecast'][0]:.4g}" in page


def test_new_values_are_gone_on_from(fitted, tmp_path):
    folder, values, _ = fitted
    done = files.run_here("predict", "run", "last.csv", "--out", tmp_path / "next.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    rows = files.read(tmp_path / "next.csv")
    assert rows[0]["time"] == "2024-03-31"
    model = DIFFormerForecaster.load(folder / "run")
    expected = model.predict(values[-20:], start=STEPS - 20)
    np.testing.assert_allclose([float(row["forecast"]) for row in rows], expected.ravel())
    lower, upper = model.predict_interval(0.8, values[-20:], start=STEPS - 20)
    np.testing.assert_allclose([float(row["lower_80"]) for row in rows], lower.ravel())
    np.testing.assert_allclose([float(row["upper_80"]) for row in rows], upper.ravel())


def test_a_run_is_judged_on_what_came_after_it(fitted):
    folder, values, _ = fitted
    done = files.run_here("evaluate", "run", "wide.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    errors = DIFFormerForecaster.load(folder / "run").backtest(values).errors()
    assert f"{errors[0]['rmse']:.4g}" in done.stdout
    before = files.run_here("evaluate", "run", cwd=folder)
    assert "Judged on 16 steps, 2024-03-04 to 2024-03-19" in before.stdout


def test_long_and_wide_tables_give_the_same(fitted, tmp_path):
    folder, *_ = fitted
    wide = files.run_here("fit", "wide.csv", *FIT, "--out", tmp_path / "wide", cwd=folder)
    long = files.run_here(
        "fit", "long.csv", *FIT, "--target", "count", "--id", "place", "--out", tmp_path / "long",
        cwd=folder,
    )  # fmt: skip
    assert (wide.returncode, long.returncode) == (0, 0), wide.stderr + long.stderr
    one, two = (
        {
            (r["time"], r["node"]): float(r["forecast"])
            for r in files.read(tmp_path / name / "predictions.csv")
        }
        for name in ("wide", "long")
    )
    assert one == pytest.approx(two)


def test_too_few_steps_to_judge_are_said(tmp_path):
    write(tmp_path)
    rows = (tmp_path / "wide.csv").read_text().splitlines()
    (tmp_path / "short.csv").write_text("\n".join(rows[:22]))
    done = files.run_here("fit", "short.csv", "--task", "forecast", "--lags", "4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "How good this is cannot be told" in done.stdout
    assert "lower_80" not in (tmp_path / "runs/short/predictions.csv").read_text()
    assert "not known" in (tmp_path / "runs/short/report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("long.csv", *FIT), "needs --target (its value) and --id (its node)"),
        (("wide.csv", *FIT, "--target", "sum"), "no column 'sum' for the values"),
        (("wide.csv", *FIT, "--time", "when"), "no column 'when' for the times"),
        (("wide.csv", *FIT, "--compare"), "--compare is for tables of rows"),
        (("wide.csv", *FIT, "--labels-per-class", "3"), "--labels-per-class is for tables of rows"),
        (("wide.csv", *FIT, "--edges", "wide.csv"), "wide.csv"),
        (("wide.csv", *FIT, "--diffusivity", "graph"), "'graph' needs edge_index"),
        (("wide.csv", *FIT, "--diffusivity", "sample"), "diffusivity must be one of"),
        (("wide.csv", *FIT, "--set", "epoch=3"), "epoch"),
        (("wide.csv", "--task", "forecast", "--season", "80"), "season must be at most half"),
        (("wide.csv", "--task", "forecast", "--horizon", "0"), "horizon must be"),
        (("wide.csv", "--task", "forecast", "--lags", "200"), "at least lags + horizon"),
        (("wide.csv", "--task", "guess"), "--task must be one of 'classify', 'forecast'"),
        (("nothing.csv", *FIT), "nothing.csv"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, arguments, said):
    write(tmp_path)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    done = files.run_here("fit", *arguments, "--out", "run", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_a_finished_run_is_not_replaced_and_its_nodes_are_asked_for(fitted):
    folder, *_ = fitted
    again = files.run_here("fit", "wide.csv", *FIT, "--out", "run", cwd=folder)
    assert again.returncode == 2
    assert "overwrite" in again.stderr
    files.write(
        folder / "other.csv", [["day", "north"], *([f"2024-05-{d:02d}", 1] for d in range(1, 20))]
    )
    done = files.run_here("predict", "run", "other.csv", "--out", "x.csv", cwd=folder)
    assert "must have all fitted nodes, found no 'south'" in done.stderr
    done = files.run_here("evaluate", "run", "last.csv", cwd=folder)
    assert "must begin with the first fitted time" in done.stderr
    done = files.run_here(
        "predict", "run", "last.csv", "--edges", "roads.csv", "--out", "x.csv", cwd=folder
    )
    assert "--edges is for tables of rows" in done.stderr
    assert not (folder / "x.csv").exists()


def test_what_was_dropped_in_fit_is_left_out_afterwards(tmp_path):
    write(tmp_path)
    lines = (tmp_path / "wide.csv").read_text().split()
    rows = [[*line.split(","), "fine"] for line in lines]
    rows[0][-1] = "note"
    files.write(tmp_path / "noted.csv", rows)
    done = files.run_here("fit", "noted.csv", *FIT, "--drop", "note", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = files.run_here("predict", "run", "noted.csv", "--out", "next.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Columns that were not fitted are left out (1)." in done.stdout
    told = files.read(tmp_path / "next.csv")
    for one, two in zip(told, files.read(tmp_path / "run/predictions.csv"), strict=True):
        for name, text in one.items():  # the same again, intervals included
            alike = text == two[name] or float(text) == pytest.approx(float(two[name]))
            assert alike, name


def test_a_table_with_other_steps_is_refused(fitted, tmp_path):
    folder, values, _ = fitted
    days = np.datetime64("2024-01-01") + np.arange(STEPS)
    rows = [["day", *NODES], *([f"{d}T07:00", *row] for d, row in zip(days, values, strict=True))]
    rows += [["2024-04-01T01:00", 1, 2, 3]]
    files.write(tmp_path / "shifted.csv", rows)
    done = files.run_here("predict", folder / "run", "shifted.csv", "--out", "x.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "must be whole steps of 1 apart" in done.stderr


def test_lags_of_zero_are_no_lags(tmp_path):
    write(tmp_path)
    done = files.run_here("fit", "wide.csv", "--task", "forecast", "--lags", "0", cwd=tmp_path)
    assert "lags must be a whole number of at least 1" in done.stderr


def test_months_are_counted_as_months(tmp_path):
    months = np.arange("2015-01", "2021-01", dtype="datetime64[M]")
    rows = [["month", "a", "b"]]
    rows += [[f"{m}-01", np.sin(t / 2), np.cos(t / 2)] for t, m in enumerate(months)]
    files.write(tmp_path / "m.csv", rows)
    done = files.run_here(
        "fit", "m.csv", *FIT[:2], "--season", "12", "--lags", "6", "--horizon", "2",
        "--encoder", "decoupled", "--out", "run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    times = [row["time"] for row in files.read(tmp_path / "run/predictions.csv")]
    assert times == ["2021-01-01", "2021-01-01", "2021-02-01", "2021-02-01"]
    files.write(tmp_path / "last.csv", [rows[0], *rows[-20:-1]])
    done = files.run_here("predict", "run", "last.csv", "--out", "n.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert files.read(tmp_path / "n.csv")[0]["time"] == "2020-12-01"
