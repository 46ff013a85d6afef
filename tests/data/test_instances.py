import dataclasses

import numpy as np
import pytest
from scipy import sparse

from difformer.data.instances import Instances
from difformer.errors import DataError

X = np.eye(3, dtype=np.float32)


def test_what_is_not_given_is_derived():
    data = Instances(X, y=np.array([0, 2, -1]))
    assert data.ids == ("0", "1", "2")
    assert (data.num_instances, data.num_features, data.num_classes) == (3, 3, 3)
    assert data.labelled.tolist() == [True, True, False]
    assert Instances(X).num_classes == 0
    assert not Instances(X).labelled.any()


def test_classes_count_even_if_unused():
    assert Instances(X, y=np.array([0, 0, 0]), classes=("a", "b")).num_classes == 2


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csr_array])
def test_csr_is_kept(form):
    x = form(X)
    assert Instances(x).x is x


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Instances(X).x = X


def test_no_rows_is_allowed():
    data = Instances(np.empty((0, 4)), y=np.empty(0, np.int64), edge_index=np.empty((2, 0), int))
    assert data.num_instances == data.num_classes == 0


NAN = np.array([[0.0, 1.0], [2.0, np.nan]])
EDGES = np.array([[0, 1], [1, 2]])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"x": [[1.0]]}, "numpy array or a CSR matrix, found list"),
        ({"x": np.ones(3)}, r"two dimensions \(N, F\), found shape \(3,\)"),
        ({"x": np.ones((2, 2), int)}, "float32 or float64, found int64"),
        ({"x": sparse.csc_matrix(X)}, "CSR form, found 'csc'"),
        ({"x": NAN}, "row 1, column 1 is not"),
        ({"x": sparse.csr_matrix(NAN)}, "row 1, column 1 is not"),
        ({"ids": ("a", "b")}, "each of the 3 rows of x, found 2 ids"),
        ({"ids": ("a", "b", "a")}, "row 2 repeats 'a'"),
        ({"y": [0, 1, 2]}, "int64 array, found list"),
        ({"y": np.zeros(3)}, "int64 array, found float64"),
        ({"y": np.array([0, 1])}, r"found \(2,\)"),
        ({"y": np.array([0, -2, 1])}, "row 1 has -2"),
        ({"y": np.array([0, 1, 2]), "classes": ("a", "b")}, "row 2 has 2"),
        ({"classes": ("a", "a")}, "differ"),
        ({"edge_weight": np.ones(2)}, "needs an edge_index"),
        ({"edge_index": EDGES.astype(float)}, "int64 array, found float64"),
        ({"edge_index": EDGES.ravel()}, r"shape \(2, E\), found \(4,\)"),
        ({"edge_index": np.array([[0, 1], [1, 3]])}, "edge 1 joins 1 and 3"),
        ({"edge_index": np.array([[0, -1], [1, 2]])}, "edge 1 joins -1 and 2"),
        ({"edge_index": EDGES, "edge_weight": np.ones(3)}, r"found \(3,\)"),
        ({"edge_index": EDGES, "edge_weight": np.array([1, -1.0])}, "edge 1 has -1"),
        ({"edge_index": EDGES, "edge_weight": np.array([np.nan, 1])}, "edge 0 has nan"),
        ({"edge_index": EDGES, "edge_weight": np.array([1, 2])}, "float64 array, found int64"),
        ({"masks": {"train": np.ones(3)}}, "'train' must be boolean"),
        ({"masks": {"train": np.ones((3, 2), bool)}}, r"found bool \(3, 2\)"),
        ({"feature_names": ("a",)}, "3 columns of x, found 1"),
    ],
)
def test_parts_that_do_not_fit_are_named(arguments, says):
    with pytest.raises(DataError, match=says):
        Instances(**{"x": X, **arguments})
