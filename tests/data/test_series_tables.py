"""Tables of series: wide and long, dates and numbers, gaps, and what is refused."""

import numpy as np
import pytest

from difformer.data.series_tables import read_series_table, written
from difformer.errors import ConfigError, DataError


def write(tmp_path, text, name="series.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


WIDE = "date,a,b\n2020-01-02,3,4\n2020-01-01,1,\n2020-01-03,5,6\n"
LONG = "t,region,cases\n1,r10,7\n1,r9,1\n2,r9,2\n2,r10,\n3,r9,3\n"


def test_a_wide_table(tmp_path):
    found = read_series_table(write(tmp_path, WIDE))
    np.testing.assert_array_equal(found.values, [[1, np.nan], [3, 4], [5, 6]])
    assert found.nodes == ("a", "b")
    assert (found.time, found.value, found.node, found.dated) == ("date", None, None, True)
    assert found.labels(1, 4) == ["2020-01-02", "2020-01-03", "2020-01-04", "2020-01-05"]
    assert found.decisions[0].startswith("The table is wide: column 'date'")
    assert found.decisions[-1] == "Missing values: 1 of 6."


def test_a_long_table(tmp_path):
    found = read_series_table(write(tmp_path, LONG), value="cases")
    assert found.nodes == ("r9", "r10"), "10 follows 9"
    np.testing.assert_array_equal(found.values, [[1, 7], [2, np.nan], [3, np.nan]])
    assert (found.time, found.value, found.node, found.dated) == ("t", "cases", "region", False)
    assert found.labels(2, 2) == ["3", "4"]


def test_both_say_the_same(tmp_path):
    values = np.random.default_rng(0).normal(size=(6, 3)).round(3)
    names = ("x", "y", "z")
    wide = ["hour,x,y,z", *(f"{t},{','.join(map(str, row))}" for t, row in enumerate(values))]
    long = ["hour,id,value"]
    long += [
        f"{t},{name},{v}"
        for t, row in enumerate(values)
        for name, v in zip(names, row, strict=True)
    ]
    one = read_series_table(write(tmp_path, "\n".join(wide)), time="hour")
    two = read_series_table(write(tmp_path, "\n".join(long), "long.csv"), "hour", "value")
    np.testing.assert_array_equal(one.values, two.values)
    assert one.nodes == two.nodes == names


def test_missing_steps_become_missing_values(tmp_path):
    text = "time,a\n2020-01-01 00:00,1\n2020-01-01 00:05,2\n2020-01-01 00:20,3\n"
    text += "".join(f"2020-01-01 00:{m},4\n" for m in range(25, 60, 5))
    found = read_series_table(write(tmp_path, text))
    assert found.values[:5, 0].tolist()[:2] == [1, 2]
    assert np.isnan(found.values[2:4, 0]).all()
    assert found.values[4, 0] == 3
    assert found.labels(2, 1) == ["2020-01-01 00:10"]
    assert "Steps that are not in the table count as missing (2)." in found.decisions


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (["2020-01-01", "2020-01-03", "2020-01-08"], "not evenly spaced"),
        (["1", "2", "1000"], "Most steps are missing (997)"),
    ],
)
def test_where_gaps_say_nothing_rows_are_steps(tmp_path, times, said):
    text = "time,a\n" + "".join(f"{time},{at}\n" for at, time in enumerate(times))
    found = read_series_table(write(tmp_path, text))
    assert found.values[:, 0].tolist() == [0, 1, 2]
    assert said in " ".join(found.decisions)


@pytest.mark.parametrize(
    ("text", "options", "kind", "said"),
    [
        ("a,b\n1,2\n", {}, ConfigError, "needs a column of times: name it with --time, found 'a'"),
        ("time\n1\n", {}, DataError, "a column for each node beside 'time'"),
        ("time,a\n1,2\n1,3\n", {}, DataError, "found 1 again in line 3; a long table"),
        ("time,a\n,2\n", {}, DataError, "a time in each row, found an empty cell in line 2"),
        ("time,a\n1,x\n2,3\n", {}, DataError, "column 'a' must hold finite numbers, found 'x'"),
        ("time,id,v\n1,p,2\n2,q,3\n", {}, DataError, r"needs --target \(its value\)"),
        ("time,a\n1,2\n", {"time": "when"}, DataError, "no column 'when'"),
        (
            "time,a\n1,2\n",
            {"value": "a"},
            ConfigError,
            "needs a column of nodes: name it with --id",
        ),
        ("time,id,v\n1,a,2\n", {"value": "w"}, DataError, "no column 'w' for the values"),
        ("time,id,v\n1,a,2\n1,a,3\n", {"value": "v"}, DataError, "node 'a' at 1 again in line 3"),
        ("time,id,v\n1,,2\n", {"value": "v"}, DataError, "must name a node in each row"),
        ("time,a\nsoon,2\nlater,3\n", {}, DataError, "column 'time' must hold"),
        ("time,a\n1,2\n", {"drop": ["b"]}, DataError, "no column 'b' for --drop"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path, text, options, kind, said):
    with pytest.raises(kind, match=said) as caught:
        read_series_table(write(tmp_path, text), **options)
    assert "\n" not in str(caught.value)


def test_a_series_too_large_for_memory_is_refused_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("difformer.data.series_tables.MOST_VALUES", 8)
    text = "time,id,v\n" + "".join(f"{t},n{t},1\n" for t in range(3))
    with pytest.raises(DataError, match="3 times and 3 nodes, more than 8 values"):
        read_series_table(write(tmp_path, text), value="v")


def test_columns_may_be_left_out(tmp_path):
    found = read_series_table(write(tmp_path, WIDE), drop=["b"])
    assert found.nodes == ("a",)


def test_times_are_written_as_people_do():
    assert written(0.25, True) == "1970-01-01 06:00"
    assert written(1 / 86_400, True) == "1970-01-01 00:00:01"
    assert written(2.5, False) == "2.5"


@pytest.mark.parametrize(
    ("times", "coming"),
    [
        (["2023-10-01", "2023-11-01", "2023-12-01", "2024-02-01"], ["2024-03-01", "2024-04-01"]),
        (["2023-10-31", "2023-11-30", "2023-12-31", "2024-02-29"], ["2024-03-31", "2024-04-30"]),
        (["20231230", "20231231", "20240101", "20240103"], ["2024-01-04", "2024-01-05"]),
    ],
)
def test_months_and_compact_dates(tmp_path, times, coming):
    text = "date,a\n" + "".join(f"{time},{at}\n" for at, time in enumerate(times))
    found = read_series_table(write(tmp_path, text))
    assert len(found.values) == 5
    assert np.isnan(found.values[3, 0])
    assert found.labels(5, 2) == coming
    assert found.step == 1


def test_a_step_that_is_known_is_kept_to(tmp_path):
    every_other = "t,a,b\n0,1,2\n2,3,4\n4,5,6\n"
    found = read_series_table(write(tmp_path, every_other), step=1.0, nodes=["b"])
    assert found.values[:, 0].tolist()[::2] == [2, 4, 6]
    assert np.isnan(found.values[1::2]).all()
    assert found.labels(5, 1) == ["5"]
    assert "Columns that were not fitted are left out (1)." in found.decisions
    with pytest.raises(DataError, match="must be whole steps of 3 apart"):
        read_series_table(write(tmp_path, every_other), step=3.0)
    with pytest.raises(DataError, match="must have all fitted nodes, found no 'c'"):
        read_series_table(write(tmp_path, every_other), nodes=["a", "c"])


def test_nodes_of_a_long_table_that_were_not_fitted_are_left_out(tmp_path):
    found = read_series_table(write(tmp_path, LONG), value="cases", nodes=["r10"])
    assert found.nodes == ("r10",)
    assert "Nodes that were not fitted are left out (1)." in found.decisions
