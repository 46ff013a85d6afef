import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from difformer.data.graphs import read_edges
from difformer.errors import DataError

IDS = ("a", "b", "c", "d")


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "edges.csv"
        path.write_text(text)
        return path

    return write


def pairs(edges):
    return list(zip(*edges.edge_index.tolist(), strict=True))


def test_both_directions_by_default(write):
    path = write("source,target\nc,a\na,b\n")
    edges = read_edges(path, IDS)
    assert pairs(edges) == [(0, 1), (0, 2), (1, 0), (2, 0)]
    assert edges.edge_index.dtype == np.int64
    assert edges.edge_weight is None
    assert edges.notes == ()
    assert pairs(read_edges(path, IDS, directed=True)) == [(0, 1), (2, 0)]


def test_weights_follow_their_edges(write):
    path = write("weight,target,source\n2,a,c\n0.5,b,a\n")
    edges = read_edges(path, IDS)
    assert pairs(edges) == [(0, 1), (0, 2), (1, 0), (2, 0)]
    assert edges.edge_weight.tolist() == [0.5, 2, 0.5, 2]


def test_the_first_two_columns_and_no_other(write):
    edges = read_edges(write("weight,from,to,since\n3,a,b,1999\n"), IDS)
    assert pairs(edges) == [(0, 1), (1, 0)]
    assert edges.edge_weight.tolist() == [3, 3]
    assert read_edges(write("from,to,since\na,b,1999\n"), IDS).edge_weight is None


def test_loops_and_repeats_are_counted(write):
    edges = read_edges(write("source,target\na,a\na,b\nb,a\na,b\n"), IDS)
    assert pairs(edges) == [(0, 1), (1, 0)]
    assert [note.split(": ")[1] for note in edges.notes] == [
        "edges from a row to itself are left out (1).",
        "edges that repeat earlier ones count once (2).",
    ]


def test_directed_edges_may_stand_in_both_directions(write):
    edges = read_edges(write("source,target,weight\na,b,1\nb,a,2\n"), IDS, directed=True)
    assert pairs(edges) == [(0, 1), (1, 0)]
    assert edges.edge_weight.tolist() == [1, 2]
    assert edges.notes == ()


def test_one_edge_with_two_weights_is_refused(write):
    path = write("source,target,weight\na,b,1\nc,d,1\nb,a,2\n")
    with pytest.raises(DataError, match="found 1 in line 2 and 2 in line 4"):
        read_edges(path, IDS)


def test_only_loops_leave_no_edge(write):
    edges = read_edges(write("source,target,weight\na,a,1\n"), IDS)
    assert edges.edge_index.shape == (2, 0)
    assert edges.edge_weight.shape == (0,)


def test_whole_numbers_are_one_id_however_written(tmp_path, write):
    ids = ("1", "2", "10")
    assert pairs(read_edges(write("source,target\n1.0,10.0\n"), ids, directed=True)) == [(0, 2)]
    path = tmp_path / "edges.parquet"
    pa_parquet.write_table(pa.table({"source": [1.0, 2.0], "target": pa.array([2, 10])}), path)
    assert pairs(read_edges(path, ids, directed=True)) == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("source\na\n", "two columns"),
        ("weight,source\n1,a\n", "two columns"),
        ("source,target\na,b\na,x\n", "column 'target' .* ids of the table, found 'x' in line 3"),
        ("source,target\n,b\n", "column 'source' must name a row, found an empty cell in line 2"),
        ("source,target,weight\na,b,-1\n", "column 'weight' .* found '-1' in line 2"),
        ("source,target,weight\na,b,\n", "column 'weight' .* found an empty cell in line 2"),
        ("source,target,weight\na,b,nan\n", "column 'weight' .* found an empty cell in line 2"),
        ("source,target,weight\na,b,inf\n", "column 'weight' .* found 'inf' in line 2"),
        ("source,target,weight\na,b,heavy\n", "column 'weight' .* found 'heavy' in line 2"),
    ],
)
def test_doubtful_lines_are_named(write, text, says):
    with pytest.raises(DataError, match=says) as error:
        read_edges(write(text), IDS)
    assert "edges.csv" in str(error.value)


def test_new_rows_hear_from_fitted_ones(write):
    path = write("source,target,weight\na,x,1\ny,b,2\na,b,9\nx,x,1\n")
    edges = read_edges(path, ids=("x", "y"), known=IDS)
    assert pairs(edges) == [(0, 0), (1, 1)]
    assert edges.edge_weight.tolist() == [1, 2]
    assert any("between fitted rows are left out (1)" in note for note in edges.notes)


def test_the_same_edge_to_a_new_row_counts_once(write):
    edges = read_edges(write("source,target\na,x\nx,a\n"), ids=("x",), known=IDS)
    assert pairs(edges) == [(0, 0)]


def test_new_rows_are_not_joined_to_each_other(write):
    with pytest.raises(DataError, match="the edge in line 3 joins two new rows"):
        read_edges(write("source,target\na,x\nx,y\n"), ids=("x", "y"), known=IDS)


def test_directed_edges_must_lead_to_new_rows(write):
    path = write("source,target\na,x\nx,b\n")
    with pytest.raises(DataError, match="line 3 leads from a new row to a fitted one"):
        read_edges(path, ids=("x",), known=IDS, directed=True)


def test_an_id_that_is_both_fitted_and_new(write):
    with pytest.raises(DataError, match="'b' is the id of both a fitted and a new row"):
        read_edges(write("source,target\na,x\n"), ids=("x", "b"), known=IDS)
